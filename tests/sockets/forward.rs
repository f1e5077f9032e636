//! Fluent Forward from the loggers that Python, Node and Java programs have.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::clients::Language;
use crate::common::{Server, eventually};
use crate::{assert_nothing_rejected, lines, port_of, rows};
use serde_json::{Value, json};

const PYTHON_PACKAGES: [&str; 2] = ["fluent-logger==0.11.1", "msgpack==1.2.4"];
const NODE_PACKAGES: [&str; 1] = ["@fluent-org/logger@1.0.10"];
const JAVA_PACKAGES: [&str; 3] = [
    "org.komamitsu:fluency-core:2.7.3",
    "org.komamitsu:fluency-fluentd:2.7.3",
    "org.slf4j:slf4j-simple:2.0.17",
];

/// Sends records and waits for the client's end, which has nothing to say. False when the language is missing.
fn send(server: &Server, language: Language, script: &str, arguments: &[&str], records: &[Value]) -> bool {
    static INSTALLED: [OnceLock<Option<PathBuf>>; 3] = [const { OnceLock::new() }; 3];
    let packages = match language {
        Language::Python => &PYTHON_PACKAGES[..],
        Language::JavaScript => &NODE_PACKAGES[..],
        Language::Java => &JAVA_PACKAGES[..],
    };
    let Some(installed) = INSTALLED[language as usize].get_or_init(|| language.install("fluent", packages))
    else {
        return false;
    };
    let log = server.directory().join("client.txt");
    let said = File::create(&log).unwrap();
    let complained = said.try_clone().unwrap();
    let path = format!("sockets/{script}");
    let mut client = language.start(installed, &path, arguments, records, said, complained);
    let status = eventually("the client's end", || client.0.try_wait().unwrap());
    let said = fs::read_to_string(&log).unwrap();
    assert!(
        status.success() && said.is_empty(),
        "{script} {arguments:?}: {status}\n{said}"
    );
    true
}

fn records() -> Vec<Value> {
    let records = lines().into_iter().enumerate().map(|(seq, line)| {
        let levels = ["info", "WARN", "error"];
        json!({
            "message": line, "level": levels[seq % 3], "seq": seq, "ratio": seq as f64 + 0.5,
            "kubernetes": {"pod_name": "p", "labels": {"app": "a"}}, "tags": ["é", null, true],
        })
    });
    records.collect()
}

fn assert_records(server: &Server, tag: &str, records: &[Value]) {
    let columns = "Body, SeverityText, SeverityNumber, LogAttributes, toString(toUnixTimestamp64Nano(Timestamp)) AS time";
    let mut found = rows(
        server,
        columns,
        &format!("LogAttributes['fluent.tag'] = '{tag}'"),
        records.len(),
    );
    found.sort_by_key(|row| {
        row["LogAttributes"]["seq"]
            .as_str()
            .unwrap()
            .parse::<usize>()
            .unwrap()
    });
    for (row, record) in found.iter().zip(records) {
        let severity = match record["level"].as_str().unwrap() {
            "info" => 9,
            "WARN" => 13,
            _ => 17,
        };
        let expected = json!({
            "Body": record["message"], "SeverityText": record["level"], "SeverityNumber": severity,
            "LogAttributes": {
                "seq": record["seq"].to_string(), "ratio": record["ratio"].to_string(), "kubernetes.pod_name": "p",
                "kubernetes.labels.app": "a", "tags": "[\"é\",null,true]", "fluent.tag": tag,
            },
            "time": format!("{}", 1_750_000_000_000_000_000_u64 + record["seq"].as_u64().unwrap() * 1_000_000_007),
        });
        assert_eq!(*row, expected, "{tag}");
    }
}

#[test]
fn every_record_of_real_loggers_is_in_clickhouse_as_it_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("ringhouse.toml");
    let text = "[listener.open]\nprotocol = \"forward\"\naddress = \"127.0.0.1:0\"\n\
                [listener.closed]\nprotocol = \"forward\"\naddress = \"127.0.0.1:0\"\nshared_key = \"secret\"\n\
                [listener.users]\nprotocol = \"forward\"\naddress = \"127.0.0.1:0\"\nshared_key = \"secret\"\nusers = {ann = \"word\"}\n";
    fs::write(&config, text).unwrap();
    let server = Server::embedded(&["--create-tables", "--config", config.to_str().unwrap()]);
    let records = records();
    let open = port_of(&server, "open").to_string();
    if send(&server, Language::Python, "send.py", &[&open, "python"], &records) {
        assert_records(&server, "python.row", &records);
    }
    if send(&server, Language::Java, "Fluent.java", &[&open, "java"], &records) {
        assert_records(&server, "java", &records);
    }
    for mode in ["Message", "Forward", "PackedForward", "CompressedPackedForward"] {
        let tag = format!("node.{mode}");
        if send(
            &server,
            Language::JavaScript,
            "send.mjs",
            &[&open, &tag, mode],
            &records,
        ) {
            // Acknowledged at `inserted`: it is there.
            let sql = format!("SELECT count() FROM otel_logs WHERE LogAttributes['fluent.tag'] = '{tag}'");
            assert_eq!(server.sql(&sql), records.len().to_string());
            assert_records(&server, &tag, &records);
        }
    }
    let closed = port_of(&server, "closed").to_string();
    send(
        &server,
        Language::JavaScript,
        "send.mjs",
        &[&closed, "node.key", "PackedForward", "secret"],
        &records,
    );
    let users = port_of(&server, "users").to_string();
    let arguments = [&users, "node.user", "PackedForward", "secret", "ann", "word"];
    if send(&server, Language::JavaScript, "send.mjs", &arguments, &records) {
        assert_records(&server, "node.key", &records);
        assert_records(&server, "node.user", &records);
    }
    assert_nothing_rejected(&server);
}
