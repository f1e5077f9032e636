//! OpenTelemetry's own exporters, in Python (protobuf over HTTP and gRPC) and JavaScript (JSON), against a whole server.

#[path = "../common/clients.rs"]
mod clients;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clients::{Client, Language};
use common::client::{Client as Connection, header};
use common::{Reply, Server, corpus, eventually, http};
use rustix::process::Signal;
use serde_json::{Value, json};

const PYTHON_PACKAGES: [&str; 3] = [
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
];

const NODE_PACKAGES: [&str; 4] = [
    "@opentelemetry/api@1",
    "@opentelemetry/exporter-logs-otlp-http@0.223.1",
    "@opentelemetry/resources@2.12.1",
    "@opentelemetry/sdk-logs@0.223.1",
];

/// Lines of each service that every client sends.
const LINES_OF_SERVICE: usize = 250;

/// The SDK's directory, installed at the first use; `None` when what installs it is missing.
fn packages(language: Language) -> Option<PathBuf> {
    static INSTALLED: [OnceLock<Option<PathBuf>>; 2] = [const { OnceLock::new() }; 2];
    let packages = match language {
        Language::Python => &PYTHON_PACKAGES[..],
        Language::JavaScript => &NODE_PACKAGES[..],
        Language::Java => return None,
    };
    INSTALLED[language as usize]
        .get_or_init(|| language.install("otlp", packages))
        .clone()
}

/// Starts to send `rows`, what it says going into `log`; `None` when the language is missing.
fn start(
    language: Language,
    target: &str,
    compression: &str,
    client: &str,
    rows: &[Value],
    log: &Path,
) -> Option<Client> {
    let script = match language {
        Language::Python => "otlp/send.py",
        Language::JavaScript => "otlp/send.mjs",
        Language::Java => return None,
    };
    let said = File::create(log).unwrap();
    let complained = said.try_clone().unwrap();
    let arguments = [target, compression, client];
    Some(language.start(&packages(language)?, script, &arguments, rows, said, complained))
}

/// Rows as the senders read them: lines of the corpus, with everything a record can have.
fn rows() -> Vec<Value> {
    let lines = corpus::rows(LINES_OF_SERVICE);
    let mut random = fastrand::Rng::with_seed(0x5eed_0002);
    let mut rows: Vec<Value> = Vec::new();
    for (seq, line) in lines.iter().enumerate() {
        let mut attributes: serde_json::Map<String, Value> = line
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "timestamp" | "service" | "level" | "message"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        attributes.insert("seq".to_owned(), json!(seq));
        if seq % 3 == 0 {
            attributes.insert("ratio".to_owned(), json!(1.5 + seq as f64));
            attributes.insert("flag".to_owned(), json!(seq % 2 == 0));
            attributes.insert("tags".to_owned(), json!(["a", "é\"", ""]));
            attributes.insert("nested".to_owned(), json!({"inner": {"list": [1, -2]}}));
            attributes.insert("raw".to_owned(), json!({"bytes": [255, 0, seq % 256]}));
        }
        let body = match seq % 10 {
            0 => json!({"what": line["message"], "count": seq}),
            _ => line["message"].clone(),
        };
        let (trace, span) = match seq % 4 {
            0 => (String::new(), String::new()),
            _ => (
                format!("{:032x}", random.u128(1..)),
                format!("{:016x}", random.u64(1..)),
            ),
        };
        rows.push(json!({
            "service": line["service"],
            "time": (1_750_000_000_000_000_000 + seq as u64 * 1_000_000_007).to_string(),
            "observed": "1760000000000000000",
            "severity_text": line["level"].as_str().unwrap_or("DEBUG2"),
            "severity_number": 1 + seq % 24,
            "body": body,
            "attributes": attributes,
            "trace": trace,
            "span": span,
            "flags": u8::from(!span.is_empty()) * u8::from(seq % 8 != 1),
            "event": if seq % 5 == 0 { format!("event.{seq}") } else { String::new() },
        }));
    }
    rows
}

/// A value as a text: texts as they are, all else as JSON, bytes as Base64.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(members) if members.contains_key("bytes") => {
            use base64::Engine;
            let bytes: Vec<u8> = serde_json::from_value(members["bytes"].clone()).unwrap();
            base64::prelude::BASE64_STANDARD.encode(bytes)
        }
        other => other.to_string(),
    }
}

/// What ClickHouse must hold of a row.
fn expected(row: &Value, client: &str) -> Value {
    let attributes = row["attributes"].as_object().unwrap().iter();
    let attributes: BTreeMap<&String, String> =
        attributes.map(|(key, value)| (key, text_of(value))).collect();
    json!({
        "Timestamp": row["time"],
        "TraceId": row["trace"],
        "SpanId": row["span"],
        "TraceFlags": row["flags"],
        "SeverityText": row["severity_text"],
        "SeverityNumber": row["severity_number"],
        "ServiceName": row["service"],
        // Members in the order they were sent, which is that of the row's own text.
        "Body": text_of(&row["body"]),
        "ResourceSchemaUrl": "urn:resource",
        "ResourceAttributes": {"service.name": row["service"], "client": client, "cpus": "4"},
        "ScopeSchemaUrl": "urn:scope",
        "ScopeName": "sender",
        "ScopeVersion": "1.2.3",
        // The JavaScript SDK gives a scope none.
        "ScopeAttributes": if client.starts_with("Python") { json!({"thread": "main"}) } else { json!({}) },
        "LogAttributes": attributes,
        "EventName": row["event"],
    })
}

#[test]
fn every_record_of_real_exporters_is_in_clickhouse_as_it_was_sent() {
    let server = Server::embedded(&["--create-tables"]);
    let rows = rows();
    let http = format!("http://127.0.0.1:{}/v1/logs", server.port);
    let grpc = format!("grpc://127.0.0.1:{}", server.port);
    let clients = [
        (Language::Python, &http),
        (Language::Python, &grpc),
        (Language::JavaScript, &http),
    ];
    let clients = clients
        .into_iter()
        .flat_map(|(language, target)| ["none", "gzip"].map(|compression| (language, target, compression)));
    for (language, target, compression) in clients {
        let client = format!("{language:?}, {compression}, {}", &target[..4]);
        let log = server.directory().join("client.txt");
        let Some(mut sender) = start(language, target, compression, &client, &rows, &log) else {
            continue;
        };
        let status = eventually("the client's end", || sender.0.try_wait().unwrap());
        let said = fs::read_to_string(&log).unwrap();
        assert!(status.success() && said.is_empty(), "{client}: {status}\n{said}");
        // At `inserted`: what was answered is there.
        let found = server.sql(&format!(
            "SELECT * REPLACE (toString(toUnixTimestamp64Nano(Timestamp)) AS Timestamp) FROM otel_logs
             WHERE ResourceAttributes['client'] = '{client}' ORDER BY toUInt64(LogAttributes['seq']) FORMAT JSONEachRow"
        ));
        let found: Vec<Value> = found
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(found.len(), rows.len(), "{client}");
        for (found, row) in found.iter().zip(&rows) {
            assert_eq!(*found, expected(row, &client), "{client}");
        }
        println!("{client}: {} records", rows.len());
    }
    let metrics = server.admin("/metrics").unwrap().body;
    assert!(!metrics.contains("status=\"4"), "{metrics}");
    assert!(!metrics.contains("status=\"5"), "{metrics}");
}

fn post(server: &Server, target: &str, content_type: &str, body: &[u8]) -> Reply {
    http(
        "POST",
        server.port,
        target,
        &[("Content-Type", content_type)],
        body,
    )
    .unwrap()
}

fn post_json(server: &Server, target: &str, body: &str) -> (Reply, Value) {
    let reply = post(server, target, "application/json", body.as_bytes());
    assert_eq!(header(&reply.head, "content-type"), Some("application/json"));
    let value = serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"));
    (reply, value)
}

fn request(records: &[&str]) -> String {
    format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#,
        records.join(",")
    )
}

#[test]
fn replies_are_in_the_encoding_of_the_request() {
    let server = Server::embedded(&["--create-tables"]);
    let good = r#"{"body":{"stringValue":"good"}}"#;
    let (reply, value) = post_json(&server, "/v1/logs", &request(&[good]));
    assert_eq!((reply.status, value), (200, json!({})));
    let (reply, value) = post_json(&server, "/v1/logs", "{}");
    assert_eq!((reply.status, value), (200, json!({})));
    let bad = r#"{"traceId":"no"}"#;
    let (reply, value) = post_json(&server, "/v1/logs", &request(&[bad, good, bad]));
    assert_eq!(reply.status, 200);
    assert_eq!(value["partialSuccess"]["rejectedLogRecords"], "2");
    let message = value["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(
        message.starts_with("record 0: ") && message.contains("; record 2: "),
        "{message}"
    );
    assert_eq!(server.sql("SELECT count(), any(Body) FROM otel_logs"), "2\tgood");

    for (target, body, status, code, words) in [
        ("/v1/logs", "{", 400, 3, "the body is not valid JSON at byte"),
        (
            "/v1/logs",
            r#"{"resourceLogs":7}"#,
            400,
            3,
            "resourceLogs is of the wrong type",
        ),
        ("/v1/logs?table=none", "{}", 404, 5, "table"),
        ("/v1/logs?ack=soon", "{}", 400, 3, "ack level"),
    ] {
        let (reply, value) = post_json(&server, target, body);
        assert_eq!(
            (reply.status, &value["code"]),
            (status, &json!(code)),
            "{reply:?}"
        );
        assert!(value["message"].as_str().unwrap().contains(words), "{value}");
    }
    let large = " ".repeat(11 << 20);
    let (reply, value) = post_json(&server, "/v1/logs", &large);
    assert_eq!((reply.status, &value["code"]), (413, &json!(8)));

    let protobuf = "application/x-protobuf";
    let reply = post(&server, "/v1/logs", protobuf, b"\x0a\x05four");
    assert_eq!(reply.status, 400);
    assert_eq!(header(&reply.head, "content-type"), Some(protobuf));
    // google.rpc.Status: 1 code, 2 message.
    assert!(reply.body.starts_with("\x08\x03\x12"), "{reply:?}");
    let reply = post(&server, "/v1/logs", "text/plain", b"x");
    assert_eq!(reply.status, 415);
    let accepted = "application/x-protobuf, application/json";
    assert_eq!(header(&reply.head, "accept"), Some(accepted));
    // The parameter of a media type is none of ours.
    let reply = post(&server, "/v1/logs", "application/json; charset=utf-8", b"{}");
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
}

#[test]
fn exporters_do_not_repeat_what_is_refused_and_repeat_what_comes_while_the_server_is_full() {
    // The row that finds the log full waits for as long as `ack_deadline_ms`.
    let limits = ["wal_blocks_max=16", "ack_deadline_ms=2000"].map(|limit| ["--limit", limit]);
    let arguments = [&["--create-tables", "--ack", "wal"][..], limits.as_flattened()].concat();
    let server = Server::embedded(&arguments);
    let rows = &rows()[..1];
    let log = server.directory().join("client.txt");
    let languages = [Language::Python, Language::JavaScript];
    let said = || fs::read_to_string(&log).unwrap();

    for language in languages {
        let target = format!("http://127.0.0.1:{}/v1/logs?table=none", server.port);
        if let Some(mut sender) = start(language, &target, "none", "refused", rows, &log) {
            eventually("the client's end", || sender.0.try_wait().unwrap());
            let said = said();
            assert!(
                said.contains("404") || said.contains("Not Found"),
                "{language:?}: {said}"
            );
        }
    }
    let refused = requests(&server, 404);
    let tried = languages
        .into_iter()
        .filter(|language| packages(*language).is_some());
    assert_eq!(refused, tried.clone().count() as u64, "each came once");
    let http = format!("http://127.0.0.1:{}/v1/logs", server.port);
    let grpc = format!("grpc://127.0.0.1:{}", server.port);
    let tried = tried.flat_map(|language| match language {
        Language::Python => vec![(language, &http), (language, &grpc)],
        Language::JavaScript => vec![(language, &http)],
        Language::Java => Vec::new(),
    });

    // With its engine stopped the log fills.
    let engine = server.engine_pid();
    for (language, target) in tried {
        common::signal(engine, Signal::STOP);
        let reply = eventually("503", || {
            let reply = post_json(&server, "/v1/logs", &request(&["{}"])).0;
            (reply.status == 503 && reply.body.contains("wal_blocks_max")).then_some(reply)
        });
        assert!(header(&reply.head, "retry-after").is_some(), "{reply:?}");
        let before = requests(&server, 503);
        let client = format!("{language:?}, full, {}", &target[..4]);
        let mut sender = start(language, target, "none", &client, rows, &log).unwrap();
        eventually("the client's first try", || {
            assert!(sender.0.try_wait().unwrap().is_none(), "it gave up: {}", said());
            (requests(&server, 503) > before).then_some(())
        });
        common::signal(engine, Signal::CONT);
        let status = eventually("the client's end", || sender.0.try_wait().unwrap());
        assert!(status.success(), "{}", said());
        let count = format!("SELECT count() FROM otel_logs WHERE ResourceAttributes['client'] = '{client}'");
        eventually("its record", || (server.sql(&count) == "1").then_some(()));
    }
}

/// Requests that were answered with this status.
fn requests(server: &Server, status: u16) -> u64 {
    let metrics = server.admin("/metrics").unwrap().body;
    let label = format!("status=\"{status}\"");
    let lines = metrics.lines().filter(|line| line.contains(&label));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Messages in JSON have one tape, which is kept while one of them waits for the log.
#[test]
fn messages_in_json_that_find_the_log_full_are_all_answered_in_the_time_of_one() {
    // Each message is more than a hundred blocks, which are more than a core may gather.
    let limits = [
        "wal_blocks_max=16",
        "wal_buffer_bytes=65536",
        "batch_rows_max=100",
        "chunk_bytes=4096",
        "ack_deadline_ms=2000",
    ]
    .map(|limit| ["--limit", limit]);
    let arguments = [&["--create-tables", "--ack", "wal"][..], limits.as_flattened()].concat();
    let server = Server::embedded(&arguments);
    let body = request(&[r#"{"body":{"stringValue":"x"}}"#; 20_000]);
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut connections: Vec<Connection> = (0..16).map(|_| Connection::connect(server.port)).collect();
    for connection in &mut connections {
        // Later, with a full log, it would not be.
        connection.send(head.as_bytes());
        assert_eq!(connection.reply().status, 100);
    }
    // With its engine stopped the log fills.
    common::signal(server.engine_pid(), Signal::STOP);
    let started = Instant::now();
    for connection in &mut connections {
        connection.send(body.as_bytes());
    }
    let statuses: Vec<u16> = (connections.iter_mut())
        .map(|connection| connection.reply().status)
        .collect();
    common::signal(server.engine_pid(), Signal::CONT);
    assert_eq!(statuses, [503; 16]);
    // One after the other eight of them took 12 s. Whoever gets the turn at the end of another waits once more.
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}
