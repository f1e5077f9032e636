//! Heads that are read, heads that are refused, and every prefix of both.

use proptest::prelude::*;

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn parse(text: &str) -> Result<Parse<Head<'_>>, HeadError> {
    parse_head(text.as_bytes(), &Limits::default())
}

#[track_caller]
fn head(text: &str) -> Head<'_> {
    match parse(text) {
        Ok(Parse::Complete(length, head)) => {
            assert_eq!(length, text.len(), "the whole text is the head");
            head
        }
        other => panic!("{text:?} is a head, but: {other:?}"),
    }
}

/// A POST with these header lines after Host, each ended by CRLF.
fn post(lines: &str) -> String {
    format!("POST /ingest HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[track_caller]
fn refusal(text: &str) -> HeadError {
    match parse(text) {
        Err(error) => error,
        Ok(parsed) => panic!("{text:?} must be refused, but: {parsed:?}"),
    }
}

#[test]
fn reads_what_the_ingest_path_needs() {
    let text = "POST /ingest/app.logs?ack=inserted HTTP/1.1\r\nHost: logs.example:8080\r\n\
                Content-Type: application/x-ndjson\r\ncontent-length: 17\r\nContent-Encoding: GZIP\r\n\
                X-Ringhouse-Ack:memory \r\nExpect: 100-Continue\r\nX-Empty:\r\n\r\n";
    let head = head(text);
    assert_eq!(
        (head.method, head.path, head.query, head.minor),
        ("POST", "/ingest/app.logs", "ack=inserted", 1)
    );
    assert_eq!(head.framing, Framing::Length(17));
    assert_eq!(head.encoding, Encoding::Gzip);
    assert_eq!(head.content_type, b"application/x-ndjson");
    assert_eq!(head.ack, Some(&b"memory"[..]));
    assert!(head.expect_continue);
    assert_eq!(head.persistence, Persistence::Keep);
    assert_eq!(head.header("x-empty"), Some(&b""[..]));
    assert_eq!(head.header("HOST"), Some(&b"logs.example:8080"[..]));
    assert_eq!(head.header("hos"), None);
}

#[test]
fn reads_an_idempotency_key_with_or_without_its_quotes() {
    let longest = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX);
    let quoted = format!("\"{longest}\"");
    let visible: String = ('!'..='~').filter(|&byte| byte != '"').collect();
    let cases = [
        ("k", "k"),
        ("\"k\"", "k"),
        (
            " \t8e03978e-40d5-43dd-bc93-6894a57f9324 \t",
            "8e03978e-40d5-43dd-bc93-6894a57f9324",
        ),
        ("  \"a,b;c=d\" ", "a,b;c=d"),
        (&visible, &visible),
        (&longest, &longest),
        (&quoted, &longest),
    ];
    for (value, key) in cases {
        let text = post(&format!("idempotency-KEY:{value}\r\n"));
        assert_eq!(head(&text).idempotency_key, Some(key.as_bytes()), "{value:?}");
    }
    assert_eq!(head(GET).idempotency_key, None);
}

#[test]
fn rejects_idempotency_keys_that_are_none_too_long_or_two() {
    use HeadError::*;
    let longer = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1);
    let quoted = format!("\"{longer}\"");
    let cases = [
        ("", IdempotencyKeyInvalid),
        (" \t", IdempotencyKeyInvalid),
        ("\"", IdempotencyKeyInvalid),
        ("\"\"", IdempotencyKeyInvalid),
        ("\" \"", IdempotencyKeyInvalid),
        ("\"a", IdempotencyKeyInvalid),
        ("a\"", IdempotencyKeyInvalid),
        ("a b", IdempotencyKeyInvalid),
        ("\"a b\"", IdempotencyKeyInvalid),
        ("a\tb", IdempotencyKeyInvalid),
        ("a, b", IdempotencyKeyInvalid),
        ("\"a\",\"b\"", IdempotencyKeyInvalid),
        ("\"a\";p", IdempotencyKeyInvalid),
        ("\"a\\\"b\"", IdempotencyKeyInvalid),
        ("\u{e9}", IdempotencyKeyInvalid),
        ("a\u{1}", HeaderValue),
        ("a\u{7f}", HeaderValue),
        (&longer, IdempotencyKeyTooLong),
        (&quoted, IdempotencyKeyTooLong),
        ("k\r\nIdempotency-Key: k", IdempotencyKeyRepeated),
        ("k\r\nX: y\r\nidempotency-key: \"l\"", IdempotencyKeyRepeated),
    ];
    for (value, expected) in cases {
        let error = refusal(&post(&format!("Idempotency-Key: {value}\r\n")));
        assert_eq!(
            (error, error.status()),
            (expected, Status::BadRequest),
            "{value:?}"
        );
    }
}

#[test]
fn every_prefix_of_a_head_is_partial_and_what_follows_changes_nothing() {
    let texts = [
        GET.to_string(),
        format!("\r\n\r\n{GET}"),
        post("Content-Length: 3\r\n"),
        post("Transfer-Encoding: chunked\r\nConnection: close, x\r\nExpect: 100-continue\r\n"),
        post("Idempotency-Key: \"k\"\r\n"),
        "OPTIONS * HTTP/1.0\r\n\r\n".to_string(),
    ];
    for text in &texts {
        let whole = parse(text).expect("valid");
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), Ok(Parse::Partial), "{:?}", &text[..end]);
        }
        for tail in ["x", "\r\n", "POST / HTTP/1.1\r\n\r\n", "\0\n"] {
            let longer = format!("{text}{tail}");
            assert_eq!(parse(&longer), Ok(whole), "followed by {tail:?}");
        }
    }
}

#[test]
fn every_prefix_of_a_refused_head_is_partial_or_refused() {
    let texts = [
        post("Content-Length: 3\r\nContent-Length: 4\r\n"),
        post("Transfer-Encoding: gzip\r\n"),
        post("Idempotency-Key: k\r\nIdempotency-Key: k\r\n"),
        "GET / HTTP/2.0\r\n\r\n".to_string(),
        "GET / HTTP/1.1\nHost: a\n\n".to_string(),
        post(" folded: x\r\n"),
    ];
    for text in &texts {
        let end = refusal(text);
        let mut refused = false;
        for length in 0..=text.len() {
            match parse(&text[..length]) {
                Ok(Parse::Partial) => assert!(!refused, "{:?} was refused before", &text[..length]),
                Ok(complete) => panic!("{:?} gave {complete:?}", &text[..length]),
                Err(error) => {
                    refused = true;
                    assert_eq!(error.status(), end.status());
                }
            }
        }
        assert!(refused);
    }
}

#[test]
fn keeps_or_closes_as_version_and_connection_say() {
    let cases = [
        ("HTTP/1.1", "", Persistence::Keep),
        ("HTTP/1.1", "Connection: close\r\n", Persistence::Close),
        ("HTTP/1.1", "Connection: x,\tCLOSE ,\r\n", Persistence::Close),
        (
            "HTTP/1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            Persistence::Close,
        ),
        ("HTTP/1.1", "Connection: closed\r\n", Persistence::Keep),
        ("HTTP/1.0", "", Persistence::Close),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", Persistence::KeepHttp10),
        (
            "HTTP/1.0",
            "Connection: keep-alive, close\r\n",
            Persistence::Close,
        ),
    ];
    for (version, lines, persistence) in cases {
        let text = format!("GET / {version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(head(&text).persistence, persistence, "{version} {lines:?}");
    }
}

#[test]
fn reads_every_form_of_target() {
    let cases = [
        ("GET /a%20b?c?d HTTP/1.1", "/a%20b", "c?d"),
        ("GET http://h.example/ingest?x HTTP/1.1", "/ingest", "x"),
        ("GET HTTPS://[::1]:80?x HTTP/1.1", "/", "x"),
        ("GET http://h HTTP/1.1", "/", ""),
        ("OPTIONS * HTTP/1.1", "*", ""),
    ];
    for (line, path, query) in cases {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!((head(&text).path, head(&text).query), (path, query));
    }
}

#[test]
fn rejects_targets_that_are_no_path() {
    let targets = [
        "ingest",
        "*",
        "/a#b",
        "/\u{e9}",
        "a:80",
        "ftp://h/x",
        "http://",
        "http:///x",
        "http://u@h/x",
        "://h/",
    ];
    for target in targets {
        let error = refusal(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(
            (error, error.status()),
            (HeadError::Target, Status::BadRequest),
            "{target}"
        );
    }
}

#[test]
fn reads_one_content_coding() {
    let cases = [
        ("", Encoding::Identity),
        ("Content-Encoding:\r\n", Encoding::Identity),
        ("Content-Encoding: identity\r\n", Encoding::Identity),
        ("Content-Encoding: x-gzip\r\n", Encoding::Gzip),
        (
            "Content-Encoding: identity, , zstd\r\nContent-Encoding: identity\r\n",
            Encoding::Zstd,
        ),
        ("Content-Encoding: Deflate\r\n", Encoding::Deflate),
    ];
    for (lines, encoding) in cases {
        assert_eq!(head(&post(lines)).encoding, encoding, "{lines:?}");
    }
}

#[test]
fn rejects_unknown_and_stacked_content_codings() {
    for (lines, expected) in [
        ("Content-Encoding: br\r\n", HeadError::EncodingUnknown),
        ("Content-Encoding: gzip;q=1\r\n", HeadError::EncodingUnknown),
        ("Content-Encoding: gzip, gzip\r\n", HeadError::EncodingStacked),
        (
            "Content-Encoding: gzip\r\nContent-Encoding: zstd\r\n",
            HeadError::EncodingStacked,
        ),
    ] {
        let error = refusal(&post(lines));
        assert_eq!(
            (error, error.status()),
            (expected, Status::UnsupportedMediaType),
            "{lines:?}"
        );
    }
}

/// Header lines a proxy before us could read differently: none may be taken.
#[test]
fn rejects_smuggling() {
    use HeadError::*;
    let cases = [
        (
            "repeated length, equal",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            ContentLengthRepeated,
        ),
        (
            "repeated length, other",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            ContentLengthRepeated,
        ),
        ("length list", "Content-Length: 5, 5\r\n", ContentLengthInvalid),
        ("empty length", "Content-Length:\r\n", ContentLengthInvalid),
        ("blank length", "Content-Length:  \t\r\n", ContentLengthInvalid),
        ("plus sign", "Content-Length: +5\r\n", ContentLengthInvalid),
        ("minus sign", "Content-Length: -5\r\n", ContentLengthInvalid),
        ("inner blank", "Content-Length: 1 0\r\n", ContentLengthInvalid),
        ("hexadecimal", "Content-Length: 0x5\r\n", ContentLengthInvalid),
        ("fraction", "Content-Length: 5.0\r\n", ContentLengthInvalid),
        ("underscore", "Content-Length: 1_0\r\n", ContentLengthInvalid),
        (
            "full-width digit",
            "Content-Length: \u{ff15}\r\n",
            ContentLengthInvalid,
        ),
        (
            "2^64",
            "Content-Length: 18446744073709551616\r\n",
            ContentLengthInvalid,
        ),
        (
            "many digits",
            "Content-Length: 99999999999999999999999999\r\n",
            ContentLengthInvalid,
        ),
        (
            "length, then coding",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            ContentLengthWithTransferEncoding,
        ),
        (
            "coding, then length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            ContentLengthWithTransferEncoding,
        ),
        (
            "coding, then zero",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            ContentLengthWithTransferEncoding,
        ),
        (
            "repeated coding",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            TransferEncodingInvalid,
        ),
        (
            "coding, then identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            TransferEncodingInvalid,
        ),
        (
            "chunked twice",
            "Transfer-Encoding: chunked, chunked\r\n",
            TransferEncodingInvalid,
        ),
        (
            "chunked not last",
            "Transfer-Encoding: chunked, gzip\r\n",
            TransferEncodingInvalid,
        ),
        (
            "identity",
            "Transfer-Encoding: identity\r\n",
            TransferEncodingInvalid,
        ),
        ("gzip", "Transfer-Encoding: gzip\r\n", TransferEncodingInvalid),
        (
            "prefix",
            "Transfer-Encoding: xchunked\r\n",
            TransferEncodingInvalid,
        ),
        (
            "parameter",
            "Transfer-Encoding: chunked;q=1\r\n",
            TransferEncodingInvalid,
        ),
        (
            "quoted",
            "Transfer-Encoding: \"chunked\"\r\n",
            TransferEncodingInvalid,
        ),
        ("empty coding", "Transfer-Encoding:\r\n", TransferEncodingInvalid),
        (
            "leading comma",
            "Transfer-Encoding: , chunked\r\n",
            TransferEncodingInvalid,
        ),
        (
            "trailing comma",
            "Transfer-Encoding: chunked,\r\n",
            TransferEncodingInvalid,
        ),
        ("vertical tab", "Transfer-Encoding: \x0bchunked\r\n", HeaderValue),
        ("blank before colon", "Content-Length : 5\r\n", HeaderName),
        ("tab before colon", "Transfer-Encoding\t: chunked\r\n", HeaderName),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n", HeaderName),
        ("folded value", "X: a\r\n\tContent-Length: 5\r\n", HeaderName),
        ("no name", ": x\r\n", HeaderName),
        ("no colon", "Content-Length\r\n", HeaderName),
        ("non-ASCII name", "C\u{f6}ntent: 5\r\n", HeaderName),
        ("zero in name", "Content\0-Length: 5\r\n", HeaderName),
        ("zero in value", "Content-Length: 5\0\r\n", HeaderValue),
        ("bare CR in value", "X: a\rContent-Length: 5\r\n", HeaderValue),
        ("CR before the line end", "X: a\r\r\n", HeaderValue),
        ("bare LF", "X: a\nContent-Length: 5\r\n", LineEnd),
        ("bare LF after nothing", "X:\nContent-Length: 5\r\n", LineEnd),
        ("delete", "X: \x7f\r\n", HeaderValue),
        ("second Host", "Host: b\r\n", HostRepeated),
        ("equal Host", "host: a\r\n", HostRepeated),
    ];
    for (name, lines, expected) in cases {
        let error = refusal(&post(lines));
        assert_eq!((error, error.status()), (expected, Status::BadRequest), "{name}");
    }
}

#[test]
fn rejects_a_transfer_coding_it_does_not_have_as_not_implemented() {
    let error = refusal(&post("Transfer-Encoding: gzip, Chunked\r\n"));
    assert_eq!(
        (error, error.status()),
        (HeadError::TransferCodingUnsupported, Status::NotImplemented)
    );
}

#[test]
fn rejects_chunks_from_http_1_0() {
    let error = refusal("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(
        (error, error.status()),
        (HeadError::TransferEncodingInHttp10, Status::BadRequest)
    );
}

#[test]
fn accepts_chunked_in_any_case_and_the_longest_length() {
    assert_eq!(
        head(&post("Transfer-Encoding: \t ChunKed \r\n")).framing,
        Framing::Chunked
    );
    assert_eq!(
        head(&post("Content-Length: 0005\r\n")).framing,
        Framing::Length(5)
    );
    let limits = Limits {
        body_bytes_max: u64::MAX,
        ..Limits::default()
    };
    let text = post("Content-Length: 18446744073709551615\r\n");
    let parsed = parse_head(text.as_bytes(), &limits);
    assert!(matches!(
        parsed,
        Ok(Parse::Complete(
            _,
            Head {
                framing: Framing::Length(u64::MAX),
                ..
            }
        ))
    ));
}

#[test]
fn rejects_a_body_above_the_limit_before_it_is_sent() {
    let limit = Limits::default().body_bytes_max;
    assert_eq!(
        head(&post(&format!("Content-Length: {limit}\r\n"))).framing,
        Framing::Length(limit)
    );
    let error = refusal(&post(&format!("Content-Length: {}\r\n", limit + 1)));
    assert_eq!(
        (error, error.status()),
        (
            HeadError::BodyTooLong { bytes_max: limit },
            Status::ContentTooLarge
        )
    );
}

#[test]
fn rejects_request_lines_that_are_none() {
    use HeadError::*;
    let cases = [
        ("GET  / HTTP/1.1\r\n\r\n", RequestLine),
        ("GET /  HTTP/1.1\r\n\r\n", RequestLine),
        ("GET\t/ HTTP/1.1\r\n\r\n", RequestLine),
        ("GET /\r\n\r\n", RequestLine),
        ("GET / HTPP/1.1\r\n\r\n", RequestLine),
        ("GET / HTTP/x.y\r\n\r\n", RequestLine),
        ("GET / http/1.1\r\n\r\n", RequestLine),
        (" GET / HTTP/1.1\r\n\r\n", RequestLine),
        ("G\0T / HTTP/1.1\r\n\r\n", RequestLine),
        ("GET / HTTP/1.1 \r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", LineEnd),
        ("\nGET / HTTP/1.1\r\n\r\n", LineEnd),
        ("\r\rGET / HTTP/1.1\r\n\r\n", LineEnd),
        ("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", RequestLine),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03", RequestLine),
    ];
    for (text, expected) in cases {
        let error = refusal(text);
        // httparse tells a stray byte after the version apart from a bad line end only by where it stands.
        assert_eq!(
            (error, error.status()),
            (expected, Status::BadRequest),
            "{text:?}"
        );
    }
}

#[test]
fn rejects_other_versions_of_http() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3", "HTTP/1.10"] {
        let error = refusal(&format!("GET / {version}\r\nHost: a\r\n\r\n"));
        match version {
            "HTTP/1.10" => assert_eq!(error, HeadError::LineEnd, "read as 1.1 and a stray digit"),
            _ => assert_eq!(
                (error, error.status()),
                (HeadError::Version, Status::VersionNotSupported),
                "{version}"
            ),
        }
    }
    assert_eq!(refusal("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HeadError::Version);
}

#[test]
fn host_is_required_once_and_well_formed() {
    assert_eq!(refusal("GET / HTTP/1.1\r\n\r\n"), HeadError::HostMissing);
    assert_eq!(head("GET / HTTP/1.0\r\n\r\n").minor, 0);
    for host in ["", "a", "a.b-c_d:8080", "[2001:db8::1]:80", "%41"] {
        head(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    for host in [
        "a b", "a/b", "u@h", "a\tb", "a\"", "\u{e9}", "a#b", "a?b", "a\\b", "<a>",
    ] {
        let error = refusal(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(
            (error, error.status()),
            (HeadError::HostInvalid, Status::BadRequest),
            "{host:?}"
        );
    }
}

#[test]
fn expects_100_continue_only_from_http_1_1() {
    assert!(!head("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expect_continue);
    assert!(!head(&post("")).expect_continue);
    let error = refusal(&post("Expect: 200-ok\r\n"));
    assert_eq!(
        (error, error.status()),
        (HeadError::Expectation, Status::ExpectationFailed)
    );
}

#[test]
fn a_head_of_the_greatest_length_is_read_and_a_byte_more_refused() {
    let limits = Limits {
        head_bytes_max: 200,
        ..Limits::default()
    };
    let of_length = |bytes: usize| {
        let bare = post("X: \r\n").len();
        post(&format!("X: {}\r\n", "x".repeat(bytes - bare)))
    };
    let fits = of_length(200);
    assert!(matches!(
        parse_head(fits.as_bytes(), &limits),
        Ok(Parse::Complete(200, _))
    ));
    let long = of_length(201);
    let expected = HeadError::HeadTooLong { bytes_max: 200 };
    assert_eq!(parse_head(&long.as_bytes()[..199], &limits), Ok(Parse::Partial));
    for end in 200..=long.len() {
        assert_eq!(
            parse_head(&long.as_bytes()[..end], &limits),
            Err(expected),
            "at {end}"
        );
    }
    assert_eq!(expected.status(), Status::HeaderFieldsTooLarge);
    // Empty lines before it count too, or the bound would not hold for the buffer.
    let padded = format!("\r\n{}", of_length(199));
    assert_eq!(parse_head(padded.as_bytes(), &limits), Err(expected));
}

#[test]
fn a_request_line_that_fills_the_head_is_a_uri_too_long() {
    let limits = Limits {
        head_bytes_max: 100,
        ..Limits::default()
    };
    let text = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100));
    let error = parse_head(text.as_bytes(), &limits).expect_err("too long");
    assert_eq!(
        (error, error.status()),
        (
            HeadError::RequestLineTooLong { bytes_max: 100 },
            Status::UriTooLong
        )
    );
}

#[test]
fn rejects_one_header_too_many() {
    for headers_max in [3, HEADERS_CAPACITY, HEADERS_CAPACITY + 50] {
        let limits = Limits {
            headers_max,
            head_bytes_max: 64 * 1024,
            ..Limits::default()
        };
        let bound = headers_max.min(HEADERS_CAPACITY);
        let fits = post(&"X: y\r\n".repeat(bound - 1));
        assert!(
            matches!(parse_head(fits.as_bytes(), &limits), Ok(Parse::Complete(..))),
            "{bound} headers"
        );
        let long = post(&"X: y\r\n".repeat(bound));
        let error = parse_head(long.as_bytes(), &limits).expect_err("one more");
        assert_eq!(error, HeadError::TooManyHeaders { headers_max: bound });
        assert_eq!(error.status(), Status::HeaderFieldsTooLarge);
    }
}

#[test]
fn every_refusal_is_one_sentence() {
    let errors = [
        HeadError::RequestLineTooLong { bytes_max: 1 },
        HeadError::HeadTooLong { bytes_max: 1 },
        HeadError::TooManyHeaders { headers_max: 1 },
        HeadError::RequestLine,
        HeadError::Version,
        HeadError::LineEnd,
        HeadError::HeaderName,
        HeadError::HeaderValue,
        HeadError::Target,
        HeadError::HostMissing,
        HeadError::HostRepeated,
        HeadError::HostInvalid,
        HeadError::ContentLengthInvalid,
        HeadError::ContentLengthRepeated,
        HeadError::ContentLengthWithTransferEncoding,
        HeadError::TransferEncodingInHttp10,
        HeadError::TransferEncodingInvalid,
        HeadError::TransferCodingUnsupported,
        HeadError::EncodingUnknown,
        HeadError::EncodingStacked,
        HeadError::Expectation,
        HeadError::BodyTooLong { bytes_max: 1 },
    ];
    let mut sentences = std::collections::BTreeSet::new();
    for error in errors {
        let sentence = error.to_string();
        assert!(sentence.ends_with('.') && sentence.len() < 130, "{sentence}");
        assert!(sentences.insert(sentence), "{error:?} says what another says");
    }
}

proptest! {
    /// Whatever the bytes: no panic, and a complete head stays the same when more follows.
    #[test]
    fn any_bytes_get_an_answer_that_more_bytes_do_not_change(
        pieces in prop::collection::vec(
            prop_oneof![
                Just("GET / HTTP/1.1\r\n".as_bytes().to_vec()),
                Just("POST /ingest HTTP/1.0\r\n".as_bytes().to_vec()),
                Just("Host: a\r\n".as_bytes().to_vec()),
                Just("Content-Length: 5\r\n".as_bytes().to_vec()),
                Just("Transfer-Encoding: chunked\r\n".as_bytes().to_vec()),
                Just("\r\n".as_bytes().to_vec()),
                prop::collection::vec(any::<u8>(), 0..6),
            ],
            0..8,
        ),
        cut in 0usize..200,
    ) {
        let bytes = pieces.concat();
        let limits = Limits { head_bytes_max: 80, ..Limits::default() };
        let whole = parse_head(&bytes, &limits);
        let prefix = parse_head(&bytes[..cut.min(bytes.len())], &limits);
        match (prefix, whole) {
            (Ok(Parse::Complete(length, before)), after) => {
                prop_assert!(length <= limits.head_bytes_max);
                prop_assert_eq!(Ok(Parse::Complete(length, before)), after);
            }
            (Err(_), after) => prop_assert!(after.is_err()),
            (Ok(Parse::Partial), _) => {}
        }
    }
}
