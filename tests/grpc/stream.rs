//! What grpcio does not do: messages in Zstandard, and clients of a stream that send and do not read.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringhouse::protobuf::{Fields, Value as Field, put_bytes_field, put_varint_field};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::{PATIENCE, Server, eventually, signal};
use crate::load::settled;
use crate::peer::{Peer, frame};
use crate::{Client, EXPORT, export};

const STREAM: &str = "/ringhouse.v1.Ingest/Stream";

/// A `StreamRequest` of rows as JSON text.
fn request(sequence: u64, rows: &str) -> Vec<u8> {
    let mut message = Vec::new();
    put_varint_field(1, sequence, &mut message);
    put_bytes_field(2, rows.as_bytes(), &mut message);
    message
}

/// Sequence number and accepted rows of a `StreamReply` without a failure.
fn accepted(reply: &[u8]) -> (u64, u64) {
    let number = |wanted| {
        let mut fields = Fields::new(reply).map(Result::unwrap);
        match fields.find(|field| field.0 == wanted) {
            Some((_, Field::Varint(number))) => number,
            None => 0,
            Some(other) => panic!("{other:?}"),
        }
    };
    assert_eq!((number(3), number(5)), (0, 0), "{reply:?}");
    (number(1), number(2))
}

#[test]
fn messages_in_zstandard_are_taken_as_they_are_sent() {
    let server = Server::embedded(&["--create-tables"]);
    let mut peer = Peer::connect(server.port, 1 << 20);
    let zstd = |message: &[u8]| frame(&zstd::bulk::compress(message, 3).unwrap(), true);
    let metadata = [("grpc-encoding", "zstd")];
    let ended = peer.call(EXPORT, &metadata, &[zstd(&export(&["one", "two"]))]);
    assert_eq!((ended.code, ended.messages.len()), (0, 1), "{ended:?}");
    // A message may be sent as it is although a coding was named.
    let ended = peer.call(EXPORT, &metadata, &[frame(&export(&["three"]), false)]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let damaged = frame(b"\x28\xb5\x2f\xfd no Zstandard", true);
    let ended = peer.call(EXPORT, &metadata, &[damaged]);
    assert_eq!((ended.code, ended.messages.len()), (3, 0), "{ended:?}");
    let rows = "{\"message\":\"four\"}\n{\"message\":\"five\"}";
    let frames = [
        zstd(&request(1, rows)),
        frame(&request(2, "{\"message\":\"six\"}"), false),
    ];
    let ended = peer.call(STREAM, &metadata, &frames);
    let replies: Vec<(u64, u64)> = ended.messages.iter().map(|reply| accepted(reply)).collect();
    assert_eq!((ended.code, replies), (0, vec![(1, 2), (2, 1)]));
    let bodies = "SELECT arrayStringConcat(arraySort(groupArray(Body)), ' ') FROM otel_logs";
    assert_eq!(server.sql(bodies), "five four one six three two");
}

/// While a client cannot send its neighbour is looked after this often.
const LOOK: Duration = Duration::from_millis(100);

#[test]
fn a_client_that_sends_and_reads_no_replies_is_held_up_alone_and_then_let_go() {
    let server = Server::embedded(&["--create-tables", "--limit", "reply_deadline_ms=1500"]);
    let rows = "{\"message\":\"unread\",\"noise\":\"0123456789\"}\n".repeat(400);
    let message = Bytes::from(frame(&request(0, &rows), false));
    let mut neighbour = Peer::connect(server.port, 1 << 20);
    let before = server.resident_bytes();
    // Not a byte of a reply finds room.
    let mut peer = Peer::connect(server.port, 0);
    let (_response, mut sender) = peer.begin(STREAM, &[("x-ringhouse-ack", "memory")]);
    let (mut sent, mut rest, mut calls) = (0, message.clone(), 0);
    let started = Instant::now();
    // As fast as the server's window allows, until it ends the stream.
    let reset = loop {
        sender.reserve_capacity(rest.len());
        let room_or_reset = poll_fn(|cx| match sender.poll_reset(cx) {
            Poll::Ready(reset) => Poll::Ready(Err(reset.unwrap())),
            Poll::Pending => sender.poll_capacity(cx).map(Ok),
        });
        match peer.wait_for(LOOK, room_or_reset) {
            Some(Err(reset)) => break reset,
            Some(Ok(Some(Ok(room)))) => {
                let piece = rest.split_to(room.min(rest.len()));
                sent += piece.len();
                sender.send_data(piece, false).unwrap();
                if rest.is_empty() {
                    rest = message.clone();
                }
            }
            // Its reset is on the way.
            Some(Ok(_)) => {}
            None => {
                let frames = [frame(&export(&["neighbour"]), false)];
                let ended = neighbour.call(EXPORT, &[("x-ringhouse-ack", "memory")], &frames);
                assert_eq!(ended.code, 0, "{ended:?}");
                calls += 1;
            }
        }
        assert!(started.elapsed() < PATIENCE, "it is never let go");
        // Some messages and a window: what is not answered is not read.
        assert!(
            sent < 4 << 20,
            "{sent} bytes were read of a client that reads nothing"
        );
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes more");
    };
    assert_eq!(reset, h2::Reason::CANCEL);
    assert!(calls > 0, "it was held up for its deadline");
    let sql = "SELECT count() FROM otel_logs WHERE Body = 'neighbour'";
    eventually("its neighbour's rows", || {
        (server.sql(sql) == calls.to_string()).then_some(())
    });
}

#[test]
fn every_reply_of_a_stream_is_true_while_the_log_is_full() {
    let limits = ["wal_blocks_max=16", "ack_deadline_ms=3000"].map(|limit| ["--limit", limit]);
    let server = Server::embedded(&[&["--create-tables"][..], limits.as_flattened()].concat());
    // More than can wait for 16 blocks.
    let input: Vec<Value> = (0..3000)
        .map(|sequence| {
            let row = format!("{{\"message\":\"{sequence}\"}}\n");
            json!({"sequence": sequence, "json": row.repeat(3)})
        })
        .collect();
    let engine = server.engine_pid();
    signal(engine, Signal::STOP);
    let client = Client::start(&server, "stream", "{\"x-ringhouse-ack\":\"wal\"}", &input);
    let Some(mut client) = client else {
        signal(engine, Signal::CONT);
        return;
    };
    let result = client.result();
    signal(engine, Signal::CONT);
    assert_eq!(result["code"], "OK", "{}", result["message"]);
    let replies = result["replies"].as_array().unwrap();
    assert_eq!(replies.len(), input.len());
    let mut full = 0;
    let mut acknowledged = Vec::new();
    for (sequence, reply) in replies.iter().enumerate() {
        assert_eq!(reply["sequence"], sequence);
        match reply["code"].as_u64() {
            Some(0) => {
                assert_eq!(reply["accepted"], 3, "{reply}");
                acknowledged.push(sequence);
            }
            Some(14) => full += 1,
            _ => panic!("{reply}"),
        }
    }
    assert!(
        full > 0 && !acknowledged.is_empty(),
        "{full} of {}",
        replies.len()
    );
    settled(&server);
    // Who was acknowledged is there once; who was not may be there, once as well.
    let found = server.sql(
        "SELECT toUInt64(Body), count() FROM otel_logs GROUP BY Body ORDER BY toUInt64(Body) FORMAT JSONCompactEachRow",
    );
    let mut found: Vec<[u64; 2]> = found
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            [0, 1].map(|at| {
                row[at]
                    .as_u64()
                    .or_else(|| row[at].as_str()?.parse().ok())
                    .unwrap()
            })
        })
        .collect();
    assert!(found.iter().all(|[_, count]| *count <= 3), "{found:?}");
    found.retain(|[_, count]| *count == 3);
    for sequence in acknowledged {
        let is_there = found.binary_search_by_key(&(sequence as u64), |[sequence, _]| *sequence);
        assert!(is_there.is_ok(), "{sequence} was acknowledged and is missing");
    }
}
