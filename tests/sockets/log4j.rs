//! Syslog and JSON lines from Log4j's appender for sockets.

use std::fs::{self, File};

use crate::clients::Language;
use crate::common::{Server, eventually};
use crate::{assert_bodies, assert_nothing_rejected, lines, port_of};
use serde_json::{Value, json};

const PACKAGES: [&str; 2] = [
    "org.apache.logging.log4j:log4j-core:2.26.1",
    "org.apache.logging.log4j:log4j-layout-template-json:2.26.1",
];

const LEVELS: [&str; 3] = ["INFO", "WARN", "ERROR"];

#[test]
fn every_line_of_log4j_is_in_clickhouse_once() {
    let Some(packages) = Language::Java.install("log4j", &PACKAGES) else {
        return;
    };
    let server = Server::embedded(&[
        "--create-tables",
        "--listener",
        "syslog=syslog://127.0.0.1:0",
        "--listener",
        "json=json://127.0.0.1:0",
    ]);
    let lines = lines();
    let rows: Vec<Value> = lines
        .iter()
        .zip(LEVELS.iter().cycle())
        .map(|(line, level)| json!({"message": line, "level": level}))
        .collect();
    let rfc5424 = r#"facility="LOCAL3" enterpriseNumber="32473" messageId="ID""#;
    let ways = [
        ("lines", "syslog", format!(r#"<Rfc5424Layout appName="lines" {rfc5424} newLine="true"/>"#)),
        ("counted", "syslog", format!(r#"<Rfc5424Layout appName="counted" {rfc5424} useTlsMessageFormat="true"/>"#)),
        (
            "json",
            "json",
            r#"<JsonTemplateLayout eventTemplateUri="classpath:EcsLayout.json"><EventTemplateAdditionalField key="service.name" value="json"/></JsonTemplateLayout>"#.to_owned(),
        ),
    ];
    for (way, listener, layout) in &ways {
        let log = server.directory().join(format!("{way}.txt"));
        let said = File::create(&log).unwrap();
        let complained = said.try_clone().unwrap();
        let arguments = [&port_of(&server, listener).to_string(), layout.as_str()];
        let mut client = Language::Java.start(
            &packages,
            "sockets/Log4j.java",
            &arguments,
            &rows,
            said,
            complained,
        );
        let status = eventually("the end of Log4j", || client.0.try_wait().unwrap());
        let said = fs::read_to_string(&log).unwrap();
        assert!(status.success() && said.is_empty(), "{way}: {status}\n{said}");
        assert_bodies(&server, &format!("ServiceName = '{way}'"), &lines);
    }
    let of_level = |at: usize| ways.len() * lines.iter().skip(at).step_by(LEVELS.len()).count();
    assert_eq!(
        server.sql("SELECT SeverityNumber, count() FROM otel_logs GROUP BY ALL ORDER BY ALL"),
        format!("9\t{}\n13\t{}\n17\t{}", of_level(0), of_level(1), of_level(2))
    );
    assert_nothing_rejected(&server);
}
