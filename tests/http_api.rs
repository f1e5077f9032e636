//! The ingest API and the admin pages as their documentation promises them, against the real server and engine.

mod common;

use std::process::{Command, Output};
use std::time::{Duration, Instant};
use std::{fs, thread};

use common::client::{Client, header, post, post_chunked};
use common::{BINARY, Reply, Server, eventually, http, raw};
use rustix::process::Signal;
use serde_json::{Value, json};

const OK_ONE: &str = r#"{"accepted":1,"rejected":0,"ack":"inserted","errors":[]}"#;

fn json_of(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {reply:?}"))
}

/// Asserts a refusal: its status, and a body of one sentence that holds `part`.
fn assert_refused(reply: &Reply, status: u16, part: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let body = json_of(reply);
    let sentence = body["error"]
        .as_str()
        .unwrap_or_else(|| panic!("no sentence: {reply:?}"));
    assert!(sentence.contains(part), "{sentence:?} does not say {part:?}");
    assert_eq!(body.as_object().unwrap().len(), 1, "{reply:?}");
}

/// The column `Body` of all rows, sorted.
fn bodies(server: &Server) -> Vec<String> {
    let text = server.sql("SELECT Body FROM otel_logs ORDER BY Body");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn accepts_an_object_an_array_and_lines_told_apart_by_content() {
    let server = Server::embedded(&[]);
    let bodies_sent = [
        ("a1", 1, "{\"message\":\"a1\"}"),
        ("b1 b2", 2, "[{\"message\":\"b1\"},{\"message\":\"b2\"}]"),
        ("c1 c2", 2, "{\"message\":\"c1\"}\n{\"message\":\"c2\"}\n"),
        (
            "d1",
            1,
            "{\n  \"message\": \"d1\",\n  \"n\": {\n    \"m\": [1,\n 2]\n  }\n}\n",
        ),
        ("e1 e2", 2, "{\"message\":\"e1\"}{\"message\":\"e2\"}"),
        (
            "f1 f2",
            2,
            "  \r\n[\n  {\"message\":\"f1\"},\r\n  {\"message\":\"f2\"}\n]\r\n",
        ),
        (
            "g1 g2",
            2,
            "{\"message\":\"g1\"}\r\n\r\n\n   \n{\"message\":\"g2\"}",
        ),
        ("h1 h2", 2, "\u{feff}{\"message\":\"h1\"}\n{\"message\":\"h2\"}"),
        ("i1", 1, "\u{feff}[{\"message\":\"i1\"}]"),
        ("j1", 1, "\t{ \"message\" : \"j1\" } "),
    ];
    let mut expected = Vec::new();
    // What curl -d says, what shippers say, and what nobody should: the content decides.
    let types = [
        "application/x-www-form-urlencoded",
        "application/json",
        "application/x-ndjson",
        "image/png",
    ];
    for ((names, rows, body), content_type) in bodies_sent.into_iter().zip(types.into_iter().cycle()) {
        let headers = [("Content-Type", content_type)];
        let reply = http("POST", server.port, "/ingest", &headers, body.as_bytes()).unwrap();
        let told = json!({"accepted": rows, "rejected": 0, "ack": "inserted", "errors": []});
        assert_eq!((reply.status, json_of(&reply)), (200, told), "{names}");
        expected.extend(names.split(' ').map(str::to_owned));
    }
    assert_eq!(bodies(&server), expected);
}

#[test]
fn answers_with_the_level_reached() {
    let server = Server::embedded(&[]);
    let row = br#"{"message":"x"}"#;
    let ask =
        |target: &str, headers: &[(&str, &str)]| http("POST", server.port, target, headers, row).unwrap();
    let reply = ask("/ingest", &[]);
    assert_eq!((reply.status, reply.body.as_str()), (200, OK_ONE));
    assert_eq!(header(&reply.head, "content-type"), Some("application/json"));
    assert!(
        header(&reply.head, "date").is_some_and(|date| date.ends_with(" GMT")),
        "{}",
        reply.head
    );
    let memory = r#"{"accepted":1,"rejected":0,"ack":"memory","errors":[]}"#;
    let wal = r#"{"accepted":1,"rejected":0,"ack":"wal","errors":[]}"#;
    for (target, headers, status, body) in [
        ("/ingest?ack=inserted", &[][..], 200, OK_ONE),
        ("/ingest?ack=memory", &[], 202, memory),
        ("/ingest?ack=wal", &[], 200, wal),
        ("/ingest?x=1&ack=memory&y", &[], 202, memory),
        ("/ingest", &[("X-Ringhouse-Ack", "wal")], 200, wal),
        ("/ingest", &[("X-Ringhouse-Ack", "memory")], 202, memory),
        ("/ingest", &[("x-ringhouse-ack", "inserted")], 200, OK_ONE),
        (
            "/ingest?ack=memory",
            &[("X-Ringhouse-Ack", "inserted")],
            202,
            memory,
        ),
    ] {
        let reply = ask(target, headers);
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (status, body),
            "{target} {headers:?}"
        );
    }
    for wrong in ["", "WAL", "INSERTED", "memory,inserted", "%00"] {
        assert_refused(&ask(&format!("/ingest?ack={wrong}"), &[]), 400, "ack level");
    }
    assert_refused(&ask("/ingest", &[("X-Ringhouse-Ack", "later")]), 400, "ack level");
    eventually("all rows", || {
        (server.sql("SELECT count() FROM otel_logs") == "9").then_some(())
    });

    let server = Server::embedded(&["--ack", "memory"]);
    let reply = server.post("/ingest", row);
    assert_eq!((reply.status, reply.body.as_str()), (202, memory));
    let reply = server.post("/ingest?ack=inserted", row);
    assert_eq!((reply.status, reply.body.as_str()), (200, OK_ONE));
}

#[test]
fn rejects_a_bad_line_alone_with_its_index_and_reason() {
    let server = Server::embedded(&["--limit", "line_bytes_max=1024", "--limit", "depth_max=8"]);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(20), "]".repeat(20));
    let long = format!("{{\"message\":\"{}\"}}", "x".repeat(2000));
    let lines: [(&[u8], &str); 12] = [
        (br#"{"message":"good 0"}"#, ""),
        (br#"{"message":"broken""#, "JSON"),
        (br#"{"message":"good 2"}"#, ""),
        (b"42", "object"),
        (br#"{"message":"lone \ud800"}"#, "surrogate"),
        (b"{\"message\":\"\xff\xfe\"}", "UTF-8"),
        (deep.as_bytes(), "deep"),
        (long.as_bytes(), "longer than 1024 bytes"),
        (br#"{"message":"good 8"}"#, ""),
        (br#"{"message":"bad time","time":"tomorrow"}"#, "Timestamp"),
        (br#"["message","good 10?"]"#, "object"),
        (br#"{"message":"good 11"}"#, ""),
    ];
    let body = lines.map(|(line, _)| line).join(&b'\n');
    let reply = server.post("/ingest", &body);
    let told = json_of(&reply);
    assert_eq!(
        (reply.status, &told["accepted"], &told["rejected"]),
        (200, &json!(4), &json!(8)),
        "{told}"
    );
    let errors = told["errors"].as_array().unwrap();
    let expected: Vec<(usize, &str)> = lines
        .iter()
        .enumerate()
        .filter(|(_, (_, part))| !part.is_empty())
        .map(|(i, (_, part))| (i, *part))
        .collect();
    assert_eq!(errors.len(), expected.len(), "{told}");
    for (error, (row, part)) in errors.iter().zip(expected) {
        assert_eq!(error["row"], row, "{told}");
        assert!(
            error["reason"].as_str().unwrap().contains(part),
            "{error} does not say {part:?}"
        );
    }
    assert_eq!(bodies(&server), ["good 0", "good 11", "good 2", "good 8"]);
}

#[test]
fn rejects_a_bad_element_alone_with_its_index() {
    let server = Server::embedded(&[]);
    let reply = server.post(
        "/ingest",
        r#"[{"message":"good 0"}, 17, {"message":"bad","ts":"?"}, null, {"message":"good 4"}, "s"]"#,
    );
    let told = json_of(&reply);
    assert_eq!(
        (reply.status, &told["accepted"], &told["rejected"]),
        (200, &json!(2), &json!(4)),
        "{told}"
    );
    let rows: Vec<u64> = told["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["row"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, [1, 2, 3, 5], "{told}");
    assert_eq!(bodies(&server), ["good 0", "good 4"]);

    // An array that breaks off: its rows so far stay, and the reply says from where on nothing was taken.
    let reply = server.post(
        "/ingest",
        r#"[{"message":"good 5"},{"message":"good 6"},{"message":"cut"#,
    );
    let told = json_of(&reply);
    assert_eq!((reply.status, &told["accepted"]), (400, &json!(2)), "{told}");
    assert_eq!(told["errors"][0]["row"], 2, "{told}");
    assert_eq!(bodies(&server), ["good 0", "good 4", "good 5", "good 6"]);
}

#[test]
fn counts_every_error_and_spells_out_the_first_twenty() {
    let server = Server::embedded(&[]);
    let reply = server.post("/ingest", "nonsense\n".repeat(1234));
    let told = json_of(&reply);
    assert_eq!(
        (reply.status, &told["accepted"], &told["rejected"]),
        (400, &json!(0), &json!(1234)),
        "{told}"
    );
    let errors = told["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 20);
    for (index, error) in errors.iter().enumerate() {
        assert_eq!(error["row"], index);
    }
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "0");
}

#[test]
fn takes_the_last_of_duplicate_keys() {
    let server = Server::embedded(&[]);
    let row = r#"{"message":"first","x":1,"o":{"p":1,"q":2},"level":"info","x":"two","message":"last","level":"error","o":{"p":3}}"#;
    assert_eq!(server.post("/ingest", row).status, 200);
    let found = server.sql(
        "SELECT Body, SeverityText, SeverityNumber, LogAttributes['x'], LogAttributes['o.p'], length(LogAttributes) FROM otel_logs",
    );
    assert_eq!(found, "last\terror\t17\ttwo\t3\t2");
}

#[test]
fn says_that_a_body_without_rows_holds_none() {
    let server = Server::embedded(&[]);
    for nothing in ["", "\n", " \r\n\t", "[]", " [ ] ", "\u{feff}"] {
        let reply = server.post("/ingest", nothing);
        let told = json!({"error": "the body holds no rows"});
        assert_eq!((reply.status, json_of(&reply)), (400, told), "{nothing:?}");
    }
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "0");
}

#[test]
fn refuses_what_is_not_served_and_keeps_the_connection() {
    let server = Server::embedded(&[]);
    let mut client = Client::connect(server.port);
    let row = br#"{"message":"x"}"#;
    for (target, status, part) in [
        ("/ingest/nosuch", 404, "no such table"),
        ("/ingest/nosuch.otel_logs", 404, "no such table"),
        ("/ingest/system.tables", 404, "no such table"),
        ("/", 404, "/ingest"),
        ("/ingestion", 404, "/ingest"),
        ("/metrics", 404, "/ingest"),
        ("/ingest/a%2", 400, "percent"),
        ("/ingest/a.", 400, "/ingest/database.table"),
    ] {
        client.send(&post(target, &[], row));
        assert_refused(&client.reply(), status, part);
    }
    client.send(&post("/ingest/otel_logs", &[], row));
    assert_eq!(client.reply().body, OK_ONE);
    client.send(&post("/ingest/default.otel%5Flogs", &[], row));
    assert_eq!(client.reply().body, OK_ONE);
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "2");
}

#[test]
fn refuses_other_methods_and_names_the_right_one() {
    let server = Server::embedded(&[]);
    let mut client = Client::connect(server.port);
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        client.send(
            format!("{method} /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes(),
        );
        let reply = if method == "HEAD" {
            client.reply_to_head()
        } else {
            client.reply()
        };
        assert_eq!(
            (reply.status, header(&reply.head, "allow")),
            (405, Some("POST")),
            "{method} {reply:?}"
        );
        if method != "HEAD" {
            assert_refused(&reply, 405, "POST");
        }
    }
    client.send(&post("/ingest", &[], b"{}"));
    assert_eq!(client.reply().body, OK_ONE);
    // Where the refused body cannot be skipped the reply says that the connection ends, and it does.
    client.send(
        &String::from_utf8(post_chunked("/ingest", &[], b"{}", || 1))
            .unwrap()
            .replace("POST", "PUT")
            .into_bytes(),
    );
    let reply = client.reply();
    assert_eq!(
        (reply.status, header(&reply.head, "connection")),
        (405, Some("close")),
        "{reply:?}"
    );
    client.finish();
    assert!(client.is_at_end());
}

#[test]
fn refuses_what_is_too_long() {
    let server = Server::embedded(&[
        "--limit",
        "line_bytes_max=2000",
        "--limit",
        "body_bytes_max=100_000",
    ]);
    let long = format!("{{\"message\":\"{}\"}}\n", "x".repeat(3000));
    let reply = server.post("/ingest", &long);
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(json_of(&reply)["rejected"], 1);
    assert!(
        json_of(&reply)["errors"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("2000 bytes"),
        "{reply:?}"
    );

    let line = format!("{{\"message\":\"{}\"}}\n", "y".repeat(900));
    let body = line.repeat(120);
    assert!(body.len() > 100_000);
    let reply = server.post("/ingest", &body);
    assert_refused(&reply, 413, "100000");
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "0");
    // Without a length the rows before the limit are in already: the reply says how many.
    let reply = raw(
        server.port,
        &post_chunked("/ingest?ack=inserted", &[], body.as_bytes(), || 8192),
    )
    .unwrap();
    let told = json_of(&reply);
    assert_eq!(reply.status, 413, "{reply:?}");
    let accepted = told["accepted"].as_u64().unwrap();
    assert!((1..=109).contains(&accepted), "{told}");
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), accepted.to_string());
}

#[test]
fn refuses_unknown_encodings_and_names_the_known_ones() {
    let server = Server::embedded(&[]);
    for encoding in ["br", "compress", "gzip, br", "gzip, gzip"] {
        let headers = [("Content-Encoding", encoding)];
        let reply = http("POST", server.port, "/ingest", &headers, b"{}").unwrap();
        assert_refused(&reply, 415, "");
        let known = header(&reply.head, "accept-encoding").unwrap_or_else(|| panic!("{reply:?}"));
        for coding in ["gzip", "zstd", "snappy", "lz4"] {
            assert!(known.contains(coding), "{known}");
        }
    }
    let headers = [("Content-Encoding", "identity")];
    assert_eq!(
        http("POST", server.port, "/ingest", &headers, b"{}")
            .unwrap()
            .body,
        OK_ONE
    );
    // A body that is not what it says it is.
    for encoding in ["gzip", "zstd", "deflate", "snappy", "lz4"] {
        let headers = [("Content-Encoding", encoding)];
        let reply = http(
            "POST",
            server.port,
            "/ingest",
            &headers,
            br#"{"message":"plain"}"#,
        )
        .unwrap();
        assert_refused(&reply, 400, encoding);
    }
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "1");
}

#[test]
fn lets_a_client_that_asks_first_send_its_body() {
    let server = Server::embedded(&[]);
    let mut client = Client::connect(server.port);
    for _ in 0..2 {
        client
            .send(b"POST /ingest HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n");
        assert_eq!(client.reply().status, 100);
        client.send(br#"{"message":"x"}"#);
        assert_eq!(client.reply().body, OK_ONE);
    }
    // A refusal comes in place of the leave, and ends the connection: whether the body follows is open.
    client.send(
        b"POST /ingest/nosuch HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n",
    );
    let reply = client.reply();
    assert_refused(&reply, 404, "no such table");
    assert_eq!(header(&reply.head, "connection"), Some("close"));
    client.finish();
    assert!(client.is_at_end());
}

#[test]
fn answers_pipelined_requests_in_order() {
    let server = Server::embedded(&[]);
    let mut client = Client::connect(server.port);
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    let mut rows_total = 0;
    for i in 0..100 {
        let rows = i % 7 + 1;
        let body = format!("{{\"message\":\"{i}\"}}\n").repeat(rows);
        let (target, status) = match i % 5 {
            0 => ("/ingest?ack=memory", 202),
            1 => ("/ingest/nosuch", 404),
            2 => ("/ingest?ack=never", 400),
            _ => ("/ingest?ack=inserted", 200),
        };
        bytes.extend(post(target, &[], body.as_bytes()));
        expected.push((status, if status < 300 { json!(rows) } else { Value::Null }));
        rows_total += if status < 300 { rows } else { 0 };
    }
    client.send(&bytes);
    for (i, (status, accepted)) in expected.into_iter().enumerate() {
        let reply = client.reply();
        assert_eq!(
            (reply.status, &json_of(&reply)["accepted"]),
            (status, &accepted),
            "reply {i}"
        );
    }
    let count = || server.sql("SELECT count() FROM otel_logs");
    eventually("all rows", || (count() == rows_total.to_string()).then_some(()));
}

#[test]
fn ends_or_keeps_the_connection_as_the_client_asks() {
    let server = Server::embedded(&[]);
    let ask = |client: &mut Client, version: &str, connection: &str| {
        let head =
            format!("POST /ingest HTTP/{version}\r\nHost: x\r\n{connection}Content-Length: 2\r\n\r\n{{}}");
        client.send(head.as_bytes());
        let reply = client.reply();
        assert_eq!(reply.body, OK_ONE);
        header(&reply.head, "connection").map(str::to_ascii_lowercase)
    };
    for (version, connection) in [
        ("1.0", ""),
        ("1.1", "Connection: close\r\n"),
        ("1.0", "Connection: close\r\n"),
    ] {
        let mut client = Client::connect(server.port);
        assert_eq!(ask(&mut client, version, connection).as_deref(), Some("close"));
        assert!(client.is_at_end(), "HTTP/{version} {connection}");
    }
    let mut client = Client::connect(server.port);
    assert_eq!(
        ask(&mut client, "1.0", "Connection: keep-alive\r\n").as_deref(),
        Some("keep-alive")
    );
    assert_eq!(ask(&mut client, "1.1", ""), None);
    assert_eq!(ask(&mut client, "1.0", "").as_deref(), Some("close"));
    assert!(client.is_at_end());
}

#[test]
fn shows_a_lone_row_within_its_second() {
    let server = Server::embedded(&[]);
    let mut waits = Vec::new();
    for i in 0..3 {
        let sent = Instant::now();
        assert_eq!(
            server
                .post("/ingest?ack=memory", format!("{{\"message\":\"{i}\"}}"))
                .status,
            202
        );
        let count = || server.sql(&format!("SELECT count() FROM otel_logs WHERE Body = '{i}'"));
        eventually("the row", || (count() == "1").then_some(()));
        waits.push(sent.elapsed());
    }
    println!("visible after {waits:?}");
    // One second is promised; the rest is for a busy machine.
    assert!(
        waits.iter().all(|wait| *wait < Duration::from_secs(3)),
        "{waits:?}"
    );

    // Nobody else waits: an INSERT at once. Two in a row are 200 ms apart, so each request first lets that pass.
    let mut client = Client::connect(server.port);
    let mut answers = Vec::new();
    for _ in 0..9 {
        thread::sleep(Duration::from_millis(250));
        let sent = Instant::now();
        client.send(&post("/ingest?ack=inserted", &[], b"{}"));
        assert_eq!(client.reply().body, OK_ONE);
        answers.push(sent.elapsed());
    }
    answers.sort();
    println!("answered after {answers:?}");
    // The batch's age is 800 ms: had the writer waited for it, the median would say so.
    assert!(answers[4] < Duration::from_millis(500), "{answers:?}");
}

#[test]
fn reads_times_in_every_form() {
    let server = Server::embedded(&[]);
    let forms = [
        (r#""2023-11-20T08:15:30Z""#, 1_700_468_130_000_000_000_i64),
        (r#""2023-11-20t08:15:30.5z""#, 1_700_468_130_500_000_000),
        (
            r#""2023-11-20T08:15:30.123456789+01:30""#,
            1_700_462_730_123_456_789,
        ),
        (r#""2023-11-20T08:15:30-0500""#, 1_700_486_130_000_000_000),
        (r#""2023-11-20 08:15:30""#, 1_700_468_130_000_000_000),
        (r#""2023-11-20 08:15:30,123""#, 1_700_468_130_123_000_000),
        (r#""2023-11-20""#, 1_700_438_400_000_000_000),
        ("1700468130", 1_700_468_130_000_000_000),
        ("1700468130123", 1_700_468_130_123_000_000),
        ("1700468130123456", 1_700_468_130_123_456_000),
        ("1700468130123456789", 1_700_468_130_123_456_789),
        ("1700468130.25", 1_700_468_130_250_000_000),
        (r#""1700468130""#, 1_700_468_130_000_000_000),
        (r#""1700468130.000001""#, 1_700_468_130_000_001_000),
        ("1.70046813e9", 1_700_468_130_000_000_000),
        ("0", 0),
    ];
    let names = ["timestamp", "time", "ts", "@timestamp", "_time", "Timestamp"];
    let mut body = String::new();
    for ((form, _), (i, name)) in forms.iter().zip(names.iter().cycle().enumerate()) {
        body.push_str(&format!("{{\"message\":\"{i:02}\",\"{name}\":{form}}}\n"));
    }
    assert_eq!(json_of(&server.post("/ingest", body))["accepted"], forms.len());
    let found = server
        .sql("SELECT toUnixTimestamp64Nano(Timestamp), length(LogAttributes) FROM otel_logs ORDER BY Body");
    let expected: Vec<String> = forms.iter().map(|(_, nanos)| format!("{nanos}\t0")).collect();
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);

    // None at all, and null: the time of receipt.
    assert_eq!(
        server
            .post(
                "/ingest",
                "{\"message\":\"x\"}\n{\"message\":\"x\",\"time\":null}"
            )
            .status,
        200
    );
    let recent = "SELECT count() FROM otel_logs WHERE Body = 'x' AND abs(dateDiff('second', Timestamp, now64(9, 'UTC'))) < 60";
    assert_eq!(server.sql(recent), "2");

    for wrong in [
        r#""soon""#,
        r#""2023-13-01""#,
        "true",
        "[]",
        r#""2023-11-20T25:00:00Z""#,
        "1e300",
    ] {
        let reply = server.post("/ingest", format!("{{\"time\":{wrong}}}"));
        assert_eq!(
            (reply.status, &json_of(&reply)["rejected"]),
            (400, &json!(1)),
            "{wrong}: {reply:?}"
        );
    }
}

#[test]
fn reads_levels_in_every_form() {
    let server = Server::embedded(&[]);
    let forms = [
        (r#""INFO""#, "INFO", 9),
        (r#""Warning""#, "Warning", 13),
        (r#""err""#, "err", 17),
        (r#""emerg""#, "emerg", 21),
        (r#""SEVERE""#, "SEVERE", 17),
        (r#""FINEST""#, "FINEST", 1),
        (r#""notice""#, "notice", 10),
        (r#""debug3""#, "debug3", 7),
        (r#""special""#, "special", 0),
        ("3", "err", 17),
        ("30", "info", 9),
        (r#""6""#, "info", 9),
        ("null", "", 0),
        (r#""""#, "", 0),
    ];
    let names = [
        "level",
        "severity",
        "severity_text",
        "lvl",
        "log.level",
        "SeverityText",
    ];
    let mut body = String::new();
    for ((form, ..), (i, name)) in forms.iter().zip(names.iter().cycle().enumerate()) {
        body.push_str(&format!("{{\"message\":\"{i:02}\",\"{name}\":{form}}}\n"));
    }
    body.push_str("{\"message\":\"50\",\"log\":{\"level\":\"warn\"}}\n");
    body.push_str("{\"message\":\"51\",\"level\":\"mine\",\"severity_number\":11}\n");
    assert_eq!(
        json_of(&server.post("/ingest", body))["accepted"],
        forms.len() + 2
    );
    let found = server.sql("SELECT SeverityText, SeverityNumber FROM otel_logs ORDER BY Body");
    let mut expected: Vec<String> = forms
        .iter()
        .map(|(_, text, number)| format!("{text}\t{number}"))
        .collect();
    expected.extend(["warn\t13".to_owned(), "mine\t11".to_owned()]);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn maps_the_usual_names_and_flattens_the_rest_with_dots() {
    let server = Server::embedded(&[]);
    let row = json!({
        "msg": "m", "service.name": "s", "trace_id": "t", "span_id": "p", "event": {"name": "e"},
        "http": {"status": 200, "headers": {"a.b": "c"}, "ok": true, "empty": {}}, "list": [1, {"x": null}],
        "nothing": null, "ratio": 0.5, "attributes": {"k": "v"},
        "ResourceAttributes": {"host": "h", "cpus": 4},
    });
    assert_eq!(server.post("/ingest", row.to_string()).body, OK_ONE);
    let found: Value = serde_json::from_str(&server.sql(
        "SELECT Body, ServiceName, TraceId, SpanId, EventName, LogAttributes, ResourceAttributes FROM otel_logs FORMAT JSONEachRow",
    ))
    .unwrap();
    assert_eq!(
        found,
        json!({
            "Body": "m", "ServiceName": "s", "TraceId": "t", "SpanId": "p", "EventName": "e",
            "LogAttributes": {
                "http.status": "200", "http.headers.a.b": "c", "http.ok": "true", "http.empty": "{}",
                "list": "[1,{\"x\":null}]", "nothing": "", "ratio": "0.5", "k": "v",
            },
            "ResourceAttributes": {"host": "h", "cpus": "4"},
        })
    );
}

#[test]
fn serves_a_table_by_its_own_columns_soon_after_its_creation() {
    let server = Server::embedded(&[
        "--limit",
        "schema_refresh_ms=200",
        "--table",
        "otel_logs",
        "--table",
        "app.events",
    ]);
    server.sql("CREATE DATABASE app");
    server.sql(
        "CREATE TABLE app.events (
            id UInt64, at DateTime64(3, 'UTC'), day Date, name String, code FixedString(3), ok Bool, small Int8,
            ratio Float64, exact Decimal(18, 4), kind Enum8('a' = 1, 'b' = 2), uid UUID, ip4 IPv4, ip6 IPv6,
            maybe Nullable(Int32), tags Array(LowCardinality(String)), pairs Map(String, UInt32),
            point Tuple(x Float64, y Float64),
            next UInt64 DEFAULT id + 1, made String DEFAULT concat('from ', name),
            upper_name String MATERIALIZED upper(name), lower_name String ALIAS lower(name)
        ) ENGINE = MergeTree ORDER BY id",
    );
    let full = json!({
        "id": 1, "at": "2024-02-03 04:05:06.789", "day": "2024-02-03", "name": "Ann", "code": "abc", "ok": true,
        "small": -7, "ratio": 0.25, "exact": "12.5", "kind": "b", "uid": "61f0c404-5cb3-11e7-907b-a6006ad3dba0",
        "ip4": "10.0.0.1", "ip6": "::1", "maybe": null, "tags": ["x", "y"], "pairs": {"p": 1}, "point": {"x": 1.5, "y": 2},
        "unheard_of": {"of": 1},
    });
    let given = json!({"id": 2, "next": 7, "made": "by hand", "maybe": 5, "upper_name": "no", "lower_name": "no", "name": "Bob"});
    let body = format!("{full}\n{given}\n{}\n", json!({"id": 3}));
    let reply = eventually("the table", || {
        let reply = server.post("/ingest/app.events", &body);
        (reply.status != 503).then_some(reply)
    });
    assert_eq!(
        (reply.status, &json_of(&reply)["accepted"]),
        (200, &json!(3)),
        "{reply:?}"
    );
    let found = server.sql(
        "SELECT *, upper_name FROM app.events ORDER BY id
         SETTINGS output_format_json_quote_64bit_integers = 0, output_format_json_quote_decimals = 1 FORMAT JSONEachRow",
    );
    let found: Vec<Value> = found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut first = full.clone();
    let first_fields = first.as_object_mut().unwrap();
    first_fields.remove("unheard_of");
    first_fields.insert("next".into(), json!(2));
    first_fields.insert("made".into(), json!("from Ann"));
    first_fields.insert("upper_name".into(), json!("ANN"));
    assert_eq!(found[0], first);
    let pick = |row: &Value, keys: &[&str]| keys.iter().map(|key| row[*key].clone()).collect::<Vec<_>>();
    let keys = ["id", "next", "made", "maybe", "upper_name", "name", "kind", "day"];
    assert_eq!(
        pick(&found[1], &keys),
        [
            json!(2),
            json!(7),
            json!("by hand"),
            json!(5),
            json!("BOB"),
            json!("Bob"),
            json!("a"),
            json!("1970-01-01")
        ]
    );
    assert_eq!(
        pick(&found[2], &keys),
        [
            json!(3),
            json!(4),
            json!("from "),
            Value::Null,
            json!(""),
            json!(""),
            json!("a"),
            json!("1970-01-01")
        ]
    );

    // Values its columns cannot hold: each row alone, by index.
    let bad = "{\"id\":-1}\n{\"id\":10}\n{\"small\":128}\n{\"kind\":\"c\"}\n{\"ip4\":\"10.0.0.256\"}\n{\"code\":\"abcd\"}\n{\"id\":11}";
    let told = json_of(&server.post("/ingest/app.events", bad));
    let rows: Vec<u64> = told["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["row"].as_u64().unwrap())
        .collect();
    assert_eq!(
        (&told["accepted"], rows),
        (&json!(2), vec![0, 2, 3, 4, 5]),
        "{told}"
    );
    assert_eq!(
        server.sql("SELECT groupArray(id) FROM (SELECT id FROM app.events ORDER BY id)"),
        "[1,2,3,10,11]"
    );

    // A column that is added is filled soon after, one that is dropped is no obstacle.
    server.sql("ALTER TABLE app.events ADD COLUMN extra String, DROP COLUMN ratio");
    eventually("the new column", || {
        let reply = server.post("/ingest/app.events", r#"{"id":20,"extra":"e","ratio":1}"#);
        assert_eq!(reply.status, 200, "{reply:?}");
        (server.sql("SELECT countIf(extra = 'e') > 0 FROM app.events WHERE id = 20") == "1").then_some(())
    });
}

#[test]
fn shows_on_its_admin_pages_what_it_did() {
    let server = Server::embedded(&[]);
    assert_eq!(
        server
            .post("/ingest", "{\"message\":\"a\"}\nbad\n{\"message\":\"b\"}")
            .status,
        200
    );
    assert_eq!(server.post("/ingest/nosuch", "{}").status, 404);

    let page = |target: &str| server.admin(target).unwrap();
    for (target, key) in [("/livez", "alive"), ("/readyz", "ready")] {
        let reply = page(target);
        assert_eq!(
            (reply.status, &json_of(&reply)[key]),
            (200, &json!(true)),
            "{reply:?}"
        );
    }
    let nowhere = page("/nowhere");
    assert_eq!(nowhere.status, 404);
    assert!(nowhere.body.contains("/metrics"), "{nowhere:?}");

    let status = json_of(&page("/status"));
    assert_eq!(
        status["ledger"],
        json!([{
            "table": "default.otel_logs", "received": 3, "inserted": 2, "rejected": 1, "dead_lettered": 0, "waiting": 0,
            "lost": 0,
        }])
    );
    assert_eq!(status["cores"][0]["rows_rejected"], json!({"json": 1}));
    assert_eq!(status["writer"]["tables"][0]["rows"], 2);
    assert_eq!(status["writer"]["tables"][0]["breaker"], "closed");

    let metrics = page("/metrics");
    assert!(
        header(&metrics.head, "content-type")
            .unwrap()
            .starts_with("application/openmetrics-text"),
        "{}",
        metrics.head
    );
    let samples = samples(&metrics.body);
    let value = |name: &str, labels: &[&str]| {
        let matching =
            |(n, l, _): &&(String, String, f64)| n == name && labels.iter().all(|label| l.contains(label));
        let found: Vec<f64> = samples.iter().filter(matching).map(|sample| sample.2).collect();
        assert!(
            !found.is_empty(),
            "no sample {name} {labels:?} in {}",
            metrics.body
        );
        found.iter().sum::<f64>()
    };
    assert_eq!(value("ringhouse_rows_received_total", &[]), 3.0);
    assert_eq!(value("ringhouse_rows_rejected_total", &["reason=\"json\""]), 1.0);
    assert_eq!(value("ringhouse_requests_total", &["status=\"200\""]), 1.0);
    assert_eq!(value("ringhouse_requests_total", &["status=\"404\""]), 1.0);
    assert_eq!(
        value("ringhouse_insert_rows_total", &["table=\"default.otel_logs\""]),
        2.0
    );

    let text = page("/histograms");
    assert_eq!(text.status, 200);
    assert!(
        text.body.contains("request_inserted") && text.body.contains("99"),
        "{}",
        text.body
    );
    let hgrm = page("/histograms?format=hgrm&name=insert");
    assert!(
        hgrm.body.contains("Percentile") && hgrm.body.contains("#[Mean"),
        "{}",
        hgrm.body
    );
    let log = page("/histograms?format=log");
    assert!(log.body.contains("HIST"), "{}", log.body);
    for wrong in ["?format=xml", "?format=hgrm&name=nothing"] {
        assert_eq!(page(&format!("/histograms{wrong}")).status, 400, "{wrong}");
    }
}

/// Name, labels and value of every sample of an OpenMetrics page.
///
/// # Panics
///
/// When a line is none, when a sample's family was not declared, or the page does not end as it must.
fn samples(page: &str) -> Vec<(String, String, f64)> {
    let mut families = Vec::new();
    let mut samples = Vec::new();
    assert!(page.ends_with("# EOF\n"), "{page}");
    for line in page.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(family) = comment.strip_prefix("TYPE ") {
                families.push(family.split(' ').next().unwrap().to_owned());
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(labels.ends_with('}'), "{line}");
        assert!(
            families.iter().any(|family| name.starts_with(family.as_str())),
            "{name} was not declared"
        );
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        samples.push((name.to_owned(), labels.to_owned(), value));
    }
    samples
}

/// Runs the program to its end, with nothing of this machine's configuration.
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RINGHOUSE_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().unwrap()
}

#[test]
fn its_commands_read_the_running_server() {
    let server = Server::embedded(&[]);
    assert_eq!(server.post("/ingest", "{}").status, 200);

    let admin = format!("127.0.0.1:{}", server.admin_port);
    for (format, part) in [("text", "request_inserted"), ("hgrm", "#[Mean"), ("log", "HIST")] {
        let output = run(&["histograms", "--admin", &admin, "--format", format]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(part), "{format}: {text}");
    }
    let nobody = run(&[
        "histograms",
        "--admin",
        &format!("127.0.0.1:{}", common::free_port()),
    ]);
    assert!(
        !nobody.status.success() && !nobody.stderr.is_empty(),
        "{nobody:?}"
    );

    let url = format!("tcp://127.0.0.1:{}", server.clickhouse_port);
    let good = run(&["check", "--clickhouse", &url]);
    assert!(good.status.success(), "{good:?}");
    let bad = run(&["check", "--clickhouse", &url, "--table", "nosuch"]);
    let said = String::from_utf8_lossy(&bad.stderr).into_owned() + &String::from_utf8_lossy(&bad.stdout);
    assert!(!bad.status.success() && said.contains("nosuch"), "{bad:?}");

    let ddl = String::from_utf8(run(&["schema", "--table", "mine", "--ttl-days", "30"]).stdout).unwrap();
    server.sql(ddl.trim_end().trim_end_matches(';'));
    let columns = |table: &str| {
        server.sql(&format!("SELECT name, type FROM system.columns WHERE table = '{table}' AND database = 'default' ORDER BY position"))
    };
    assert_eq!(columns("mine"), columns("otel_logs"));
    assert!(server.sql("SHOW CREATE TABLE mine").contains("toIntervalDay(30)"));
}

#[test]
fn dumps_its_histograms_on_sigusr1() {
    let server = Server::embedded(&[]);
    assert_eq!(server.post("/ingest", "{}").status, 200);
    server.signal(Signal::USR1);
    let path = server.directory().join("data/ringhouse-histograms.hlog");
    let dump = eventually("the dump", || {
        fs::read_to_string(&path)
            .ok()
            .filter(|dump| dump.contains("request_inserted"))
    });
    assert!(dump.contains("HIST"), "{dump}");
    // And goes on.
    assert_eq!(server.post("/ingest", "{}").status, 200);
}

#[test]
fn names_the_nearest_known_flag_key_and_value() {
    let refused = |arguments: &[&str], part: &str| {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(part),
            "{arguments:?}: {said}"
        );
    };
    refused(&["serve", "--embeded"], "--embedded");
    refused(&["serve", "--lisen", "127.0.0.1:0"], "--listen");
    refused(&["serve", "--ack", "insertd"], "inserted");
    refused(&["serve", "--limit", "batch_age=5"], "batch_age_ms");
    refused(&["serve", "--limit", "batch_age_ms=soon"], "soon");
    refused(&["histogram"], "histograms");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringhouse.toml");
    for (file, part) in [
        ("lisen = \"127.0.0.1:0\"", "listen"),
        ("[limits]\nbatch_rowsmax = 5", "batch_rows_max"),
        ("[limits]\nbatch_rows_max = 0", "batch_rows_max"),
        ("ack = \"wall\"", "memory"),
    ] {
        fs::write(&path, file).unwrap();
        refused(&["serve", "--config", path.to_str().unwrap()], part);
    }
}
