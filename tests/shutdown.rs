//! What SIGTERM promises: every acknowledged row is in ClickHouse or in the log, the ledger says where, and the exit status
//! whether any is lost.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::client::{Client, header, post};
use common::{Engine, Server, eventually, signal};
use rustix::process::Signal;

/// A server beside an engine that outlives it.
fn serve(engine: &Engine, arguments: &[&str]) -> Server {
    ready(engine, arguments, Server::start)
}

/// The same with its data in a directory that outlives it.
fn serve_in(engine: &Engine, directory: &Path, arguments: &[&str]) -> Server {
    ready(engine, arguments, |all| Server::start_in(directory, all))
}

fn ready(engine: &Engine, arguments: &[&str], start: impl FnOnce(&[&str]) -> Server) -> Server {
    let url = format!("tcp://127.0.0.1:{}", engine.tcp_port());
    let mut all = vec!["--clickhouse", &url, "--create-tables"];
    all.extend_from_slice(arguments);
    let server = start(&all);
    server.wait_until_ready();
    server
}

/// The numbers of the ledger's last line: received, inserted, rejected, dead-lettered, waiting, lost.
fn ledger(server: &Server) -> [u64; 6] {
    let output = server.output();
    let line = output
        .lines()
        .rfind(|line| line.starts_with("ringhouse: ledger "))
        .unwrap_or_else(|| panic!("{output}"));
    let (table, sums) = line["ringhouse: ledger ".len()..].split_once(": ").unwrap();
    assert_eq!(table, "default.otel_logs");
    let numbers: Vec<u64> = sums.split(' ').filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{line}"))
}

/// Posts rows with numbers of its own until the server ends the connection; the numbers acknowledged.
fn post_until_the_end(port: u16, client_index: u64, acknowledged_rows: &AtomicU64) -> Vec<u64> {
    let mut client = Client::connect(port);
    let target = ["/ingest?ack=memory", "/ingest?ack=inserted"][client_index as usize % 2];
    let mut random = fastrand::Rng::with_seed(client_index);
    let mut next = client_index << 32;
    let mut acknowledged = Vec::new();
    loop {
        let numbers: Vec<u64> = (next..next + random.u64(1..200)).collect();
        next += 1000;
        let body: String = numbers
            .iter()
            .map(|n| format!("{{\"message\":\"{n}\"}}\n"))
            .collect();
        let Ok(reply) = client
            .try_send(&post(target, &[], body.as_bytes()))
            .and_then(|()| client.try_reply())
        else {
            return acknowledged;
        };
        assert!([200, 202].contains(&reply.status), "{reply:?}");
        acknowledged_rows.fetch_add(numbers.len() as u64, Ordering::Relaxed);
        acknowledged.extend(numbers);
        if header(&reply.head, "connection") == Some("close") {
            assert!(client.is_at_end());
            return acknowledged;
        }
    }
}

#[test]
fn every_acknowledged_row_is_in_clickhouse_after_sigterm_under_load() {
    let engine = Engine::start();
    let mut server = serve(&engine, &[]);
    let idle = Client::connect(server.port);
    let mut half_a_head = Client::connect(server.port);
    half_a_head.send(b"POST /ingest HTT");
    let acknowledged_rows = AtomicU64::new(0);
    let port = server.port;
    let acknowledged: BTreeSet<u64> = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|index| {
                let acknowledged_rows = &acknowledged_rows;
                scope.spawn(move || post_until_the_end(port, index, acknowledged_rows))
            })
            .collect();
        eventually("load", || {
            (acknowledged_rows.load(Ordering::Relaxed) > 20_000).then_some(())
        });
        server.signal(Signal::TERM);
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    drop((idle, half_a_head));
    assert_eq!(server.wait().code(), Some(0));

    let found: BTreeSet<u64> = engine
        .sql("SELECT Body FROM otel_logs")
        .lines()
        .map(|n| n.parse().unwrap())
        .collect();
    let count: u64 = engine.sql("SELECT count() FROM otel_logs").parse().unwrap();
    assert_eq!(count, found.len() as u64, "rows are there twice");
    let missing: Vec<u64> = acknowledged.difference(&found).copied().collect();
    assert!(
        missing.is_empty(),
        "{} of {} acknowledged rows are missing: {:?}",
        missing.len(),
        acknowledged.len(),
        &missing[..missing.len().min(5)]
    );
    // A request whose reply was lost may be in as well, and is in the ledger.
    assert_eq!(ledger(&server), [count, count, 0, 0, 0, 0]);
    println!("{} rows acknowledged, {count} inserted", acknowledged.len());
}

#[test]
fn a_client_that_stalls_does_not_turn_a_clean_end_into_a_failure() {
    let engine = Engine::start();
    let mut server = serve(&engine, &["--limit", "drain_deadline_ms=1500"]);
    let mut stalled = Client::connect(server.port);
    stalled.send(
        b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"message\":\"a\"}\n{\"messa",
    );
    assert_eq!(server.post("/ingest", "{\"message\":\"b\"}").status, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "no row was lost");
    let log = server.log();
    assert!(log.contains("clients had not finished"), "{log}");
    // Its first row came, so it may be in; the other one was acknowledged.
    let [received, inserted, others @ ..] = ledger(&server);
    assert_eq!((received, others), (inserted, [0; 4]));
    assert_eq!(engine.sql("SELECT count() FROM otel_logs WHERE Body = 'b'"), "1");
    assert_eq!(engine.sql("SELECT count() FROM otel_logs"), inserted.to_string());
}

#[test]
fn says_how_many_rows_wait_in_the_log_when_clickhouse_does_not_take_them_in_time() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let mut server = serve_in(&engine, directory.path(), &["--limit", "drain_deadline_ms=700"]);
    signal(engine.embedded.pid(), Signal::STOP);
    let reply = server.post("/ingest?ack=memory", "{\"message\":\"x\"}\n".repeat(321));
    assert_eq!(reply.status, 202);
    server.signal(Signal::TERM);
    let status = server.wait();
    signal(engine.embedded.pid(), Signal::CONT);
    assert_eq!(status.code(), Some(0), "no row was lost");
    assert_eq!(ledger(&server), [321, 0, 0, 0, 321, 0]);
    let data = directory.path().join("data");
    let told = format!(
        "321 rows wait in {} for the next start to insert them",
        data.display()
    );
    assert!(server.log().contains(&told), "{}", server.log());

    let mut server = serve_in(&engine, directory.path(), &[]);
    eventually("the rows", || {
        (engine.sql("SELECT count() FROM otel_logs") == "321").then_some(())
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(ledger(&server), [321, 321, 0, 0, 0, 0]);
}

/// The log is full and ClickHouse does not answer: what was taken into memory before the log said so cannot be saved.
#[test]
fn says_how_many_rows_are_lost_when_the_log_does_not_take_them_either() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "--ingest-cores",
        "1",
        "--limit",
        "wal_segment_bytes=65536",
        "--limit",
        "wal_bytes_max=131072",
        "--limit",
        "batch_rows_max=30",
        "--limit",
        "drain_deadline_ms=700",
    ];
    let mut server = serve_in(&engine, directory.path(), &arguments);
    signal(engine.embedded.pid(), Signal::STOP);
    let mut random = fastrand::Rng::with_seed(7);
    let mut taken = 0;
    // In batches until they are sealed: nobody waits to hear of the log.
    eventually("the log to be full", || {
        let noise: String = (0..2_000).map(|_| random.alphanumeric()).collect();
        let row = format!("{{\"message\":\"{noise}\"}}\n");
        let reply = server.post("/ingest?ack=memory", row.repeat(3));
        if reply.status == 202 {
            taken += 3;
        }
        (reply.status == 503).then_some(())
    });
    server.signal(Signal::TERM);
    let status = server.wait();
    signal(engine.embedded.pid(), Signal::CONT);
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert_eq!(ledger(&server), [taken, 0, 0, 0, taken, 0]);
    let lost = told(&server, " rows were lost: the write-ahead log did not take them");
    assert!(lost > 0 && lost < taken, "{}", server.log());
    assert_eq!(told(&server, " rows wait in "), taken - lost, "{}", server.log());

    let mut server = serve_in(&engine, directory.path(), &[]);
    eventually("the rows", || {
        (engine.sql("SELECT count() FROM otel_logs") == (taken - lost).to_string()).then_some(())
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(ledger(&server), [taken, taken - lost, 0, 0, 0, lost]);
}

/// The number before `words` in the log.
fn told(server: &Server, words: &str) -> u64 {
    let log = server.log();
    let line = log.lines().find(|line| line.contains(words));
    let before = line.and_then(|line| line.split(words).next()?.rsplit(' ').next()?.parse().ok());
    before.unwrap_or_else(|| panic!("no number of{words}in {log}"))
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let engine = Engine::start();
        let mut server = serve(&engine, &[]);
        signal(engine.embedded.pid(), Signal::STOP);
        assert_eq!(server.post("/ingest?ack=memory", "{}").status, 202);
        server.signal(Signal::TERM);
        eventually("the drain", || server.log().contains("draining").then_some(()));
        let asked = Instant::now();
        server.signal(second);
        let status = server.wait();
        signal(engine.embedded.pid(), Signal::CONT);
        // The drain would have taken its 30 s.
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        assert_eq!(status.code(), Some(130));
        assert_eq!(ledger(&server), [1, 0, 0, 0, 1, 0]);
    }
}
