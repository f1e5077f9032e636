//! `ringhouse bench` against real servers: its figures add up, and `bench ingest` says VOID when rows are missing.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use common::{BINARY, Server, children, eventually, is_alive, signal};
use rustix::process::Signal;
use serde_json::Value;

/// Options that keep a run short.
const TINY: [&str; 8] = [
    "--duration",
    "1",
    "--warm-up",
    "0.3",
    "--rows-per-request",
    "50",
    "--connections",
    "4",
];

/// A finished run.
struct Run {
    output: Output,
    /// What it wrote; null when it wrote nothing.
    report: Value,
}

impl Run {
    fn succeeded(self, what: &str) -> Value {
        let Output {
            status,
            stdout,
            stderr,
        } = &self.output;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            status.success(),
            "{what}: {status}\n{}{}",
            text(stdout),
            text(stderr)
        );
        assert!(text(stdout).contains("VALID"), "{what}: {}", text(stdout));
        self.report
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

fn bench(directory: &Path, arguments: &[&str]) -> Run {
    let json = directory.join("report.json");
    let _ = fs::remove_file(&json);
    let output = command(arguments).arg("--json").arg(&json).output().unwrap();
    let report = fs::read_to_string(&json).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    Run { output, report }
}

fn command(arguments: &[&str]) -> Command {
    command_of("ingest", arguments)
}

fn command_of(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["bench", name]).args(arguments).stdin(Stdio::null());
    command
}

/// What a run of another measurement wrote; it is to succeed.
fn written(name: &str, arguments: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let output = command_of(name, arguments)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{said}", output.status);
    serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap()
}

/// The options that point it at a server and its ClickHouse.
fn against(server: &Server) -> [String; 6] {
    [
        "--url".to_owned(),
        format!("http://127.0.0.1:{}", server.port),
        "--clickhouse".to_owned(),
        format!("http://127.0.0.1:{}", server.clickhouse_http_port),
        "--pid".to_owned(),
        server.pid().to_string(),
    ]
}

fn joined<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{pointer} is no number in {report:#}"))
}

/// What holds for every valid run.
fn assert_adds_up(report: &Value, server: &Server) {
    let count = |name: &str| number(report, &format!("/verdict/{name}"));
    assert!(count("sent") > 0.0);
    for name in ["acknowledged", "stored", "distinct"] {
        assert_eq!(count(name), count("sent"), "{name} in {report:#}");
    }
    let run = report["settings"]["run"].as_str().unwrap();
    let stored = server.sql(&format!(
        "SELECT count() FROM otel_logs WHERE startsWith(TraceId, '{run}')"
    ));
    assert_eq!(stored, count("stored").to_string());
    let rows = number(report, "/throughput/rows");
    assert!(rows > 0.0 && rows <= count("sent"));
    assert_eq!(
        rows,
        number(report, "/throughput/requests") * number(report, "/settings/rows_per_request")
    );
    for latency in ["/reply_ms", "/visible_ms/latency"] {
        let percentiles = ["p50", "p90", "p95", "p99", "p999", "max"].map(|name| {
            let value = number(report, &format!("{latency}/{name}"));
            assert!(value > 0.0, "{latency} {name} in {report:#}");
            value
        });
        assert!(percentiles.is_sorted(), "{percentiles:?}");
    }
    // Nothing is visible before it is looked for.
    assert!(number(report, "/visible_ms/poll_p50_ms") > 0.0);
    assert!(number(report, "/server/cpu_s") > 0.0);
    assert!(number(report, "/server/memory_peak_bytes") > 1e6);
    assert!(number(report, "/generator/cpu_s") > 0.0);
    for name in ["cpu", "commit", "command"] {
        assert!(
            !report["environment"][name].as_str().unwrap().is_empty(),
            "{name}"
        );
    }
}

#[test]
fn counts_every_row_in_each_kind_of_loop() {
    let (server, directory) = (Server::embedded(&[]), tempfile::tempdir().unwrap());
    let target = against(&server);
    let target: Vec<&str> = target.iter().map(String::as_str).collect();
    let run = |what: &str, more: &[&str]| {
        let report = bench(directory.path(), &joined(&[&target, &TINY, more])).succeeded(what);
        assert_adds_up(&report, &server);
        report
    };

    let closed = run("closed loop", &[]);
    assert_eq!(closed["settings"]["loop"], "closed");
    assert_eq!(closed["late_ms"], Value::Null);

    let open = run("open loop", &["--rate", "5000"]);
    // 5,000 rows a second in requests of 50 for the measured second: 100 are due in it, each counted once.
    assert_eq!(number(&open, "/reply_ms/count"), 100.0);
    assert_eq!(number(&open, "/late_ms/count"), 100.0);
    assert_eq!(number(&open, "/throughput/unsent"), 0.0);

    let pipelined = run(
        "pipelined",
        &["--pipeline", "8", "--ack", "memory", "--dialect", "json"],
    );
    assert_eq!(pipelined["settings"]["pipeline"], 8);

    let native = format!("tcp://127.0.0.1:{}", server.clickhouse_port);
    let mut native_target = target.clone();
    native_target[3] = &native;
    let corpus = directory.path().join("corpus");
    fs::create_dir(&corpus).unwrap();
    fs::write(corpus.join("lines"), "one \"quoted\" line\nand another\n").unwrap();
    let more = [
        "--encoding",
        "zstd",
        "--ack",
        "inserted",
        "--corpus",
        corpus.to_str().unwrap(),
    ];
    let report =
        bench(directory.path(), &joined(&[&native_target, &TINY, &more])).succeeded("zstd, counted natively");
    assert_adds_up(&report, &server);
    let run = report["settings"]["run"].as_str().unwrap();
    let bodies = server.sql(&format!(
        "SELECT DISTINCT Body FROM otel_logs WHERE startsWith(TraceId, '{run}') AND ServiceName = 'corpus' ORDER BY Body FORMAT JSONEachRow"
    ));
    assert_eq!(
        bodies,
        "{\"Body\":\"and another\"}\n{\"Body\":\"one \\\"quoted\\\" line\"}"
    );
}

/// Every dialect but `ndjson`, with what else it needs: rows of a request, the protocol of a listener of its own, the place
/// of its ids.
const DIALECTS: [(&str, &str, Option<&str>, &str); 14] = [
    ("otlp", "50", None, "TraceId"),
    ("loki", "50", None, "TraceId"),
    ("elasticsearch", "50", None, "TraceId"),
    ("splunk", "50", None, "TraceId"),
    ("datadog", "50", None, "TraceId"),
    ("cribl", "50", None, "TraceId"),
    ("logentry", "50", None, "TraceId"),
    ("logentry", "1", None, "TraceId"),
    ("logger", "1", None, "LogAttributes['trace_id']"),
    ("logtide", "50", None, "TraceId"),
    ("otlp-grpc", "50", None, "TraceId"),
    ("syslog", "50", Some("syslog"), "LogAttributes['a.trace_id']"),
    ("forward", "50", Some("forward"), "TraceId"),
    ("json-lines", "50", Some("json"), "TraceId"),
];

/// A run shorter still, and without probes.
const SHORT: [&str; 8] = [
    "--duration",
    "0.3",
    "--warm-up",
    "0.1",
    "--connections",
    "3",
    "--probe-rate",
    "0",
];

#[test]
fn counts_every_row_of_each_dialect_and_protocol() {
    let listeners = DIALECTS.iter().filter_map(|dialect| dialect.2);
    let listeners: Vec<String> = listeners
        .flat_map(|name| ["--listener".to_owned(), format!("{name}={name}://127.0.0.1:0")])
        .collect();
    let listeners: Vec<&str> = listeners.iter().map(String::as_str).collect();
    let (server, directory) = (Server::embedded(&listeners), tempfile::tempdir().unwrap());
    let target = against(&server);
    let target: Vec<&str> = target.iter().map(String::as_str).collect();
    let run = |dialect: &str, rows: &str, id: &str, more: &[&str]| {
        let arguments = ["--dialect", dialect, "--rows-per-request", rows];
        let report =
            bench(directory.path(), &joined(&[&target, &SHORT, &arguments, more])).succeeded(dialect);
        let (sent, run) = (
            number(&report, "/verdict/sent"),
            report["settings"]["run"].as_str(),
        );
        let sql = format!(
            "SELECT uniqExact({id}) FROM otel_logs WHERE startsWith({id}, '{}')",
            run.unwrap()
        );
        assert_eq!(server.sql(&sql), sent.to_string(), "{dialect}");
        assert!(number(&report, "/throughput/rows_per_s") > 0.0, "{dialect}");
        report["settings"]["protocol"].as_str().unwrap().to_owned()
    };
    for (dialect, rows, listener, id) in DIALECTS {
        let socket = listener.map(|name| format!("127.0.0.1:{}", server.port_of(name)));
        let more: Vec<&str> = socket.iter().flat_map(|socket| ["--socket", socket]).collect();
        let protocol = run(dialect, rows, id, &more);
        let expected = match dialect {
            "otlp-grpc" => "gRPC",
            _ if listener.is_some() => "TCP",
            _ => "HTTP/1.1",
        };
        assert_eq!(protocol, expected, "{dialect}");
    }
    // Several streams at once, and a body that is longer than a stream's window.
    for (dialect, rows, more) in [
        ("ndjson", "50", ["--pipeline", "8"]),
        ("loki", "2000", ["--pipeline", "2"]),
        ("json", "2000", ["--encoding", "gzip"]),
    ] {
        let protocol = run(dialect, rows, "TraceId", &joined(&[&["--http2"], &more]));
        assert_eq!(protocol, "HTTP/2", "{dialect}");
    }
}

#[test]
fn shows_an_overload_as_refusals_and_counts_every_row_once() {
    let directory = tempfile::tempdir().unwrap();
    // Twelve messages of 1.7 MB find no room in half of these buffers, whose least this is.
    let overload = [
        "--dialect",
        "otlp",
        "--rows-per-request",
        "8192",
        "--limit",
        "body_buffers_bytes_per_core=25165824",
        "--connections",
        "12",
        "--duration",
        "1",
        "--warm-up",
        "0",
        "--probe-rate",
        "0",
    ];
    for (protocol, reopens) in [(&[][..], true), (&["--http2"], false)] {
        let run = bench(directory.path(), &joined(&[&overload, protocol]));
        let report = run.succeeded(if reopens { "HTTP/1.1" } else { "HTTP/2" });
        assert!(number(&report, "/throughput/refused") > 0.0, "{report:#}");
        // A refusal in the middle of a body ends a connection of HTTP/1.1, and a stream of HTTP/2.
        let reopened = number(&report, "/throughput/reopened");
        assert_eq!(reopened > 0.0, reopens, "{report:#}");
    }
}

#[test]
fn says_what_the_measured_time_cost_each_party() {
    let directory = tempfile::tempdir().unwrap();
    let more = [
        "--clickhouse-cpus",
        "0",
        "--ack",
        "inserted",
        "--row-bytes",
        "300",
    ];
    let report = bench(directory.path(), &joined(&[&TINY, &more])).succeeded("usages");
    assert_eq!(report["settings"]["clickhouse_cpus"], serde_json::json!([0]));
    let throughput = |name: &str| number(&report, &format!("/throughput/{name}"));
    let row_bytes = throughput("body_mb_per_s") * 1e6 / throughput("rows_per_s");
    assert!((row_bytes - 300.0).abs() < 5.0, "{row_bytes}");
    let usages = report["usages"].as_array().unwrap();
    let names: Vec<&str> = usages
        .iter()
        .map(|usage| usage["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[..4], ["ingest core 0", "its log 0", "writer", "ClickHouse"]);
    for usage in usages {
        let busy = number(usage, "/busy_share");
        assert!(busy > 0.0, "{usage}");
        // One CPU, which ClickHouse was kept on.
        assert!(busy < 1.05, "{usage}");
    }
}

#[test]
fn charges_a_server_that_falls_behind_for_what_was_due() {
    let (server, directory) = (Server::embedded(&[]), tempfile::tempdir().unwrap());
    let target = against(&server);
    let target: Vec<&str> = target.iter().map(String::as_str).collect();
    // One connection, one request in flight, answered at the INSERT: far below 10,000 requests a second.
    let more = [
        "--ack",
        "inserted",
        "--rate",
        "10000",
        "--rows-per-request",
        "1",
        "--connections",
        "1",
        "--duration",
        "1",
        "--warm-up",
        "0",
    ];
    let report = bench(directory.path(), &joined(&[&target, &more])).succeeded("overload");
    let (answered, unsent) = (
        number(&report, "/throughput/requests"),
        number(&report, "/throughput/unsent"),
    );
    assert!(unsent > 5_000.0, "{answered} answered, {unsent} not sent");
    assert_eq!(number(&report, "/reply_ms/count"), 10_000.0);
    assert!(number(&report, "/reply_ms/p50") > 300.0, "{report:#}");
}

#[test]
fn is_void_when_rows_are_missing() {
    let (server, directory) = (Server::embedded(&[]), tempfile::tempdir().unwrap());
    let target = against(&server);
    let target: Vec<&str> = target.iter().map(String::as_str).collect();
    let json = directory.path().join("report.json");
    let more = [
        "--duration",
        "2",
        "--patience",
        "2",
        "--rows-per-request",
        "10",
        "--rate",
        "1000",
    ];
    let child = command(&joined(&[&target, &more]))
        .arg("--json")
        .arg(&json)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("rows", || {
        (server.sql("SELECT count() > 500 FROM otel_logs") == "1").then_some(())
    });
    server.sql("TRUNCATE TABLE otel_logs");
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("VOID"));
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(report["verdict"]["valid"], false);
    assert!(number(&report, "/verdict/stored") < number(&report, "/verdict/acknowledged"));
    assert_eq!(
        number(&report, "/verdict/sent"),
        number(&report, "/verdict/acknowledged")
    );
}

#[test]
fn rejects_what_it_cannot_measure_in_a_sentence() {
    let (server, directory) = (Server::embedded(&[]), tempfile::tempdir().unwrap());
    let target = against(&server);
    let target: Vec<&str> = target.iter().map(String::as_str).collect();
    for (arguments, said) in [
        (
            joined(&[&target, &["--table", "nowhere"]]),
            "rows cannot be counted: ClickHouse refused",
        ),
        (joined(&[&target, &["--id-sql", "NoColumn"]]), "NoColumn"),
        (
            joined(&[&target, &["--corpus", "/nowhere"]]),
            "the corpus /nowhere cannot be read",
        ),
        (
            joined(&[&target, &["--table", "a b"]]),
            "`a b` is not a table's name",
        ),
        (vec!["--url", target[1]], "--clickhouse"),
        (
            vec!["--dialect", "logger", "--rows-per-request", "2"],
            "--rows-per-request",
        ),
        (vec!["--dialect", "syslog", "--http2"], "--http2"),
        (vec!["--dialect", "forward", "--encoding", "gzip"], "--encoding"),
        (joined(&[&target, &["--dialect", "syslog"]]), "--socket"),
        (joined(&[&target, &["--socket", "127.0.0.1:1"]]), "--socket"),
        (vec!["--clickhouse-cpus", "4095"], "--clickhouse-cpus"),
        (vec!["--row-bytes", "10"], "--row-bytes"),
        (vec!["--rate", "0"], "0 is not in 1.."),
        (
            joined(&[&["--url", "http://127.0.0.1:1"], &target[2..]]),
            "127.0.0.1:1 cannot be connected to",
        ),
        (vec!["--ingest-cores", "4096"], "more than the"),
    ] {
        let run = bench(directory.path(), &arguments);
        assert!(!run.output.status.success(), "{arguments:?}");
        assert!(run.stderr().contains(said), "{arguments:?}: {}", run.stderr());
        assert_eq!(run.report, Value::Null);
    }
    // Replies that promise nothing: no id of a run is a small number.
    server.sql("CREATE TABLE strict (id UInt8) ENGINE = MergeTree ORDER BY id");
    let strict = [
        "--table",
        "strict",
        "--id-key",
        "id",
        "--id-sql",
        "toString(id)",
        "--patience",
        "1",
    ];
    eventually("the table in the server", || {
        (server.post("/ingest/strict", "{}").status != 404).then_some(())
    });
    let run = bench(directory.path(), &joined(&[&target, &TINY, &strict]));
    assert!(!run.output.status.success());
    let reasons = run.report["verdict"]["reasons"].to_string();
    assert!(reasons.contains("answered"), "{reasons}");
}

/// Runs with a server of its own and a directory for what it makes.
fn start(temporary: &Path, name: &str, arguments: &[&str]) -> Child {
    command_of(name, arguments)
        .env("TMPDIR", temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Children and their children.
fn descendants(pid: u32) -> Vec<u32> {
    let mut all = children(pid);
    let grandchildren: Vec<u32> = all.iter().flat_map(|child| children(*child)).collect();
    all.extend(grandchildren);
    all
}

fn assert_nothing_left(temporary: &Path, started: &[u32]) {
    for pid in started {
        assert!(!is_alive(*pid), "process {pid} still runs");
    }
    let left: Vec<_> = fs::read_dir(temporary)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn starts_everything_itself_and_leaves_nothing_behind() {
    let (temporary, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (json, svg, hdr) = (file("r.json"), file("r.svg"), file("r.hgrm"));
    let files = ["--json", &json, "--svg", &svg, "--hdr", &hdr];
    let mut child = start(temporary.path(), "ingest", &joined(&[&TINY, &files]));
    let started = eventually("server and engine", || {
        Some(descendants(child.id())).filter(|all| all.len() == 2)
    });
    assert!(child.wait().unwrap().success());
    assert_nothing_left(temporary.path(), &started);
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["verdict"]["valid"], true);
    assert!(number(&report, "/clickhouse/cpu_s") > 0.0);
    assert!(fs::read_to_string(svg).unwrap().contains("<polyline"));
    for distribution in [hdr.clone(), hdr.replace(".hgrm", ".visible.hgrm")] {
        let text = fs::read_to_string(distribution).unwrap();
        assert!(
            text.trim_start().starts_with("Value") && text.contains("#[Max"),
            "{text}"
        );
    }
}

#[test]
fn waits_for_rows_that_a_killed_engine_has_yet_to_take() {
    let mut child = command(&joined(&[&["--duration", "3"], &TINY[2..]]))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It tells each second how it goes, so it sends now.
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    let [_, engine] = descendants(child.id())[..] else {
        panic!("a server and its engine");
    };
    signal(engine, Signal::KILL);
    std::io::copy(&mut said, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn goes_every_way_with_the_same_rows() {
    let kernel = written("kernel", &["--rows", "300", "--runs", "1"]);
    assert_eq!(kernel["inputs"].as_array().map(Vec::len), Some(2));
    let contestants = kernel["inputs"][0]["contestants"].as_array().unwrap();
    assert_eq!(contestants.len(), 11);
    for contestant in contestants {
        assert!(contestant["ns_per_row"].as_f64().unwrap() > 0.0, "{contestant}");
    }

    // Not a multiple of either size of request: the last one is smaller.
    let arguments = ["--rows", "9500", "--runs", "1", "--connections", "2"];
    let peers = written("peers", &arguments);
    let ways = peers["ways"].as_array().unwrap();
    assert_eq!(ways.len(), 8);
    for way in ways {
        let run = &way["runs"][0];
        assert_eq!(run["lost"], 0, "{way}");
        assert!(run["parts"].as_u64().unwrap() > 0, "{way}");
        assert!(run["stored_s"].as_f64() >= run["replied_s"].as_f64(), "{way}");
    }
}

#[test]
fn climbs_every_rung_with_every_row() {
    let (temporary, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (json, svg) = (directory.path().join("r.json"), directory.path().join("r.svg"));
    let output = Command::new(BINARY)
        .args(["bench", "ladder", "--runs", "1"])
        .args([
            "--duration",
            "0.5",
            "--warm-up",
            "0.1",
            "--rows-per-request",
            "7",
            "--connections",
            "3",
        ])
        .arg("--json")
        .arg(&json)
        .arg("--svg")
        .arg(&svg)
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert_nothing_left(temporary.path(), &[]);
    let ladder: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let rungs = ladder["rungs"].as_array().unwrap();
    assert_eq!(rungs.len(), 8);
    for rung in rungs {
        let run = |name: &str| number(rung, &format!("/runs/0/{name}"));
        assert_eq!((run("rows_lost"), run("rows_doubled")), (0.0, 0.0), "{rung}");
        assert!(run("rows") > 0.0 && run("rows") % 7.0 == 0.0, "{rung}");
        assert!(run("parts") > 0.0 && run("rows_per_s_stored") > 0.0, "{rung}");
        assert!(run("reply_p99_ms") >= run("reply_p50_ms"), "{rung}");
    }
    // In ticks of 10 ms: one run of one rung may have taken none.
    for side in ["server_cpu_s", "clickhouse_cpu_s"] {
        let of_rung = |rung| number(rung, &format!("/runs/0/{side}"));
        assert!(
            rungs.iter().map(of_rung).sum::<f64>() > 0.0,
            "{side} in {ladder:#}"
        );
    }
    // The first rung alone inserts each request by itself; one at midnight makes two parts.
    let rows_per_part = |at: usize| {
        let part = |name: &str| number(&rungs[at], &format!("/runs/0/{name}"));
        part("rows") / part("parts")
    };
    assert!(rows_per_part(0) <= 7.0, "{ladder:#}");
    assert!((2..8).all(|at| rows_per_part(at) > 7.0), "{ladder:#}");
    let chart = fs::read_to_string(svg).unwrap();
    // Two figures of each rung, and the background.
    assert_eq!(chart.matches("<rect").count(), 17, "{chart}");
}

#[test]
fn a_stage_inserts_what_the_log_of_one_before_holds() {
    let server = Server::embedded(&[]);
    server.sql("CREATE TABLE logged (n UInt64) ENGINE = MergeTree ORDER BY n");
    for (stage, rows) in [("log", "2"), ("cores", "4")] {
        let directory = tempfile::tempdir().unwrap();
        // The last line was cut off, and so never acknowledged.
        fs::write(directory.path().join("0-7.log"), "{\"n\":1}\n{\"n\":2}\n{\"n\":").unwrap();
        let mut child = Command::new(BINARY)
            .args(["bench", "stage", stage, "--table", "logged"])
            .args([
                "--clickhouse",
                &format!("127.0.0.1:{}", server.clickhouse_http_port),
            ])
            .args(["--ingest-cores", "1", "--writer-core", "0", "--directory"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("its rows", || {
            (server.sql("SELECT count() FROM logged") == rows).then_some(())
        });
        eventually("another file", || {
            let names = fs::read_dir(directory.path()).unwrap().flatten();
            let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
            (names == ["0-0.log"]).then_some(())
        });
        // It ends with whoever started it.
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn compares_servers_with_one_ingest_core_and_more() {
    let scaling = written("cores", &joined(&[&["--cores-max", "1", "--runs", "1"], &TINY]));
    let run = &scaling["runs"][0];
    assert_eq!(run["settings"]["table"], "bench_null");
    // Every row that was acknowledged was accepted by a core, and none twice.
    assert_eq!(number(run, "/cores/0/rows"), number(run, "/verdict/acknowledged"));
    assert!(number(&scaling, "/steps/0/rows_per_core_s") > 0.0);
    assert_eq!(number(&scaling, "/steps/0/imbalance"), 1.0);
    // One run, beside the kernel.
    let share = number(&scaling, "/kernel/0/share");
    assert!(share > 0.0 && number(&scaling, "/kernel/0/kernel_rows_per_s") > 0.0);
    assert_eq!(number(&scaling, "/target/value"), share);
}

#[test]
fn measures_one_log_a_request_beside_others() {
    let single = written(
        "single",
        &["--runs", "1", "--duration", "0.5", "--warm-up", "0.2"],
    );
    let ways = single["ways"].as_array().unwrap();
    assert_eq!(ways.len(), 6);
    for way in ways {
        assert!(number(way, "/runs/0/requests_per_s") > 0.0, "{way}");
        assert!(number(way, "/runs/0/reply_ms/p99") > 0.0, "{way}");
        assert_eq!(way["runs"][0]["reasons"], Value::Array(Vec::new()), "{way}");
    }
    // Both at half of what the first took, at fixed times.
    let half = number(&ways[0], "/runs/0/requests_per_s") / 2.0;
    for way in &ways[2..4] {
        assert!((number(way, "/rate") - half).abs() <= 1.0, "{way}");
        assert_ne!(way["runs"][0]["late_ms"], Value::Null);
    }
    assert_eq!(single["targets"].as_array().map(Vec::len), Some(5));
    for target in single["targets"].as_array().unwrap() {
        assert!(number(target, "/value") > 0.0, "{target}");
    }
}

#[test]
fn ends_a_rung_when_it_is_told_to_end() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Command::new(BINARY)
        .args(["bench", "ladder", "--duration", "600"])
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = eventually("server, engine and stage", || {
        Some(descendants(child.id())).filter(|all| all.len() == 3)
    });
    thread::sleep(Duration::from_secs(1));
    signal(child.id(), Signal::INT);
    let status = eventually("its end", || child.try_wait().unwrap());
    assert!(!status.success());
    assert_nothing_left(temporary.path(), &started);
}

#[test]
fn ends_what_it_started_when_it_is_told_to_end() {
    let ingest = ["--duration", "600", "--connections", "2", "--ack", "inserted"];
    // Once while it sends, once before there is anything to send to; `single` has a responder beside.
    for (name, arguments, processes, pause) in [
        ("ingest", &ingest[..], 1, Duration::from_secs(3)),
        ("ingest", &ingest, 1, Duration::ZERO),
        ("single", &["--duration", "600"], 3, Duration::from_secs(1)),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = start(temporary.path(), name, arguments);
        let started = eventually("the server", || {
            Some(descendants(child.id())).filter(|all| all.len() >= processes)
        });
        thread::sleep(pause);
        let started = [started, descendants(child.id())].concat();
        signal(child.id(), Signal::INT);
        let status = eventually("its end", || child.try_wait().unwrap());
        assert!(!status.success());
        assert_nothing_left(temporary.path(), &started);
    }
}
