//! Real clients of gRPC against a whole server: their calls, their codes, and what ClickHouse holds after them.

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/clients.rs"]
mod clients;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/load.rs"]
mod load;
#[path = "../common/peer.rs"]
mod peer;

mod access;
mod stream;
mod tls;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clients::{Language, run};
use common::{Server, eventually};
use serde_json::{Value, json};

const PACKAGES: [&str; 4] = [
    "grpcio==1.85.1",
    "grpcio-tools==1.85.1",
    "grpcio-health-checking==1.85.1",
    "grpcio-reflection==1.85.1",
];

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// A Python with grpcio, installed at the first use and kept under target/, with the stubs of `proto/` in `stubs`; `None`
/// without Python.
fn python() -> Option<&'static Path> {
    static INSTALLED: OnceLock<Option<PathBuf>> = OnceLock::new();
    INSTALLED.get_or_init(install).as_deref()
}

fn install() -> Option<PathBuf> {
    let directory = Language::Python.install("grpcio", &PACKAGES)?;
    let stubs = directory.join("stubs");
    let _ = fs::remove_dir_all(&stubs);
    fs::create_dir_all(&stubs).unwrap();
    let out = |kind: &str| format!("--{kind}_out={}", stubs.display());
    run(protoc(&directory)
        .args([out("python"), out("grpc_python")])
        .args(["logs.proto", "logservice.proto", "ringhouse/v1/ingest.proto"]));
    Some(directory)
}

/// The protobuf compiler of grpcio-tools, in `proto/`.
fn protoc(python: &Path) -> Command {
    let mut command = Command::new(python.join("bin/python"));
    command
        .args(["-m", "grpc_tools.protoc", "-I."])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"));
    command
}

/// A client under way, and what it says.
struct Client {
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Client {
    /// `None` without Python.
    fn start(server: &Server, what: &str, argument: &str, input: &[Value]) -> Option<Client> {
        Client::start_with(server, None, what, argument, input)
    }

    /// Through TLS with `certificates`, as client.py finds them there.
    fn start_with(
        server: &Server,
        certificates: Option<&Path>,
        what: &str,
        argument: &str,
        input: &[Value],
    ) -> Option<Client> {
        let python = python()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc/client.py");
        let name = fastrand::u64(..);
        let output = server.directory().join(format!("client-{name}.out"));
        let errors = server.directory().join(format!("client-{name}.err"));
        let mut child = Command::new(python.join("bin/python"))
            .arg(script)
            .args([&format!("localhost:{}", server.port), what, argument])
            .arg(python.join("stubs"))
            .args(certificates)
            .stdin(Stdio::piped())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let lines: String = input.iter().map(|line| format!("{line}\n")).collect();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
        Some(Client {
            child,
            output,
            errors,
        })
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    /// The last line it printed, once it has ended without a complaint.
    fn result(&mut self) -> Value {
        let (result, complaints) = self.end();
        assert_eq!(complaints, "");
        result
    }

    /// The same, and what it complained of.
    fn end(&mut self) -> (Value, String) {
        let status = eventually("the client's end", || self.child.try_wait().unwrap());
        let complaints = fs::read_to_string(&self.errors).unwrap();
        assert!(status.success(), "{status}\n{complaints}");
        let said = self.said();
        let result = serde_json::from_str(said.lines().last().expect("a line")).unwrap();
        (result, complaints)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A protobuf field of bytes.
fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        field.push(length as u8 | 128);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}

/// An `ExportLogsServiceRequest` with records of these bodies.
fn export(bodies: &[&str]) -> Vec<u8> {
    let records: Vec<u8> = bodies
        .iter()
        .flat_map(|body| bytes_field(2, &bytes_field(5, &bytes_field(1, body.as_bytes()))))
        .collect();
    bytes_field(1, &bytes_field(2, &records))
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[test]
fn the_descriptors_are_those_of_the_files() {
    let Some(python) = python() else { return };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut files = Vec::new();
    let mut directories = vec![directory.clone()];
    while let Some(within) = directories.pop() {
        for entry in fs::read_dir(within).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                files.push(path.strip_prefix(&directory).unwrap().to_owned());
            }
        }
    }
    files.sort();
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("descriptors.binpb");
    run(protoc(python)
        .args(["--include_imports", "--descriptor_set_out"])
        .arg(&made)
        .args(&files));
    let is_same = fs::read(made).unwrap() == fs::read(directory.join("descriptors.binpb")).unwrap();
    assert!(is_same, "`make proto` makes proto/descriptors.binpb again");
}

#[test]
fn calls_are_answered_with_the_codes_of_grpc() {
    let server = Server::embedded(&["--create-tables"]);
    let good = export(&["one", "two"]);
    // A severity_text that is no text.
    let bad = bytes_field(1, &bytes_field(2, &bytes_field(2, &bytes_field(3, b"\xff"))));
    let large = vec![0; 11 << 20];
    // A call, its code, and words of its message.
    let cases = [
        (json!({"path": EXPORT, "message": base64(&good)}), "OK", ""),
        (
            json!({"path": EXPORT, "message": base64(&good), "compression": "Gzip"}),
            "OK",
            "",
        ),
        (
            json!({"path": EXPORT, "message": base64(&good), "compression": "Deflate"}),
            "OK",
            "",
        ),
        (json!({"path": EXPORT, "message": ""}), "OK", ""),
        (json!({"path": EXPORT, "message": base64(&bad)}), "OK", ""),
        (
            json!({"path": EXPORT, "message": base64(b"\x0a\x05four")}),
            "INVALID_ARGUMENT",
            "protobuf",
        ),
        (
            json!({"path": EXPORT, "message": base64(&good), "metadata": {"x-ringhouse-table": "none"}}),
            "NOT_FOUND",
            "no such table",
        ),
        (
            json!({"path": EXPORT, "message": base64(&good), "metadata": {"x-ringhouse-ack": "soon"}}),
            "INVALID_ARGUMENT",
            "ack level",
        ),
        (
            json!({"path": EXPORT, "message": base64(&large)}),
            "RESOURCE_EXHAUSTED",
            "longer than",
        ),
        (
            json!({"path": "/logs.LogService/HealthCheck", "message": ""}),
            "OK",
            "",
        ),
        (
            json!({"path": "/a.B/C", "message": ""}),
            "UNIMPLEMENTED",
            "no such service or method",
        ),
    ];
    let input: Vec<Value> = cases.iter().map(|case| case.0.clone()).collect();
    let Some(mut client) = Client::start(&server, "calls", "", &input) else {
        return;
    };
    let results = client.result();
    for ((call, code, words), result) in cases.iter().zip(results.as_array().unwrap()) {
        let path = &call["path"];
        assert_eq!(result["code"], *code, "{path}: {result}");
        let message = result["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{path}: {result}");
        // None of these gets better by being sent again.
        assert!(result["details"].is_null(), "{path}: {result}");
    }
    let rejected = BASE64_STANDARD
        .decode(results[4]["reply"].as_str().unwrap())
        .unwrap();
    // partial_success { rejected_log_records: 1, error_message: ... }
    assert_eq!(rejected[2..4], [0x08, 1], "{rejected:?}");
    assert_eq!(
        server.sql("SELECT Body, count() FROM otel_logs GROUP BY Body ORDER BY Body"),
        "one\t3\ntwo\t3"
    );
}

#[test]
fn a_call_that_outlasts_its_time_or_finds_the_server_full_says_so() {
    let limits = ["wal_blocks_max=16", "ack_deadline_ms=1000"].map(|limit| ["--limit", limit]);
    let arguments = [&["--create-tables"][..], limits.as_flattened()].concat();
    let server = Server::embedded(&arguments);
    if python().is_none() {
        return;
    }
    let engine = server.engine_pid();
    common::signal(engine, rustix::process::Signal::STOP);
    let message = base64(&export(&["x"]));
    // At `inserted` with its engine stopped; the server gives up before the client does.
    let inserted = json!({"path": EXPORT, "message": message});
    let results = Client::start(&server, "calls", "", &[inserted]).unwrap().result();
    assert_eq!(results[0]["code"], "UNAVAILABLE", "{results}");
    let details = BASE64_STANDARD
        .decode(results[0]["details"].as_str().expect("RetryInfo"))
        .unwrap();
    let text = String::from_utf8_lossy(&details);
    assert!(text.contains("google.rpc.RetryInfo"), "{text}");
    // The client gives up before the server does.
    let hasty = json!({"path": EXPORT, "message": message, "timeout": 0.3});
    let results = Client::start(&server, "calls", "", &[hasty]).unwrap().result();
    assert_eq!(results[0]["code"], "DEADLINE_EXCEEDED", "{results}");
    common::signal(engine, rustix::process::Signal::CONT);
    eventually("the rows of all", || {
        (server.sql("SELECT count() FROM otel_logs") == "2").then_some(())
    });
}

#[test]
fn health_is_told_and_watched_until_the_server_drains() {
    let mut server = Server::embedded(&["--create-tables"]);
    let Some(mut client) = Client::start(&server, "health", "", &[]) else {
        return;
    };
    let expected = json!([
        {"code": "OK", "reply": "SERVING"},
        {"code": "OK", "reply": "SERVING"},
        {"code": "NOT_FOUND", "message": "no such service is here", "details": null},
    ]);
    assert_eq!(client.result(), expected);
    let mut watcher = Client::start(&server, "watch", "", &[]).unwrap();
    eventually("the first status", || {
        (watcher.said() == "SERVING\n").then_some(())
    });
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    assert_eq!(watcher.result(), "UNAVAILABLE");
    let said = watcher.said();
    assert_eq!(said.lines().nth(1), Some("NOT_SERVING"), "{said}");
}

#[test]
fn what_is_served_is_found_by_reflection() {
    let server = Server::embedded(&["--create-tables"]);
    let Some(mut client) = Client::start(&server, "reflection", "", &[]) else {
        return;
    };
    let found = client.result();
    assert_eq!(found["services"]["ringhouse.v1.Ingest"], json!(["Stream"]));
    assert_eq!(
        found["services"]["grpc.health.v1.Health"],
        json!(["Check", "Watch"])
    );
    assert_eq!(found["request"], "opentelemetry.proto.logs.v1.ResourceLogs");
}

#[test]
fn every_message_of_a_stream_is_answered_in_order_and_its_rows_are_in_clickhouse() {
    let server = Server::embedded(&["--create-tables"]);
    let mut input = Vec::new();
    let mut expected = 0;
    // More than may wait for their reply at once.
    for sequence in 0..200u64 {
        let rows = sequence % 7;
        let lines: String = (0..rows)
            .map(|row| format!("{{\"message\":\"row\",\"id\":\"{sequence}.{row}\"}}\n"))
            .collect();
        input.push(json!({"sequence": sequence, "json": lines}));
        expected += rows;
    }
    let array = "[{\"message\":\"a\",\"id\":\"array\"},7,{\"message\":\"b\",\"id\":\"array\"}]";
    input.push(json!({"sequence": u64::MAX, "json": array}));
    input.push(json!({"sequence": 5, "otlp": base64(&export(&["otlp"]))}));
    input.push(json!({"sequence": 6, "otlp": base64(b"\x0a\x05four")}));
    input.push(json!({"sequence": 7}));
    let Some(mut client) = Client::start(&server, "stream", "{\"x-ringhouse-ack\":\"inserted\"}", &input)
    else {
        return;
    };
    let result = client.result();
    assert_eq!(result["code"], "OK", "{result}");
    let replies = result["replies"].as_array().unwrap();
    assert_eq!(replies.len(), input.len());
    for (sequence, reply) in replies[..200].iter().enumerate() {
        let taken = json!({
            "sequence": sequence, "accepted": sequence % 7, "rejected": 0, "errors": [], "code": 0, "message": "",
        });
        assert_eq!(*reply, taken);
    }
    let array = &replies[200];
    assert_eq!(
        (
            &array["sequence"],
            &array["accepted"],
            &array["rejected"],
            &array["errors"][0][0]
        ),
        (&json!(u64::MAX), &json!(2), &json!(1), &json!(1)),
        "{array}"
    );
    assert_eq!(
        (&replies[201]["accepted"], &replies[201]["code"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(
        (&replies[202]["accepted"], &replies[202]["code"]),
        (&json!(0), &json!(3))
    );
    assert_eq!(
        (&replies[203]["accepted"], &replies[203]["code"]),
        (&json!(0), &json!(0))
    );
    let found = server.sql(
        "SELECT countIf(Body = 'row'), uniqExactIf(LogAttributes['id'], Body = 'row'),
         countIf(LogAttributes['id'] = 'array'), countIf(Body = 'otlp') FROM otel_logs",
    );
    assert_eq!(found, format!("{expected}\t{expected}\t2\t1"));
}

/// What ClickHouse holds of the rows of a body.
fn found(server: &Server, condition: &str) -> Value {
    let row = server.sql(&format!(
        "SELECT toString(Timestamp) AS Timestamp, SeverityText, SeverityNumber, ServiceName, Body, TraceId, LogAttributes
         FROM otel_logs WHERE {condition} FORMAT JSONEachRow"
    ));
    serde_json::from_str(&row).unwrap_or_else(|_| panic!("one row: {row}"))
}

#[test]
fn entries_of_the_log_entry_api_are_checked_one_by_one_and_kept() {
    let server = Server::embedded(&["--create-tables"]);
    let good = json!({
        "app_id": "shop", "level": "warn", "message": "out of µ", "source": "cart", "environment": "prod",
        "metadata": {"a": "1", "b": "\"q\""}, "trace_id": "0af7651916cd43dd8448eb211c80319c", "user_id": "u",
    });
    let with = |field: &str, value: &str| {
        let mut entry = good.clone();
        entry[field] = json!(value);
        entry
    };
    let mixed = json!([
        with("level", "LOUD"),
        good,
        with("message", ""),
        with("source", &"s".repeat(33))
    ]);
    let bad = json!([with("app_id", "")]);
    let Some(mut client) = Client::start(&server, "logs", "", &[mixed, bad, json!([])]) else {
        return;
    };
    let result = client.result();
    assert_eq!(result["healthy"], true);
    assert_eq!(result["version"], env!("CARGO_PKG_VERSION"));
    let replies = result["replies"].as_array().unwrap();
    let counts: Vec<Value> = replies
        .iter()
        .map(|reply| json!([reply["success"], reply["accepted"], reply["rejected"]]))
        .collect();
    assert_eq!(
        counts,
        [json!([true, 1, 3]), json!([false, 0, 1]), json!([true, 0, 0])]
    );
    let errors: Vec<&Value> = replies[0]["errors"].as_array().unwrap().iter().collect();
    assert_eq!(errors[0][0], 0);
    assert!(
        errors[0][1].as_str().unwrap().contains("level must be"),
        "{result}"
    );
    assert_eq!([&errors[1][0], &errors[2][0]], [&json!(2), &json!(3)]);
    let mut row = found(&server, "ServiceName = 'cart'");
    row["Timestamp"].take();
    assert_eq!(
        row,
        json!({
            "Timestamp": null, "SeverityText": "WARN", "SeverityNumber": 13, "ServiceName": "cart", "Body": "out of µ",
            "TraceId": "0af7651916cd43dd8448eb211c80319c",
            "LogAttributes": {"a": "1", "b": "\"q\"", "app_id": "shop", "environment": "prod", "user_id": "u"},
        })
    );
}

#[test]
fn a_log_a_call_is_kept() {
    let server = Server::embedded(&["--create-tables"]);
    let log = json!({
        "timestamp": "2023-09-15T08:00:00Z", "level": "error", "message": "it broke", "resource_id": "server-1",
    });
    let Some(mut client) = Client::start(&server, "send_log", "", &[log]) else {
        return;
    };
    assert_eq!(client.result(), json!([[true, "the log was accepted"]]));
    assert_eq!(
        found(&server, "Body = 'it broke'"),
        json!({
            "Timestamp": "2023-09-15 08:00:00.000000000", "SeverityText": "error", "SeverityNumber": 17,
            "ServiceName": "", "Body": "it broke", "TraceId": "", "LogAttributes": {"resourceID": "server-1"},
        })
    );
}
