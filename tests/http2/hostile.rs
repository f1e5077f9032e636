//! Clients that mean harm, each beside one that does not: the other is answered as ever, and memory stays.

use std::time::{Duration, Instant};

use crate::common::{Server, eventually, http};
use crate::raw::*;

const SECOND: Duration = Duration::from_secs(1);

/// What a neighbour's request may take on a busy machine while somebody else attacks.
const PATIENT: Duration = Duration::from_secs(5);

const CALM: u32 = 11;

fn neighbour(server: &Server) {
    let started = Instant::now();
    let reply = server.post("/ingest?ack=wal", "{\"message\":\"kept\"}");
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(started.elapsed() < PATIENT, "{:?}", started.elapsed());
}

fn gauge(server: &Server, name: &str) -> u64 {
    let metrics = server.admin("/metrics").unwrap().body;
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

fn no_stream_stays(server: &Server) {
    eventually("the end of every stream", || {
        (gauge(server, "ringhouse_streams_open{") == 0).then_some(())
    });
}

/// A POST of JSON without its body.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block("POST", "/ingest"))
}

#[test]
fn requests_that_are_reset_at_once_end_their_connection_and_not_others() {
    let server = Server::embedded(&["--create-tables"]);
    neighbour(&server);
    let before = server.resident_bytes();
    let mut ended = 0;
    for _ in 0..10 {
        let mut client = Raw::connect(server.port, &[]);
        for index in 0..10_000 {
            let stream = 2 * index + 1;
            let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
            if client.try_send(&[open(stream), reset].concat()).is_err() {
                break;
            }
        }
        if client.next_of(GOAWAY).is_some_and(|frame| frame.code() == CALM) {
            ended += 1;
        }
        neighbour(&server);
    }
    // The kernel may throw a GOAWAY away with a connection that was reset meanwhile.
    assert!(ended > 0, "no connection was ended for it");
    no_stream_stays(&server);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

#[test]
fn a_header_block_without_an_end_ends_its_connection() {
    let server = Server::embedded(&["--create-tables"]);
    let before = server.resident_bytes();
    let mut client = Raw::connect(server.port, &[]);
    client.send(&frame(HEADERS, 0, 1, &block("POST", "/ingest")));
    // Fields without an end; then frames without a field.
    let fields = field("x-more", &"y".repeat(16_000));
    let mut sent = 0;
    while sent < 100_000 && client.try_send(&frame(CONTINUATION, 0, 1, &fields)).is_ok() {
        sent += 1;
    }
    assert!(sent < 100_000, "1.6 GB of fields were read");
    let mut client = Raw::connect(server.port, &[]);
    client.send(&frame(HEADERS, 0, 1, &block("POST", "/ingest")));
    let empty = frame(CONTINUATION, 0, 1, b"").repeat(100);
    let mut sent = 0;
    while sent < 100_000 && client.try_send(&empty).is_ok() {
        sent += 1;
    }
    assert!(sent < 100_000, "10 million empty frames were read");
    neighbour(&server);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

#[test]
fn a_head_above_the_limit_leaves_its_connection_as_it_was() {
    let server = Server::embedded(&["--create-tables"]);
    let mut client = Raw::connect(server.port, &[]);
    let long = [block("POST", "/ingest"), field("x-long", &"y".repeat(9_000))].concat();
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &long));
    let head = client.next_of(HEADERS).expect("an answer");
    assert_eq!(head.stream, 1);
    client.send(&[open(3), frame(DATA, END_STREAM, 3, b"{\"message\":\"after\"}")].concat());
    let mut answered = client.next_of(DATA).expect("an answer");
    while answered.stream != 3 {
        answered = client.next_of(DATA).expect("an answer");
    }
    assert!(answered.payload.starts_with(b"{\"accepted\":1"), "{answered:?}");
}

#[test]
fn a_client_that_takes_no_replies_is_let_go_and_delays_nobody() {
    let server = Server::embedded(&["--create-tables", "--limit", "reply_deadline_ms=1000"]);
    // Windows of nothing: SETTINGS_INITIAL_WINDOW_SIZE 0.
    let mut client = Raw::connect(server.port, &[(4, 0)]);
    for index in 0..100 {
        let stream = 2 * index + 1;
        let body = frame(DATA, END_STREAM, stream, b"{\"message\":\"never read\"}");
        client.send(&[open(stream), body].concat());
    }
    for _ in 0..10 {
        neighbour(&server);
    }
    let reset = client.next_of(RST_STREAM).expect("its streams are reset");
    assert_eq!(reset.code(), 8, "CANCEL");
    no_stream_stays(&server);
    let taken = "SELECT count() FROM otel_logs WHERE Body = 'never read'";
    eventually("its rows", || (server.sql(taken) == "100").then_some(()));
}

#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let server = Server::embedded(&["--create-tables", "--limit", "reply_deadline_ms=1000"]);
    let mut client = Raw::connect(server.port, &[]);
    // Pings want to be answered; nothing of it is read. Some 100 MB of answers fit no socket.
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(1000);
    let started = Instant::now();
    while client.try_send(&pings).is_ok() {
        assert!(started.elapsed() < 60 * SECOND, "it is read for ever");
    }
    neighbour(&server);
}

#[test]
fn half_a_frame_and_then_silence_ends_the_connection() {
    let limits = [
        "head_deadline_ms=1000",
        "body_deadline_ms=1000",
        "idle_deadline_ms=2000",
    ];
    let limits = limits.map(|limit| ["--limit", limit]);
    let server = Server::embedded(&[&["--create-tables"][..], limits.as_flattened()].concat());
    let whole = open(1);
    let body = frame(DATA, 0, 1, b"{\"message\":\"half\"}");
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        (
            "an open header block",
            frame(HEADERS, 0, 1, &block("POST", "/ingest")),
        ),
        ("half a body", [&whole[..], &body[..12]].concat()),
    ];
    for cut in [1, 5, 9, 10, whole.len() - 1] {
        cases.push(("half a frame", whole[..cut].to_vec()));
    }
    let clients: Vec<_> = cases
        .into_iter()
        .map(|(what, bytes)| {
            let mut client = Raw::connect(server.port, &[]);
            client.send(&bytes);
            (what, client)
        })
        .collect();
    neighbour(&server);
    for (what, mut client) in clients {
        assert!(client.next_of(GOAWAY).is_some(), "{what}: a reason");
        // Whatever else is said, it ends.
        while client.next().is_some() {}
    }
    // A body that stops between two frames costs its stream only.
    let mut client = Raw::connect(server.port, &[]);
    client.send(&[whole, body].concat());
    let head = client.next_of(HEADERS).expect("408");
    assert_eq!(head.stream, 1);
    let said = client.next_of(DATA).expect("why");
    assert!(
        String::from_utf8_lossy(&said.payload).contains("too slow"),
        "{said:?}"
    );
    no_stream_stays(&server);
    eventually("the end of every connection", || {
        (gauge(&server, "ringhouse_connections_open{") == 0).then_some(())
    });
}

#[test]
fn a_body_that_stalls_within_its_window_ends_alone_at_its_deadline() {
    let server = Server::embedded(&["--create-tables", "--limit", "body_deadline_ms=1000"]);
    let mut client = Raw::connect(server.port, &[]);
    let started = Instant::now();
    let half = frame(DATA, 0, 1, b"{\"message\":\"whole\"}\n{\"message\":\"ha");
    client.send(&[open(1), half].concat());
    // Others of its connection are answered meanwhile and afterwards.
    let mut is_ended = false;
    for stream in (3..).step_by(2) {
        let asked = Instant::now();
        client.send(
            &[
                open(stream),
                frame(DATA, END_STREAM, stream, b"{\"message\":\"beside\"}"),
            ]
            .concat(),
        );
        let was_ended = is_ended;
        loop {
            let answer = client.next_of(DATA).expect("an answer");
            let text = String::from_utf8_lossy(&answer.payload).into_owned();
            if answer.stream == stream {
                assert!(text.starts_with("{\"accepted\":1"), "{text}");
                break;
            }
            assert!(answer.stream == 1 && text.contains("too slow"), "{answer:?}");
            assert!(started.elapsed() > SECOND / 2, "{:?}", started.elapsed());
            is_ended = true;
        }
        assert!(asked.elapsed() < PATIENT, "{:?}", asked.elapsed());
        assert!(started.elapsed() < 30 * SECOND, "it is waited for in vain");
        if was_ended {
            break;
        }
    }
    no_stream_stays(&server);
}

#[test]
fn streams_and_connections_beyond_the_limits_are_refused_and_may_come_again() {
    let limits = ["streams_per_core=4", "http2_connections_per_core=2"].map(|limit| ["--limit", limit]);
    let arguments = [
        &["--create-tables", "--ingest-cores", "1"][..],
        limits.as_flattened(),
    ]
    .concat();
    let server = Server::embedded(&arguments);
    let mut client = Raw::connect(server.port, &[]);
    for index in 0..5 {
        client.send(&open(2 * index + 1));
    }
    let refused = client.next_of(RST_STREAM).expect("the fifth");
    assert_eq!((refused.stream, refused.code()), (9, 7), "REFUSED_STREAM");
    let mut second = Raw::connect(server.port, &[]);
    second.send(&frame(PING, 0, 0, &[1; 8]));
    assert!(second.next_of(PING).is_some_and(|pong| pong.flags & ACK != 0));
    let mut third = Raw::connect(server.port, &[]);
    assert_eq!(third.next_of(GOAWAY).map(|frame| frame.code()), Some(CALM));
    assert!(third.next().is_none());
    // Room again.
    for index in 0..4 {
        client.send(&frame(DATA, END_STREAM, 2 * index + 1, b"{\"message\":\"x\"}"));
    }
    no_stream_stays(&server);
    client.send(&[open(11), frame(DATA, END_STREAM, 11, b"{\"message\":\"x\"}")].concat());
    let mut head = client.next_of(HEADERS).expect("an answer");
    while head.stream != 11 {
        head = client.next_of(HEADERS).expect("an answer");
    }
}

#[test]
fn a_request_refused_before_its_body_leaves_its_connection_as_it_was() {
    // The log fills while the engine stands still.
    let limits = ["wal_blocks_max=16", "ack_deadline_ms=4000"].map(|limit| ["--limit", limit]);
    let arguments = [&["--create-tables", "--ack", "wal"][..], limits.as_flattened()].concat();
    let server = Server::embedded(&arguments);
    let engine = server.engine_pid();
    crate::common::signal(engine, rustix::process::Signal::STOP);
    eventually("a full log", || {
        let reply = http("POST", server.port, "/ingest", &[], b"{\"message\":\"x\"}").unwrap();
        (reply.status == 503).then_some(())
    });
    let mut client = Raw::connect(server.port, &[]);
    client.send(&open(1));
    let head = client.next_of(HEADERS).expect("503");
    assert_eq!(head.stream, 1);
    // The request was refused before its body: what is sent of it is thrown away, and the connection goes on.
    for _ in 0..3 {
        client.send(&frame(DATA, 0, 1, &[b' '; 16_000]));
    }
    client.send(&frame(PING, 0, 0, &[1; 8]));
    assert!(client.next_of(PING).is_some_and(|pong| pong.flags & ACK != 0));
    crate::common::signal(engine, rustix::process::Signal::CONT);
}

#[test]
fn a_server_that_shuts_down_finishes_its_streams_and_says_goodbye() {
    let mut server = Server::embedded(&["--create-tables"]);
    let mut client = Raw::connect(server.port, &[]);
    client.send(&open(1));
    client.send(&frame(DATA, 0, 1, b"{\"message\":\"first\"}\n"));
    eventually("the request", || {
        (gauge(&server, "ringhouse_streams_open{") == 1).then_some(())
    });
    crate::common::signal(server.pid(), rustix::process::Signal::TERM);
    assert!(client.next_of(GOAWAY).is_some());
    client.send(&frame(DATA, END_STREAM, 1, b"{\"message\":\"last\"}"));
    let said = client.next_of(DATA).expect("an answer");
    assert!(said.payload.starts_with(b"{\"accepted\":2"), "{said:?}");
    let status = server.wait();
    assert!(status.success(), "{status}");
}
