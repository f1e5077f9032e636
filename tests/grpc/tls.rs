//! gRPC through TLS, with grpcio's own.

use std::fs;

use serde_json::{Value, json};

use crate::authority::Authority;
use crate::common::Server;
use crate::{Client, EXPORT, base64, export};

/// What a client is told that calls through TLS and trusts the `authority`, and what one that sends a stream of a row is told.
fn call(server: &Server, authority: &Authority, own: Option<&Authority>) -> Option<[Value; 2]> {
    let certificates = tempfile::tempdir().unwrap();
    authority.write(&certificates.path().join("ca.pem"));
    if let Some(own) = own {
        own.issue("shipper").write(certificates.path(), "client");
    }
    let export = json!({"path": EXPORT, "message": base64(&export(&["export"])), "timeout": 10});
    let row = json!({"sequence": 1, "json": "{\"message\":\"stream\"}"});
    let mut told = Vec::new();
    for (what, argument, input) in [("calls", "", export), ("stream", "{}", row)] {
        let client = Client::start_with(server, Some(certificates.path()), what, argument, &[input]);
        // What grpcio thinks of a handshake that fails is not looked at.
        told.push(client?.end().0);
    }
    Some([told[0][0]["code"].take(), told[1]["code"].take()])
}

/// A server with a certificate for `localhost` of the `authority`.
fn start(authority: &Authority, clients: Option<&Authority>) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.issue("localhost").write(directory.path(), "server");
    let mut text = format!(
        "[listener.http]\ntls_cert = '{}'\ntls_key = '{}'\n",
        certificate.display(),
        key.display()
    );
    if let Some(clients) = clients {
        let path = clients.write(&directory.path().join("clients.pem"));
        text += &format!("tls_client_ca = '{}'\n", path.display());
    }
    let config = directory.path().join("ringhouse.toml");
    fs::write(&config, text).unwrap();
    let server = Server::embedded(&["--create-tables", "--config", config.to_str().unwrap()]);
    (server, directory)
}

const BODIES: &str = "SELECT arrayStringConcat(arraySort(groupArray(Body)), ' ') FROM otel_logs";

#[test]
fn calls_come_through_tls_from_clients_that_trust_the_authority() {
    let authority = Authority::new("the house's");
    let (server, _files) = start(&authority, None);
    let Some(told) = call(&server, &authority, None) else {
        return;
    };
    assert_eq!(told, ["OK", "OK"]);
    let stranger = Authority::new("somebody else's");
    assert_eq!(
        call(&server, &stranger, None).unwrap(),
        ["UNAVAILABLE", "UNAVAILABLE"]
    );
    assert_eq!(server.sql(BODIES), "export stream");
}

#[test]
fn a_client_of_grpc_shows_a_certificate_where_one_is_asked_for() {
    let (authority, clients) = (Authority::new("the house's"), Authority::new("the clients'"));
    let (server, _files) = start(&authority, Some(&clients));
    let Some(told) = call(&server, &authority, Some(&clients)) else {
        return;
    };
    assert_eq!(told, ["OK", "OK"]);
    for own in [None, Some(&Authority::new("others'"))] {
        assert_eq!(
            call(&server, &authority, own).unwrap(),
            ["UNAVAILABLE", "UNAVAILABLE"]
        );
    }
    assert_eq!(server.sql(BODIES), "export stream");
}
