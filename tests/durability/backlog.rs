//! What the writer does when much waits: large INSERTs beside the live rows, and patience with a crowded table. And the
//! latency when little does.

use std::time::{Duration, Instant};

use super::common::{Server, eventually};
use super::load::{settled, status};
use super::rig::{Rig, lines, logged, post, table_number};

#[test]
fn a_backlog_drains_in_few_large_inserts_while_new_rows_are_answered() {
    let mut rig = Rig::without_clickhouse(&[]);
    let mut server = rig.serve_ready(&[]);
    (0..400).for_each(|request| post(&server, request * 10..request * 10 + 10));
    server.kill();
    let bytes: u64 = rig
        .segments()
        .iter()
        .map(|segment| {
            super::rig::blocks_in(segment)
                .0
                .iter()
                .map(|block| block.len() as u64)
                .sum::<u64>()
        })
        .sum();

    rig.start_clickhouse();
    // Some three seconds.
    let rate = format!("backlog_bytes_per_second={}", bytes / 3);
    let server = rig.serve(&["--limit", &rate, "--limit", "insert_blocks_max=50"]);
    eventually("the backlog", || {
        (status(&server)["writer"]["tables"].as_array()?.len() == 1).then_some(())
    });
    server.wait_until_ready();
    let mut answered_before = 0;
    let mut next = 4_000;
    while table_number(&server, "backlog_rows") > 0 || answered_before == 0 {
        let reply = server.post("/ingest?ack=inserted", lines([next]));
        assert_eq!(reply.status, 200, "{reply:?}");
        next += 1;
        let is_before = table_number(&server, "backlog_rows") > 0;
        answered_before += u64::from(is_before);
        assert!(
            is_before || answered_before > 0,
            "no row was answered before the backlog was done"
        );
    }
    eventually("the end to be told", || {
        (logged(&server, "the backlog is inserted") == 1).then_some(())
    });
    assert!(
        logged(&server, "a backlog is being inserted beside the live rows") >= 1,
        "{}",
        server.log()
    );
    rig.assert_rows(&server, 0..next);
    let live = next - 4_000;
    let (inserts, blocks) = (table_number(&server, "inserts"), table_number(&server, "blocks"));
    assert_eq!(blocks, 400 + live);
    // Eight of fifty blocks, and one of what the process before had announced.
    assert!(inserts <= live + 10, "{inserts} INSERTs, {live} of them live");
}

/// INSERTs into the first table that failed with this code.
fn failures(server: &Server, code: i64) -> u64 {
    let status = status(server);
    let failed = status["writer"]["tables"][0]["failed"].as_array().unwrap();
    let of_code = failed.iter().filter(|failed| failed["code"] == code);
    of_code.map(|failed| failed["count"].as_u64().unwrap()).sum()
}

#[test]
fn too_many_parts_slow_the_writer_down_and_cost_no_row() {
    let rig = Rig::start(&[
        "--limit",
        "insert_interval_ms=0",
        "--limit",
        "retry_pause_max_ms=2000",
    ]);
    let server = rig.serve_ready(&[]);
    rig.sql("SYSTEM STOP MERGES otel_logs");
    rig.sql("ALTER TABLE otel_logs MODIFY SETTING parts_to_throw_insert = 3, parts_to_delay_insert = 0");
    (0..3).for_each(|n| {
        assert_eq!(server.post("/ingest?ack=inserted", lines([n])).status, 200);
    });
    (3..10).for_each(|n| post(&server, [n]));
    eventually("error 252", || (failures(&server, 252) >= 2).then_some(()));
    assert_eq!(rig.sql("SELECT count() FROM otel_logs"), "3");

    rig.sql("ALTER TABLE otel_logs MODIFY SETTING parts_to_throw_insert = 3000");
    rig.sql("SYSTEM START MERGES otel_logs");
    rig.sql("OPTIMIZE TABLE otel_logs FINAL");
    rig.assert_rows(&server, 0..10);
    // It does not trust the peace yet: what comes within the next second shares INSERTs.
    let inserts = table_number(&server, "inserts");
    let started = Instant::now();
    (10..40).for_each(|n| post(&server, [n]));
    let took = started.elapsed();
    rig.assert_rows(&server, 0..40);
    let inserts = table_number(&server, "inserts") - inserts;
    assert!(
        inserts <= 2 + took.as_secs() * 2,
        "{inserts} INSERTs of 30 blocks that came within {took:?}"
    );
}

#[test]
fn a_single_row_is_durable_within_milliseconds_when_there_is_little_else() {
    let rig = Rig::start(&[]);
    let server = rig.serve_ready(&[]);
    post(&server, [0]);
    settled(&server);
    let mut times: Vec<Duration> = (1..=50)
        .map(|n| {
            let started = Instant::now();
            post(&server, [n]);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(20), "{times:?}");
    rig.assert_rows(&server, 0..=50);
    eprintln!("median {median:?}, longest {:?}", times[times.len() - 1]);
}
