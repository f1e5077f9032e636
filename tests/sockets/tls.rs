//! The same protocols within TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use crate::access::refused;
use crate::authority::Authority;
use crate::common::Server;
use crate::{connect, port_of, rows};
use ringhouse::tls::{ClientFiles, Identity, Trust};
use rustls::{ClientConnection, StreamOwned};

fn tls(directory: &Path, port: u16) -> StreamOwned<ClientConnection, TcpStream> {
    tls_as(None, directory, port)
}

/// A connection that shows a certificate when it is asked for one.
fn tls_as(
    identity: Option<Identity>,
    directory: &Path,
    port: u16,
) -> StreamOwned<ClientConnection, TcpStream> {
    let ca = Some(directory.join("ca.pem"));
    let trust = Trust::new(ClientFiles { ca, identity }).config().unwrap();
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

#[test]
fn a_client_s_certificate_is_its_key_where_there_is_no_place_for_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new("the house's"), Authority::new("the clients'"));
    authority.write(&directory.path().join("ca.pem"));
    let client_ca = clients.write(&directory.path().join("clients.pem"));
    let (certificate, key) = authority.issue("localhost").write(directory.path(), "server");
    let section = |name: &str| {
        format!(
            "[listener.{name}]\nprotocol = '{name}'\naddress = '127.0.0.1:0'\ntls_cert = '{}'\ntls_key = '{}'\n\
             tls_client_ca = '{}'\n",
            certificate.display(),
            key.display(),
            client_ca.display()
        )
    };
    let keys = directory.path().join("keys.toml");
    let text = "[[key]]\nname = 'web'\ncertificates = ['DNS:web']\nfields = { team = 'web' }\n\
                [[key]]\nname = 'narrow'\ncertificates = ['CN=narrow']\ntables = ['other']\n";
    fs::write(&keys, text).unwrap();
    let config = directory.path().join("ringhouse.toml");
    fs::write(&config, ["syslog", "json", "forward"].map(section).concat()).unwrap();
    let server = Server::embedded(&[
        "--create-tables",
        "--keys-file",
        keys.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ]);
    let as_client = |name: &str, protocol: &str| {
        let (certificate, key) = clients.issue(name).write(directory.path(), name);
        let identity = Some(Identity { certificate, key });
        tls_as(identity, directory.path(), port_of(&server, protocol))
    };
    let record = b"\x82\xa7service\xa7forward\xa7message\xa3one";
    let forward = [b"\x92\xa1t\x91\x92\x01".as_slice(), record].concat();
    let sent = [
        ("syslog", b"26 <14>1 - h syslog - - - one".as_slice()),
        ("json", b"{\"service\":\"json\",\"message\":\"one\"}\n"),
        ("forward", &forward),
    ];
    for (at, (protocol, bytes)) in sent.into_iter().enumerate() {
        for (name, reason) in [("stranger", "missing"), ("narrow", "table_not_allowed")] {
            let mut stream = as_client(name, protocol);
            // It may be closed before it is written to.
            let _ = stream.write_all(bytes).and_then(|()| stream.flush());
            let _ = stream.read_to_end(&mut Vec::new());
            assert_eq!(refused(&server, reason), at as u64 + 1, "{protocol}");
        }
        let mut stream = as_client("web", protocol);
        stream.write_all(bytes).unwrap();
        stream.flush().unwrap();
        let condition = format!("ServiceName = '{protocol}' AND LogAttributes['team'] = 'web'");
        rows(&server, "Body", &condition, 1);
        assert_eq!(server.sql("SELECT count() FROM otel_logs"), (at + 1).to_string());
    }
}
