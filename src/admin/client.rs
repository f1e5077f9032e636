//! Asks a running server one thing over HTTP.

use super::target::Target;
use crate::access::Token;
use crate::tls::{self, TlsError, Trust};
use rustls::{ClientConnection, StreamOwned};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest page believed: /metrics of hundreds of cores stays far below.
const PAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Time the server may take to accept, and between two pieces of the page.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fetches `path` (with its query) from the admin pages at `admin` and returns the page; `token` is an admin key's, where one is
/// needed. Blocks the thread.
///
/// # Errors
/// Nobody listens there, or what answers is no admin page.
pub fn fetch(admin: impl Into<Target>, path: &str, token: Option<&Token>) -> Result<String, FetchError> {
    let admin = admin.into().with_token(token.copied());
    let unreachable = |source| FetchError::Unreachable {
        admin: admin.authority().to_owned(),
        source,
    };
    let address = admin.address().map_err(unreachable)?;
    match admin.ask(address, "GET", path, &[], b"", PATIENCE) {
        Ok(Reply { status: 200, body }) => Ok(body),
        Ok(Reply { status, body: page }) => Err(FetchError::Refused { status, page }),
        Err(ExchangeError::Io(source)) => Err(unreachable(source)),
        Err(ExchangeError::Tls(error)) => Err(FetchError::Tls(error)),
        Err(ExchangeError::NotHttp) => Err(FetchError::NotAPage),
        Err(ExchangeError::Truncated) => Err(FetchError::Truncated),
    }
}

/// A request, but for its framing.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a str,
    /// Host as a URL has it.
    pub host: &'a str,
    /// Path with its query, percent-encoded.
    pub path: &'a str,
    /// Further headers: name and value.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body; without one no Content-Length is sent.
    pub body: &'a [u8],
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// Sends a request and returns the reply, whatever its status. Blocks the thread.
///
/// One HTTP/1.0 request on a connection of its own: the reply ends where the connection does (RFC 9112, 6.3), and has the length it says. `patience`
/// holds for accepting and between two pieces of the reply. After [`ExchangeError::Io`] and [`ExchangeError::Truncated`]
/// it is unknown whether the server has done what it was asked.
///
/// # Errors
/// Nobody listens there, the connection ends early, or what answers speaks no HTTP.
pub fn exchange(to: SocketAddr, request: &Request<'_>, patience: Duration) -> Result<Reply, ExchangeError> {
    exchange_on(connect(to, patience)?, request)
}

/// As [`exchange`], within TLS with a server that must prove to be `host`.
///
/// # Errors
/// As [`exchange`], and when the files of `trust` cannot be used or the server is not who it should be.
pub(super) fn exchange_within_tls(
    to: SocketAddr,
    trust: &Trust,
    host: &str,
    request: &Request<'_>,
    patience: Duration,
) -> Result<Reply, ExchangeError> {
    let config = trust.config().map_err(ExchangeError::Tls)?;
    let name = tls::server_name(host).map_err(ExchangeError::Tls)?;
    let session =
        ClientConnection::new(config, name).map_err(|error| ExchangeError::Io(tls::failed(&error)))?;
    exchange_on(StreamOwned::new(session, connect(to, patience)?), request)
}

fn connect(to: SocketAddr, patience: Duration) -> Result<TcpStream, ExchangeError> {
    let stream = TcpStream::connect_timeout(&to, patience);
    let stream = stream.and_then(|stream| {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(stream)
    });
    stream.map_err(ExchangeError::Io)
}

fn exchange_on(mut stream: impl Read + Write, request: &Request<'_>) -> Result<Reply, ExchangeError> {
    // In one piece: a server may answer and close after the first.
    let written = stream.write_all(&request.encode()).and_then(|()| stream.flush());
    // A server that does not want the body may answer and close before it has all of it: that is an answer.
    let mut bytes = Vec::new();
    let read = stream.take(PAGE_BYTES_MAX).read_to_end(&mut bytes);
    match (read_reply(&bytes), written.and(read)) {
        (Ok(reply), _) => Ok(reply),
        (Err(_), Err(error)) => Err(ExchangeError::Io(tls::explained(error))),
        (Err(error), Ok(_)) => Err(error),
    }
}

impl Request<'_> {
    fn encode(&self) -> Vec<u8> {
        let Request {
            method,
            host,
            path,
            headers,
            body,
        } = self;
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n");
        for (name, value) in *headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

fn read_reply(reply: &[u8]) -> Result<Reply, ExchangeError> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let body = match head.parse(reply) {
        Ok(httparse::Status::Complete(end)) => &reply[end..],
        Ok(httparse::Status::Partial) | Err(_) => return Err(ExchangeError::NotHttp),
    };
    let length = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    if let Some(header) = length {
        let told = std::str::from_utf8(header.value)
            .ok()
            .and_then(|text| text.parse().ok());
        if told != Some(body.len()) {
            return Err(ExchangeError::Truncated);
        }
    }
    let body = String::from_utf8(body.to_vec()).map_err(|_| ExchangeError::NotHttp)?;
    Ok(Reply {
        status: head.code.unwrap_or(0),
        body,
    })
}

/// Why there is no reply.
#[derive(Debug)]
pub enum ExchangeError {
    /// The server does not answer, or not as who it should be.
    Io(io::Error),
    /// TLS cannot be set up.
    Tls(TlsError),
    /// What answers speaks no HTTP, or no UTF-8.
    NotHttp,
    /// The connection ended inside the reply.
    Truncated,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExchangeError::Io(error) => error.fmt(f),
            ExchangeError::Tls(error) => error.fmt(f),
            ExchangeError::NotHttp => f.write_str("what answers there speaks no HTTP"),
            ExchangeError::Truncated => f.write_str("the connection ended inside the reply"),
        }
    }
}

impl std::error::Error for ExchangeError {}

/// Why a page cannot be shown.
#[derive(Debug)]
pub enum FetchError {
    /// The server does not answer.
    Unreachable {
        /// Where it was asked, `HOST:PORT`.
        admin: String,
        /// What the system says.
        source: io::Error,
    },
    /// TLS cannot be set up.
    Tls(TlsError),
    /// What answers speaks no HTTP, or no UTF-8.
    NotAPage,
    /// The connection ended inside the page.
    Truncated,
    /// The server answers with an error.
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        page: String,
    },
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Unreachable { admin, source } => {
                write!(
                    f,
                    "no answer from the admin pages at {admin} ({source}); is `ringhouse serve` running, with this --admin?"
                )
            }
            FetchError::Tls(error) => error.fmt(f),
            FetchError::NotAPage => f.write_str("what answers there is not ringhouse's admin pages"),
            FetchError::Truncated => f.write_str("the connection ended inside the page"),
            FetchError::Refused { status, page } => write!(f, "the server answered {status}: {page}"),
        }
    }
}

impl std::error::Error for FetchError {}
