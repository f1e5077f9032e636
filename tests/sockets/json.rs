//! JSON lines over TCP.

use std::io::Write;
use std::net::Shutdown;

use crate::common::Server;
use crate::{assert_bodies, assert_nothing_rejected, connect, lines, port_of};
use serde_json::json;

const LISTENERS: [&str; 3] = ["--create-tables", "--listener", "lines=json://127.0.0.1:0"];

#[test]
fn every_line_is_a_row_and_a_first_line_gives_fields_to_all() {
    let server = Server::embedded(&LISTENERS);
    let lines = lines();
    let header = json!({"authToken": "t", "fields": {"service": "with-header", "zone": "z"}}).to_string();
    for (service, header) in [("plain", None), ("with-header", Some(header))] {
        let mut stream = connect(port_of(&server, "lines"));
        let mut text = header.map_or(String::new(), |header| header + "\n");
        for line in &lines {
            let row = match service {
                "plain" => json!({"message": line, "service": service, "level": "warn"}),
                _ => json!({"message": line, "level": "warn"}),
            };
            text += &format!("{row}\n");
        }
        // The last line has no end.
        stream.write_all(text.trim_end().as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_bodies(
            &server,
            &format!("ServiceName = '{service}' AND SeverityNumber = 13"),
            &lines,
        );
    }
    let zones = server.sql("SELECT LogAttributes['zone'], count() FROM otel_logs GROUP BY 1 ORDER BY 1");
    assert_eq!(zones, format!("\t{0}\nz\t{0}", lines.len()));
    assert_nothing_rejected(&server);
}

#[test]
fn a_line_that_is_no_row_costs_no_other() {
    let server = Server::embedded(&LISTENERS);
    let mut stream = connect(port_of(&server, "lines"));
    let long = "x".repeat(2 << 20);
    let text = format!(
        "[1,2]\nno row\n{{\"message\":\"one\"}}\n\n{{\"message\":\"{long}\"}}\n{{\"message\":\"two\"}}\n"
    );
    stream.write_all(text.as_bytes()).unwrap();
    // The connection stays open.
    let expected = ["one", "two"].map(str::to_owned);
    assert_bodies(&server, "1", &expected);
    let metrics = server.admin("/metrics").unwrap().body;
    for (reason, rows) in [("not_object", 1), ("json", 1), ("too_long", 1)] {
        let counted = metrics
            .lines()
            .filter(|line| line.contains("rejected") && line.contains(&format!("\"{reason}\"")))
            .any(|line| line.ends_with(&format!(" {rows}")));
        assert!(counted, "{reason}: {metrics}");
    }
}
