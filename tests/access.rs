//! Who may send, against the real server: keys in every form, scopes, quotas, allow-lists, the PROXY protocol, admin keys.

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::client::{Client, header, post, post_chunked};
use common::keys::{add_key, replace};
use common::{BINARY, PATIENCE, Reply, Server, eventually, http};
use rustix::process::Signal;
use serde_json::Value;

const ROW: &[u8] = br#"{"message":"x"}"#;

/// A key file, and a configuration that may name it.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        Files {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn keys(&self) -> PathBuf {
        self.directory.path().join("keys.toml")
    }

    fn keys_argument(&self) -> String {
        self.keys().display().to_string()
    }

    /// Makes a key with these lines more in its section; its token.
    fn add(&self, name: &str, lines: &str) -> String {
        add_key(&self.keys(), name, lines)
    }

    /// Writes a configuration file.
    fn config(&self, text: &str) -> String {
        let path = self.directory.path().join("ringhouse.toml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

/// A server that takes rows for its default table into its log. Nothing of this needs a ClickHouse that answers.
fn server(arguments: &[&str]) -> Server {
    let mut all = vec![
        "--clickhouse",
        "tcp://127.0.0.1:1",
        "--create-tables",
        "--ack",
        "wal",
    ];
    all.extend_from_slice(arguments);
    Server::start(&all)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn send(server: &Server, target: &str, headers: &[(&str, &str)]) -> Reply {
    http("POST", server.port, target, headers, ROW).unwrap()
}

fn send_as(server: &Server, target: &str, token: &str) -> Reply {
    send(server, target, &[("Authorization", &bearer(token))])
}

/// Asserts a refusal with a sentence that holds `part` and no token.
fn assert_refused(reply: &Reply, status: u16, part: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let sentence = body["error"].as_str().unwrap_or_else(|| panic!("{reply:?}"));
    assert!(sentence.contains(part), "{sentence:?} does not say {part:?}");
    assert!(
        !reply.body.contains("rh_") && !reply.head.contains("rh_"),
        "{reply:?}"
    );
    let challenge = header(&reply.head, "www-authenticate");
    assert_eq!(
        challenge.is_some_and(|text| text.starts_with("Bearer")),
        status == 401,
        "{reply:?}"
    );
}

/// The value of a sample of `/metrics`, all cores together.
fn metric(server: &Server, name: &str, label: &str) -> u64 {
    let page = server.admin("/metrics").unwrap().body;
    let samples = page
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    samples
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[test]
fn takes_a_token_in_every_form_counts_its_rows_and_adds_its_fields() {
    let files = Files::new();
    let token = files.add("web", "fields = { env = \"prod\", team = \"web\" }");
    let plain = files.add("plain", "");
    let config = files.config("[listener.http]\nfields = { env = \"dev\", zone = \"a\" }\n");
    let server = Server::embedded(&["--keys-file", &files.keys_argument(), "--config", &config]);
    let pair = |text: String| BASE64_STANDARD.encode(text);
    let forms = [
        ("/ingest", "Authorization", bearer(&token)),
        ("/ingest", "Authorization", format!("Splunk {token}")),
        (
            "/ingest",
            "Authorization",
            format!("Basic {}", pair(format!("any:{token}"))),
        ),
        (
            "/ingest",
            "Authorization",
            format!("ApiKey {}", pair(format!("id:{token}"))),
        ),
        ("/ingest", "Authorization", format!("ApiKey {token}")),
        ("/ingest", "Authorization", token.clone()),
        ("/ingest", "X-API-Key", token.clone()),
        ("/ingest", "Api-Key", token.clone()),
        ("/ingest", "DD-API-KEY", token.clone()),
        (&format!("/ingest?token={token}"), "X-Other", "x".to_owned()),
        (&format!("/ingest?dd-api-key={token}"), "X-Other", "x".to_owned()),
    ];
    for (target, name, value) in &forms {
        let reply = send(&server, target, &[(name, value)]);
        assert_eq!(reply.status, 200, "{target} {name}: {reply:?}");
    }
    let row = br#"{"message":"own","env":"own"}"#;
    let chunked = post_chunked("/ingest", &[("Authorization", &bearer(&plain))], row, || 5);
    let mut client = Client::connect(server.port);
    client.send(&chunked);
    assert_eq!(client.reply().status, 200);

    let count = |conditions: &str| server.sql(&format!("SELECT count() FROM otel_logs WHERE {conditions}"));
    let sent = forms.len().to_string();
    let attribute = |name: &str, value: &str| format!("LogAttributes['{name}'] = '{value}'");
    let of_key = [
        attribute("env", "prod"),
        attribute("team", "web"),
        attribute("zone", "a"),
    ]
    .join(" AND ");
    assert_eq!(
        count(&of_key),
        sent,
        "the key's fields stand above the listener's"
    );
    assert_eq!(
        count(&[attribute("env", "dev"), attribute("zone", "a")].join(" AND ")),
        "1"
    );

    let told = |name: &str, key: &str| metric(&server, name, &format!("key=\"{key}\""));
    let sent = forms.len() as u64;
    assert_eq!(told("ringhouse_key_rows_total", "web"), sent);
    assert_eq!(told("ringhouse_key_requests_total", "web"), sent);
    assert_eq!(
        told("ringhouse_key_received_bytes_total", "web"),
        sent * ROW.len() as u64
    );
    assert_eq!(told("ringhouse_key_rows_total", "plain"), 1);
    assert!(told("ringhouse_key_received_bytes_total", "plain") >= row.len() as u64);
    assert!(!server.log().contains(&token) && !server.output().contains(&token));
}

#[test]
fn refuses_who_has_no_key_for_this() {
    let files = Files::new();
    let web = files.add("web", "tables = [\"app_*\"]\ntable = \"app_web\"");
    let all = files.add("all", "");
    let pages = files.add("pages", "admin = true\ningest = false");
    let elsewhere = files.add("elsewhere", "allow = [\"10.0.0.0/8\", \"2001:db8::/32\"]");
    let here = files.add("here", "allow = [\"127.0.0.0/8\"]");
    let server = server(&["--keys-file", &files.keys_argument()]);
    assert_refused(&send(&server, "/ingest", &[]), 401, "a key is needed");
    assert_refused(&send_as(&server, "/ingest", "rh_nobody's"), 401, "no key's");
    assert_refused(
        &send(&server, "/ingest", &[("Authorization", "Basic x")]),
        401,
        "does not hold one",
    );
    let two = [("Authorization", bearer(&all)), ("X-API-Key", here.clone())];
    let two = [(two[0].0, two[0].1.as_str()), (two[1].0, two[1].1.as_str())];
    assert_refused(&send(&server, "/ingest", &two), 400, "two different tokens");
    assert_refused(&send_as(&server, "/ingest", &pages), 403, "not for sending rows");
    assert_refused(
        &send_as(&server, "/ingest", &elsewhere),
        403,
        "not taken from this address",
    );
    assert_eq!(send_as(&server, "/ingest", &here).status, 200);
    assert_eq!(send_as(&server, "/ingest", &all).status, 200);
    // What is not reached is not told about: the default table exists, the other does not.
    for target in [
        "/ingest/otel_logs",
        "/ingest/no_such_table",
        "/ingest/other.app_x",
    ] {
        assert_refused(&send_as(&server, target, &web), 403, "does not reach this table");
    }
    // Those that are reached are not known to a ClickHouse that does not answer.
    assert_refused(&send_as(&server, "/ingest/app_x", &web), 503, "not known yet");
    assert_refused(&send_as(&server, "/ingest", &web), 503, "not known yet");
    assert_refused(&send(&server, "/no/such/path", &[]), 401, "a key is needed");
    assert_refused(&send_as(&server, "/no/such/path", &all), 404, "nothing is here");

    let reply = send(&server, "/v1/logs", &[("Content-Type", "application/json")]);
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(
        (reply.status, &body["code"]),
        (401, &Value::from(16)),
        "as its dialect puts it"
    );

    for (reason, count) in [
        ("missing", 3),
        ("unknown", 1),
        ("malformed", 1),
        ("ambiguous", 1),
        ("not_ingest", 1),
    ] {
        let told = metric(
            &server,
            "ringhouse_access_refused_total",
            &format!("reason=\"{reason}\""),
        );
        assert_eq!(told, count, "{reason}");
    }
}

#[test]
fn probes_need_a_key_where_they_need_one_of_the_servers_they_are_meant_for() {
    let files = Files::new();
    let web = files.add("web", "");
    let config = files.config("[listener.inside]\naddress = '127.0.0.1:0'\nallow = ['10.0.0.0/8']\n");
    let server = server(&["--keys-file", &files.keys_argument(), "--config", &config]);
    let ask =
        |port: u16, target: &str, headers: &[(&str, &str)]| http("GET", port, target, headers, b"").unwrap();
    let told_to_all = [
        "/ready",
        "/services/collector/health",
        "/services/collector/health/1.0",
    ];
    for target in told_to_all {
        assert_eq!(ask(server.port, target, &[]).status, 200, "{target}");
        let wrong = ask(server.port, target, &[("Authorization", "Bearer rh_wrong")]);
        assert_eq!(wrong.status, 200, "{target}");
        assert_eq!(ask(server.port_of("inside"), target, &[]).status, 403, "{target}");
    }
    for (target, status) in [
        ("/", 401),
        ("/_cluster/health", 401),
        ("/elasticsearch/_license", 401),
        ("/api/v1/validate", 403),
    ] {
        let reply = ask(server.port, target, &[]);
        assert_eq!(reply.status, status, "{target}");
        let challenge = header(&reply.head, "www-authenticate").unwrap_or_default();
        assert_eq!(challenge.contains("Basic"), status == 401, "{reply:?}");
        let reply = ask(server.port, target, &[("DD-API-KEY", &web)]);
        assert_eq!(reply.status, 200, "{target}");
    }
    // Kubernetes asks for the health of gRPC without metadata; what else there is, is for those with a key.
    let call = |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", server.port);
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--include",
            "--http2-prior-knowledge",
            "--max-time",
            "60",
        ]);
        curl.args([
            "--header",
            "Content-Type: application/grpc",
            "--header",
            "TE: trailers",
        ]);
        let mut curl = curl
            .args(["--data-binary", "@-", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A message of no bytes, not compressed.
        curl.stdin.take().unwrap().write_all(&[0; 5]).unwrap();
        String::from_utf8_lossy(&curl.wait_with_output().unwrap().stdout).into_owned()
    };
    let health = call("/grpc.health.v1.Health/Check");
    assert!(health.contains("grpc-status: 0"), "{health}");
    let logs = call("/opentelemetry.proto.collector.logs.v1.LogsService/Export");
    assert!(logs.contains("grpc-status: 16"), "{logs}");
}

#[test]
fn answers_before_the_body_is_sent() {
    let files = Files::new();
    let token = files.add("small", "bytes_per_second = 10");
    let server = server(&["--keys-file", &files.keys_argument()]);
    let head =
        |more: &str| format!("POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n{more}\r\n");
    let mut client = Client::connect(server.port);
    client.send(head("").as_bytes());
    assert_refused(&client.reply(), 401, "a key is needed");
    let mut client = Client::connect(server.port);
    client.send(head("Expect: 100-continue\r\n").as_bytes());
    let reply = client.reply();
    assert_refused(&reply, 401, "a key is needed");
    assert!(
        reply.head.starts_with("HTTP/1.1 401"),
        "no leave to send was given: {}",
        reply.head
    );

    // More than the quota holds passes once, and is owed.
    let authorized = [("Authorization", bearer(&token))];
    let authorized = [(authorized[0].0, authorized[0].1.as_str())];
    let long = format!("{{\"message\":\"{}\"}}", "x".repeat(5_000));
    let reply = http("POST", server.port, "/ingest", &authorized, long.as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut client = Client::connect(server.port);
    client.send(head(&format!("Authorization: {}\r\n", bearer(&token))).as_bytes());
    let reply = client.reply();
    assert_refused(&reply, 429, "quota of 10 bytes in 1 s");
    let wait_s: u64 = header(&reply.head, "retry-after").unwrap().parse().unwrap();
    assert!((400..=502).contains(&wait_s), "{wait_s}");
    let policy = "\"bytes\";q=10;w=1;qu=\"content-bytes\"";
    assert_eq!(header(&reply.head, "ratelimit-policy"), Some(policy));
    assert_eq!(
        header(&reply.head, "ratelimit"),
        Some(format!("\"bytes\";r=0;t={wait_s}").as_str())
    );
}

#[test]
fn a_body_of_unknown_length_is_taken_and_owed() {
    let files = Files::new();
    let token = files.add("small", "bytes_per_second = 10");
    let server = server(&["--keys-file", &files.keys_argument()]);
    let value = bearer(&token);
    let long = format!("{{\"message\":\"{}\"}}", "x".repeat(5_000));
    let mut client = Client::connect(server.port);
    client.send(&post_chunked(
        "/ingest",
        &[("Authorization", &value)],
        long.as_bytes(),
        || 1_000,
    ));
    assert_eq!(client.reply().status, 200);
    client.send(&post("/ingest", &[("Authorization", &value)], ROW));
    let reply = client.reply();
    assert_refused(&reply, 429, "quota of 10 bytes");
    let wait_s: u64 = header(&reply.head, "retry-after").unwrap().parse().unwrap();
    assert!((400..=510).contains(&wait_s), "{wait_s}");
}

#[test]
fn a_key_that_is_over_its_quota_waits_and_no_other_does() {
    let files = Files::new();
    let slow = files.add("slow", "requests_per_second = 1\nrequests_burst = 3");
    let fast = files.add("fast", "");
    let server = server(&["--keys-file", &files.keys_argument()]);
    let started = Instant::now();
    let replies: Vec<Reply> = (0..8).map(|_| send_as(&server, "/ingest", &slow)).collect();
    let taken = replies.iter().filter(|reply| reply.status == 200).count() as u64;
    // Connections go to any core: they draw from one bucket.
    let came_s = started.elapsed().as_secs() + 1;
    assert!((3..=3 + came_s).contains(&taken), "{taken} in {came_s} s");
    let refused = replies.iter().find(|reply| reply.status == 429);
    if came_s < 5 {
        let refused = refused.expect("eight are more than came in that time");
        assert_refused(refused, 429, "quota of 3 requests in 3 s");
        assert_eq!(header(&refused.head, "retry-after"), Some("1"));
        assert_eq!(
            header(&refused.head, "ratelimit-policy"),
            Some("\"requests\";q=3;w=3")
        );
        assert_eq!(header(&refused.head, "ratelimit"), Some("\"requests\";r=0;t=1"));
    }
    assert_eq!(send_as(&server, "/ingest", &fast).status, 200);
    eventually("the quota's recovery", || {
        (send_as(&server, "/ingest", &slow).status == 200).then_some(())
    });
}

#[test]
fn senders_who_choose_the_same_idempotency_key_know_nothing_of_each_other() {
    let files = Files::new();
    let (one, other) = (files.add("one", ""), files.add("other", ""));
    let server = server(&["--keys-file", &files.keys_argument()]);
    let send = |token: &str, rows: usize| {
        let authorization = bearer(token);
        let headers = [
            ("Authorization", &*authorization),
            ("Idempotency-Key", "the-same"),
        ];
        let lines: Vec<_> = std::iter::repeat_n(ROW, rows).collect();
        http("POST", server.port, "/ingest", &headers, &lines.join(&b'\n')).unwrap()
    };
    for (token, rows, expected, is_replayed) in
        [(&one, 1, 1, false), (&other, 2, 2, false), (&one, 7, 1, true)]
    {
        let reply = send(token, rows);
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert!(
            reply.body.starts_with(&format!("{{\"accepted\":{expected},")),
            "{}",
            reply.body
        );
        assert_eq!(header(&reply.head, "Idempotent-Replayed").is_some(), is_replayed);
    }
    for (name, rows) in [("one", 1), ("other", 2)] {
        let counted = || metric(&server, "ringhouse_key_rows_total", &format!("key=\"{name}\""));
        eventually("its rows to be counted", || (counted() == rows).then_some(()));
    }
}

#[test]
fn keys_are_replaced_without_a_restart() {
    let files = Files::new();
    let old = files.add("web", "");
    let server = server(&["--keys-file", &files.keys_argument()]);
    // A connection that stays open all the while.
    let mut client = Client::connect(server.port);
    let mut ask = |token: &str| {
        client.send(&post("/ingest", &[("Authorization", &bearer(token))], ROW));
        client.reply().status
    };
    assert_eq!(ask(&old), 200);
    let good = fs::read_to_string(files.keys()).unwrap();
    replace(&files.keys(), "[[key]]\nname = \"web\"\nhsah = \"\"\n");
    eventually("the complaint", || {
        server.log().contains("did you mean `hash`?").then_some(())
    });
    assert_eq!(ask(&old), 200, "a broken file changes nothing");

    replace(&files.keys(), &good);
    let new = files.add("other", "");
    eventually("the new key", || (ask(&new) == 200).then_some(()));
    fs::remove_file(files.keys()).unwrap();
    let new = files.add("web", "");
    server.signal(Signal::HUP);
    eventually("the third file", || (ask(&new) == 200).then_some(()));
    assert_eq!(ask(&old), 401);
    let told = server.log();
    assert!(!told.contains(&old) && !told.contains(&new));
}

#[test]
fn a_listener_may_ask_for_no_key_or_for_an_address() {
    let files = Files::new();
    let token = files.add("web", "");
    let (open, closed) = (common::free_port(), common::free_port());
    let config = files.config(&format!(
        "[listener.open]\naddress = \"127.0.0.1:{open}\"\nrequire_key = false\n\
         [listener.closed]\naddress = \"127.0.0.1:{closed}\"\nrequire_key = false\nallow = [\"10.0.0.0/8\"]\n"
    ));
    let server = server(&["--keys-file", &files.keys_argument(), "--config", &config]);
    let at = |port, headers: &[(&str, &str)]| http("POST", port, "/ingest", headers, ROW).unwrap();
    assert_eq!(at(server.port, &[]).status, 401);
    assert_eq!(at(open, &[]).status, 200);
    assert_eq!(
        at(open, &[("Authorization", "Basic nonsense")]).status,
        200,
        "tokens are not looked at"
    );
    assert_refused(
        &at(closed, &[("Authorization", &bearer(&token))]),
        403,
        "not taken from this address",
    );
}

/// Sends bytes on a connection of their own; the reply, or `None` when the connection ends without one.
fn over(port: u16, pieces: &[&[u8]]) -> Option<Reply> {
    let mut client = Client::connect(port);
    for piece in pieces {
        client.send(piece);
        // Pieces, so that the server sees the header arrive bit by bit; what it makes of that does not depend on the pause.
        thread::sleep(Duration::from_millis(1));
    }
    client.try_reply().ok()
}

#[test]
fn the_proxy_protocol_says_who_sends_and_is_read_nowhere_else() {
    let files = Files::new();
    let port = common::free_port();
    let config = files.config(&format!(
        "[listener.proxied]\naddress = \"127.0.0.1:{port}\"\nproxy_protocol = true\nallow = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n"
    ));
    let server = server(&["--config", &config]);
    let request = post("/ingest", &[], ROW);
    let v2 = |family: u8, addresses: &[u8]| {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family], &length, addresses].concat()
    };
    let inside = v2(0x11, &[192, 0, 2, 9, 127, 0, 0, 1, 0, 1, 0, 80]);
    let outside = v2(0x11, &[198, 51, 100, 9, 127, 0, 0, 1, 0, 1, 0, 80]);
    let inside_6 = v2(
        0x21,
        &[
            &[0x20, 0x01, 0x0d, 0xb8][..],
            &[0; 12],
            &[0; 16],
            &[0, 1, 0, 80],
            b"\x04\0\x01x",
        ]
        .concat(),
    );
    let text: &[u8] = b"PROXY TCP4 192.0.2.9 127.0.0.1 1 80\r\n";
    for header in [text, b"PROXY TCP6 2001:db8::1 ::1 1 80\r\n", &inside, &inside_6] {
        let whole = [header, &request].concat();
        let bytes: Vec<&[u8]> = header.chunks(1).chain([&request[..]]).collect();
        for pieces in [vec![&whole[..]], bytes] {
            let reply = over(port, &pieces).unwrap_or_else(|| panic!("{header:?}"));
            assert_eq!(reply.status, 200, "{header:?}");
        }
    }
    for header in [
        &b"PROXY TCP4 198.51.100.9 127.0.0.1 1 80\r\n"[..],
        b"PROXY UNKNOWN\r\n",
        &outside,
        &v2(0x00, b""),
    ] {
        let reply = over(port, &[&[header, &request].concat()]).unwrap_or_else(|| panic!("{header:?}"));
        assert_refused(&reply, 403, "not taken from this address");
    }
    // The proxy's own health check comes from the proxy.
    let local = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], &request].concat();
    assert_refused(
        &over(port, &[&local]).unwrap(),
        403,
        "not taken from this address",
    );
    let refused_before = metric(&server, "ringhouse_proxy_headers_refused_total", "core");
    for wrong in [
        &request[..],
        b"PROXY TCP4 192.0.2.9 127.0.0.1 1\r\n",
        b"PROXY TCP4 192.0.2.9 127.0.0.1 +1 80\r\n",
    ] {
        assert!(
            over(port, &[wrong]).is_none(),
            "{}",
            String::from_utf8_lossy(wrong)
        );
    }
    assert_eq!(refused_before, 0);
    eventually("the count", || {
        (metric(&server, "ringhouse_proxy_headers_refused_total", "core") == 3).then_some(())
    });
    // Two requests follow one header, and elsewhere it is no request.
    let mut client = Client::connect(port);
    client.send(&[text, &request, &request].concat());
    assert_eq!((client.reply().status, client.reply().status), (200, 200));
    assert_eq!(
        over(server.port, &[&[text, &request].concat()]).unwrap().status,
        400
    );
}

#[test]
fn the_admin_pages_off_loopback_need_an_admin_key() {
    let files = Files::new();
    let web = files.add("web", "");
    let ops = files.add("ops", "admin = true\ningest = false");
    // Whoever is asked to listen on every address listens on loopback too: nothing of this leaves the host.
    let server = server(&["--keys-file", &files.keys_argument(), "--admin", "0.0.0.0:0"]);
    let ask = |target: &str, headers: &[(&str, &str)]| {
        http("GET", server.admin_port, target, headers, b"").unwrap()
    };
    for page in ["/status", "/metrics", "/histograms", "/nothing"] {
        assert_refused(&ask(page, &[]), 401, "a key is needed");
        assert_refused(&ask(page, &[("X-API-Key", "rh_nobody's")]), 401, "no key's");
        assert_refused(&ask(page, &[("X-API-Key", &web)]), 403, "not for the admin pages");
    }
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("me:{ops}")));
    let page = ask("/status", &[("Authorization", &basic)]);
    assert_eq!(page.status, 200);
    assert!(page.body.contains("\"uptime_s\""));
    assert_eq!(ask(&format!("/metrics?token={ops}"), &[]).status, 200);
    let histograms = |token: &str| {
        Command::new(BINARY)
            .args([
                "histograms",
                "--admin",
                &format!("127.0.0.1:{}", server.admin_port),
            ])
            .env("RINGHOUSE_TOKEN", token)
            .output()
            .unwrap()
    };
    assert!(histograms(&ops).status.success());
    let refused = histograms(&web);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && told.contains("not for the admin pages"),
        "{told}"
    );
    let told = String::from_utf8(histograms("a b").stderr).unwrap();
    assert!(told.contains("RINGHOUSE_TOKEN holds no token"), "{told}");
    let alive = ask("/livez", &[]);
    assert_eq!((alive.status, alive.body.as_str()), (200, ""), "the status alone");
    assert!(ask("/livez", &[("X-API-Key", &ops)]).body.contains("alive"));
    let ready = ask("/readyz", &[]);
    assert_eq!(
        (ready.status, ready.body.as_str()),
        (200, ""),
        "rows are taken into the log"
    );
    assert!(ask("/readyz", &[("X-API-Key", &ops)]).body.contains("ready"));
    let metrics = ask("/metrics", &[("X-API-Key", &ops)]).body;
    let refused = "ringhouse_access_refused_total{core=\"admin\",reason=\"not_admin\"} 5";
    assert!(metrics.contains(refused), "{metrics}");
}

#[test]
fn does_not_start_with_admin_pages_for_everybody_or_without_its_keys() {
    let files = Files::new();
    files.add("web", "");
    let keys = files.keys_argument();
    let directory = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let mut child = Command::new(BINARY)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--clickhouse",
                "tcp://127.0.0.1:1",
                "--data-dir",
            ])
            .arg(directory.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("{arguments:?} started");
            }
            thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for arguments in [
        &["--admin", "0.0.0.0:0"][..],
        &["--admin", "[::]:0", "--keys-file", &keys],
        &["--admin", "127.0.0.1:0", "--admin-require-key"],
    ] {
        let told = refused(arguments);
        assert!(
            told.contains("no key opens them") && told.contains("keys new"),
            "{told}"
        );
    }
    let checked = Command::new(BINARY)
        .args([
            "check",
            "--clickhouse",
            "tcp://127.0.0.1:1",
            "--admin",
            "0.0.0.0:1",
        ])
        .output()
        .unwrap();
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(
        !checked.status.success() && told.contains("no key opens them"),
        "{told}"
    );
    let told = refused(&["--admin", "127.0.0.1:0", "--keys-file", "/nonexistent/keys.toml"]);
    assert!(told.contains("/nonexistent/keys.toml"), "{told}");
    let server = server(&[
        "--admin",
        "0.0.0.0:0",
        "--admin-require-key=false",
        "--listen",
        "0.0.0.0:0",
    ]);
    assert_eq!(server.admin("/status").unwrap().status, 200);
    assert_eq!(send(&server, "/ingest", &[]).status, 200);
    assert!(server.log().contains("http, admin"), "{}", server.log());
}

#[test]
fn keys_are_made_and_hashed_on_the_command_line() {
    let printed = |arguments: &[&str], input: &str| {
        use std::io::Write;
        let mut child = Command::new(BINARY)
            .arg("keys")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (ok, out, _) = printed(&["new", "--name", "web", "--tables", "app_*,db.x"], "");
    assert!(ok);
    let (token, section) = out.split_once("\n\n").unwrap();
    assert!(token.starts_with("rh_") && token.len() == 46, "{token}");
    assert!(section.contains("tables = [\"app_*\", \"db.x\"]"), "{section}");
    let (ok, hash, _) = printed(&["hash"], &format!("{token}\n"));
    assert!(
        ok && section.contains(&format!("hash = \"{}\"", hash.trim_end())),
        "{hash} {section}"
    );
    let (ok, _, told) = printed(&["hash"], "");
    assert!(!ok && told.contains("holds no token"), "{told}");
    let (ok, _, told) = printed(&["new", "--name", "a b"], "");
    assert!(!ok && told.contains("name must be"), "{told}");
}
