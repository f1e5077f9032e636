//! A sender of each protocol, and what it makes of its answers.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use ringhouse::protobuf::put_bytes_field;
use serde_json::{Value, json};

use super::common::client::header;
use super::common::{PATIENCE, Reply, Server, http};
use super::peer::{Peer, frame};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Otlp,
    Bulk,
    Hec,
    Loki,
    Grpc,
    Forward,
    Syslog,
}

impl Protocol {
    pub const ALL: [Protocol; 7] = [
        Protocol::Otlp,
        Protocol::Bulk,
        Protocol::Hec,
        Protocol::Loki,
        Protocol::Grpc,
        Protocol::Forward,
        Protocol::Syslog,
    ];

    /// It has an answer that asks to come again. Of the others the senders wait.
    pub fn asks_to_come_again(self) -> bool {
        !matches!(self, Protocol::Forward | Protocol::Syslog)
    }

    pub fn connect(self, server: &Server) -> Sender {
        let stream = |listener| {
            let stream = TcpStream::connect(("127.0.0.1", server.port_of(listener))).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream
        };
        match self {
            Protocol::Grpc => Sender::Grpc(Box::new(Peer::connect(server.port, 1 << 16))),
            Protocol::Forward => Sender::Forward(stream("forward")),
            Protocol::Syslog => Sender::Syslog(stream("syslog")),
            protocol => Sender::Http(protocol, server.port),
        }
    }
}

/// What a row's sender was answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// The row is where the ack level wants it. Of syslog: it was sent.
    Acknowledged,
    /// The answer of the protocol that makes its clients send again.
    Again,
}

pub enum Sender {
    Http(Protocol, u16),
    Grpc(Box<Peer>),
    Forward(TcpStream),
    Syslog(TcpStream),
}

impl Sender {
    /// Sends a row with this body and waits for what is said of it.
    pub fn send(&mut self, body: &str) -> Told {
        match self {
            Sender::Http(protocol, port) => {
                let (target, text) = request(*protocol, body);
                let headers = [("Content-Type", "application/json")];
                let reply = http("POST", *port, target, &headers, text.as_bytes()).unwrap();
                told(*protocol, &reply)
            }
            Sender::Grpc(peer) => {
                let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
                let ended = peer.call(path, &[], &[frame(&export(body), false)]);
                // 14: UNAVAILABLE, which is sent again with RetryInfo.
                match (ended.code, ended.has_details) {
                    (0, false) => Told::Acknowledged,
                    (14, true) => Told::Again,
                    _ => panic!("{ended:?}"),
                }
            }
            Sender::Forward(stream) => {
                forward(stream, body).unwrap();
                Told::Acknowledged
            }
            Sender::Syslog(stream) => {
                let line = format!("<14>1 - h app - - - {body}\n");
                stream.write_all(line.as_bytes()).unwrap();
                Told::Acknowledged
            }
        }
    }
}

/// Target and body of a request with one row.
fn request(protocol: Protocol, body: &str) -> (&'static str, String) {
    match protocol {
        Protocol::Otlp => {
            let record = json!({"body": {"stringValue": body}});
            let request = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]});
            ("/v1/logs", request.to_string())
        }
        Protocol::Bulk => (
            "/_bulk",
            format!("{{\"create\":{{}}}}\n{}\n", json!({ "message": body })),
        ),
        Protocol::Hec => ("/services/collector", json!({ "event": body }).to_string()),
        Protocol::Loki => {
            let stream = json!({"stream": {"app": "a"}, "values": [["1750000000000000000", body]]});
            ("/loki/api/v1/push", json!({ "streams": [stream] }).to_string())
        }
        Protocol::Grpc | Protocol::Forward | Protocol::Syslog => unreachable!("{protocol:?} is not HTTP"),
    }
}

/// # Panics
///
/// At an answer that is neither, or not put as the protocol puts it.
fn told(protocol: Protocol, reply: &Reply) -> Told {
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let is_acknowledged = match protocol {
        Protocol::Otlp => reply.status == 200 && body == json!({}),
        Protocol::Bulk => reply.status == 200 && body["items"][0]["create"]["status"] == 201,
        Protocol::Hec => reply.status == 200 && body["code"] == 0,
        _ => reply.status == 204,
    };
    let is_asked_again = match protocol {
        Protocol::Otlp => reply.status == 503 && body["code"] == 14,
        Protocol::Bulk => reply.status == 429 && body["error"]["type"] == "es_rejected_execution_exception",
        Protocol::Hec => reply.status == 503 && body["code"] == 9,
        _ => reply.status == 503,
    };
    if is_acknowledged {
        return Told::Acknowledged;
    }
    assert!(is_asked_again, "{protocol:?}: {reply:?}");
    assert!(
        header(&reply.head, "retry-after").is_some(),
        "{protocol:?}: {reply:?}"
    );
    Told::Again
}

/// An `ExportLogsServiceRequest` of one record.
fn export(body: &str) -> Vec<u8> {
    // AnyValue: 1 string_value. LogRecord: 5 body. ScopeLogs: 2 log_records. ResourceLogs: 2 scope_logs. Request: 1.
    let mut message = body.as_bytes().to_vec();
    for number in [1, 5, 2, 2, 1] {
        let inner = std::mem::take(&mut message);
        put_bytes_field(number, &inner, &mut message);
    }
    message
}

/// Sends a chunk of one entry, and waits until it is acknowledged.
fn forward(stream: &mut TcpStream, body: &str) -> io::Result<()> {
    let length = u16::try_from(body.len()).expect("a short row").to_be_bytes();
    // [tag, [[time, {"message": body}]], {"chunk": "id"}]
    let message = [
        b"\x93\xa1t\x91\x92\x01\x81\xa7message\xda".as_slice(),
        &length,
        body.as_bytes(),
        b"\x81\xa5chunk\xa2id",
    ];
    stream.write_all(&message.concat())?;
    let mut ack = [0; 8];
    stream.read_exact(&mut ack)?;
    assert_eq!(&ack, b"\x81\xa3ack\xa2id");
    Ok(())
}
