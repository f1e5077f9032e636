//! Keys and allow-lists where there are no requests.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use crate::common::keys::add_key;
use crate::common::{Server, eventually};
use crate::{connect, port_of, rows};
use serde_json::json;

/// What the server counted as refused for this reason.
pub(crate) fn refused(server: &Server, reason: &str) -> u64 {
    let metrics = server.admin("/metrics").unwrap().body;
    let samples = metrics.lines().filter(|line| {
        line.starts_with("ringhouse_access_refused_total{") && line.contains(&format!("\"{reason}\""))
    });
    samples
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

fn wait_for_end(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    while !matches!(stream.read(&mut bytes), Ok(0) | Err(_)) {}
}

#[test]
fn where_a_key_is_needed_the_header_of_json_lines_brings_it() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys.toml");
    let token = add_key(&keys, "web", "fields = { team = \"web\" }");
    let server = Server::embedded(&[
        "--create-tables",
        "--keys-file",
        keys.to_str().unwrap(),
        "--listener",
        "lines=json://127.0.0.1:0",
        "--listener",
        "open=syslog://127.0.0.1:0",
    ]);
    let row = json!({"service": "s", "message": "row"});
    let header = |token: &str| json!({"authToken": token, "fields": {"zone": "z"}}).to_string();
    for (first, reason) in [
        (row.to_string(), "missing"),
        (header("rh_wrong"), "unknown"),
        (header(""), "malformed"),
    ] {
        let mut stream = connect(port_of(&server, "lines"));
        stream.write_all(format!("{first}\n{row}\n").as_bytes()).unwrap();
        wait_for_end(stream);
        assert_eq!(refused(&server, reason), 1, "{first}");
    }
    let mut stream = connect(port_of(&server, "lines"));
    stream
        .write_all(format!("{}\n{row}\n", header(&token)).as_bytes())
        .unwrap();
    let found = rows(&server, "Body, LogAttributes", "ServiceName = 's'", 1);
    assert_eq!(
        found,
        [json!({"Body": "row", "LogAttributes": {"zone": "z", "team": "web"}})]
    );
    // Syslog has no place for a key, and needs none.
    let mut stream = connect(port_of(&server, "open"));
    stream.write_all(b"<14>1 - - syslog - - - x\n").unwrap();
    rows(&server, "Body", "ServiceName = 'syslog'", 1);
}

#[test]
fn what_comes_from_elsewhere_is_not_taken_and_a_proxy_says_where_from() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("ringhouse.toml");
    let text = "[listener.tcp]\nprotocol = \"syslog\"\naddress = \"127.0.0.1:0\"\nallow = [\"10.0.0.0/8\"]\nproxy_protocol = true\n\
                [listener.udp]\nprotocol = \"syslog-udp\"\naddress = \"127.0.0.1:0\"\nallow = [\"10.0.0.0/8\"]\n\
                [listener.here]\nprotocol = \"syslog-udp\"\naddress = \"127.0.0.1:0\"\nallow = [\"127.0.0.1\"]\n";
    fs::write(&config, text).unwrap();
    let server = Server::embedded(&["--create-tables", "--config", config.to_str().unwrap()]);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (listener, service) in [("udp", "refused"), ("here", "udp")] {
        let datagram = format!("<14>1 - - {service} - - - x");
        udp.send_to(datagram.as_bytes(), ("127.0.0.1", port_of(&server, listener)))
            .unwrap();
    }
    rows(&server, "Body", "ServiceName = 'udp'", 1);
    eventually("the refused datagram", || {
        (refused(&server, "not_allowed_from") == 1).then_some(())
    });
    for (client, service) in [("192.0.2.1", "refused"), ("10.1.2.3", "tcp")] {
        let mut stream = connect(port_of(&server, "tcp"));
        let text = format!("PROXY TCP4 {client} 127.0.0.1 4000 514\r\n<14>1 - - {service} - - - x\n");
        stream.write_all(text.as_bytes()).unwrap();
        if service == "refused" {
            wait_for_end(stream);
        } else {
            rows(&server, "Body", "ServiceName = 'tcp'", 1);
        }
    }
    assert_eq!(refused(&server, "not_allowed_from"), 2);
    assert_eq!(server.sql("SELECT count() FROM otel_logs"), "2");
}
