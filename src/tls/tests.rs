use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::authority::{Authority, Identity};
use super::*;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};

/// Files of a server that `authority` vouches for.
fn server_files(directory: &Path, authority: &Authority) -> ServerFiles {
    let (certificate, key) = authority.issue("localhost").write(directory, "server");
    ServerFiles {
        certificate,
        key,
        client_ca: None,
    }
}

fn trust(directory: &Path, authority: &Authority) -> Arc<ClientConfig> {
    let path = authority.write(&directory.join("ca.pem"));
    Trust::file(path).config().unwrap()
}

/// A client with a certificate of its own and protocols to offer.
fn client_config(authority: &Authority, identity: Option<&Identity>, alpn: &[&str]) -> Arc<ClientConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Both ends, and the bytes between them.
struct Pair {
    client: Session,
    server: Session,
    /// Bytes handed over at once.
    piece: usize,
}

impl Pair {
    fn new(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Pair {
        Pair {
            client: Session::client(client, server_name("localhost").unwrap()).unwrap(),
            server: Session::server(server).unwrap(),
            piece: usize::MAX,
        }
    }

    fn in_pieces(mut self, bytes: usize) -> Pair {
        self.piece = bytes;
        self
    }

    /// Carries bytes both ways until the handshake is over or one end refuses the other.
    fn shake_hands(&mut self) -> io::Result<()> {
        let shake = |session: &mut Session| {
            session.shake_hands()?;
            // What follows the handshake in one piece waits for the first read.
            if !session.is_handshaking() {
                assert_eq!(take(session, &mut Vec::new())?, Taken::Nothing);
            }
            Ok(Taken::Nothing)
        };
        loop {
            let moved = carry(&mut self.client, &mut self.server, self.piece, shake)?
                + carry(&mut self.server, &mut self.client, self.piece, shake)?;
            if moved == 0 {
                assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
                return Ok(());
            }
        }
    }

    fn shaken(mut self) -> Pair {
        self.shake_hands().unwrap();
        self
    }

    /// What the server reads of what the client writes.
    fn deliver(&mut self, text: &[u8]) -> Vec<u8> {
        let mut rest = text;
        let mut read = Vec::new();
        while !rest.is_empty() {
            rest = &rest[self.client.write(rest).unwrap()..];
            let piece = self.piece;
            carry(&mut self.client, &mut self.server, piece, |server| {
                take(server, &mut read)
            })
            .unwrap();
        }
        read
    }
}

/// Takes all plaintext that is there, in bites smaller than a record.
fn take(session: &mut Session, into: &mut Vec<u8>) -> io::Result<Taken> {
    loop {
        let mut bite = [0; 1000];
        match session.read(&mut bite)? {
            Taken::Bytes(bytes) => into.extend_from_slice(&bite[..bytes]),
            other => return Ok(other),
        }
    }
}

/// Hands all ciphertext of one end to the other, piece by piece, each followed by `react`. How many bytes.
fn carry(
    from: &mut Session,
    to: &mut Session,
    piece: usize,
    mut react: impl FnMut(&mut Session) -> io::Result<Taken>,
) -> io::Result<usize> {
    let mut ciphertext = Vec::new();
    from.send(&mut ciphertext).unwrap();
    let mut rest = &ciphertext[..];
    while !rest.is_empty() {
        let received = to.receive(|room| {
            let bytes = rest.len().min(piece).min(room.len());
            room[..bytes].copy_from_slice(&rest[..bytes]);
            Ok::<_, io::Error>(bytes)
        })?;
        rest = &rest[received..];
        react(to)?;
    }
    Ok(ciphertext.len())
}

#[test]
fn carries_every_byte_whatever_pieces_the_handshake_comes_in() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let certificates = Certificates::load(server_files(directory.path(), &authority), &[]).unwrap();
    let text: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    for piece in [1, 2, 5, 1000, 16_384, usize::MAX] {
        let client = trust(directory.path(), &authority);
        let mut pair = Pair::new(client, certificates.config()).in_pieces(piece).shaken();
        assert!(pair.deliver(&text) == text, "in pieces of {piece}");
    }
}

#[test]
fn an_idle_session_holds_no_piece() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let certificates = Certificates::load(server_files(directory.path(), &authority), &[]).unwrap();
    let mut pair = Pair::new(trust(directory.path(), &authority), certificates.config()).shaken();
    assert_eq!(pair.deliver(b"a row"), b"a row");
    assert!(!pair.server.holds_a_piece() && !pair.client.holds_a_piece());
}

#[test]
fn what_is_written_before_it_is_sent_stays_one_record() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let certificates = Certificates::load(server_files(directory.path(), &authority), &[]).unwrap();
    let mut pair = Pair::new(trust(directory.path(), &authority), certificates.config()).shaken();
    assert_eq!(pair.client.write(&[0; 100_000]).unwrap(), 16_384);
    assert_eq!(pair.client.write(&[0; 100_000]).unwrap(), 0, "until it is sent");
}

#[test]
fn an_end_that_was_announced_is_one_and_a_cut_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let certificates = Certificates::load(server_files(directory.path(), &authority), &[]).unwrap();
    for announced in [true, false] {
        let mut pair = Pair::new(trust(directory.path(), &authority), certificates.config()).shaken();
        pair.client.write(b"last").unwrap();
        if announced {
            pair.client.close();
        }
        let mut read = Vec::new();
        let mut end = Ok(Taken::Nothing);
        carry(&mut pair.client, &mut pair.server, usize::MAX, |server| {
            end = take(server, &mut read);
            Ok(Taken::Nothing)
        })
        .unwrap();
        if !announced {
            pair.server.receive(|_| Ok::<_, io::Error>(0)).unwrap();
            end = pair.server.read(&mut [0; 10]);
        }
        assert_eq!(read, b"last", "what came before it counts");
        match (announced, end) {
            (true, Ok(Taken::End)) => {}
            (false, Err(error)) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
            (_, other) => panic!("announced: {announced}, {other:?}"),
        }
    }
}

#[test]
fn a_byte_changed_on_the_way_ends_the_session_after_what_came_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let certificates = Certificates::load(server_files(directory.path(), &authority), &[]).unwrap();
    let mut pair = Pair::new(trust(directory.path(), &authority), certificates.config()).shaken();
    let mut ciphertext = Vec::new();
    for text in [b"good", b"evil"] {
        pair.client.write(text).unwrap();
        pair.client.send(&mut ciphertext).unwrap();
    }
    *ciphertext.last_mut().unwrap() ^= 1;
    pair.server
        .receive(|room| {
            room[..ciphertext.len()].copy_from_slice(&ciphertext);
            Ok::<_, io::Error>(ciphertext.len())
        })
        .unwrap();
    let mut buffer = [0; 100];
    assert_eq!(pair.server.read(&mut buffer).unwrap(), Taken::Bytes(4));
    assert_eq!(&buffer[..4], b"good");
    for _ in 0..2 {
        let error = pair.server.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().starts_with("TLS: "), "{error}");
    }
    assert!(pair.server.wants_send(), "the peer is told");
}

#[test]
fn a_peer_that_speaks_no_tls_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let certificates = Certificates::load(server_files(directory.path(), &authority), &[]).unwrap();
    let request = b"GET / HTTP/1.1\r\n\r\n";
    for end in 5..=request.len() {
        let mut server = Session::server(certificates.config()).unwrap();
        server
            .receive(|room| {
                room[..end].copy_from_slice(&request[..end]);
                Ok::<_, io::Error>(end)
            })
            .unwrap();
        let error = server.shake_hands().unwrap_err();
        assert_eq!(
            error.to_string(),
            "TLS: the peer does not speak TLS",
            "{end} bytes"
        );
    }
}

#[test]
fn the_server_chooses_the_first_protocol_it_prefers() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let agreed = |server: &[&str], client: &[&str]| {
        let certificates = Certificates::load(server_files(directory.path(), &authority), server).unwrap();
        let mut pair = Pair::new(client_config(&authority, None, client), certificates.config());
        pair.shake_hands()
            .map(|()| {
                pair.server
                    .alpn()
                    .map(|name| String::from_utf8_lossy(name).into_owned())
            })
            .map_err(|error| error.to_string())
    };
    let name = |name: &str| Ok(Some(name.to_owned()));
    assert_eq!(agreed(HTTP_2, &["http/1.1", "h2"]), name("h2"));
    assert_eq!(agreed(HTTP_1, &["h2", "http/1.1"]), name("http/1.1"));
    assert_eq!(
        agreed(HTTP_1, &[]),
        Ok(None),
        "a client that offers none speaks what it must"
    );
    assert_eq!(agreed(&[], &["h2"]), Ok(None));
    assert!(agreed(HTTP_1, &["h2"]).is_err(), "nothing in common");
}

#[test]
fn a_client_is_refused_without_a_certificate_of_the_authority_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients, strangers) = (
        Authority::new("us"),
        Authority::new("clients"),
        Authority::new("others"),
    );
    let files = ServerFiles {
        client_ca: Some(clients.write(&directory.path().join("clients.pem"))),
        ..server_files(directory.path(), &authority)
    };
    let certificates = Certificates::load(files, &[]).unwrap();
    let shake = |identity: Option<Identity>| {
        let client = client_config(&authority, identity.as_ref(), &[]);
        let result = Pair::new(client, certificates.config()).shake_hands();
        result.map_err(|error| error.to_string())
    };
    assert_eq!(shake(Some(clients.issue("shipper"))), Ok(()));
    let refused = shake(None).unwrap_err();
    assert!(refused.contains("shown no certificate"), "{refused}");
    let refused = shake(Some(strangers.issue("shipper"))).unwrap_err();
    assert!(refused.contains("none of the authorities"), "{refused}");
}

#[test]
fn a_server_is_refused_that_nobody_known_vouches_for_or_that_has_another_name() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("us"), Authority::new("others"));
    let certificates = Certificates::load(server_files(directory.path(), &authority), &[]).unwrap();
    let shake = |client: Arc<ClientConfig>, name: &str| {
        let mut pair = Pair::new(Arc::clone(&client), certificates.config());
        pair.client = Session::client(client, server_name(name).unwrap()).unwrap();
        pair.shake_hands().map_err(|error| error.to_string())
    };
    assert_eq!(shake(trust(directory.path(), &authority), "localhost"), Ok(()));
    let refused = shake(trust(directory.path(), &other), "localhost").unwrap_err();
    assert!(refused.contains("none of the authorities"), "{refused}");
    let refused = shake(trust(directory.path(), &authority), "db1").unwrap_err();
    assert!(refused.contains("another name"), "{refused}");
}

#[test]
fn a_client_that_comes_back_resumes_its_session_until_the_certificates_change() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let files = server_files(directory.path(), &authority);
    let certificates = Certificates::load(files.clone(), &[]).unwrap();
    let client = trust(directory.path(), &authority);
    let visit = || {
        let mut pair = Pair::new(Arc::clone(&client), certificates.config()).shaken();
        pair.deliver(b"x");
        // The ticket comes after the handshake.
        carry(&mut pair.server, &mut pair.client, usize::MAX, |client| {
            take(client, &mut Vec::new())
        })
        .unwrap();
        pair.server.handshake_kind().unwrap()
    };
    assert_eq!(visit(), HandshakeKind::Full);
    assert_eq!(visit(), HandshakeKind::Resumed);
    assert!(matches!(certificates.reload(true), Reload::Reloaded));
    assert_eq!(visit(), HandshakeKind::Full);
}

#[test]
fn new_connections_see_new_certificates_and_broken_ones_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let files = server_files(directory.path(), &before);
    let certificates = Certificates::load(files.clone(), &[]).unwrap();
    let accepts = |authority: &Authority| {
        let client = client_config(authority, None, &[]);
        Pair::new(client, certificates.config()).shake_hands().is_ok()
    };
    let mut old = Pair::new(client_config(&before, None, &[]), certificates.config()).shaken();
    assert!(matches!(certificates.reload(false), Reload::Unchanged));

    fs::write(&files.certificate, "half a renewal").unwrap();
    let Reload::Kept(error) = certificates.reload(false) else {
        panic!("it was changed");
    };
    let named = files.certificate.display().to_string();
    assert!(error.to_string().contains(&named), "{error}");
    assert!(
        matches!(certificates.reload(false), Reload::Unchanged),
        "said once"
    );
    assert!(accepts(&before));

    after.issue("localhost").write(directory.path(), "server");
    assert!(matches!(certificates.reload(false), Reload::Reloaded));
    assert!(accepts(&after) && !accepts(&before));
    assert_eq!(old.deliver(b"goes on"), b"goes on");
}

#[test]
fn a_client_shows_its_certificate_and_later_the_renewed_one() {
    let directory = tempfile::tempdir().unwrap();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let files = ServerFiles {
        client_ca: Some(clients.write(&directory.path().join("clients.pem"))),
        ..server_files(directory.path(), &servers)
    };
    let server = Certificates::load(files, &[]).unwrap().config();
    let write = |authority: &Authority| authority.issue("us").write(directory.path(), "us");
    let (certificate, key) = write(&clients);
    let trust = Trust::new(ClientFiles {
        ca: Some(servers.write(&directory.path().join("ca.pem"))),
        identity: Some(super::Identity {
            certificate: certificate.clone(),
            key,
        }),
    });
    let shown = || {
        let mut pair = Pair::new(trust.config().unwrap(), Arc::clone(&server));
        pair.shake_hands().unwrap();
        pair.server.peer_certificate().unwrap().to_vec()
    };
    let first = shown();
    assert_eq!(first, shown(), "a session that was resumed is the same client's");
    write(&clients);
    let renewed = shown();
    assert_ne!(first, renewed);
    // Half of a renewal: the key is another's.
    let (other, _) = clients.issue("other").write(directory.path(), "other");
    fs::rename(other, certificate).unwrap();
    assert_eq!(renewed, shown(), "what can be used stays in use");
}

#[test]
fn the_authorities_of_a_file_follow_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let trust = Trust::file(&path);
    assert!(matches!(trust.config(), Err(TlsError::Read { .. })));
    Authority::new("a").write(&path);
    let first = trust.config().unwrap();
    assert!(Arc::ptr_eq(&first, &trust.config().unwrap()), "read once");
    fs::write(&path, "").unwrap();
    assert!(
        Arc::ptr_eq(&first, &trust.config().unwrap()),
        "nothing better is there"
    );
    Authority::new("b").write(&path);
    assert!(!Arc::ptr_eq(&first, &trust.config().unwrap()));
}

#[test]
fn each_mistake_with_the_files_is_told_by_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let good = server_files(directory.path(), &authority);
    let put = |name: &str, text: &str| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let older =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMAA=\n-----END RSA PRIVATE KEY-----\n";
    let with_certificate = |certificate: PathBuf| ServerFiles {
        certificate,
        ..good.clone()
    };
    let with_key = |key: PathBuf| ServerFiles { key, ..good.clone() };
    let with_client_ca = |path: PathBuf| ServerFiles {
        client_ca: Some(path),
        ..good.clone()
    };
    let missing = directory.path().join("missing");
    let key = fs::read_to_string(&good.key).unwrap();
    let cases = [
        (with_certificate(missing.clone()), "cannot read", "missing"),
        (
            with_certificate(put("empty", "")),
            "holds no certificate",
            "empty",
        ),
        (with_certificate(put("key", &key)), "holds no certificate", "key"),
        (
            with_certificate(put("torn", "-----BEGIN CERTIFICATE-----\nMAA=\n")),
            "is no PEM file",
            "torn",
        ),
        (
            with_certificate(put(
                "noise",
                "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            )),
            "cannot be used",
            "noise",
        ),
        (
            with_certificate(put("huge", &"x".repeat(2 << 20))),
            "is larger than",
            "huge",
        ),
        (with_key(missing.clone()), "cannot read", "missing"),
        (
            with_key(good.certificate.clone()),
            "holds no private key",
            "server.pem",
        ),
        (with_key(put("locked", encrypted)), "is encrypted", "locked"),
        (with_key(put("older", older)), "is encrypted", "older"),
        (
            with_key(put("another", &authority.issue("localhost").key)),
            "does not belong to the first certificate",
            "another",
        ),
        (with_client_ca(missing), "cannot read", "missing"),
        (with_client_ca(put("none", "")), "holds no certificate", "none"),
    ];
    for (files, sentence, file) in cases {
        let error = Certificates::load(files, &[]).err().expect(sentence).to_string();
        assert!(error.contains(sentence) && error.contains(file), "{error}");
    }
}

#[test]
fn names_that_no_certificate_can_be_for_are_refused() {
    for name in ["localhost", "db-1.example.org", "127.0.0.1", "::1", "a_b"] {
        server_name(name).unwrap_or_else(|error| panic!("{error}"));
    }
    for name in ["", "a b", "-", "a..b"] {
        assert!(
            matches!(server_name(name), Err(TlsError::ServerName(_))),
            "{name}"
        );
    }
}

#[test]
fn a_socket_that_takes_a_byte_at_a_time_gets_all_of_them() {
    struct Narrow(Vec<u8>, bool);
    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.push(bytes[0]);
            Ok(1)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("us");
    let mut client = Session::client(
        trust(directory.path(), &authority),
        server_name("localhost").unwrap(),
    )
    .unwrap();
    let mut socket = Narrow(Vec::new(), false);
    while client.wants_send() {
        match client.send(&mut socket) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    let certificates = Certificates::load(server_files(directory.path(), &authority), &[]).unwrap();
    let mut server = Session::server(certificates.config()).unwrap();
    server
        .receive(|room| {
            room[..socket.0.len()].copy_from_slice(&socket.0);
            Ok::<_, io::Error>(socket.0.len())
        })
        .unwrap();
    server.shake_hands().unwrap();
    assert!(server.wants_send(), "it has understood and answers");
}
