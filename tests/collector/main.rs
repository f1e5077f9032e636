//! An OpenTelemetry Collector that reads files of logs, and sends them in every way it has for this server.
//!
//! It is built of the modules in go.mod, which takes minutes at the first time: `make shippers-test`.

#[path = "../common/clients.rs"]
mod clients;
#[path = "../common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use clients::{Client, installed, run};
use common::{Server, corpus, eventually, signal};
use rustix::process::Signal;

/// Lines of each service.
const LINES_OF_SERVICE: usize = 100;

/// The collector, built at the first use; `None` without Go.
fn collector() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        if Command::new("go").arg("version").output().is_err() {
            println!("go is missing: the collector is not tried");
            return None;
        }
        let sources = [include_str!("go.mod"), include_str!("main.go")];
        let directory = installed("collector", &sources, |directory| {
            run(Command::new("go")
                .args(["build", "-ldflags=-s -w", "-o"])
                .arg(directory.join("collector"))
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/collector")));
        });
        Some(directory.join("collector"))
    };
    BUILT.get_or_init(build).as_deref()
}

/// A way of the collector: its name, which is that of the rows' service; its exporter; and operators of its receiver.
struct Way {
    name: &'static str,
    exporter: String,
    operators: &'static str,
}

/// The ways to a server with a listener `syslog`.
fn ways(server: &Server) -> [Way; 4] {
    let (port, syslog) = (server.port, server.port_of("syslog"));
    [
        Way {
            name: "otlp_grpc/zstd",
            exporter: format!(
                "{{endpoint: 'localhost:{port}', tls: {{insecure: true}}, compression: zstd, headers: {{x-ringhouse-table: otel_logs}}}}"
            ),
            operators: "[]",
        },
        Way {
            name: "otlp_http/proto",
            exporter: format!(
                "{{logs_endpoint: 'http://localhost:{port}/v1/logs', encoding: proto, compression: zstd, headers: {{X-Ringhouse-Table: otel_logs}}}}"
            ),
            operators: "[]",
        },
        Way {
            name: "otlp_http/json",
            exporter: format!("{{logs_endpoint: 'http://localhost:{port}/v1/logs', encoding: json}}"),
            operators: "[]",
        },
        Way {
            name: "syslog",
            exporter: format!(
                "{{endpoint: localhost, port: {syslog}, network: tcp, protocol: rfc5424, tls: {{insecure: true}}}}"
            ),
            operators: "[{type: move, from: body, to: attributes.message}, {type: add, field: attributes.appname, value: syslog}]",
        },
    ]
}

/// Starts it on a file with these lines, what it says going into `log`.
fn start(collector: &Path, server: &Server, ways: &[Way], lines: &[String], log: &Path) -> Client {
    let directory = server.directory();
    let file = directory.join("lines.txt");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let (mut receivers, mut exporters, mut pipelines) = (String::new(), String::new(), String::new());
    for (at, way) in ways.iter().enumerate() {
        let Way {
            name,
            exporter,
            operators,
        } = way;
        receivers += &format!(
            "  filelog/{at}: {{include: ['{}'], start_at: beginning, resource: {{service.name: '{name}'}}, operators: {operators}}}\n",
            file.display()
        );
        exporters += &format!("  {name}: {exporter}\n");
        pipelines += &format!("    logs/{at}: {{receivers: [filelog/{at}], exporters: [{name}]}}\n");
    }
    let config = directory.join("collector.yaml");
    let text = format!(
        "receivers:\n{receivers}exporters:\n{exporters}service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n{pipelines}"
    );
    fs::write(&config, text).unwrap();
    let said = File::create(log).unwrap();
    let child = Command::new(collector)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn();
    Client(child.unwrap())
}

/// Messages of real logs.
fn lines() -> Vec<String> {
    let messages = corpus::rows(LINES_OF_SERVICE)
        .into_iter()
        .map(|row| row["message"].as_str().unwrap().trim().to_owned());
    messages.filter(|message| !message.is_empty()).collect()
}

/// Waits until every way's rows are `lines`, in whatever order.
fn assert_bodies(server: &Server, ways: &[Way], lines: &[String]) {
    let mut expected = lines.to_vec();
    expected.sort_unstable();
    for Way { name, .. } in ways {
        let count = format!("SELECT count() FROM otel_logs WHERE ServiceName = '{name}'");
        eventually(&format!("the lines by {name}"), || {
            let found: usize = server.sql(&count).parse().unwrap();
            assert!(found <= lines.len(), "{found} lines by {name}");
            (found == lines.len()).then_some(())
        });
        let sql =
            format!("SELECT Body FROM otel_logs WHERE ServiceName = '{name}' FORMAT JSONCompactEachRow");
        let found = server.sql(&sql);
        let mut found: Vec<String> = found
            .lines()
            .map(|row| serde_json::from_str::<[String; 1]>(row).unwrap()[0].clone())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{name}");
    }
}

/// Ends it, and returns what it said.
fn end(mut client: Client, log: &Path) -> String {
    signal(client.0.id(), Signal::TERM);
    let status = eventually("the collector's end", || client.0.try_wait().unwrap());
    let said = fs::read_to_string(log).unwrap();
    assert!(status.success(), "{status}\n{said}");
    said
}

const LISTENER: [&str; 3] = ["--create-tables", "--listener", "syslog=syslog://127.0.0.1:0"];

#[test]
#[ignore = "builds a collector for minutes: make shippers-test"]
fn every_line_of_the_collector_is_in_clickhouse_once_by_each_of_its_ways() {
    let Some(collector) = collector() else { return };
    let server = Server::embedded(&LISTENER);
    let (ways, lines) = (ways(&server), lines());
    let log = server.directory().join("collector.txt");
    let client = start(collector, &server, &ways, &lines, &log);
    assert_bodies(&server, &ways, &lines);
    let said = end(client, &log);
    let complaints = said.lines().filter(|line| {
        ["\twarn\t", "\terror\t", "Will retry"]
            .iter()
            .any(|mark| line.contains(mark))
    });
    assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&str>::new());
    let metrics = server.admin("/metrics").unwrap().body;
    assert!(
        !metrics.contains("status=\"4") && !metrics.contains("status=\"5"),
        "{metrics}"
    );
}

#[test]
#[ignore = "builds a collector for minutes: make shippers-test"]
fn the_collector_sends_again_what_finds_the_log_full_and_nothing_is_doubled() {
    let Some(collector) = collector() else { return };
    let limits = ["wal_blocks_max=16", "ack_deadline_ms=2000"].map(|limit| ["--limit", limit]);
    let server = Server::embedded(&[&LISTENER[..], &["--ack", "wal"], limits.as_flattened()].concat());
    // The table is there from here on.
    let reply = server.post("/ingest?ack=inserted", "{\"message\":\"first\"}");
    assert_eq!(reply.status, 200, "{reply:?}");
    let engine = server.engine_pid();
    signal(engine, Signal::STOP);
    eventually("a full log", || {
        (server.post("/ingest", "{\"message\":\"filler\"}").status == 503).then_some(())
    });
    let (ways, lines) = (ways(&server), lines());
    // Of syslog there are no answers: it is not read.
    let asked_again = &ways[..3];
    let log = server.directory().join("collector.txt");
    let client = start(collector, &server, &ways, &lines, &log);
    for Way { name, .. } in asked_again {
        eventually(&format!("{name} to be asked to come again"), || {
            let said = fs::read_to_string(&log).unwrap();
            let of_way = |line: &&str| line.contains("Will retry") && line.contains(name);
            said.lines().find(of_way).map(drop)
        });
    }
    signal(engine, Signal::CONT);
    assert_bodies(&server, &ways, &lines);
    let said = end(client, &log);
    assert!(!said.contains("Dropping"), "{said}");
}
