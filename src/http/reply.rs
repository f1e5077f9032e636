//! Appends complete replies to a byte vector.
//!
//! One log per request is the hot path: its reply is one copy of a prefix rendered once a second, and a body
//! of four numbers and words. Nothing is allocated once `out` has grown to its working size.

use std::fmt::{self, Write};
use std::io;

use crate::http::date::{DATE_BYTES, imf_fixdate};
use crate::http::status::Status;

/// Sent when the client waits for leave to send its body. RFC 9110 section 15.2.1.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What becomes of the connection after the reply. RFC 9112 section 9.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1 keeps it without a word.
    Keep,
    /// HTTP/1.0 keeps it when told so.
    KeepHttp10,
    /// It ends.
    Close,
}

/// What a reply takes over from its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// The request was a HEAD: same header, no body (RFC 9110 section 9.3.2).
    pub without_body: bool,
    /// The quota a 429 is about.
    pub rate_limit: Option<RateLimit>,
}

/// What a client is told of a quota it has used up, beside `Retry-After`: the fields `RateLimit-Policy` and `RateLimit` of
/// draft-ietf-httpapi-ratelimit-headers-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Name of the policy: letters only.
    pub policy: &'static str,
    /// Quota unit, when it is not the default, requests.
    pub unit: Option<&'static str>,
    /// Units allowed within the window.
    pub quota: u64,
    /// The window, in seconds.
    pub window_s: u64,
    /// Units left of it.
    pub remaining: u64,
    /// Seconds until the request would pass. Also the reply's `Retry-After`, as section 5 of the draft asks.
    pub reset_s: u64,
}

impl RateLimit {
    /// Appends the fields; each begins with the line end of the one before.
    fn put(&self, out: &mut Vec<u8>) {
        let RateLimit {
            policy,
            unit,
            quota,
            window_s,
            remaining,
            reset_s,
        } = self;
        let mut put = |text: fmt::Arguments<'_>| {
            io::Write::write_fmt(out, text).expect("a Vec takes all");
        };
        put(format_args!("\r\nRetry-After: {reset_s}"));
        put(format_args!(
            "\r\nRateLimit-Policy: \"{policy}\";q={quota};w={window_s}"
        ));
        if let Some(unit) = unit {
            put(format_args!(";qu=\"{unit}\""));
        }
        put(format_args!(
            "\r\nRateLimit: \"{policy}\";r={remaining};t={reset_s}"
        ));
    }
}

/// The ways to send a token that every client knows, as a 401 must name them (RFC 9110 section 11.6.1). Browsers ask people
/// for the second.
pub const CHALLENGE: &str = "Bearer realm=\"ringhouse\", Basic realm=\"ringhouse\", charset=\"UTF-8\"";

impl Envelope {
    /// For a request of HTTP/1.1 that says nothing of its connection.
    pub const KEEP: Envelope = Envelope {
        persistence: Persistence::Keep,
        without_body: false,
        rate_limit: None,
    };

    /// For a request that could not be read, or whose body is not read to its end.
    pub const CLOSE: Envelope = Envelope {
        persistence: Persistence::Close,
        without_body: false,
        rate_limit: None,
    };

    /// The same reply, but the last one on its connection.
    pub fn closing(self) -> Envelope {
        Envelope {
            persistence: Persistence::Close,
            ..self
        }
    }
}

/// The numbers of an ingest reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestReply<'a> {
    /// 200, 202 or 400; see [`Status::of_rows`].
    pub status: Status,
    /// Rows taken.
    pub accepted: u64,
    /// Rows refused; exact, also when fewer errors are spelled out.
    pub rejected: u64,
    /// Name of the ack level reached: letters only.
    pub ack: &'a str,
}

/// Writes the replies of one core. Reads no clock: the caller ticks it.
#[derive(Debug, Clone)]
pub struct Replier {
    unix_s: u64,
    retry_after_s: u32,
    date: [u8; DATE_BYTES],
    /// Prefixes of the two successes on a kept connection, up to the digits of Content-Length.
    ok: Vec<u8>,
    accepted: Vec<u8>,
}

impl Replier {
    /// A writer whose Date is `unix_s` and whose 429 and 503 ask for a pause of `retry_after_s` seconds.
    pub fn new(unix_s: u64, retry_after_s: u32) -> Replier {
        let mut replier = Replier {
            unix_s,
            retry_after_s,
            date: imf_fixdate(unix_s),
            ok: Vec::new(),
            accepted: Vec::new(),
        };
        replier.render();
        replier
    }

    /// Seconds a client is asked to wait before it comes again.
    pub fn retry_after_s(&self) -> u32 {
        self.retry_after_s
    }

    /// Moves the Date header to `unix_s`. Cheap when the second has not changed.
    pub fn tick(&mut self, unix_s: u64) {
        if unix_s != self.unix_s {
            self.unix_s = unix_s;
            self.date = imf_fixdate(unix_s);
            self.render();
        }
    }

    /// Appends an ingest reply; `errors` are the index of a refused row and the reason. See [`ingest_body`].
    pub fn ingest<'e>(
        &self,
        out: &mut Vec<u8>,
        envelope: Envelope,
        reply: &IngestReply<'_>,
        errors: impl IntoIterator<Item = (u64, &'e str)>,
    ) {
        let start = match (reply.status, envelope.persistence) {
            (Status::Ok, Persistence::Keep) => begin_rendered(out, &self.ok),
            (Status::Accepted, Persistence::Keep) => begin_rendered(out, &self.accepted),
            (status, _) => self.begin(out, status, envelope, Extra::None),
        };
        ingest_body(out, reply, errors);
        finish(out, start, envelope);
    }

    /// Appends the reply that an earlier request with the same Idempotency-Key had, marked
    /// `Idempotent-Replayed: true`. `body` is its whole JSON body.
    pub fn replay(&self, out: &mut Vec<u8>, envelope: Envelope, status: Status, body: &[u8]) {
        let start = self.begin(out, status, envelope, Extra::Replayed);
        out.extend_from_slice(body);
        finish(out, start, envelope);
    }

    /// Appends `{"error":"sentence"}`.
    ///
    /// 429 and 503 carry Retry-After, a 429 also what the envelope says of the quota; 401 names the ways to send a token, 415
    /// the encodings that are taken.
    pub fn error(&self, out: &mut Vec<u8>, envelope: Envelope, status: Status, sentence: impl fmt::Display) {
        self.sentence(out, envelope, status, Extra::None, sentence);
    }

    /// Appends a 405 that names the methods the path has, for example `POST`.
    pub fn method_not_allowed(&self, out: &mut Vec<u8>, envelope: Envelope, allow: &'static str) {
        let sentence = format_args!("The method is not allowed here; use {allow}.");
        self.sentence(
            out,
            envelope,
            Status::MethodNotAllowed,
            Extra::Allow(allow),
            sentence,
        );
    }

    /// Appends a 415 that names the media type the path takes.
    pub fn unsupported_media_type(&self, out: &mut Vec<u8>, envelope: Envelope, accept: &'static str) {
        let sentence = format_args!("The Content-Type is not taken here; send {accept}.");
        self.sentence(
            out,
            envelope,
            Status::UnsupportedMediaType,
            Extra::Accept(accept),
            sentence,
        );
    }

    /// Appends a reply whose body is `put` by the protocol that is spoken, of its own media type.
    pub fn message(
        &self,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        content_type: &'static str,
        put: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.begin(out, status, envelope, Extra::ContentType(content_type));
        put(out);
        finish(out, start, envelope);
    }

    /// Appends a 204, which has no body and says nothing of one (RFC 9110 section 8.6).
    pub fn no_content(&self, out: &mut Vec<u8>, envelope: Envelope) {
        out.extend_from_slice(Status::NoContent.line().as_bytes());
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(&self.date);
        out.extend_from_slice(connection_field(envelope.persistence));
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// The second that replies carry, since 1970.
    pub fn unix_s(&self) -> u64 {
        self.unix_s
    }

    fn sentence(
        &self,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        extra: Extra,
        sentence: impl fmt::Display,
    ) {
        let start = self.begin(out, status, envelope, extra);
        out.extend_from_slice(b"{\"error\":\"");
        // Only a Display that fails by itself can fail here; what it wrote before is the sentence then.
        let _ = write!(
            Escaped {
                out,
                left: REASON_BYTES_MAX
            },
            "{sentence}"
        );
        out.extend_from_slice(b"\"}");
        finish(out, start, envelope);
    }

    /// Writes the header up to the place of Content-Length's digits and the blank line.
    fn begin(&self, out: &mut Vec<u8>, status: Status, envelope: Envelope, extra: Extra) -> Start {
        self.header(out, status, envelope, extra);
        begin_rendered(out, b"")
    }

    fn header(&self, out: &mut Vec<u8>, status: Status, envelope: Envelope, extra: Extra) {
        out.extend_from_slice(status.line().as_bytes());
        let content_type = match extra {
            Extra::ContentType(content_type) => content_type,
            _ => "application/json",
        };
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(content_type.as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(&self.date);
        out.extend_from_slice(connection_field(envelope.persistence));
        match (status, extra) {
            (_, Extra::Allow(methods)) => {
                out.extend_from_slice(b"\r\nAllow: ");
                out.extend_from_slice(methods.as_bytes());
            }
            (_, Extra::Accept(media_type)) => {
                out.extend_from_slice(b"\r\nAccept: ");
                out.extend_from_slice(media_type.as_bytes());
            }
            (_, Extra::Replayed) => out.extend_from_slice(b"\r\nIdempotent-Replayed: true"),
            (Status::TooManyRequests, _) if envelope.rate_limit.is_some() => {
                envelope.rate_limit.iter().for_each(|limit| limit.put(out));
            }
            (Status::Unauthorized, _) => {
                out.extend_from_slice(b"\r\nWWW-Authenticate: ");
                out.extend_from_slice(CHALLENGE.as_bytes());
            }
            (Status::ServiceUnavailable | Status::TooManyRequests, _) => {
                out.extend_from_slice(b"\r\nRetry-After: ");
                out.extend_from_slice(itoa::Buffer::new().format(self.retry_after_s).as_bytes());
            }
            // RFC 9110 section 15.5.16: name the codings, or the client takes the media type for the fault.
            (Status::UnsupportedMediaType, _) => {
                out.extend_from_slice(b"\r\nAccept-Encoding: gzip, deflate, zstd, identity");
            }
            _ => {}
        }
        out.extend_from_slice(b"\r\nContent-Length: ");
    }

    fn render(&mut self) {
        let (mut ok, mut accepted) = (std::mem::take(&mut self.ok), std::mem::take(&mut self.accepted));
        ok.clear();
        accepted.clear();
        self.header(&mut ok, Status::Ok, Envelope::KEEP, Extra::None);
        self.header(&mut accepted, Status::Accepted, Envelope::KEEP, Extra::None);
        (self.ok, self.accepted) = (ok, accepted);
    }
}

/// The line end before a Connection field, and that field, if there is one.
fn connection_field(persistence: Persistence) -> &'static [u8] {
    match persistence {
        Persistence::Keep => b"",
        Persistence::KeepHttp10 => b"\r\nConnection: keep-alive",
        Persistence::Close => b"\r\nConnection: close",
    }
}

/// Appends the body of an ingest reply, without its header.
///
/// `{"accepted":n,"rejected":m,"ack":"wal","errors":[{"row":17,"reason":"..."}]}`. A reason is cut
/// after [`REASON_BYTES_MAX`] bytes.
pub fn ingest_body<'e>(
    out: &mut Vec<u8>,
    reply: &IngestReply<'_>,
    errors: impl IntoIterator<Item = (u64, &'e str)>,
) {
    debug_assert!(
        reply.ack.bytes().all(|byte| byte.is_ascii_alphabetic()),
        "an ack level is a word"
    );
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"{\"accepted\":");
    out.extend_from_slice(digits.format(reply.accepted).as_bytes());
    out.extend_from_slice(b",\"rejected\":");
    out.extend_from_slice(digits.format(reply.rejected).as_bytes());
    out.extend_from_slice(b",\"ack\":\"");
    out.extend_from_slice(reply.ack.as_bytes());
    out.extend_from_slice(b"\",\"errors\":[");
    let mut separator: &[u8] = b"{\"row\":";
    for (row, reason) in errors {
        out.extend_from_slice(separator);
        separator = b",{\"row\":";
        out.extend_from_slice(digits.format(row).as_bytes());
        out.extend_from_slice(b",\"reason\":\"");
        escape(out, head_of(reason));
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"]}");
}

/// Bytes of one reason or sentence that are sent.
pub const REASON_BYTES_MAX: usize = 512;

enum Extra {
    None,
    Allow(&'static str),
    /// The media type a 415 asks for.
    Accept(&'static str),
    /// The body is no JSON.
    ContentType(&'static str),
    Replayed,
}

/// Where the digits of Content-Length and the body begin.
struct Start {
    digits: usize,
    body: usize,
}

/// Room for the digits: bodies up to 9,999,999 bytes. 20 errors of 512 bytes, each escaped to six, are 62 KiB.
const LENGTH_ROOM: &[u8; 11] = b"       \r\n\r\n";
const LENGTH_DIGITS_MAX: usize = 7;

fn begin_rendered(out: &mut Vec<u8>, prefix: &[u8]) -> Start {
    out.extend_from_slice(prefix);
    let digits = out.len();
    out.extend_from_slice(LENGTH_ROOM);
    Start {
        digits,
        body: out.len(),
    }
}

/// Writes the length of the body into its room and closes the gap the missing digits leave: moving some
/// sixty bytes is cheaper than measuring a body before writing it.
fn finish(out: &mut Vec<u8>, start: Start, envelope: Envelope) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(out.len() - start.body).as_bytes();
    assert!(
        digits.len() <= LENGTH_DIGITS_MAX,
        "a reply has a bounded number of bounded errors"
    );
    out[start.digits..start.digits + digits.len()].copy_from_slice(digits);
    if envelope.without_body {
        out.truncate(start.body);
    }
    let gap = start.digits + digits.len();
    out.copy_within(start.digits + LENGTH_DIGITS_MAX.., gap);
    out.truncate(out.len() - (LENGTH_DIGITS_MAX - digits.len()));
}

/// The first `REASON_BYTES_MAX` bytes of a text, or a few less so that no character is cut.
fn head_of(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_BYTES_MAX)]
}

/// Writes formatted text as the inside of a JSON string, up to a number of bytes before escaping.
struct Escaped<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.floor_char_boundary(self.left);
        // A cut text ends here, or a shorter piece after it would be glued on.
        self.left = if end < text.len() { 0 } else { self.left - end };
        escape(self.out, &text[..end]);
        Ok(())
    }
}

/// Appends text as the inside of a JSON string (RFC 8259 section 7).
fn escape(out: &mut Vec<u8>, text: &str) {
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[copied..at]);
        copied = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[copied..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const KEEP: Envelope = Envelope::KEEP;

    /// Reads one reply the way a client does; returns status, headers and body, and checks the framing.
    fn read(bytes: &[u8]) -> (u16, Vec<(String, String)>, Value) {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let head = response.parse(bytes).expect("a reply parses").unwrap();
        let headers: Vec<_> = response
            .headers
            .iter()
            .map(|h| {
                (
                    h.name.to_string(),
                    String::from_utf8(h.value.to_vec()).expect("ASCII"),
                )
            })
            .collect();
        let length: usize = header(&headers, "Content-Length")
            .expect("framed")
            .parse()
            .expect("digits");
        assert_eq!(bytes.len() - head, length, "Content-Length is the body's");
        let body = serde_json::from_slice(&bytes[head..]).expect("the body is JSON");
        (response.code.expect("complete"), headers, body)
    }

    fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
        headers.iter().find(|h| h.0 == name).map(|h| h.1.as_str())
    }

    #[test]
    fn a_429_says_when_to_come_again_and_what_the_quota_is() {
        let replier = Replier::new(0, 7);
        let told = |rate_limit| {
            let mut out = Vec::new();
            let envelope = Envelope { rate_limit, ..KEEP };
            replier.error(&mut out, envelope, Status::TooManyRequests, "later");
            let (status, headers, _) = read(&out);
            assert_eq!(status, 429);
            ["Retry-After", "RateLimit-Policy", "RateLimit"]
                .map(|name| header(&headers, name).map(str::to_owned))
        };
        let some = |text: &str| Some(text.to_owned());
        let limit = RateLimit {
            policy: "requests",
            unit: None,
            quota: 100,
            window_s: 10,
            remaining: 0,
            reset_s: 3,
        };
        let policy = some("\"requests\";q=100;w=10");
        assert_eq!(
            told(Some(limit)),
            [some("3"), policy, some("\"requests\";r=0;t=3")]
        );
        let bytes = RateLimit {
            policy: "bytes",
            unit: Some("content-bytes"),
            ..limit
        };
        let policy = some("\"bytes\";q=100;w=10;qu=\"content-bytes\"");
        assert_eq!(told(Some(bytes)), [some("3"), policy, some("\"bytes\";r=0;t=3")]);
        assert_eq!(told(None), [some("7"), None, None]);
    }

    #[test]
    fn a_401_names_the_ways_to_send_a_token() {
        let mut out = Vec::new();
        Replier::new(0, 1).error(&mut out, KEEP, Status::Unauthorized, "no key");
        let (status, headers, _) = read(&out);
        assert_eq!(
            (status, header(&headers, "WWW-Authenticate")),
            (401, Some(CHALLENGE))
        );
    }

    #[test]
    fn an_ingest_reply_is_these_bytes() {
        let replier = Replier::new(784_111_777, 1);
        let reply = IngestReply {
            status: Status::Ok,
            accepted: 1,
            rejected: 0,
            ack: "inserted",
        };
        let mut out = b"before".to_vec();
        replier.ingest(&mut out, KEEP, &reply, []);
        let expected = "beforeHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 56\r\n\r\n\
                        {\"accepted\":1,\"rejected\":0,\"ack\":\"inserted\",\"errors\":[]}";
        assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
    }

    #[test]
    fn an_ingest_reply_lists_its_errors() {
        let replier = Replier::new(0, 1);
        let reply = IngestReply {
            status: Status::Accepted,
            accepted: 998,
            rejected: 2,
            ack: "memory",
        };
        let mut out = Vec::new();
        replier.ingest(
            &mut out,
            KEEP,
            &reply,
            [(17, "not \"JSON\""), (u64::MAX, "\u{e9}\n\u{1}\\")],
        );
        let (status, _, body) = read(&out);
        assert_eq!(status, 202);
        let errors = json!([
            {"row": 17, "reason": "not \"JSON\""},
            {"row": u64::MAX, "reason": "\u{e9}\n\u{1}\\"},
        ]);
        assert_eq!(
            body,
            json!({"accepted": 998, "rejected": 2, "ack": "memory", "errors": errors})
        );
    }

    #[test]
    fn the_connection_header_says_what_the_version_needs() {
        let replier = Replier::new(0, 1);
        let cases = [
            (Persistence::Keep, None),
            (Persistence::KeepHttp10, Some("keep-alive")),
            (Persistence::Close, Some("close")),
        ];
        for (persistence, expected) in cases {
            let envelope = Envelope { persistence, ..KEEP };
            let reply = IngestReply {
                status: Status::Ok,
                accepted: 1,
                rejected: 0,
                ack: "wal",
            };
            let mut ingest = Vec::new();
            replier.ingest(&mut ingest, envelope, &reply, []);
            let mut error = Vec::new();
            replier.error(&mut error, envelope, Status::NotFound, "No.");
            for bytes in [ingest, error] {
                assert_eq!(header(&read(&bytes).1, "Connection"), expected);
            }
        }
        assert_eq!(KEEP.closing(), Envelope::CLOSE);
    }

    #[test]
    fn a_204_has_no_body_and_does_not_speak_of_one() {
        let replier = Replier::new(784_111_777, 1);
        for (persistence, field) in [
            (Persistence::Keep, ""),
            (Persistence::KeepHttp10, "Connection: keep-alive\r\n"),
            (Persistence::Close, "Connection: close\r\n"),
        ] {
            let mut out = Vec::new();
            replier.no_content(&mut out, Envelope { persistence, ..KEEP });
            let expected =
                format!("HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n{field}\r\n");
            assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
        }
    }

    #[test]
    fn the_date_follows_the_tick() {
        let mut replier = Replier::new(0, 1);
        replier.tick(784_111_777);
        let reply = IngestReply {
            status: Status::Accepted,
            accepted: 1,
            rejected: 0,
            ack: "memory",
        };
        let mut ingest = Vec::new();
        replier.ingest(&mut ingest, KEEP, &reply, []);
        let mut error = Vec::new();
        replier.error(&mut error, KEEP, Status::NotFound, "No.");
        for bytes in [ingest, error] {
            assert_eq!(
                header(&read(&bytes).1, "Date"),
                Some("Sun, 06 Nov 1994 08:49:37 GMT")
            );
        }
    }

    #[test]
    fn an_error_is_one_sentence_with_the_headers_its_status_asks_for() {
        let replier = Replier::new(0, 7);
        for (status, name, value) in [
            (Status::ServiceUnavailable, "Retry-After", "7"),
            (Status::TooManyRequests, "Retry-After", "7"),
            (
                Status::UnsupportedMediaType,
                "Accept-Encoding",
                "gzip, deflate, zstd, identity",
            ),
        ] {
            let mut out = Vec::new();
            replier.error(&mut out, KEEP, status, format_args!("Say \"{}\" again.", 1));
            let (code, headers, body) = read(&out);
            assert_eq!((code, header(&headers, name)), (status.code(), Some(value)));
            assert_eq!(body, json!({"error": "Say \"1\" again."}));
        }
        let mut out = Vec::new();
        replier.method_not_allowed(&mut out, KEEP, "POST");
        let (code, headers, _) = read(&out);
        assert_eq!((code, header(&headers, "Allow")), (405, Some("POST")));
        assert_eq!(header(&headers, "Retry-After"), None);
    }

    #[test]
    fn a_replayed_reply_is_the_stored_body_and_says_so() {
        let replier = Replier::new(784_111_777, 1);
        let reply = IngestReply {
            status: Status::Ok,
            accepted: 2,
            rejected: 1,
            ack: "inserted",
        };
        let mut body = Vec::new();
        ingest_body(&mut body, &reply, [(1, "no")]);
        for persistence in [Persistence::Keep, Persistence::KeepHttp10, Persistence::Close] {
            let envelope = Envelope { persistence, ..KEEP };
            let (mut first, mut again) = (b"before".to_vec(), b"before".to_vec());
            replier.ingest(&mut first, envelope, &reply, [(1, "no")]);
            replier.replay(&mut again, envelope, Status::Ok, &body);
            let (code, headers, json) = read(&again[6..]);
            assert_eq!(header(&headers, "Idempotent-Replayed"), Some("true"));
            let (first_code, first_headers, first_json) = read(&first[6..]);
            assert_eq!(header(&first_headers, "Idempotent-Replayed"), None);
            assert_eq!((code, json), (first_code, first_json));
            assert_eq!(
                header(&headers, "Connection"),
                header(&first_headers, "Connection")
            );
        }
        let bare = Envelope {
            without_body: true,
            ..KEEP
        };
        let mut out = Vec::new();
        replier.replay(&mut out, bare, Status::Accepted, &body);
        assert!(out.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn every_status_line_carries_its_code() {
        for status in Status::ALL {
            let mut out = Vec::new();
            Replier::new(0, 1).error(&mut out, Envelope::CLOSE, status, "Why.");
            assert_eq!(read(&out).0, status.code());
        }
    }

    #[test]
    fn a_head_request_gets_the_header_without_the_body() {
        let replier = Replier::new(0, 1);
        let (mut whole, mut bare) = (Vec::new(), Vec::new());
        replier.method_not_allowed(&mut whole, KEEP, "POST");
        replier.method_not_allowed(
            &mut bare,
            Envelope {
                without_body: true,
                ..KEEP
            },
            "POST",
        );
        assert!(bare.ends_with(b"\r\n\r\n") && whole.starts_with(&bare) && whole.len() > bare.len());
    }

    #[test]
    fn long_reasons_and_sentences_are_cut_between_characters() {
        let replier = Replier::new(0, 1);
        let long = format!("x{}", "\u{20ac}".repeat(1000));
        let kept = format!("x{}", "\u{20ac}".repeat(170));
        let mut out = Vec::new();
        replier.error(
            &mut out,
            KEEP,
            Status::BadRequest,
            format_args!("{long}{}", "after the cut"),
        );
        assert_eq!(read(&out).2, json!({"error": kept}));
        out.clear();
        let reply = IngestReply {
            status: Status::BadRequest,
            accepted: 0,
            rejected: 9,
            ack: "wal",
        };
        replier.ingest(&mut out, KEEP, &reply, [(0, long.as_str())]);
        assert_eq!(read(&out).2["errors"][0]["reason"], json!(kept));
    }

    proptest! {
        #[test]
        fn every_reply_reads_back_as_what_was_written(
            accepted: u64, rejected: u64, unix_s: u64,
            persistence in prop_oneof![
                Just(Persistence::Keep), Just(Persistence::KeepHttp10), Just(Persistence::Close)
            ],
            status in prop_oneof![Just(Status::Ok), Just(Status::Accepted), Just(Status::BadRequest)],
            errors in prop::collection::vec((any::<u64>(), "\\PC{0,20}|[\\x00-\\x7f]{0,20}"), 0..20),
        ) {
            let replier = Replier::new(unix_s, 1);
            let reply = IngestReply { status, accepted, rejected, ack: "wal" };
            let mut out = Vec::new();
            let envelope = Envelope { persistence, ..KEEP };
            replier.ingest(&mut out, envelope, &reply, errors.iter().map(|(row, text)| (*row, text.as_str())));
            let listed: Vec<_> =
                errors.iter().map(|(row, reason)| json!({"row": row, "reason": reason})).collect();
            let (code, _, body) = read(&out);
            prop_assert_eq!(code, status.code());
            let expected = json!({"accepted": accepted, "rejected": rejected, "ack": "wal", "errors": listed});
            prop_assert_eq!(body, expected);
        }
    }
}
