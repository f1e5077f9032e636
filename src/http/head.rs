//! Parses a request head in place, refusing everything two parsers could read differently.
//!
//! `httparse` splits the lines; this file adds what RFC 9112 asks of a server and what request smuggling
//! needs to be refused: every line ends in CRLF, at most one Content-Length of digits only, never beside
//! Transfer-Encoding, which must be exactly `chunked`. Where the RFC lets a server choose between repair and
//! refusal it refuses: a proxy before us may have repaired it the other way.

use std::fmt;
use std::mem::MaybeUninit;

use crate::http::encodings::Encoding;
use crate::http::reply::{Envelope, Persistence};
use crate::http::status::Status;
use crate::limits::Limits;

/// What a parser found in a prefix of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse<T> {
    /// The item, and how many bytes it took.
    Complete(usize, T),
    /// More bytes are needed; parse again from the same start.
    Partial,
}

/// How the end of a body is known. RFC 9112 section 6.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body: neither Content-Length nor Transfer-Encoding was sent.
    None,
    /// So many bytes.
    Length(u64),
    /// Until the chunk of size zero.
    Chunked,
    /// Until the stream ends, after so many bytes if that was said. RFC 9113 section 8.1.
    Stream(Option<u64>),
    /// One message of gRPC, and with it the stream.
    OnlyMessage,
    /// One message of gRPC out of many.
    OneMessage,
}

impl Framing {
    /// The bytes of the body, if they were said before it.
    pub fn length(self) -> Option<u64> {
        match self {
            Framing::None => Some(0),
            Framing::Length(bytes) => Some(bytes),
            Framing::Stream(bytes) => bytes,
            Framing::Chunked | Framing::OnlyMessage | Framing::OneMessage => None,
        }
    }
}

/// A request head; borrows the receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'b> {
    /// Method as sent; case matters.
    pub method: &'b str,
    /// Path, still percent-encoded: begins with `/`, or is `*` for OPTIONS.
    pub path: &'b str,
    /// Query without its `?`, still percent-encoded; empty when there is none.
    pub query: &'b str,
    /// Minor version of HTTP/1: 0 or 1.
    pub minor: u8,
    /// Where the body ends.
    pub framing: Framing,
    /// Content coding of the body.
    pub encoding: Encoding,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// What becomes of the connection after the reply.
    pub persistence: Persistence,
    /// Content-Type, empty when absent.
    pub content_type: &'b [u8],
    /// X-Ringhouse-Ack.
    pub ack: Option<&'b [u8]>,
    /// Idempotency-Key without its quotes: 1 to [`IDEMPOTENCY_KEY_BYTES_MAX`] bytes of visible ASCII.
    pub idempotency_key: Option<&'b [u8]>,
    fields: &'b [u8],
}

impl<'b> Head<'b> {
    /// The value of the first header of this name (any case), without surrounding blanks.
    ///
    /// Walks the head again: meant for headers few requests have.
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        let mut headers = self.headers();
        let (_, value) = headers.find(|(header, _)| header.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(value)
    }

    /// Name as sent and value without surrounding blanks of every header, in the order they were sent.
    ///
    /// Walks the head again.
    pub fn headers(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + use<'b> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\n', rest)?;
            let (line, next) = rest.split_at(end + 1);
            // The empty line behind the last header has none.
            let colon = memchr::memchr(b':', line)?;
            rest = next;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// What the reply needs to know of this request.
    pub fn envelope(&self) -> Envelope {
        Envelope {
            persistence: self.persistence,
            without_body: self.method == "HEAD",
            rate_limit: None,
        }
    }
}

/// Why a head is refused. The connection ends after the reply: where the next request would start is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// The request line alone is longer than the limit.
    RequestLineTooLong {
        /// `Limits::head_bytes_max`.
        bytes_max: usize,
    },
    /// Request line and headers are longer than the limit.
    HeadTooLong {
        /// `Limits::head_bytes_max`.
        bytes_max: usize,
    },
    /// More headers than the limit.
    TooManyHeaders {
        /// `Limits::headers_max`.
        headers_max: usize,
    },
    /// Method, target or version is malformed, or more than one blank separates them.
    RequestLine,
    /// HTTP, but neither 1.0 nor 1.1.
    Version,
    /// A line does not end in CRLF, or a CR stands alone.
    LineEnd,
    /// A header name holds a byte that is not allowed; also a folded line and a blank before the colon.
    HeaderName,
    /// A header value holds a control character.
    HeaderValue,
    /// The target is neither a path, an http(s) URI nor OPTIONS' `*`.
    Target,
    /// HTTP/1.1 without Host.
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// Host holds a byte no host name has.
    HostInvalid,
    /// Content-Length is not digits only, or does not fit 64 bits.
    ContentLengthInvalid,
    /// More than one Content-Length, equal or not.
    ContentLengthRepeated,
    /// Content-Length and Transfer-Encoding together.
    ContentLengthWithTransferEncoding,
    /// Transfer-Encoding in an HTTP/1.0 request.
    TransferEncodingInHttp10,
    /// Transfer-Encoding that does not end in one `chunked`, or is repeated.
    TransferEncodingInvalid,
    /// A transfer coding before `chunked`.
    TransferCodingUnsupported,
    /// Content-Encoding that is not supported.
    EncodingUnknown,
    /// More than one content coding.
    EncodingStacked,
    /// Expect with something other than `100-continue`.
    Expectation,
    /// Idempotency-Key is empty, has a byte that is not visible ASCII, or quotes that do not match.
    IdempotencyKeyInvalid,
    /// Idempotency-Key is longer than [`IDEMPOTENCY_KEY_BYTES_MAX`].
    IdempotencyKeyTooLong,
    /// More than one Idempotency-Key, equal or not.
    IdempotencyKeyRepeated,
    /// Content-Length is above the limit.
    BodyTooLong {
        /// `Limits::body_bytes_max`.
        bytes_max: u64,
    },
}

impl HeadError {
    /// The status the reply carries.
    pub fn status(&self) -> Status {
        match self {
            HeadError::RequestLineTooLong { .. } => Status::UriTooLong,
            HeadError::HeadTooLong { .. } | HeadError::TooManyHeaders { .. } => Status::HeaderFieldsTooLarge,
            HeadError::Version => Status::VersionNotSupported,
            HeadError::TransferCodingUnsupported => Status::NotImplemented,
            HeadError::EncodingUnknown | HeadError::EncodingStacked => Status::UnsupportedMediaType,
            HeadError::Expectation => Status::ExpectationFailed,
            HeadError::BodyTooLong { .. } => Status::ContentTooLarge,
            _ => Status::BadRequest,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeadError::RequestLineTooLong { bytes_max } => {
                return write!(f, "The request line is longer than {bytes_max} bytes; shorten the URL.");
            }
            HeadError::HeadTooLong { bytes_max } => {
                return write!(
                    f,
                    "The request head is longer than {bytes_max} bytes; send fewer or shorter headers."
                );
            }
            HeadError::TooManyHeaders { headers_max } => {
                return write!(f, "The request has more than {headers_max} headers; send fewer.");
            }
            HeadError::BodyTooLong { bytes_max } => {
                return write!(f, "The body is longer than {bytes_max} bytes; split it into several requests.");
            }
            HeadError::RequestLine => {
                "The request line is malformed; send METHOD, path and HTTP/1.1 with one blank between them."
            }
            HeadError::Version => "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
            HeadError::LineEnd => "A line of the request head does not end in CRLF; end each one in CRLF.",
            HeadError::HeaderName => {
                "A header line is malformed: it is folded, lacks its colon, has a blank before it or a byte no header name has."
            }
            HeadError::HeaderValue => "A header value holds a control character; remove it.",
            HeadError::Target => "The request target is not a path; send one that begins with a slash, percent-encoded.",
            HeadError::HostMissing => "The Host header is missing; HTTP/1.1 requires it.",
            HeadError::HostRepeated => "The Host header is sent more than once; send it once.",
            HeadError::HostInvalid => "The Host header is not a host name.",
            HeadError::ContentLengthInvalid => "Content-Length is not a decimal number; send digits only.",
            HeadError::ContentLengthRepeated => "Content-Length is sent more than once; send it once.",
            HeadError::ContentLengthWithTransferEncoding => {
                "Content-Length and Transfer-Encoding are sent together; send one of them."
            }
            HeadError::TransferEncodingInHttp10 => {
                "Transfer-Encoding is not part of HTTP/1.0; send Content-Length or speak HTTP/1.1."
            }
            HeadError::TransferEncodingInvalid => "Transfer-Encoding is not chunked; send exactly that, once.",
            HeadError::TransferCodingUnsupported => {
                "Transfer-Encoding names a coding before chunked; compress with Content-Encoding instead."
            }
            HeadError::EncodingUnknown => {
                "The Content-Encoding is not supported; send gzip, deflate, zstd or identity."
            }
            HeadError::EncodingStacked => {
                "More than one Content-Encoding is not supported; compress the body once."
            }
            HeadError::Expectation => "The expectation is not known; the only one supported is 100-continue.",
            HeadError::IdempotencyKeyInvalid => {
                "The Idempotency-Key is empty or holds a blank, a quote or a byte outside ASCII; send a UUID, for example."
            }
            HeadError::IdempotencyKeyTooLong => {
                return write!(
                    f,
                    "The Idempotency-Key is longer than {IDEMPOTENCY_KEY_BYTES_MAX} bytes; send a UUID, for example."
                );
            }
            HeadError::IdempotencyKeyRepeated => "Idempotency-Key is sent more than once; send it once.",
        })
    }
}

impl std::error::Error for HeadError {}

/// Headers the array on the stack has room for; `Limits::headers_max` above it has no effect.
pub const HEADERS_CAPACITY: usize = 128;

/// Bytes of an Idempotency-Key without its quotes; a UUID has 36.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// Empty lines skipped before a request line. RFC 9112 section 2.2 asks for one, some clients of old sent
/// one after each body; more than a few is no client.
const LEADING_EMPTY_LINES_MAX: usize = 4;

/// Parses the head at the start of `buffer`.
///
/// `Complete` says how many bytes head and skipped empty lines took; the body starts there. The answer does
/// not depend on how many bytes follow the head. Takes no more than `Limits::head_bytes_max` bytes into view.
pub fn parse_head<'b>(buffer: &'b [u8], limits: &Limits) -> Result<Parse<Head<'b>>, HeadError> {
    let Some(skipped) = leading_empty_lines(buffer)? else {
        return Ok(Parse::Partial);
    };
    let seen = &buffer[skipped..buffer.len().min(limits.head_bytes_max.max(skipped))];
    let mut storage = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
    let headers = &mut storage[..limits.headers_max.min(HEADERS_CAPACITY)];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(seen, headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() < limits.head_bytes_max => return Ok(Parse::Partial),
        Ok(httparse::Status::Partial) if memchr::memchr(b'\n', seen).is_none() => {
            return Err(HeadError::RequestLineTooLong {
                bytes_max: limits.head_bytes_max,
            });
        }
        Ok(httparse::Status::Partial) => {
            return Err(HeadError::HeadTooLong {
                bytes_max: limits.head_bytes_max,
            });
        }
        Err(error) => return Err(explain(error, seen, limits)),
    };
    let lines = &seen[..length];
    if !every_line_ends_in_crlf(lines) {
        return Err(HeadError::LineEnd);
    }
    let head = Reader::read(&request, lines, limits)?;
    Ok(Parse::Complete(skipped + length, head))
}

/// Bytes of empty lines before the request line; `None` when that cannot be told yet.
fn leading_empty_lines(buffer: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut skipped = 0;
    loop {
        match &buffer[skipped..] {
            [b'\r', b'\n', ..] if skipped == 2 * LEADING_EMPTY_LINES_MAX => {
                return Err(HeadError::RequestLine);
            }
            [b'\r', b'\n', ..] => skipped += 2,
            [] | [b'\r'] => return Ok(None),
            [b'\r' | b'\n', ..] => return Err(HeadError::LineEnd),
            _ => return Ok(Some(skipped)),
        }
    }
}

/// httparse takes a bare LF for a line end, as RFC 9112 section 2.2 allows. A proxy that does not would see
/// one header where we saw two, and two ideas of where the body ends.
fn every_line_ends_in_crlf(lines: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', lines).all(|at| at > 0 && lines[at - 1] == b'\r')
}

fn explain(error: httparse::Error, seen: &[u8], limits: &Limits) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::HeaderName,
        httparse::Error::HeaderValue => HeadError::HeaderValue,
        httparse::Error::NewLine => HeadError::LineEnd,
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders {
            headers_max: limits.headers_max.min(HEADERS_CAPACITY),
        },
        httparse::Error::Version if names_http(seen) => HeadError::Version,
        httparse::Error::Version | httparse::Error::Token | httparse::Error::Status => HeadError::RequestLine,
    }
}

/// Whether the third word of the request line is `HTTP/` and a digit: another version rather than nonsense.
fn names_http(seen: &[u8]) -> bool {
    let version = seen.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    version.starts_with(b"HTTP/") && version.get(5).is_some_and(u8::is_ascii_digit)
}

/// Collects what the headers say, in one pass over them.
struct Reader<'b> {
    length: Option<u64>,
    host: bool,
    transfer: Transfer,
    encoding: Option<Encoding>,
    expect: bool,
    close: bool,
    keep_alive: bool,
    content_type: &'b [u8],
    ack: Option<&'b [u8]>,
    idempotency_key: Option<&'b [u8]>,
}

#[derive(PartialEq)]
enum Transfer {
    None,
    Chunked,
}

impl<'b> Reader<'b> {
    fn read(
        request: &httparse::Request<'_, 'b>,
        lines: &'b [u8],
        limits: &Limits,
    ) -> Result<Head<'b>, HeadError> {
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
        else {
            return Err(HeadError::RequestLine);
        };
        let (path, query) = path_and_query(method, target)?;
        let mut reader = Reader {
            length: None,
            host: false,
            transfer: Transfer::None,
            encoding: None,
            expect: false,
            close: false,
            keep_alive: false,
            content_type: b"",
            ack: None,
            idempotency_key: None,
        };
        for header in &*request.headers {
            reader.header(header.name.as_bytes(), header.value)?;
        }
        let framing = reader.framing(minor, limits)?;
        if minor == 1 && !reader.host {
            return Err(HeadError::HostMissing);
        }
        let request_line = memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
        Ok(Head {
            method,
            path,
            query,
            minor,
            framing,
            encoding: reader.encoding.unwrap_or(Encoding::Identity),
            // RFC 9110 section 10.1.1: a server ignores the expectation of an HTTP/1.0 client.
            expect_continue: reader.expect && minor == 1,
            persistence: reader.persistence(minor),
            content_type: reader.content_type,
            ack: reader.ack,
            idempotency_key: reader.idempotency_key,
            fields: &lines[request_line..],
        })
    }

    fn header(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), HeadError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            4 if is("host") => self.host(value),
            6 if is("expect") => self.expect(value),
            10 if is("connection") => {
                self.connection(value);
                Ok(())
            }
            12 if is("content-type") => {
                self.content_type = value;
                Ok(())
            }
            14 if is("content-length") => self.content_length(value),
            15 if is("x-ringhouse-ack") => {
                self.ack = Some(value);
                Ok(())
            }
            15 if is("idempotency-key") => self.idempotency_key(value),
            16 if is("content-encoding") => self.content_encoding(value),
            17 if is("transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.host {
            return Err(HeadError::HostRepeated);
        }
        self.host = true;
        if !value.iter().all(|&byte| HOST_BYTES[byte as usize]) {
            return Err(HeadError::HostInvalid);
        }
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HeadError::Expectation);
        }
        self.expect = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for token in list(value) {
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        // RFC 9112 section 6.3 allows to take equal repetitions as one; nobody sends them without intent.
        if self.length.is_some() {
            return Err(HeadError::ContentLengthRepeated);
        }
        let mut length = 0u64;
        for &byte in value {
            if !byte.is_ascii_digit() {
                return Err(HeadError::ContentLengthInvalid);
            }
            length = length
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
                .ok_or(HeadError::ContentLengthInvalid)?;
        }
        if value.is_empty() {
            return Err(HeadError::ContentLengthInvalid);
        }
        self.length = Some(length);
        Ok(())
    }

    fn content_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for token in list(value) {
            let encoding = Encoding::from_token(token).ok_or(HeadError::EncodingUnknown)?;
            match self.encoding {
                None | Some(Encoding::Identity) => self.encoding = Some(encoding),
                Some(_) if encoding == Encoding::Identity => {}
                Some(_) => return Err(HeadError::EncodingStacked),
            }
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.transfer == Transfer::Chunked {
            return Err(HeadError::TransferEncodingInvalid);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.transfer = Transfer::Chunked;
            return Ok(());
        }
        // `gzip, chunked` is well framed, we only lack the coding; `chunked, chunked` and `gzip` are not.
        let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).rev();
        let last_is_chunked = codings
            .next()
            .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
        let well_framed = last_is_chunked
            && codings.all(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"chunked"));
        match well_framed {
            true => Err(HeadError::TransferCodingUnsupported),
            false => Err(HeadError::TransferEncodingInvalid),
        }
    }

    /// Takes both what the draft asks for, a string in quotes (draft-ietf-httpapi-idempotency-key-header section
    /// 2.1), and what most clients send, the bare key: `"k"` and `k` are one key.
    fn idempotency_key(&mut self, value: &'b [u8]) -> Result<(), HeadError> {
        if self.idempotency_key.is_some() {
            return Err(HeadError::IdempotencyKeyRepeated);
        }
        let key = match value {
            [b'"', key @ .., b'"'] => key,
            bare => bare,
        };
        // A key with its quotes escaped would need a copy, and a quote inside is mostly a second key or a
        // parameter behind the first. Two headers that a proxy joined have a blank after their comma.
        if key.is_empty() || !key.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"') {
            return Err(HeadError::IdempotencyKeyInvalid);
        }
        if key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(HeadError::IdempotencyKeyTooLong);
        }
        self.idempotency_key = Some(key);
        Ok(())
    }

    fn framing(&self, minor: u8, limits: &Limits) -> Result<Framing, HeadError> {
        match (&self.transfer, self.length) {
            (Transfer::Chunked, Some(_)) => Err(HeadError::ContentLengthWithTransferEncoding),
            (Transfer::Chunked, None) if minor == 0 => Err(HeadError::TransferEncodingInHttp10),
            (Transfer::Chunked, None) => Ok(Framing::Chunked),
            (Transfer::None, Some(length)) if length > limits.body_bytes_max => Err(HeadError::BodyTooLong {
                bytes_max: limits.body_bytes_max,
            }),
            (Transfer::None, Some(length)) => Ok(Framing::Length(length)),
            (Transfer::None, None) => Ok(Framing::None),
        }
    }

    fn persistence(&self, minor: u8) -> Persistence {
        match (self.close, minor) {
            (true, _) => Persistence::Close,
            (false, 1) => Persistence::Keep,
            (false, _) if self.keep_alive => Persistence::KeepHttp10,
            (false, _) => Persistence::Close,
        }
    }
}

/// The non-empty elements of a comma-separated list (RFC 9110 section 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Splits a request target (RFC 9112 section 3.2) into path and query.
///
/// An absolute URI is taken as its path: a server must accept that form, and we serve one site only.
fn path_and_query<'b>(method: &str, target: &'b str) -> Result<(&'b str, &'b str), HeadError> {
    if target == "*" && method == "OPTIONS" {
        return Ok((target, ""));
    }
    if target.bytes().any(|byte| byte == b'#' || !byte.is_ascii()) {
        return Err(HeadError::Target);
    }
    let origin = if target.starts_with('/') {
        target
    } else {
        origin_of_absolute(target)?
    };
    let (path, query) = match memchr::memchr(b'?', origin.as_bytes()) {
        Some(mark) => (&origin[..mark], &origin[mark + 1..]),
        None => (origin, ""),
    };
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// What follows the authority of an http or https URI: empty, or beginning with `/` or `?`.
fn origin_of_absolute(target: &str) -> Result<&str, HeadError> {
    let (scheme, rest) = target.split_once("://").ok_or(HeadError::Target)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(HeadError::Target);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    if end == 0 || !rest[..end].bytes().all(|byte| HOST_BYTES[byte as usize]) {
        return Err(HeadError::Target);
    }
    Ok(&rest[end..])
}

/// Bytes of `uri-host [ ":" port ]`: unreserved, sub-delims, percent-encoding, and `:[]` for ports and IPv6
/// (RFC 3986 section 3.2.2). No `@`: user information is not part of Host, and a trick elsewhere.
static HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~!$&'()*+,;=%:[]";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests;
