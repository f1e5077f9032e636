//! Protocols whose body is one message, by their clients, against a whole server.

#[path = "../common/clients.rs"]
mod clients;
#[path = "../common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clients::{Client, Language};
use common::client::header;
use common::keys::add_key;
use common::{Reply, Server, corpus, eventually, http};
use ringhouse::protobuf::{put_bytes_field, put_varint_field};
use serde_json::{Value, json};

const PYTHON_PACKAGES: [&str; 1] = ["python-logging-loki==0.3.1"];

// protobufjs comes with winston-loki.
const NODE_PACKAGES: [&str; 5] = [
    "winston@3",
    "winston-loki@6.1.7",
    "snappy@7",
    "pino@10",
    "pino-loki@3.0.0",
];

// Log4j's layout brings a reader of JSON.
const JAVA_PACKAGES: [&str; 3] = [
    "com.github.loki4j:loki-logback-appender:2.0.0",
    "ch.qos.logback:logback-classic:1.5.38",
    "org.apache.logging.log4j:log4j-layout-template-json:2.26.1",
];

/// Known to every client.
const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

/// Lines that each client sends of each service.
const LINES_OF_SERVICE: usize = 40;

/// Starts sending `rows` by `script`, which writes into `log`. `None` when the language is missing.
fn start(language: Language, script: &str, arguments: &[&str], rows: &[Value], log: &Path) -> Option<Client> {
    static INSTALLED: [OnceLock<Option<PathBuf>>; 3] = [const { OnceLock::new() }; 3];
    let packages = match language {
        Language::Python => &PYTHON_PACKAGES[..],
        Language::JavaScript => &NODE_PACKAGES[..],
        Language::Java => &JAVA_PACKAGES[..],
    };
    let installed =
        INSTALLED[language as usize].get_or_init(|| language.install("message-dialects", packages));
    let said = File::create(log).unwrap();
    let complained = said.try_clone().unwrap();
    let script = format!("message_dialects/{script}");
    Some(language.start(installed.as_ref()?, &script, arguments, rows, said, complained))
}

/// Sends `rows` by `script` to the end; what it said. `None` when the language is missing.
fn send(language: Language, script: &str, arguments: &[&str], rows: &[Value], log: &Path) -> Option<String> {
    let mut client = start(language, script, arguments, rows, log)?;
    let status = eventually("the client's end", || client.0.try_wait().unwrap());
    let said = fs::read_to_string(log).unwrap();
    assert!(status.success(), "{script} {arguments:?}: {status}\n{said}");
    Some(said)
}

/// Lines of the corpus, numbered.
fn rows() -> Vec<Value> {
    let lines = corpus::rows(LINES_OF_SERVICE).into_iter().map(|line| {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (text("service"), text("message"))
    });
    let rows = lines.enumerate().map(|(seq, (service, message))| {
        json!({
            "seq": seq,
            "service": service.chars().take(32).collect::<String>(),
            "message": if message.is_empty() { "-".to_owned() } else { message.chars().take(4096).collect() },
            "level": LEVELS[seq % LEVELS.len()],
            "time_ms": 1_750_000_000_000_u64 + 1001 * seq as u64,
        })
    });
    rows.collect()
}

fn post(server: &Server, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    http("POST", server.port, target, headers, body).unwrap()
}

fn post_json(server: &Server, target: &str, body: &Value) -> (u16, Value) {
    let reply = post(
        server,
        target,
        &[("Content-Type", "application/json")],
        body.to_string().as_bytes(),
    );
    let value = serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"));
    (reply.status, value)
}

fn found(server: &Server, query: &str) -> Vec<Value> {
    let found = server.sql(&format!("{query} FORMAT JSONCompactEachRow"));
    found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_line_of_real_loki_clients_is_in_clickhouse_as_it_was_sent() {
    let server = Server::embedded(&["--create-tables"]);
    let rows = rows();
    let log = server.directory().join("client.txt");
    let base = format!("http://127.0.0.1:{}", server.port);
    // A request a line: none of them waits for its INSERT.
    let push = format!("{base}/loki/api/v1/push?ack=wal");
    let old_push = format!("{base}/api/prom/push?ack=wal");
    for (language, script, target, form) in [
        (Language::Python, "loki.py", &push, "1"),
        (Language::Python, "loki.py", &old_push, "0"),
        (Language::JavaScript, "loki.mjs", &base, "json"),
        (Language::JavaScript, "loki.mjs", &base, "protobuf"),
        (Language::JavaScript, "pino.mjs", &base, "json"),
        (Language::Java, "Loki.java", &push, "json"),
    ] {
        let client = format!("{script} {form}");
        let arguments = [target, form, &client, "token", "100"];
        let own = if language == Language::Java { 5 } else { 3 };
        let Some(said) = send(language, script, &arguments[..own], &rows, &log) else {
            continue;
        };
        assert_eq!(said, "", "{client}");
        let count = format!("SELECT count() FROM otel_logs WHERE ResourceAttributes['client'] = '{client}'");
        eventually("its rows", || {
            (server.sql(&count) == rows.len().to_string()).then_some(())
        });
        let found = found(
            &server,
            &format!(
                "SELECT Body, SeverityText, ServiceName, toInt64(toUnixTimestamp64Milli(Timestamp)), LogAttributes
                 FROM otel_logs WHERE ResourceAttributes['client'] = '{client}'
                 ORDER BY toUInt64(ResourceAttributes['seq'])"
            ),
        );
        assert_eq!(found.len(), rows.len(), "{client}");
        for (found, row) in found.iter().zip(&rows) {
            let level = match row["level"].as_str().unwrap() {
                "warn" if matches!(script, "loki.py" | "pino.mjs") => "warning".to_owned(),
                level if language == Language::Java => level.to_uppercase(),
                level => level.to_owned(),
            };
            assert_eq!(found[0], row["message"], "{client}");
            assert_eq!(
                (&found[1], &found[2]),
                (&json!(level), &row["service"]),
                "{client}"
            );
            if language == Language::JavaScript {
                let time: i64 = found[3]
                    .as_str()
                    .map_or_else(|| found[3].as_i64().unwrap(), |text| text.parse().unwrap());
                assert_eq!(time, row["time_ms"].as_i64().unwrap(), "{client}");
            }
            assert_eq!(found[4], json!({}), "{client}");
        }
        println!("{client}: {} lines", rows.len());
    }
    let metrics = server.admin("/metrics").unwrap().body;
    assert!(
        !metrics.contains("status=\"4") && !metrics.contains("status=\"5"),
        "{metrics}"
    );
}

/// Requests that were answered with a status.
fn answered(server: &Server, status: u16) -> u64 {
    let metrics = server.admin("/metrics").unwrap().body;
    let samples = metrics.lines().filter(|line| {
        line.starts_with("ringhouse_requests_total{") && line.contains(&format!("status=\"{status}\""))
    });
    samples
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Loki4j sends a batch again that was answered 503 or 429, and no other.
#[test]
fn a_loki_client_sends_again_what_finds_no_room_and_not_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys.toml");
    let token = add_key(&keys, "free", "");
    let slow_token = add_key(&keys, "slow", "requests_per_second = 1\nrequests_burst = 1");
    let limits = ["wal_blocks_max=16", "line_bytes_max=4096", "ack_deadline_ms=2000"];
    let limits = limits.map(|limit| ["--limit", limit]);
    let start_arguments = [
        "--create-tables",
        "--ack",
        "wal",
        "--keys-file",
        keys.to_str().unwrap(),
    ];
    let server = Server::embedded(&[&start_arguments[..], limits.as_flattened()].concat());
    let log = directory.path().join("client.txt");
    let push = format!("http://127.0.0.1:{}/loki/api/v1/push", server.port);
    let row =
        |seq: usize, message: &str| json!({"seq": seq, "service": "s", "level": "info", "message": message});
    let bodies = || server.sql("SELECT groupArray(Body) FROM (SELECT Body FROM otel_logs ORDER BY Body)");
    let there = |expected: &str| {
        eventually(expected, || (bodies() == expected).then_some(()));
    };

    let rows = [row(0, "good"), row(1, &"long".repeat(2000)), row(2, "good too")];
    let arguments = [&push, "json", "wrong", &token, "1"];
    let Some(said) = send(Language::Java, "Loki.java", &arguments, &rows, &log) else {
        return;
    };
    assert_eq!((answered(&server, 400), answered(&server, 204)), (1, 2), "{said}");
    assert!(said.contains("status 400"), "{said}");
    there("['good','good too']");

    let rows = ["a", "b", "c"].map(|message| row(0, message));
    let arguments = [&push, "json", "over", &slow_token, "1"];
    let said = send(Language::Java, "Loki.java", &arguments, &rows, &log).unwrap();
    assert!(answered(&server, 429) > 0, "{said}");
    there("['a','b','c','good','good too']");

    server.sql("TRUNCATE TABLE otel_logs");
    let engine = server.engine_pid();
    common::signal(engine, rustix::process::Signal::STOP);
    let full = format!("/loki/api/v1/push?token={token}");
    eventually("the log to be full", || {
        let body =
            json!({"streams": [{"stream": {"a": "b"}, "values": [["1750000000000000000", "filler"]]}]});
        let json_type = [("Content-Type", "application/json")];
        (post(&server, &full, &json_type, body.to_string().as_bytes()).status == 503).then_some(())
    });
    let before = answered(&server, 503);
    let arguments = [&push, "json", "full", &token, "1"];
    let mut client = start(
        Language::Java,
        "Loki.java",
        &arguments,
        &[row(0, "at last")],
        &log,
    )
    .unwrap();
    eventually("the client to try again", || {
        (answered(&server, 503) >= before + 3).then_some(())
    });
    common::signal(engine, rustix::process::Signal::CONT);
    let status = eventually("the client's end", || client.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    eventually("its row", || {
        let count = server.sql("SELECT count() FROM otel_logs WHERE Body = 'at last'");
        (count == "1").then_some(())
    });
}

/// A `PushRequest` of streams of lines, as a block of Snappy.
fn push_request(streams: &[(&str, &[&str])]) -> Vec<u8> {
    let mut request = Vec::new();
    for (labels, lines) in streams {
        let mut stream = Vec::new();
        put_bytes_field(1, labels.as_bytes(), &mut stream);
        for line in *lines {
            let (mut time, mut entry) = (Vec::new(), Vec::new());
            put_varint_field(1, 1_750_000_000, &mut time);
            put_bytes_field(1, &time, &mut entry);
            put_bytes_field(2, line.as_bytes(), &mut entry);
            put_bytes_field(2, &entry, &mut stream);
        }
        put_bytes_field(1, &stream, &mut request);
    }
    snap::raw::Encoder::new().compress_vec(&request).unwrap()
}

#[test]
fn loki_replies_are_those_its_clients_know() {
    let server = Server::embedded(&["--create-tables"]);
    let protobuf = ("Content-Type", "application/x-protobuf");
    let push = "/loki/api/v1/push";
    let good = push_request(&[("{app=\"a\"}", &["one", "two"])]);
    for headers in [&[protobuf][..], &[protobuf, ("Content-Encoding", "snappy")], &[]] {
        let reply = post(&server, push, headers, &good);
        assert_eq!((reply.status, reply.body.as_str()), (204, ""));
        assert_eq!(header(&reply.head, "content-length"), None);
    }
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "6");

    // Streams are refused alone, and nothing of the reply asks for them again.
    let partly = push_request(&[
        ("{app=\"a\"}", &["three"]),
        ("{app", &["bad", "bad"]),
        ("{}", &["four"]),
    ]);
    let reply = post(&server, push, &[protobuf], &partly);
    assert_eq!(reply.status, 400);
    assert_eq!(
        header(&reply.head, "content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(
        reply
            .body
            .starts_with("2 entries were rejected, 2 were taken: entry 1: the labels"),
        "{reply:?}"
    );
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "8");

    for (headers, body, status, words) in [
        (
            &[protobuf][..],
            &b"\xff\xff\xff\xff\xff\xff"[..],
            400,
            "does not inflate as snappy",
        ),
        (
            &[protobuf],
            &good[..good.len() - 1],
            400,
            "does not inflate as snappy",
        ),
        // 16 MiB, it says.
        (&[protobuf], b"\x80\x80\x80\x08", 413, "longer than"),
        (&[protobuf], b"\x02\x04\x0a\x05", 400, "not the protobuf message"),
        (
            &[("Content-Type", "application/json")],
            b"{",
            400,
            "not valid JSON",
        ),
        (
            &[("Content-Type", "application/json")],
            b"[]",
            400,
            "not a push request",
        ),
        (&[("Content-Type", "text/plain")], b"x", 415, "Content-Type"),
        (
            &[
                ("Content-Type", "application/json"),
                ("Content-Encoding", "snappy"),
            ],
            b"x",
            400,
            "does not inflate as snappy",
        ),
    ] {
        let reply = post(&server, push, headers, body);
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(reply.body.contains(words), "{reply:?}");
    }
    let reply = post(&server, &format!("{push}?table=none"), &[protobuf], &good);
    assert_eq!(reply.status, 404);
    let reply = http("GET", server.port, "/ready", &[], b"").unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "ready\n"));
    assert_eq!(http("GET", server.port, push, &[], b"").unwrap().status, 405);
    let empty = post(
        &server,
        push,
        &[("Content-Type", "application/json")],
        b"{\"streams\":[]}",
    );
    assert_eq!(empty.status, 204);
}

#[test]
fn streams_go_to_the_tables_of_their_labels() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("ringhouse.toml");
    fs::write(
        &config,
        "[[route]]\nlabel = {env = 'prod*'}\ntable = 'prod'\n[[route]]\nlabel = {app = 'gone'}\ntable = 'gone'\n",
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let server = Server::embedded(&[
        "--create-tables",
        "--limit",
        "schema_refresh_ms=200",
        "--config",
        config,
    ]);
    server.sql("CREATE TABLE prod AS otel_logs");
    let json_type = [("Content-Type", "application/json")];
    let request = |streams: &[(&str, &str, &[&str])]| {
        let streams: Vec<Value> = streams
            .iter()
            .map(|(app, env, lines)| {
                let values: Vec<Value> = lines
                    .iter()
                    .map(|line| json!(["1750000000000000000", line]))
                    .collect();
                json!({"stream": {"app": app, "env": env}, "values": values})
            })
            .collect();
        json!({ "streams": streams }).to_string()
    };
    let streams = request(&[
        ("a", "prod", &["1", "2"]),
        ("b", "dev", &["3"]),
        ("c", "production", &["4"]),
        ("d", "prod", &["5"]),
        ("e", "dev", &["6", "7"]),
    ]);
    eventually("the table to be served", || {
        let reply = post(&server, "/loki/api/v1/push", &json_type, streams.as_bytes());
        (reply.status == 204).then_some(())
    });
    let protobuf = push_request(&[
        ("{env=\"prod\"}", &["8"]),
        ("{env=\"dev\"}", &["9", "10"]),
        ("{env=\"pro\\x64\"}", &["11"]),
    ]);
    let reply = post(
        &server,
        "/loki/api/v1/push",
        &[("Content-Type", "application/x-protobuf")],
        &protobuf,
    );
    assert_eq!(reply.status, 204, "{reply:?}");
    let bodies = |table: &str| {
        server.sql(&format!("SELECT arrayStringConcat(groupArray(Body), ' ') FROM (SELECT Body FROM {table} ORDER BY toUInt64(Body))"))
    };
    assert_eq!(bodies("prod"), "1 2 4 5 8 11");
    assert_eq!(bodies("otel_logs"), "3 6 7 9 10");
    // Of a message with a stream for no table nothing is taken.
    let reply = post(
        &server,
        "/loki/api/v1/push",
        &json_type,
        request(&[("a", "prod", &["12"]), ("gone", "dev", &["13"])]).as_bytes(),
    );
    assert_eq!(reply.status, 404, "{reply:?}");
    // A table that the request names is that of all.
    let reply = post(
        &server,
        "/loki/api/v1/push?table=otel_logs",
        &json_type,
        request(&[("a", "prod", &["14"])]).as_bytes(),
    );
    assert_eq!(reply.status, 204);
    assert_eq!(bodies("prod"), "1 2 4 5 8 11");
    assert_eq!(bodies("otel_logs"), "3 6 7 9 10 14");
}

fn entry(message: &str) -> Value {
    json!({
        "app_id": "shop", "level": "info", "message": message, "source": "checkout", "environment": "prod",
        "metadata": {"k": "v"}, "timestamp": "2025-06-15T15:06:40Z",
    })
}

#[test]
fn log_entries_of_protobufjs_are_in_clickhouse_as_they_were_sent() {
    let server = Server::embedded(&["--create-tables"]);
    let rows = rows();
    let target = format!("http://127.0.0.1:{}/api/logs", server.port);
    let log = server.directory().join("client.txt");
    let Some(said) = send(
        Language::JavaScript,
        "entries.mjs",
        &[&target, "sender"],
        &rows,
        &log,
    ) else {
        return;
    };
    assert_eq!(said, "");
    let found = found(
        &server,
        "SELECT Body, SeverityText, ServiceName, toString(toUnixTimestamp64Milli(Timestamp)), LogAttributes FROM otel_logs
         ORDER BY toUInt64(LogAttributes['seq'])",
    );
    assert_eq!(found.len(), rows.len());
    for (found, row) in found.iter().zip(&rows) {
        let seq = row["seq"].to_string();
        assert_eq!(
            *found,
            json!([
                row["message"], row["level"].as_str().unwrap().to_uppercase(), row["service"], row["time_ms"].to_string(),
                {"seq": seq, "id": format!("e{seq}"), "app_id": "sender", "environment": "test"},
            ])
        );
    }
}

#[test]
fn log_entries_are_answered_truthfully() {
    let server = Server::embedded(&["--create-tables"]);
    let mut bad = entry("bad");
    bad["level"] = json!("loud");
    let (status, body) = post_json(&server, "/api/logs", &json!([entry("one"), bad, entry("two")]));
    assert_eq!((status, &body["success"]), (202, &json!(true)));
    assert_eq!(
        (&body["stats"]["accepted"], &body["stats"]["rejected"]),
        (&json!(2), &json!(1))
    );
    assert!(body["stats"]["throughput"].as_f64().unwrap() > 0.0, "{body}");
    assert_eq!(
        body["errors"],
        json!([{"index": 1, "error": "level must be DEBUG, INFO, WARN, ERROR or FATAL"}])
    );
    let (status, body) = post_json(&server, "/api/logs", &entry("three"));
    assert_eq!((status, &body["message"]), (202, &json!("1 log was accepted")));
    assert_eq!(server.sql("SELECT count(), uniq(Body) FROM otel_logs"), "3\t3");

    for wrong in [json!({}), json!([{}]), json!(7)] {
        let (status, body) = post_json(&server, "/api/logs", &wrong);
        assert_eq!((status, &body["success"]), (400, &json!(false)), "{body}");
        assert!(body["errors"].is_array() && body["message"].is_string(), "{body}");
    }
    let long = json!([entry("x"), " ".repeat(11 << 20)]);
    let (status, body) = post_json(&server, "/api/logs", &long);
    assert_eq!((status, &body["success"]), (413, &json!(false)), "{body}");
    let reply = post(&server, "/api/logs", &[("Content-Type", "text/plain")], b"x");
    assert_eq!(reply.status, 415);
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "3");
}

#[test]
fn a_repeated_request_with_a_key_gets_the_first_reply_and_its_entries_are_there_once() {
    let server = Server::embedded(&["--create-tables"]);
    let mut batch = Vec::new();
    for message in ["one", "two"] {
        let mut entry = Vec::new();
        for (number, text) in [(2, "shop"), (5, message), (6, "checkout"), (7, "prod")] {
            put_bytes_field(number, text.as_bytes(), &mut entry);
        }
        put_bytes_field(1, &entry, &mut batch);
    }
    let json = json!([entry("three"), {}]).to_string();
    for (key, content_type, body, accepted) in [
        ("k1", "application/x-protobuf-batch", batch.as_slice(), 2),
        ("k2", "application/json", json.as_bytes(), 1),
    ] {
        let headers = [("Content-Type", content_type), ("Idempotency-Key", key)];
        let first = post(&server, "/api/logs", &headers, body);
        let again = post(&server, "/api/logs", &headers, body);
        assert_eq!((first.status, again.status), (202, 202), "{first:?}");
        assert_eq!(header(&again.head, "idempotent-replayed"), Some("true"));
        let counts = |reply: &Reply| {
            let body: Value = serde_json::from_str(&reply.body).unwrap();
            (
                body["success"].clone(),
                body["stats"]["accepted"].clone(),
                body["errors"].clone(),
            )
        };
        assert_eq!(counts(&first), counts(&again));
        assert_eq!(counts(&first).1, json!(accepted));
    }
    // A key whose request was refused is free again.
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k3")];
    assert_eq!(post(&server, "/api/logs", &headers, b"{}").status, 400);
    let good = entry("four").to_string();
    assert_eq!(post(&server, "/api/logs", &headers, good.as_bytes()).status, 202);
    assert_eq!(server.sql("SELECT count(), uniq(Body) FROM otel_logs"), "4\t4");
}

#[test]
fn logs_of_logger_and_logtide_are_taken_as_their_clients_send_them() {
    let server = Server::embedded(&["--create-tables"]);
    let log = json!({"timestamp": "2025-06-15T15:06:40.5Z", "level": "error", "message": "logger", "resourceID": "r1"});
    let reply = post(
        &server,
        "/log",
        &[("Content-Type", "application/json")],
        log.to_string().as_bytes(),
    );
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    let reply = post(&server, "/log", &[], b"{\"timestamp\":\"soon\"}");
    assert_eq!(reply.status, 400);
    assert!(reply.body.starts_with("log 0: "), "{reply:?}");

    let tide = |message: &str| json!({"service": "api", "level": "warn", "message": message});
    for body in [
        json!({"logs": [tide("t1"), tide("t2")]}),
        json!([tide("t3")]),
        json!([{"logs": [tide("t4")]}, {"logs": [tide("t5")]}]),
    ] {
        let (status, reply) = post_json(&server, "/api/v1/ingest", &body);
        assert_eq!((status, &reply["rejected"]), (200, &json!([])), "{reply}");
        assert!(reply["timestamp"].as_str().unwrap().ends_with('Z'), "{reply}");
    }
    let (status, reply) = post_json(&server, "/api/v1/ingest", &json!([tide("t6"), tide("")]));
    assert_eq!((status, &reply["received"]), (200, &json!(1)));
    assert_eq!(
        reply["rejected"],
        json!([{"index": 1, "reason": "message must have 1 character at least"}])
    );
    assert_eq!(post_json(&server, "/api/v1/ingest", &json!([tide("")])).0, 400);
    assert_eq!(
        post_json(&server, "/api/v1/ingest", &json!({"logs": vec![tide("x"); 1001]})).0,
        400
    );

    let lines =
        "{\"log\":\"t7\",\"date\":1750000000.5}\n\n{bad\n{\"message\":\"t8\",\"level\":\"fatal\"}\n7\n";
    let single = "/api/v1/ingest/single";
    let reply = post(
        &server,
        single,
        &[("Content-Type", "application/x-ndjson")],
        lines.as_bytes(),
    );
    let value: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((reply.status, &value["received"]), (200, &json!(2)), "{reply:?}");
    let rejected: Vec<&Value> = value["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["index"])
        .collect();
    assert_eq!(rejected, [1, 3]);
    assert_eq!(
        post_json(&server, single, &json!({"message": "t9"})).1["received"],
        1
    );
    assert_eq!(
        found(
            &server,
            "SELECT Body, SeverityText, ServiceName FROM otel_logs ORDER BY Body"
        ),
        [
            json!(["logger", "error", ""]),
            json!(["t1", "warn", "api"]),
            json!(["t2", "warn", "api"]),
            json!(["t3", "warn", "api"]),
            json!(["t4", "warn", "api"]),
            json!(["t5", "warn", "api"]),
            json!(["t6", "warn", "api"]),
            json!(["t7", "info", "unknown"]),
            json!(["t8", "critical", "unknown"]),
            json!(["t9", "info", "unknown"]),
        ]
    );
}
