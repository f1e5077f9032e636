//! Requests that are sent again with their `Idempotency-Key`: never twice in, whatever happens in between.

use std::thread;

use rustix::process::Signal;

use super::common::client::{Client, header, post as request};
use super::common::{Reply, Server, eventually, http, signal};
use super::load::status;
use super::rig::{Rig, lines, post, post_keyed};

fn is_replayed(reply: &Reply) -> bool {
    header(&reply.head, "idempotent-replayed") == Some("true")
}

/// The reply to the duplicate of a request that was answered so.
fn assert_replays(server: &Server, target: &str, key: &str, body: &str, first: &Reply) {
    let again = post_keyed(server, target, key, body);
    assert!(is_replayed(&again), "{again:?}");
    assert_eq!((again.status, &again.body), (first.status, &first.body));
}

fn keys(server: &Server) -> u64 {
    status(server)["idempotency"]["keys"].as_u64().unwrap()
}

#[test]
fn a_duplicate_gets_the_first_reply_on_any_core_after_a_restart_and_after_kill_9() {
    let rig = Rig::start(&["--ingest-cores", "2", "--table", "otel_logs", "--table", "other"]);
    rig.sql("CREATE TABLE other (n UInt64) ENGINE = MergeTree ORDER BY n");
    let mut server = rig.serve_ready(&[]);
    let body = lines(0..3) + "no json\n";
    let first = post_keyed(&server, "/ingest?ack=inserted", "\"one\"", &body);
    assert_eq!(first.status, 200, "{first:?}");
    assert!(
        !is_replayed(&first) && first.body.contains("\"accepted\":3,\"rejected\":1"),
        "{first:?}"
    );
    // Each on a connection of its own, so on either core.
    for _ in 0..16 {
        assert_replays(&server, "/ingest?ack=inserted", "\"one\"", &body, &first);
    }
    let accepted = |core: usize| status(&server)["cores"][core]["connections_accepted"].as_u64();
    assert!(accepted(0) > Some(0) && accepted(1) > Some(0));
    // The key is the request's, not its rows', and another table's is another one.
    assert_replays(&server, "/ingest?ack=memory", "one", &lines([99]), &first);
    let other = post_keyed(&server, "/ingest/other", "one", "{\"n\":1}");
    assert!(other.status == 200 && !is_replayed(&other), "{other:?}");

    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let mut server = rig.serve_ready(&[]);
    assert_replays(&server, "/ingest?ack=inserted", "one", &body, &first);

    rig.take_clickhouse_away();
    let second = post_keyed(&server, "/ingest?ack=wal", "two", &lines(3..5));
    assert_eq!(second.status, 200, "{second:?}");
    server.kill();
    let server = rig.serve(&[]);
    // Without ClickHouse it is not known which tables there are.
    let early = post_keyed(&server, "/ingest?ack=wal", "two", &lines(3..5));
    assert!(early.status == 503 || is_replayed(&early), "{early:?}");
    rig.give_clickhouse_back();
    server.wait_until_ready();
    assert_replays(&server, "/ingest?ack=wal", "two", &lines(3..5), &second);
    assert_replays(&server, "/ingest?ack=inserted", "one", &body, &first);
    rig.assert_rows(&server, 0..5);
    assert_eq!(rig.sql("SELECT count() FROM other"), "1");
}

/// Sends a request on a thread of its own.
fn later(
    server: &Server,
    target: &'static str,
    key: &'static str,
    body: String,
) -> thread::JoinHandle<std::io::Result<Reply>> {
    let port = server.port;
    thread::spawn(move || http("POST", port, target, &[("Idempotency-Key", key)], body.as_bytes()))
}

#[test]
fn a_duplicate_of_a_request_that_is_not_answered_yet_is_told_409() {
    let rig = Rig::start(&["--ingest-cores", "2"]);
    let mut server = rig.serve_ready(&[]);
    post(&server, [0]);
    signal(rig.clickhouse_pid(), Signal::STOP);
    let first = later(&server, "/ingest?ack=inserted", "slow", lines(1..4));
    eventually("the key to be in flight", || (keys(&server) == 1).then_some(()));
    for level in ["inserted", "wal", "memory"] {
        let reply = post_keyed(&server, &format!("/ingest?ack={level}"), "slow", &lines(1..4));
        assert_eq!(reply.status, 409, "{reply:?}");
        assert!(reply.body.contains("Idempotency-Key"), "{reply:?}");
    }
    signal(rig.clickhouse_pid(), Signal::CONT);
    let first = first.join().unwrap().unwrap();
    assert_eq!(first.status, 200, "{first:?}");
    assert_replays(&server, "/ingest?ack=inserted", "slow", &lines(1..4), &first);

    // One that was in the log when the process died was taken: its duplicate is told so.
    signal(rig.clickhouse_pid(), Signal::STOP);
    let lost = later(&server, "/ingest?ack=inserted", "killed", lines(4..8));
    eventually("its rows to be in the log", || {
        let ledger = &status(&server)["wal"]["blocks_waiting"];
        (keys(&server) == 2 && ledger.as_u64() > Some(0)).then_some(())
    });
    server.kill();
    lost.join().unwrap().expect_err("nobody answers any more");
    signal(rig.clickhouse_pid(), Signal::CONT);
    let server = rig.serve_ready(&[]);
    let again = post_keyed(&server, "/ingest?ack=inserted", "killed", &lines(4..8));
    assert!(again.status == 200 && is_replayed(&again), "{again:?}");
    assert!(
        again
            .body
            .contains("\"accepted\":4,\"rejected\":0,\"ack\":\"wal\""),
        "{again:?}"
    );
    rig.assert_rows(&server, 0..8);
}

#[test]
fn a_key_or_a_body_that_is_too_long_is_refused_and_no_row_of_it_is_taken() {
    let rig = Rig::start(&["--limit", "idempotent_body_bytes_max=2048"]);
    let server = rig.serve_ready(&[]);
    for wrong in ["x".repeat(129), String::new(), "\"\"".to_owned()] {
        let reply = post_keyed(&server, "/ingest", &wrong, &lines([1]));
        assert_eq!(reply.status, 400, "{wrong:?}: {reply:?}");
    }
    let key = "x".repeat(128);
    let body = lines(0..100);
    assert!(body.len() > 2048);
    let reply = post_keyed(&server, "/ingest", &key, &body);
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(reply.body.contains("2048"), "{reply:?}");
    let mut sizes = std::iter::repeat(300);
    let chunked = super::common::client::post_chunked(
        "/ingest",
        &[("Idempotency-Key", &key), ("Connection", "close")],
        body.as_bytes(),
        || sizes.next().unwrap(),
    );
    assert_eq!(super::common::raw(server.port, &chunked).unwrap().status, 413);
    // The key is free, and what fits is taken.
    let reply = post_keyed(&server, "/ingest", &key, &lines(0..20));
    assert!(reply.status == 200 && !is_replayed(&reply), "{reply:?}");
    // Without a key the same body is.
    assert_eq!(server.post("/ingest", lines(20..120)).status, 200);
    rig.assert_rows(&server, 0..120);
}

#[test]
fn a_client_that_breaks_off_and_sends_everything_again_doubles_nothing() {
    let rig = Rig::start(&["--ingest-cores", "2"]);
    let server = rig.serve_ready(&[]);
    let mut next = 0;
    let mut random = fastrand::Rng::with_seed(7);
    for attempt in 0..20 {
        let key = format!("upload-{attempt}");
        let numbers = next..next + random.u64(1..400);
        next = numbers.end;
        let body = lines(numbers);
        let whole = request("/ingest?ack=wal", &[("Idempotency-Key", &key)], body.as_bytes());
        // Anywhere, and now and then behind the last byte.
        let sent = match attempt % 4 {
            0 => whole.len(),
            _ => random.usize(0..whole.len()),
        };
        let mut client = Client::connect(server.port);
        client.send(&whole[..sent]);
        drop(client);
        let reply = eventually("success", || {
            let reply = post_keyed(&server, "/ingest?ack=wal", &key, &body);
            assert!([200, 409].contains(&reply.status), "{reply:?}");
            (reply.status == 200).then_some(reply)
        });
        assert!(
            sent == whole.len() || !is_replayed(&reply),
            "{sent} of {} bytes: {reply:?}",
            whole.len()
        );
    }
    rig.assert_rows(&server, 0..next);
}
