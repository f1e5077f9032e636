//! HTTP/2 over real sockets: real clients get what HTTP/1.1 gives them, hostile ones harm nobody.

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod raw;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Server, has_program, http};
use serde_json::{Value, json};

const HTTP2: &str = "--http2-prior-knowledge";
const HTTP11: &str = "--http1.1";

/// What curl was answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    version: String,
    status: String,
    /// Fields but Date, which moves on, and those of a connection of HTTP/1.1.
    fields: Vec<String>,
    body: String,
}

/// Sends `body`, if any, with curl.
fn curl(server: &Server, protocol: &str, target: &str, arguments: &[&str], body: Option<&[u8]>) -> Answer {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--include",
            "--max-time",
            "60",
            protocol,
        ])
        .args(arguments)
        .arg(format!("http://127.0.0.1:{}{target}", server.port));
    if body.is_some() {
        command.args(["--data-binary", "@-"]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    let mut input = child.stdin.take().unwrap();
    // A refused body may not be read to its end.
    let _ = input.write_all(body.unwrap_or_default());
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // An interim answer stands before the one that counts.
    let text = match text.split_once("\r\n\r\n") {
        Some((interim, rest)) if interim.contains(" 100") => rest,
        _ => &text,
    };
    let (head, body) = text.split_once("\r\n\r\n").expect("a blank line");
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (version, status) = (first.next().unwrap(), first.next().unwrap());
    let mut fields: Vec<String> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            format!("{}:{value}", name.to_ascii_lowercase())
        })
        .filter(|field| !field.starts_with("date:") && !field.starts_with("connection:"))
        .collect();
    fields.sort();
    Answer {
        version: version.to_owned(),
        status: status.to_owned(),
        fields,
        body: body.to_owned(),
    }
}

fn lines(first: usize, count: usize) -> String {
    (first..first + count)
        .map(|row| {
            format!(
                "{}\n",
                json!({"message": format!("row {row}"), "level": "INFO", "seq": row})
            )
        })
        .collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Target, arguments of curl, body, and the status expected.
type Case<'c> = (&'c str, &'c [&'c str], Option<&'c [u8]>, &'c str);

#[test]
fn a_request_is_answered_over_http2_as_over_http11() {
    let server = Server::embedded(&["--create-tables", "--limit", "line_bytes_max=4096"]);
    let good = lines(0, 3);
    let long = format!("{{\"message\":\"{}\"}}\n{}", "x".repeat(5000), lines(0, 1));
    let zipped = gzip(good.as_bytes());
    let bomb = gzip(&vec![b' '; 8 << 20]);
    let large = vec![b' '; 11 << 20];
    let otlp = ["-H", "Content-Type: application/x-protobuf"];
    let keyed = ["-H", "Idempotency-Key: k1"];
    let cases: &[Case<'_>] = &[
        ("/ingest", &[], Some(good.as_bytes()), "200"),
        ("/ingest?ack=memory", &[], Some(good.as_bytes()), "202"),
        (
            "/ingest",
            &["-H", "X-Ringhouse-Ack: wal"],
            Some(good.as_bytes()),
            "200",
        ),
        ("/ingest", &["-H", "Content-Encoding: gzip"], Some(&zipped), "200"),
        ("/ingest", &["-H", "Content-Encoding: gzip"], Some(&bomb), "413"),
        ("/ingest", &["-H", "Content-Encoding: br"], Some(b"x"), "415"),
        (
            "/ingest",
            &["-H", "Content-Encoding: gzip"],
            Some(&zipped[..zipped.len() - 1]),
            "400",
        ),
        ("/ingest", &[], Some(long.as_bytes()), "200"),
        ("/ingest", &[], Some(b""), "400"),
        ("/ingest", &[], Some(b"{\"message\":"), "400"),
        ("/ingest", &["-X", "DELETE"], None, "405"),
        ("/ingest", &["--head"], None, "405"),
        ("/ingest/none", &[], Some(good.as_bytes()), "404"),
        ("/ingest?ack=soon", &[], Some(good.as_bytes()), "400"),
        ("/nothing?a=b", &[], None, "404"),
        ("/ingest", &keyed, Some(good.as_bytes()), "200"),
        // The same key again: the answer it had.
        ("/ingest", &keyed, Some(good.as_bytes()), "200"),
        ("/v1/logs", &otlp, Some(b""), "200"),
        ("/v1/logs", &otlp, Some(b"\x0a\x05four"), "400"),
        ("/v1/logs", &otlp, Some(&large), "413"),
        ("/v1/logs", &[], Some(b"x"), "415"),
    ];
    for (target, arguments, body, status) in cases {
        let over_http11 = curl(&server, HTTP11, target, arguments, *body);
        let over_http2 = curl(&server, HTTP2, target, arguments, *body);
        assert_eq!(over_http11.version, "HTTP/1.1");
        assert_eq!(over_http2.version, "HTTP/2");
        let expected = Answer {
            version: over_http2.version.clone(),
            ..over_http11
        };
        // The first with a key is not marked as repeated; all others are alike.
        if !arguments.contains(&"Idempotency-Key: k1") {
            assert_eq!(over_http2, expected, "{target} {arguments:?}");
        }
        assert_eq!(
            over_http2.status, *status,
            "{target} {arguments:?} {over_http2:?}"
        );
    }
    let replayed = curl(&server, HTTP2, "/ingest", &keyed, Some(good.as_bytes()));
    assert!(
        replayed.fields.contains(&"idempotent-replayed: true".to_owned()),
        "{replayed:?}"
    );
    // Everything twice but with the key, which was taken once.
    let rows = 2 * (3 + 3 + 3 + 3 + 1) + 3;
    common::eventually("the rows", || {
        (server.sql("SELECT count() FROM otel_logs") == rows.to_string()).then_some(())
    });
}

#[test]
fn a_head_above_the_limits_is_answered_431_over_both() {
    let server = Server::embedded(&["--create-tables"]);
    let long = format!("X-Long: {}", "y".repeat(9000));
    let many: Vec<String> = (0..65).map(|number| format!("-HX-{number}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (arguments, limit) in [(&["-H", &long][..], "head_bytes_max"), (&many, "headers_max")] {
        for protocol in [HTTP11, HTTP2] {
            let answer = curl(&server, protocol, "/ingest", arguments, None);
            assert_eq!(answer.status, "431", "{limit} {protocol}: {answer:?}");
        }
    }
}

#[test]
fn a_large_body_and_many_at_once_are_in_clickhouse_as_they_were_sent() {
    let server = Server::embedded(&["--create-tables"]);
    // Beyond every window: it comes only as fast as its rows are taken.
    let large = lines(0, 100_000);
    assert!(large.len() > 4 << 20);
    let answer = curl(&server, HTTP2, "/ingest", &[], Some(large.as_bytes()));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["accepted"], 100_000, "{answer:?}");
    let mut requests = 1;
    // nghttp sends all of them on one connection at once, h2load on several.
    let file = server.directory().join("body.ndjson");
    std::fs::write(&file, lines(100_000, 500)).unwrap();
    let target = format!("http://127.0.0.1:{}/ingest", server.port);
    if has_program("nghttp", "nghttp2-client") {
        let output = Command::new("nghttp")
            .args(["--no-dep", "--multiply=60", "--data"])
            .arg(&file)
            .arg(&target)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            said.matches("{\"accepted\":500,\"rejected\":0").count(),
            60,
            "{said}"
        );
        requests += 60;
        let output = Command::new("h2load")
            .args([
                "--requests=2000",
                "--clients=4",
                "--max-concurrent-streams=100",
                "--data",
            ])
            .arg(&file)
            .arg(&target)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("2000 succeeded, 0 failed"), "{said}");
        requests += 2000;
    }
    let found = server.sql(
        "SELECT count(), uniqExact(LogAttributes['seq']), countIf(Body != concat('row ', LogAttributes['seq'])),
         min(toUInt64(LogAttributes['seq'])), max(toUInt64(LogAttributes['seq'])) FROM otel_logs",
    );
    let (distinct, last) = match requests {
        1 => (100_000, 99_999),
        _ => (100_500, 100_499),
    };
    let rows = 100_000 + (requests - 1) * 500;
    assert_eq!(found, format!("{rows}\t{distinct}\t0\t0\t{last}"));
    let metrics = server.admin("/metrics").unwrap().body;
    let streams: usize = metrics
        .lines()
        .filter(|line| line.starts_with("ringhouse_streams_accepted_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(streams, requests);
}

#[test]
fn requests_of_both_protocols_come_by_one_port() {
    let server = Server::embedded(&["--create-tables"]);
    for row in 0..4 {
        let body = lines(row, 1);
        let protocol = [HTTP2, HTTP11][row % 2];
        assert_eq!(
            curl(&server, protocol, "/ingest", &[], Some(body.as_bytes())).status,
            "200"
        );
    }
    // A method that begins as the preface does.
    let reply = http("PRINT", server.port, "/ingest", &[], b"").unwrap();
    assert_eq!(reply.status, 405);
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "4");
}
