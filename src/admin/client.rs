//! Fetches one admin page of a running server.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest page believed: /metrics of hundreds of cores stays far below.
const PAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Time the server may take to accept, and between two pieces of the page.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fetches `path` (with its query) and returns the page. Blocks the thread.
///
/// One HTTP/1.0 request on a connection of its own: the page ends where the connection does (RFC 9112, 6.3).
///
/// # Errors
/// Nobody listens there, or what answers is no admin page.
pub fn fetch(admin: SocketAddr, path: &str) -> Result<String, FetchError> {
    let unreachable = |source| FetchError::Unreachable { admin, source };
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).map_err(unreachable)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(unreachable)?;
    // In one piece: a server may answer and close after the first.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut reply = Vec::new();
    stream
        .take(PAGE_BYTES_MAX)
        .read_to_end(&mut reply)
        .map_err(unreachable)?;
    read_reply(&reply)
}

fn read_reply(reply: &[u8]) -> Result<String, FetchError> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let body = match head.parse(reply) {
        Ok(httparse::Status::Complete(end)) => &reply[end..],
        Ok(httparse::Status::Partial) | Err(_) => return Err(FetchError::NotAPage),
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
            return Err(FetchError::Truncated);
        }
    }
    let page = String::from_utf8(body.to_vec()).map_err(|_| FetchError::NotAPage)?;
    match head.code {
        Some(200) => Ok(page),
        status => Err(FetchError::Refused {
            status: status.unwrap_or(0),
            page,
        }),
    }
}

/// Why a page cannot be shown.
#[derive(Debug)]
pub enum FetchError {
    /// The server does not answer.
    Unreachable {
        /// Where it was asked.
        admin: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
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
            FetchError::NotAPage => f.write_str("what answers there is not ringhouse's admin pages"),
            FetchError::Truncated => f.write_str("the connection ended inside the page"),
            FetchError::Refused { status, page } => write!(f, "the server answered {status}: {page}"),
        }
    }
}

impl std::error::Error for FetchError {}
