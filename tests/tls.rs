//! TLS for real: clients of the listener, certificates that change under them, and ClickHouse behind TLS.

#[path = "common/authority.rs"]
mod authority;
mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use authority::Authority;
use common::{BINARY, Engine, PATIENCE, Server, eventually, raw};
use ringhouse::access::Token;
use ringhouse::clickhouse::control::{ControlConfig, ControlError, check};
use ringhouse::clickhouse::endpoint::Endpoint;
use ringhouse::limits::Limits;
use ringhouse::schema::TableName;
use ringhouse::tls::{Certificates, ClientFiles, Identity, ServerFiles, Trust};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Rows the table holds.
const COUNT: &str = "SELECT count() FROM otel_logs";

/// A server whose main listener speaks TLS, with a certificate for `localhost`.
struct House {
    server: Server,
    authority: Authority,
    directory: tempfile::TempDir,
}

impl House {
    fn start(client_ca: Option<&Authority>, arguments: &[&str]) -> House {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("the house's");
        authority.write(&directory.path().join("ca.pem"));
        let (certificate, key) = authority.issue("localhost").write(directory.path(), "server");
        let mut text = format!(
            "[listener.http]\ntls_cert = '{}'\ntls_key = '{}'\n",
            certificate.display(),
            key.display()
        );
        if let Some(clients) = client_ca {
            let path = clients.write(&directory.path().join("clients.pem"));
            text.push_str(&format!("tls_client_ca = '{}'\n", path.display()));
        }
        let config = directory.path().join("ringhouse.toml");
        fs::write(&config, text).unwrap();
        let mut all = vec!["--config", config.to_str().unwrap()];
        all.extend_from_slice(arguments);
        House {
            server: Server::embedded(&all),
            authority,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn trust(&self) -> Arc<ClientConfig> {
        Trust::file(self.path("ca.pem")).config().unwrap()
    }

    /// Posts a row with curl, given these options besides; its exit status and the HTTP status it saw.
    fn curl(&self, options: &[&str]) -> Output {
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "60",
                "--write-out",
                "%{http_code}",
            ])
            .args(["--data", "{\"message\":\"by curl\"}"])
            .args(options)
            .arg(format!("https://localhost:{}/ingest", self.server.port))
            .output()
            .expect("curl is installed")
    }

    fn curl_is_served(&self, options: &[&str]) {
        let output = self.curl(options);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.ends_with("200"), "{output:?}");
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn tcp(port: u16) -> TcpStream {
    let stream =
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn tls(port: u16, config: &Arc<ClientConfig>) -> Tls {
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::clone(config), name).unwrap(),
        tcp(port),
    )
}

/// Posts rows on a connection that stays open; the status of the reply.
fn post(stream: &mut Tls, rows: &str) -> std::io::Result<u16> {
    write!(
        stream,
        "POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{rows}",
        rows.len()
    )?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(head.split(' ').nth(1).unwrap().parse().unwrap())
}

#[test]
fn curl_posts_through_tls_when_it_trusts_the_authority() {
    let house = House::start(None, &[]);
    let ca = house.path("ca.pem");
    house.curl_is_served(&["--cacert", ca.to_str().unwrap()]);
    house.curl_is_served(&["--cacert", ca.to_str().unwrap(), "--tls-max", "1.2"]);
    let stranger = Authority::new("somebody else's").write(&house.path("stranger.pem"));
    let refused = house.curl(&["--cacert", stranger.to_str().unwrap()]);
    // 60: the peer's certificate cannot be verified.
    assert_eq!(refused.status.code(), Some(60), "{refused:?}");
    assert_eq!(house.server.sql(COUNT), "2");
    assert!(
        house.server.output().contains("listening on https://"),
        "{}",
        house.server.output()
    );
}

#[test]
fn both_versions_of_http_are_agreed_on_by_alpn() {
    let house = House::start(None, &[]);
    let ca = house.path("ca.pem");
    for (option, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let told = ["--write-out", " %{http_version} %{http_code}"];
        let output = house.curl(&[&["--cacert", ca.to_str().unwrap(), option][..], &told].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.ends_with(&format!(" {version} 200")),
            "{output:?}"
        );
    }
    assert_eq!(house.server.sql(COUNT), "2");
}

#[test]
fn rows_of_every_size_come_through_whole() {
    let house = House::start(None, &[]);
    let mut stream = tls(house.server.port, &house.trust());
    let mut sent = 0;
    for size in [1, 1000, 16_000, 16_384, 20_000, 200_000, 1_000_000] {
        let row = format!("{{\"message\":\"{}\"}}", "x".repeat(size));
        assert_eq!(post(&mut stream, &row).unwrap(), 200, "{size}");
        sent += size;
    }
    let many: String = (0..20_000)
        .map(|at| format!("{{\"message\":\"{at}\"}}\n"))
        .collect();
    assert_eq!(post(&mut stream, &many).unwrap(), 200);
    assert_eq!(house.server.sql(COUNT), "20007");
    let bytes = house
        .server
        .sql("SELECT sum(length(Body)) FROM otel_logs WHERE startsWith(Body, 'x')");
    assert_eq!(bytes, sent.to_string());
}

#[test]
fn a_client_must_show_a_certificate_where_one_is_asked_for() {
    let clients = Authority::new("the clients'");
    let house = House::start(Some(&clients), &[]);
    let ca = house.path("ca.pem");
    let identity = |authority: &Authority, name: &str| {
        let (certificate, key) = authority.issue("shipper").write(house.directory.path(), name);
        (certificate.display().to_string(), key.display().to_string())
    };
    let (certificate, key) = identity(&clients, "shipper");
    let ca = ca.to_str().unwrap();
    house.curl_is_served(&["--cacert", ca, "--cert", &certificate, "--key", &key]);
    assert!(!house.curl(&["--cacert", ca]).status.success());
    let (certificate, key) = identity(&Authority::new("others"), "other");
    let refused = house.curl(&["--cacert", ca, "--cert", &certificate, "--key", &key]);
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(house.server.sql(COUNT), "1");
}

#[test]
fn a_client_s_certificate_is_its_key_over_both_versions_of_http() {
    let clients = Authority::new("the clients'");
    let keys_directory = tempfile::tempdir().unwrap();
    let keys = keys_directory.path().join("keys.toml");
    let hash = Token::new(b"rh_app").unwrap().digest();
    let section = |name: &str, lines: &str| {
        format!("[[key]]\nname = '{name}'\n{lines}\nfields = {{ team = '{name}' }}\n")
    };
    let text = [
        section("web", "certificates = ['CN=web']\ntables = ['otel_*']"),
        section("narrow", "certificates = ['DNS:narrow']\ntables = ['other']"),
        section("twin", "certificates = ['CN=twins']"),
        section("other-twin", "certificates = ['DNS:twins']"),
        section("app", &format!("hash = '{hash}'")),
    ];
    fs::write(&keys, text.concat()).unwrap();
    let house = House::start(Some(&clients), &["--keys-file", keys.to_str().unwrap()]);
    let files = |name: &str| clients.issue(name).write(house.directory.path(), name);
    let ca = house.path("ca.pem");
    let status = |version: &str, name: &str, token: Option<&str>| {
        let (certificate, key) = files(name);
        let authorization = format!("Authorization: Bearer {}", token.unwrap_or_default());
        let mut options = vec![version, "--cacert", ca.to_str().unwrap()];
        options.extend([
            "--cert",
            certificate.to_str().unwrap(),
            "--key",
            key.to_str().unwrap(),
        ]);
        if token.is_some() {
            options.extend(["--header", &authorization]);
        }
        let output = house.curl(&options);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text[text.len() - 3..].parse::<u16>().unwrap()
    };
    for version in ["--http1.1", "--http2"] {
        assert_eq!(status(version, "web", None), 200);
        assert_eq!(status(version, "stranger", None), 401);
        assert_eq!(status(version, "narrow", None), 403);
        assert_eq!(
            status(version, "twins", None),
            400,
            "of two keys it would be either"
        );
        assert_eq!(status(version, "web", Some("rh_app")), 200, "a token goes first");
        assert_eq!(status(version, "web", Some("rh_wrong")), 401, "also a wrong one");
    }
    let of = |team: &str| {
        let sql = format!("SELECT count() FROM otel_logs WHERE LogAttributes['team'] = '{team}'");
        house.server.sql(&sql)
    };
    assert_eq!((of("web"), of("app")), ("2".to_owned(), "2".to_owned()));

    // Who resumes a session shows no certificate again, and is who it was.
    let (certificate, key) = files("web");
    let config = Trust::new(ClientFiles {
        ca: Some(ca.clone()),
        identity: Some(Identity { certificate, key }),
    });
    let config = config.config().unwrap();
    let mut first = tls(house.server.port, &config);
    assert_eq!(post(&mut first, "{}").unwrap(), 200);
    let mut resumed = tls(house.server.port, &config);
    assert_eq!(post(&mut resumed, "{}").unwrap(), 200);
    assert_eq!(
        resumed.conn.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed)
    );

    // A key that is withdrawn is so on connections that are open.
    fs::write(keys_directory.path().join("new"), text[1..].concat()).unwrap();
    fs::rename(keys_directory.path().join("new"), &keys).unwrap();
    eventually("the key's end", || {
        (post(&mut first, "{}").unwrap() == 401).then_some(())
    });
}

#[test]
fn a_client_that_speaks_plain_http_is_refused_and_harms_nobody() {
    let house = House::start(None, &[]);
    let mut neighbour = tls(house.server.port, &house.trust());
    assert_eq!(post(&mut neighbour, "{\"message\":\"before\"}").unwrap(), 200);
    for _ in 0..20 {
        let request = b"POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
        let answer = raw(house.server.port, request);
        assert!(answer.is_err(), "no HTTP comes back: {answer:?}");
    }
    assert_eq!(post(&mut neighbour, "{\"message\":\"after\"}").unwrap(), 200);
    assert_eq!(house.server.sql(COUNT), "2");
}

#[test]
fn a_client_that_stalls_in_the_handshake_is_dropped_at_its_deadline() {
    let house = House::start(None, &["--limit", "head_deadline_ms=500"]);
    let started = Instant::now();
    let mut silent = tcp(house.server.port);
    let mut halfway = tcp(house.server.port);
    // A record of 512 bytes is announced, and a ClientHello begun.
    halfway.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).unwrap();
    assert_eq!(
        post(&mut tls(house.server.port, &house.trust()), "{}").unwrap(),
        200
    );
    for stalled in [&mut silent, &mut halfway] {
        // End of stream or a reset: both are an end.
        let _ = stalled.read_to_end(&mut Vec::new());
        assert!(
            started.elapsed() >= Duration::from_millis(400),
            "not before its time"
        );
    }
    assert!(started.elapsed() < PATIENCE / 2);
}

#[test]
fn certificates_are_replaced_under_load_without_a_failed_request() {
    let house = House::start(None, &["--ack", "wal"]);
    let stop = AtomicBool::new(false);
    let port = house.server.port;
    // An authority stays, as it does when a certificate is renewed.
    let config = house.trust();
    let shown = |config: &Arc<ClientConfig>| {
        let mut stream = tls(port, config);
        assert_eq!(post(&mut stream, "{\"message\":\"look\"}").unwrap(), 200);
        stream.conn.peer_certificates().expect("a full handshake")[0].to_vec()
    };
    let looks = &mut 0_u64;
    let posted: u64 = thread::scope(|scope| {
        let (stop, config) = (&stop, &config);
        let producers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    let mut kept = tls(port, config);
                    let mut posted = 0;
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(post(&mut kept, "{\"message\":\"kept\"}").unwrap(), 200);
                        assert_eq!(
                            post(&mut tls(port, config), "{\"message\":\"new\"}").unwrap(),
                            200
                        );
                        posted += 2;
                    }
                    posted
                })
            })
            .collect();
        // A client that resumes would be shown nothing: one that remembers nothing looks.
        let forgetful = || house.trust();
        let mut before = shown(&forgetful());
        *looks += 1;
        for round in 0..2 {
            if round == 1 {
                fs::write(house.path("server.pem"), "half a renewal").unwrap();
                eventually("the complaint", || {
                    house
                        .server
                        .log()
                        .contains("the certificates from before stay in use")
                        .then_some(())
                });
                assert_eq!(shown(&forgetful()), before);
                *looks += 1;
            }
            house
                .authority
                .issue("localhost")
                .write(house.directory.path(), "server");
            if round == 1 {
                // At once, not at the next look.
                house.server.signal(rustix::process::Signal::HUP);
            }
            before = eventually("the new certificate", || {
                let now = shown(&forgetful());
                *looks += 1;
                (now != before).then_some(now)
            });
        }
        stop.store(true, Ordering::Relaxed);
        producers
            .into_iter()
            .map(|producer| producer.join().unwrap())
            .sum()
    });
    let all = (posted + *looks).to_string();
    eventually("every row", || (house.server.sql(COUNT) == all).then_some(()));
}

#[test]
fn the_admin_pages_are_shown_through_tls_alone_when_they_have_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("the house's");
    let ca = authority.write(&directory.path().join("ca.pem"));
    let (certificate, key) = authority.issue("localhost").write(directory.path(), "admin");
    let server = Server::start(&[
        "--admin-tls-cert",
        certificate.to_str().unwrap(),
        "--admin-tls-key",
        key.to_str().unwrap(),
        "--clickhouse",
        "tcp://127.0.0.1:1",
    ]);
    let config = Trust::file(&ca).config().unwrap();
    // Whoever stalls in the handshake holds up nobody.
    let _stalled = tcp(server.admin_port);
    let mut stream = tls(server.admin_port, &config);
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("its end is announced");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(server.admin("/livez").is_err(), "not without TLS");
    let refused = tls(
        server.admin_port,
        &Trust::file(Authority::new("x").write(&ca)).config().unwrap(),
    )
    .read(&mut [0; 10]);
    assert!(refused.is_err(), "nor to whoever does not trust it");

    // Trusted by its own file; the one above is another's by now.
    authority.write(&ca);
    let histograms = |options: &[&str]| {
        let admin = format!("https://localhost:{}", server.admin_port);
        let mut command = Command::new(BINARY);
        let output = command
            .args(["histograms", "--admin", &admin])
            .args(options)
            .output();
        output.unwrap()
    };
    let shown = histograms(&["--ca", ca.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.status.success() && text.contains("request_inserted"),
        "{shown:?}"
    );
    let refused = histograms(&[]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("none of the authorities"),
        "{refused:?}"
    );
}

/// TLS in front of a ClickHouse that speaks none, until the test ends.
fn tls_in_front(clickhouse: u16, files: ServerFiles) -> u16 {
    let certificates = Certificates::load(files, &[]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(certificates.config());
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let event_loop = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    thread::spawn(move || {
        event_loop.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else {
                        return;
                    };
                    let server = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, clickhouse)).await;
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server.unwrap()).await;
                });
            }
        });
    });
    port
}

fn identity(directory: &Path, authority: &Authority) -> ServerFiles {
    let (certificate, key) = authority.issue("localhost").write(directory, "clickhouse");
    ServerFiles {
        certificate,
        key,
        client_ca: None,
    }
}

#[test]
fn rows_reach_a_clickhouse_behind_tls() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ClickHouse's");
    let ca = authority.write(&directory.path().join("ca.pem"));
    let port = tls_in_front(engine.tcp_port(), identity(directory.path(), &authority));
    let url = format!("tcps://localhost:{port}");
    let server = Server::start(&[
        "--clickhouse",
        &url,
        "--clickhouse-ca",
        ca.to_str().unwrap(),
        "--create-tables",
    ]);
    server.wait_until_ready();
    let row = format!("{{\"message\":\"{}\"}}\n", "x".repeat(1000));
    let rows = row.repeat(5000);
    for _ in 0..4 {
        assert_eq!(server.post("/ingest", &rows).status, 200);
    }
    assert_eq!(engine.sql(COUNT), "20000");
    assert_eq!(engine.sql("SELECT sum(length(Body)) FROM otel_logs"), "20000000");
    assert!(
        server.output().contains(&format!("clickhouse at {url}")),
        "{}",
        server.output()
    );

    let checked = Command::new(BINARY)
        .args([
            "check",
            "--clickhouse",
            &url,
            "--clickhouse-ca",
            ca.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        checked.status.success() && report.contains("otel_logs"),
        "{report}"
    );
}

#[test]
fn a_clickhouse_that_asks_who_we_are_is_shown_a_certificate() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new("ClickHouse's"), Authority::new("its clients'"));
    let ca = authority.write(&directory.path().join("ca.pem"));
    let files = ServerFiles {
        client_ca: Some(clients.write(&directory.path().join("clients.pem"))),
        ..identity(directory.path(), &authority)
    };
    let url = format!("tcps://localhost:{}", tls_in_front(engine.tcp_port(), files));
    let (certificate, key) = clients.issue("ringhouse").write(directory.path(), "ringhouse");
    let of_clickhouse = ["--clickhouse", &url, "--clickhouse-ca", ca.to_str().unwrap()];
    let check = |options: &[&str]| {
        let mut command = Command::new(BINARY);
        let output = command.arg("check").args(of_clickhouse).args(options).output();
        output.unwrap()
    };
    let told = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told(&check(&[])).contains("does not answer"));
    let unknown = Server::start(&of_clickhouse);
    eventually("what is missing", || {
        unknown
            .log()
            .contains("requires a certificate of ours")
            .then_some(())
    });
    drop(unknown);
    let shown = [
        "--clickhouse-tls-cert",
        certificate.to_str().unwrap(),
        "--clickhouse-tls-key",
        key.to_str().unwrap(),
    ];
    let server = Server::start(&[&of_clickhouse[..], &shown, &["--create-tables"]].concat());
    server.wait_until_ready();
    assert_eq!(server.post("/ingest", "{\"message\":\"x\"}").status, 200);
    assert_eq!(engine.sql(COUNT), "1");
    let known = told(&check(&shown));
    assert!(
        known.contains("otel_logs") && !known.contains("does not answer"),
        "{known}"
    );
}

#[test]
fn a_clickhouse_that_nobody_known_vouches_for_gets_no_row_and_no_password() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let port = tls_in_front(
        engine.tcp_port(),
        identity(directory.path(), &Authority::new("an impostor's")),
    );
    let ca = Authority::new("ClickHouse's").write(&directory.path().join("ca.pem"));
    let endpoint = Endpoint {
        tls: Some(Trust::file(&ca)),
        ..format!("tcps://localhost:{port}").parse().unwrap()
    };
    let config = ControlConfig {
        default_table: TableName {
            database: "default".to_owned(),
            table: "otel_logs".to_owned(),
        },
        endpoints: vec![endpoint],
        tables: Vec::new(),
        only_listed: false,
        known_tables: None,
        create_tables: false,
        ttl_days: None,
        limits: Limits::default(),
    };
    let Err(ControlError::Connection(reason)) = check(&config) else {
        panic!("it was believed");
    };
    assert!(reason.contains("signed by none of the authorities"), "{reason}");

    // The writer has its own connection, and holds rows rather than send them there.
    let url = format!("tcps://localhost:{port}");
    let server = Server::start(&[
        "--clickhouse",
        &url,
        "--clickhouse-ca",
        ca.to_str().unwrap(),
        "--create-tables",
        "--ack",
        "wal",
    ]);
    let reply = eventually("the row's place in the log", || {
        let reply = server.post("/ingest", "{\"message\":\"held\"}");
        (reply.status == 200).then_some(reply)
    });
    assert_eq!(reply.status, 200);
    eventually("the writer's complaint", || {
        let log = server.log();
        (log.contains("cannot set up TLS with") && log.contains("none of the authorities")).then_some(())
    });
    assert_eq!(engine.sql("EXISTS TABLE otel_logs"), "0");
}

#[test]
fn a_server_whose_certificate_cannot_be_used_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let (certificate, _) = authority.issue("localhost").write(directory.path(), "one");
    let (_, key) = authority.issue("localhost").write(directory.path(), "two");
    let config = directory.path().join("ringhouse.toml");
    let refused = |text: String| {
        fs::write(&config, text).unwrap();
        let output = Command::new(BINARY)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--config",
            ])
            .arg(&config)
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = refused(format!(
        "[listener.http]\ntls_cert = '{}'\ntls_key = '{}'\n",
        certificate.display(),
        key.display()
    ));
    assert!(
        text.contains("does not belong to the first certificate"),
        "{text}"
    );
    let text = refused(format!(
        "[listener.http]\ntls_cert = '{}'\n",
        certificate.display()
    ));
    assert!(
        text.contains("listener.http") && text.contains("tls_key"),
        "{text}"
    );
}
