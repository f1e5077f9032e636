//! kill -9 between the acknowledgement and the end of the INSERT.

use std::thread;

use super::common::{eventually, is_alive};
use super::load::{self, status};
use super::proxy::Fault;
use super::rig::{Rig, logged, post, table_number};

/// Requests of 1 to 9 rows on a connection each, several at once; the numbers of their rows.
fn post_from_many(server: &super::common::Server, first: u64) -> Vec<u64> {
    let requests: Vec<std::ops::Range<u64>> = (0..60)
        .scan(first, |next, request| {
            let numbers = *next..*next + 1 + request % 9;
            *next = numbers.end;
            Some(numbers)
        })
        .collect();
    thread::scope(|scope| {
        for some in requests.chunks(15) {
            scope.spawn(move || some.iter().for_each(|numbers| post(server, numbers.clone())));
        }
    });
    requests.into_iter().flatten().collect()
}

#[test]
fn rows_acknowledged_without_clickhouse_survive_kill_9_and_another_number_of_cores() {
    let mut rig = Rig::without_clickhouse(&[]);
    let mut server = rig.serve_ready(&["--ingest-cores", "2"]);
    let mut numbers = post_from_many(&server, 0);
    let commits = |core: usize| status(&server)["cores"][core]["commits"].as_u64().unwrap();
    eventually("commits of both cores", || {
        (commits(0) > 0 && commits(1) > 0).then_some(())
    });
    server.kill();

    let mut server = rig.serve_ready(&["--ingest-cores", "1"]);
    assert_eq!(load::ledger(&server).waiting, numbers.len() as u64);
    numbers.extend(post_from_many(&server, 1_000));
    server.kill();
    assert!(!is_alive(server.pid()));

    rig.start_clickhouse();
    let server = rig.serve(&["--ingest-cores", "2"]);
    let ledger = rig.assert_rows(&server, numbers.iter().copied());
    assert_eq!(
        (ledger.received, ledger.inserted, ledger.lost),
        (numbers.len() as u64, numbers.len() as u64, 0)
    );
    assert_eq!(logged(&server, "does not balance"), 0, "{}", server.log());
    assert_eq!(logged(&server, "ERROR"), 0, "{}", server.log());
}

/// The new process sends what was announced as it was, so ClickHouse knows it by its token.
#[test]
fn an_insert_whose_answer_was_lost_is_repeated_by_the_next_process_as_it_was() {
    let rig = Rig::start(&["--limit", "insert_interval_ms=3000"]);
    let mut server = rig.serve_ready(&[]);
    let reply = server.post("/ingest?ack=inserted", super::rig::lines([0]));
    assert_eq!(reply.status, 200, "{reply:?}");
    // Until the interval is over these gather, a block each.
    rig.proxy.set(Fault::LoseAnswer);
    (1..=5).for_each(|n| post(&server, [n]));
    let cuts = rig.proxy.cuts();
    eventually("an answer to be lost", || (rig.proxy.cuts() > cuts).then_some(()));
    rig.take_clickhouse_away();
    server.kill();
    assert_eq!(
        rig.sql("SELECT count() FROM otel_logs"),
        "6",
        "its answer was lost, not the rows"
    );

    rig.give_clickhouse_back();
    let server = rig.serve_ready(&[]);
    let ledger = rig.assert_rows(&server, 0..=5);
    assert_eq!((ledger.received, ledger.inserted), (6, 6));
    assert_eq!(
        (table_number(&server, "inserts"), table_number(&server, "blocks")),
        (1, 5),
        "one INSERT of the same five blocks"
    );
}
