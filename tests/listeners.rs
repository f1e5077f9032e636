//! Several listeners on one server: where the rows of each go, what is added to them, and which routes they take.

mod common;

use std::fs;

use common::{Reply, Server, eventually, http};

const CONFIG: &str = r#"
[listener.http]
fields = { env = "main" }

[listener.edge]
address = "127.0.0.1:0"
table = "edge_logs"
ack = "memory"
fields = { env = "edge", "service.name" = "gateway", level = "warn" }

[[route]]
listener = "edge"
header = { "X-Scope-OrgID" = "team-*" }
table = "team_logs"

[[route]]
path = "/v1/*"
table = "otlp_logs"
"#;

fn start() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringhouse.toml");
    fs::write(&file, CONFIG).unwrap();
    let server = Server::embedded(&[
        "--config",
        file.to_str().unwrap(),
        "--listener",
        "further=http://127.0.0.1:0",
        "--limit",
        "schema_refresh_ms=200",
    ]);
    for table in ["edge_logs", "team_logs", "otlp_logs"] {
        server.sql(&format!("CREATE TABLE {table} AS otel_logs"));
        let known = || {
            let reply = server.post(&format!("/ingest/{table}"), "{\"message\":\"probe\"}");
            (reply.status == 200).then_some(())
        };
        eventually("the table to be served", known);
    }
    server
}

fn post(port: u16, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    http("POST", port, target, headers, body.as_bytes()).unwrap()
}

/// What a table holds beside the probe.
fn rows(server: &Server, table: &str) -> String {
    server.sql(&format!(
        "SELECT Body, ServiceName, SeverityText, LogAttributes['env'] FROM {table} WHERE Body != 'probe' ORDER BY Body \
         FORMAT TSV"
    ))
}

#[test]
fn each_listener_has_a_table_an_ack_level_constants_and_routes() {
    let server = start();
    let (edge, further) = (server.port_of("edge"), server.port_of("further"));
    let row = r#"{"message":"NAME","service":"web","level":"info","env":"dev"}"#;

    let reply = server.post("/ingest", row.replace("NAME", "main"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    // The listener's own level is memory; a request may ask for more.
    let reply = post(edge, "/ingest", &[], &row.replace("NAME", "at memory"));
    assert_eq!(reply.status, 202, "{}", reply.body);
    let reply = post(edge, "/ingest?ack=inserted", &[], &row.replace("NAME", "at edge"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let reply = post(
        edge,
        "/ingest?ack=inserted",
        &[("X-Scope-OrgID", "team-7")],
        &row.replace("NAME", "of a team"),
    );
    assert_eq!(reply.status, 200, "{}", reply.body);
    // A table that is named goes before routes and listeners.
    let named = [("X-Scope-OrgID", "team-7")];
    let reply = post(
        edge,
        "/ingest/otel_logs?ack=inserted",
        &named,
        &row.replace("NAME", "named"),
    );
    assert_eq!(reply.status, 200, "{}", reply.body);
    let otlp = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"otlp"}}]}]}]}"#;
    let json = [("Content-Type", "application/json")];
    let reply = post(further, "/v1/logs", &json, otlp);
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    let reply = post(further, "/ingest", &[], &row.replace("NAME", "further"));
    assert_eq!(reply.status, 200, "{}", reply.body);

    eventually("the row at memory", || {
        rows(&server, "edge_logs").contains("at memory").then_some(())
    });
    assert_eq!(
        rows(&server, "otel_logs"),
        "further\tweb\tinfo\tdev\nmain\tweb\tinfo\tmain\nnamed\tgateway\twarn\tedge"
    );
    assert_eq!(
        rows(&server, "edge_logs"),
        "at edge\tgateway\twarn\tedge\nat memory\tgateway\twarn\tedge"
    );
    assert_eq!(rows(&server, "team_logs"), "of a team\tgateway\twarn\tedge");
    assert_eq!(rows(&server, "otlp_logs").trim_end(), "otlp");
}

#[test]
fn two_servers_never_share_the_port_of_a_listener() {
    let first = Server::start(&["--listener", "further=http://127.0.0.1:0"]);
    let address = format!("further=http://127.0.0.1:{}", first.port_of("further"));
    let directory = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(common::BINARY)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--listener",
            &address,
            "--data-dir",
        ])
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot listen on 127.0.0.1:"), "{said}");
}
