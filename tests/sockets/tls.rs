//! The same protocols within TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use crate::authority::Authority;
use crate::common::Server;
use crate::{connect, port_of, rows};
use ringhouse::tls::Trust;
use rustls::{ClientConnection, StreamOwned};

fn tls(directory: &Path, port: u16) -> StreamOwned<ClientConnection, TcpStream> {
    let trust = Trust::file(directory.join("ca.pem")).config().unwrap();
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::clone(&trust), name).unwrap(),
        connect(port),
    )
}

#[test]
fn syslog_json_lines_and_forward_come_within_tls_too() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("the house's");
    authority.write(&directory.path().join("ca.pem"));
    let (certificate, key) = authority.issue("localhost").write(directory.path(), "server");
    let section = |name: &str| {
        format!(
            "[listener.{name}]\nprotocol = '{name}'\naddress = '127.0.0.1:0'\ntls_cert = '{}'\ntls_key = '{}'\n",
            certificate.display(),
            key.display()
        )
    };
    let config = directory.path().join("ringhouse.toml");
    fs::write(&config, ["syslog", "json", "forward"].map(section).concat()).unwrap();
    let server = Server::embedded(&["--create-tables", "--config", config.to_str().unwrap()]);
    let record = b"\x82\xa7service\xa7forward\xa7message\xa3one";
    let forward = [
        b"\x93\xa1t\x91\x92\x01".as_slice(),
        record,
        b"\x81\xa5chunk\xa2id",
    ]
    .concat();
    let sent = [
        ("syslog", b"26 <14>1 - h syslog - - - one".as_slice()),
        ("json", b"{\"service\":\"json\",\"message\":\"one\"}\n"),
        ("forward", &forward),
    ];
    for (protocol, bytes) in sent {
        let mut stream = tls(directory.path(), port_of(&server, protocol));
        stream.write_all(bytes).unwrap();
        stream.flush().unwrap();
        if protocol == "forward" {
            let mut ack = [0; 8];
            stream.read_exact(&mut ack).unwrap();
            assert_eq!(&ack, b"\x81\xa3ack\xa2id");
        }
        rows(
            &server,
            "Body",
            &format!("ServiceName = '{protocol}' AND Body = 'one'"),
            1,
        );
        // The end is announced from both sides, so that it is none of a connection that was cut.
        stream.conn.send_close_notify();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
}
