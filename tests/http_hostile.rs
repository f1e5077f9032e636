//! Hostile clients over real sockets: each gets one answer that helps, and no neighbour loses a row.

mod common;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Server, eventually};

/// One reply as it came over a connection that may carry several.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|header| header.0.eq_ignore_ascii_case(name))
            .map(|header| header.1.as_str())
    }

    fn accepted(&self) -> u64 {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("JSON");
        body["accepted"].as_u64().unwrap_or(0)
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Everything the server sends until it closes. A reset after an answer is a close.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return bytes,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
}

/// Splits what a server sent into its replies; interim ones (100) are dropped.
fn answers(mut bytes: &[u8], to_head: bool) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).expect("the server speaks HTTP");
        let httparse::Status::Complete(head) = parsed else {
            panic!("half a reply: {:?}", String::from_utf8_lossy(bytes));
        };
        let status = response.code.expect("complete");
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("ASCII");
        let headers: Vec<_> = response
            .headers
            .iter()
            .map(|h| (h.name.to_owned(), text(h.value)))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        bytes = &bytes[head..];
        if status == 100 {
            continue;
        }
        let length: usize = answer
            .header("content-length")
            .expect("framed")
            .parse()
            .expect("digits");
        if !to_head {
            answer.body = text(&bytes[..length]);
            bytes = &bytes[length..];
            serde_json::from_str::<serde_json::Value>(&answer.body).expect("the body is JSON");
        }
        answers.push(answer);
    }
    answers
}

/// Sends bytes as they are and returns the answers until the server closes.
fn exchange(port: u16, request: &[u8]) -> Vec<Answer> {
    let mut stream = connect(port);
    let mut sender = stream.try_clone().expect("a socket");
    thread::scope(|scope| {
        // The server may answer and close before it has read everything: the answer counts.
        scope.spawn(move || sender.write_all(request));
        answers(&read_to_end(&mut stream), request.starts_with(b"HEAD "))
    })
}

const KEPT: &str = "{\"message\":\"kept\"}";
const SMUGGLED: &str =
    "POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\n{\"message\":\"smuggled\"}";

/// A request with these header lines and this body; the connection is kept.
fn post(lines: &str, body: &str) -> String {
    format!("POST /ingest HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}")
}

fn good() -> String {
    post(&format!("Content-Length: {}\r\n", KEPT.len()), KEPT)
}

fn last() -> String {
    post(
        &format!("Connection: close\r\nContent-Length: {}\r\n", KEPT.len()),
        KEPT,
    )
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder
        .write_all(content)
        .and_then(|()| encoder.finish())
        .expect("memory does not fail")
}

/// Rows that ended up in ClickHouse with this text.
fn rows(server: &Server, text: &str) -> u64 {
    server
        .sql(&format!("SELECT count() FROM otel_logs WHERE Body = '{text}'"))
        .parse()
        .expect("a count")
}

#[test]
fn hostile_requests_are_answered_alone() {
    let server = Server::embedded(&["--create-tables", "--ack", "memory"]);
    let mut kept = 0;
    kept += refuses_heads(server.port);
    kept += refuses_bodies(server.port);
    kept += keeps_requests_apart(server.port);
    kept += reads_a_request_however_it_is_cut(server.port);
    waits_for_leave_to_send(&server);
    kept += 1;
    outlives_clients_that_vanish(&server);
    kept += 1;
    eventually("the rows that were accepted", || {
        (rows(&server, "kept") >= kept).then_some(())
    });
    assert_eq!((rows(&server, "kept"), rows(&server, "smuggled")), (kept, 0));
    let others = server.sql("SELECT count() FROM otel_logs WHERE Body NOT IN ('kept', 'before', '')");
    assert_eq!(others, "0");
}

/// Heads that must be refused; a smuggled request stands where a laxer reader would find one.
fn refuses_heads(port: u16) -> u64 {
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let cases: Vec<(&str, u16, String)> = vec![
        (
            "length twice",
            400,
            post(&format!("{length}Content-Length: 6\r\n"), ""),
        ),
        ("equal length twice", 400, post(&format!("{length}{length}"), "")),
        ("length list", 400, post("Content-Length: 5, 5\r\n", "")),
        ("signed length", 400, post("Content-Length: +5\r\n", "")),
        ("empty length", 400, post("Content-Length: \r\n", "")),
        (
            "overflowing length",
            400,
            post("Content-Length: 18446744073709551621\r\n", ""),
        ),
        (
            "length and chunks",
            400,
            post(&format!("{length}{chunked}"), "0\r\n\r\n"),
        ),
        (
            "chunks and length",
            400,
            post(&format!("{chunked}{length}"), "0\r\n\r\n"),
        ),
        (
            "chunks twice",
            400,
            post(&format!("{chunked}{chunked}"), "0\r\n\r\n"),
        ),
        ("identity", 400, post("Transfer-Encoding: identity\r\n", "")),
        (
            "chunked not last",
            400,
            post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        ),
        (
            "obfuscated chunked",
            400,
            post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ),
        (
            "unsupported coding",
            501,
            post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ),
        (
            "blank before colon",
            400,
            post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ),
        ("folded line", 400, post("X: a\r\n Content-Length: 5\r\n", "")),
        ("bare LF", 400, post("X: a\nContent-Length: 5\r\n", "")),
        ("bare CR", 400, post("X: a\rContent-Length: 5\r\n", "")),
        ("zero byte", 400, post("X: \0\r\n", "")),
        ("second Host", 400, post("Host: b\r\n", "")),
        (
            "no Host",
            400,
            "POST /ingest HTTP/1.1\r\nContent-Length: 0\r\n\r\n".into(),
        ),
        (
            "chunks in 1.0",
            400,
            format!("POST /ingest HTTP/1.0\r\n{chunked}\r\n0\r\n\r\n"),
        ),
        (
            "two blanks",
            400,
            "POST  /ingest HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        ),
        ("no version", 400, "POST /ingest\r\nHost: a\r\n\r\n".into()),
        ("HTTP/2 preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("TLS", 400, "\x16\x03\x01\x02\0\x01\0\x01".into()),
        ("unknown expectation", 417, post("Expect: money\r\n", "")),
        (
            "long URL",
            414,
            format!("POST /{} HTTP/1.1\r\n", "x".repeat(20_000)),
        ),
        (
            "long head",
            431,
            post(&format!("X: {}\r\n", "x".repeat(20_000)), ""),
        ),
        ("many headers", 431, post(&"X: y\r\n".repeat(100), "")),
        (
            "huge length",
            413,
            post("Content-Length: 1000000000000000\r\n", ""),
        ),
        (
            "unknown coding",
            415,
            post("Content-Encoding: br\r\nContent-Length: 5\r\n", ""),
        ),
        (
            "stacked coding",
            415,
            post("Content-Encoding: gzip, zstd\r\nContent-Length: 5\r\n", ""),
        ),
    ];
    let mut kept = 0;
    for (name, status, request) in cases {
        let stream = format!("{}{request}{SMUGGLED}", good());
        let answers = exchange(port, stream.as_bytes());
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [202, status], "{name}");
        kept += answers[0].accepted();
        let refusal = &answers[1];
        assert_eq!(refusal.header("connection"), Some("close"), "{name}");
        assert!(
            refusal.body.starts_with("{\"error\":\""),
            "{name}: {}",
            refusal.body
        );
        assert_eq!(
            refusal.header("accept-encoding").is_some(),
            status == 415,
            "{name}"
        );
    }
    kept
}

/// Bodies that cannot be read to their end: what was accepted before stays, nothing behind is a request.
fn refuses_bodies(port: u16) -> u64 {
    let chunked = |lines: &str, body: &[u8]| {
        [
            post(&format!("Transfer-Encoding: chunked\r\n{lines}"), "").as_bytes(),
            body,
            SMUGGLED.as_bytes(),
        ]
        .concat()
    };
    let compressed = |encoding: &str, body: &[u8]| {
        let lines = format!(
            "Content-Encoding: {encoding}\r\nContent-Length: {}\r\n",
            body.len()
        );
        [post(&lines, "").as_bytes(), body, SMUGGLED.as_bytes()].concat()
    };
    let plain =
        |body: &str| (post(&format!("Content-Length: {}\r\n", body.len()), body) + SMUGGLED).into_bytes();
    let whole = gzip(KEPT.as_bytes());
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let zstd_bomb = zstd::encode_all(&vec![b' '; 64 << 20][..], 3).expect("memory");
    let cases: Vec<(&str, u16, Vec<u8>)> = vec![
        ("no chunk size", 400, chunked("", b"\r\n")),
        ("negative chunk", 400, chunked("", b"-5\r\n")),
        ("overflowing chunk", 400, chunked("", b"10000000000000005\r\n")),
        ("LF chunk", 400, chunked("", b"5\n     \n0\n\n")),
        ("chunk too short", 400, chunked("", b"2\r\n     \r\n0\r\n\r\n")),
        (
            "endless extension",
            400,
            chunked("", &[b"5;", &[b'x'; 40_000][..]].concat()),
        ),
        (
            "endless trailer",
            400,
            chunked("", &[b"0\r\nX:", &[b'x'; 40_000][..]].concat()),
        ),
        ("not gzip", 400, compressed("gzip", KEPT.as_bytes())),
        (
            "truncated gzip",
            400,
            compressed("gzip", &whole[..whole.len() - 5]),
        ),
        (
            "bytes after gzip",
            400,
            compressed("gzip", &[&whole[..], b"garbage"].concat()),
        ),
        ("not zstd", 400, compressed("zstd", KEPT.as_bytes())),
        ("unfinished array", 400, plain("[{\"message\":\"kept\"}, ")),
        (
            "unfinished long element",
            400,
            plain(&format!("[\"{}", "x".repeat(2 << 20))),
        ),
        ("text after an array", 400, plain(&format!("[] {SMUGGLED}"))),
        ("gzip bomb", 413, compressed("gzip", &bomb)),
        ("zstd bomb", 413, compressed("zstd", &zstd_bomb)),
    ];
    let mut kept = 0;
    for (name, status, request) in cases {
        let answers = exchange(port, &request);
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [status], "{name}");
        assert_eq!(answers[0].header("connection"), Some("close"), "{name}");
        kept += answers[0].accepted();
    }
    kept
}

/// Requests that are fine, next to each other and to requests that are not for us.
fn keeps_requests_apart(port: u16) -> u64 {
    let empty = "Content-Length: 0\r\n";
    let body = |text: &str| post(&format!("Content-Length: {}\r\n", text.len()), text);
    let chunks = format!("{:x};x=y\r\n{KEPT}\r\n0\r\nX-Trailer: 1\r\n\r\n", KEPT.len());
    let other = |line: &str| {
        format!(
            "{line} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{KEPT}",
            KEPT.len()
        )
    };
    let cases: Vec<(&str, u16, String)> = vec![
        ("plain", 202, good()),
        ("empty lines before", 202, format!("\r\n\r\n{}", good())),
        ("chunks", 202, post("Transfer-Encoding: chunked\r\n", &chunks)),
        (
            "absolute target",
            202,
            good().replacen("/ingest", "http://a/ingest", 1),
        ),
        ("blank tail", 202, body(&format!("{KEPT}\n \r\n\t\n\n"))),
        ("array with tail", 202, body(&format!(" [ {KEPT} ] \n\n"))),
        ("row too long at the end", 413, body(&"x".repeat(2 << 20))),
        (
            "element too long",
            413,
            body(&format!("[\"{}\"]\n", "x".repeat(2 << 20))),
        ),
        ("empty array", 400, body(" [ ] \n")),
        ("blank body", 400, body(" \n\r\n ")),
        ("no body", 400, post(empty, "")),
        ("no row", 400, body("no JSON")),
        ("unknown path", 404, other("POST /metrics")),
        ("unknown table", 404, other("POST /ingest/nowhere.nothing")),
        ("broken escape", 400, other("POST /ingest/%zz")),
        ("other method", 405, other("PUT /ingest")),
        ("unknown method", 405, other("BREW /ingest")),
        ("unknown ack", 400, other("POST /ingest?ack=perhaps")),
    ];
    let mut kept = 0;
    for (name, status, request) in &cases {
        let answers = exchange(port, format!("{request}{}", last()).as_bytes());
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [*status, 202], "{name}");
        assert_eq!(
            answers[0].header("allow"),
            (*status == 405).then_some("POST"),
            "{name}"
        );
        kept += answers.iter().map(Answer::accepted).sum::<u64>();
    }
    // All of them down one connection at once, in order.
    let stream: String = cases
        .iter()
        .map(|case| case.2.as_str())
        .collect::<String>()
        .repeat(20)
        + &last();
    let answers = exchange(port, stream.as_bytes());
    let expected: Vec<_> = (0..20)
        .flat_map(|_| cases.iter().map(|case| case.1))
        .chain([202])
        .collect();
    assert_eq!(
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>(),
        expected
    );
    kept += answers.iter().map(Answer::accepted).sum::<u64>();
    // Methods whose body cannot be skipped end the connection, and say so.
    for request in [
        "PUT /ingest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HEAD /ingest HTTP/1.0\r\n\r\n",
    ] {
        let answers = exchange(port, request.as_bytes());
        assert_eq!(answers.len(), 1, "{request:?}");
        assert_eq!(answers[0].header("connection"), Some("close"), "{request:?}");
    }
    kept
}

/// One stream of three requests, cut into two at every byte and into single bytes.
fn reads_a_request_however_it_is_cut(port: u16) -> u64 {
    let chunked = post(
        "Transfer-Encoding: chunked\r\n",
        &format!("{:x}\r\n{KEPT}\r\n0\r\n\r\n", KEPT.len()),
    );
    let stream = [good(), chunked, last()].concat();
    let ask = |pieces: &[&str]| {
        let mut connection = connect(port);
        for piece in pieces {
            connection.write_all(piece.as_bytes()).expect("the server reads");
            // Long enough for the server to see the piece alone, most of the time.
            thread::sleep(Duration::from_millis(1));
        }
        let answers = answers(&read_to_end(&mut connection), false);
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [202, 202, 202], "{pieces:?}");
        answers.iter().map(Answer::accepted).sum::<u64>()
    };
    let mut kept = 0;
    for cut in 0..=stream.len() {
        kept += ask(&[&stream[..cut], &stream[cut..]]);
    }
    let single: Vec<_> = (0..stream.len()).map(|at| &stream[at..=at]).collect();
    kept + ask(&single)
}

fn waits_for_leave_to_send(server: &Server) {
    let mut connection = connect(server.port);
    let head = post(
        &format!(
            "Connection: close\r\nExpect: 100-continue\r\nContent-Length: {}\r\n",
            KEPT.len()
        ),
        "",
    );
    connection.write_all(head.as_bytes()).expect("the server reads");
    let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut leave = [0; 25];
    connection.read_exact(&mut leave).expect("leave to send");
    assert_eq!(&leave, expected);
    connection.write_all(KEPT.as_bytes()).expect("the server reads");
    let answers = answers(&read_to_end(&mut connection), false);
    assert_eq!((answers[0].status, answers[0].accepted()), (202, 1));
    // A body that is not wanted is refused before it is sent.
    let refused = exchange(
        server.port,
        b"POST /nowhere HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n",
    );
    assert_eq!(
        (refused[0].status, refused[0].header("connection")),
        (404, Some("close"))
    );
}

fn outlives_clients_that_vanish(server: &Server) {
    let half = post(
        "Content-Length: 1000\r\n",
        "{\"message\":\"before\"}\n{\"message\":\"half",
    );
    for end in [30, 60, half.len()] {
        let mut connection = connect(server.port);
        connection
            .write_all(&half.as_bytes()[..end])
            .expect("the server reads");
        if end == 60 {
            connection.shutdown(Shutdown::Write).expect("connected");
            assert!(
                read_to_end(&mut connection).is_empty(),
                "nobody is left to answer"
            );
        }
    }
    assert_eq!(exchange(server.port, last().as_bytes())[0].status, 202);
}

#[test]
fn slow_clients_are_given_up() {
    let server = Server::embedded(&[
        "--create-tables",
        "--ack",
        "memory",
        "--limit",
        "head_deadline_ms=500",
        "--limit",
        "body_deadline_ms=500",
        "--limit",
        "idle_deadline_ms=500",
        "--limit",
        "reply_deadline_ms=1000",
    ]);
    // Silence before, between and after requests is no fault: the connection just ends.
    assert!(read_to_end(&mut connect(server.port)).is_empty());
    let mut connection = connect(server.port);
    connection.write_all(good().as_bytes()).expect("the server reads");
    let answers_then_silence = answers(&read_to_end(&mut connection), false);
    assert_eq!(
        answers_then_silence
            .iter()
            .map(|answer| answer.status)
            .collect::<Vec<_>>(),
        [202]
    );

    let half_head = "POST /ingest HTTP/1.1\r\nHost: a\r\nX-Slow: ";
    let half_body = post("Content-Length: 1000\r\n", "{\"mess");
    for request in [half_head, &half_body] {
        let mut connection = connect(server.port);
        connection
            .write_all(request.as_bytes())
            .expect("the server reads");
        let answers = answers(&read_to_end(&mut connection), false);
        assert_eq!(
            answers.iter().map(|answer| answer.status).collect::<Vec<_>>(),
            [408],
            "{request:?}"
        );
        assert_eq!(answers[0].header("connection"), Some("close"));
    }

    // A byte now and then is as slow as none.
    for request in [half_head, &half_body] {
        let mut connection = connect(server.port);
        connection
            .write_all(request.as_bytes())
            .expect("the server reads");
        let mut trickle = connection.try_clone().expect("a socket");
        let sender = thread::spawn(move || {
            let started = Instant::now();
            while started.elapsed() < PATIENCE && trickle.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let answers = answers(&read_to_end(&mut connection), false);
        drop(connection);
        sender.join().expect("the sender only writes");
        assert_eq!(answers[0].status, 408, "{request:?}");
    }

    // Requests without end from one who does not read the replies: the server hangs up on him.
    let mut connection = connect(server.port);
    let batch = good().repeat(1000);
    let error = loop {
        if let Err(error) = connection.write_all(batch.as_bytes()) {
            break error;
        }
    };
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
        "{error}: the server must close, not keep us waiting"
    );
    assert_eq!(
        exchange(server.port, last().as_bytes())[0].status,
        202,
        "others are served"
    );
}

#[test]
fn one_connection_too_many_is_told_so() {
    let server = Server::embedded(&[
        "--create-tables",
        "--ack",
        "memory",
        "--ingest-cores",
        "1",
        "--limit",
        "connections_per_core=4",
    ]);
    let hold = || {
        let mut connection = connect(server.port);
        connection.write_all(good().as_bytes()).expect("the server reads");
        let mut status = [0; 12];
        connection.read_exact(&mut status).map(|()| (connection, status))
    };
    let mut held: Vec<_> = (0..4)
        .map(|_| {
            eventually("a free connection", || {
                hold().ok().filter(|(_, status)| status.ends_with(b"202"))
            })
        })
        .collect();
    let answers = exchange(server.port, last().as_bytes());
    assert_eq!(answers[0].status, 503);
    assert!(answers[0].header("retry-after").is_some() && answers[0].header("connection") == Some("close"));
    held.pop();
    eventually("the freed connection", || {
        (exchange(server.port, last().as_bytes())[0].status == 202).then_some(())
    });
}
