//! Syslog, Fluent Forward and JSON lines against a whole server: real senders, and hostile ones.

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/clients.rs"]
mod clients;
#[path = "../common/mod.rs"]
mod common;

mod access;
mod forward;
mod hostile;
mod json;
mod log4j;
mod syslog;
mod syslog_ng;
mod tls;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use common::{PATIENCE, Server, corpus, eventually};
use serde_json::Value;

/// Lines of each file of the corpus.
const LINES_OF_FILE: usize = 100;

/// Port of a listener, as the server printed it.
fn port_of(server: &Server, listener: &str) -> u16 {
    let output = server.output();
    let line = output
        .lines()
        .find(|line| line.starts_with(&format!("ringhouse: {listener} on ")))
        .unwrap_or_else(|| panic!("no listener {listener}:\n{output}"));
    line.rsplit(':').next().unwrap().parse().unwrap()
}

fn connect(port: u16) -> TcpStream {
    let stream =
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Messages of real logs.
fn lines() -> Vec<String> {
    let messages = corpus::rows(LINES_OF_FILE)
        .into_iter()
        .map(|row| row["message"].as_str().unwrap().trim().to_owned());
    messages.filter(|message| !message.is_empty()).collect()
}

/// Waits until the table has so many rows that `condition` holds for, and returns what `columns` are of each.
fn rows(server: &Server, columns: &str, condition: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} rows of {condition}"), || {
        let found = server.sql(&format!("SELECT count() FROM otel_logs WHERE {condition}"));
        let found: usize = found.parse().unwrap();
        assert!(found <= count, "{found} rows of {condition}");
        (found == count).then_some(())
    });
    let text = server.sql(&format!(
        "SELECT {columns} FROM otel_logs WHERE {condition} FORMAT JSONEachRow"
    ));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The bodies of all rows that `condition` holds for are `expected`, in whatever order.
fn assert_bodies(server: &Server, condition: &str, expected: &[String]) {
    let rows = rows(server, "Body", condition, expected.len());
    let mut found: Vec<&str> = rows.iter().map(|row| row["Body"].as_str().unwrap()).collect();
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{condition}");
}

fn assert_nothing_rejected(server: &Server) {
    let metrics = server.admin("/metrics").unwrap().body;
    let rejected = metrics
        .lines()
        .filter(|line| line.contains("rejected") && !line.starts_with('#') && !line.ends_with(" 0"));
    assert_eq!(rejected.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(!server.log().contains("WARN"), "{}", server.log());
}
