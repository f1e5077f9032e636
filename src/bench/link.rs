//! One connection of the load: sends requests, and says what became of each.

mod http2;
mod ordered;
mod outgoing;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;

use self::http2::Http2;
use self::ordered::{Ordered, Replies};
use super::reply::{Expected, Verdict};
use super::request::RequestPlan;
use super::wire::Wire;

/// Time to connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A request that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    /// When it was due, in nanoseconds since the start of the run.
    pub due_ns: u64,
    /// Number of its first row.
    pub first: u64,
    /// Length of its body before it was compressed.
    pub body_bytes: usize,
    /// Length of it as it was written; over HTTP/2 without what frames and fields take.
    pub wire_bytes: usize,
    /// How often it was refused.
    pub refusals: u32,
}

/// Requests that are done with, and how.
pub type Settled = Vec<(Flight, Verdict)>;

/// A connection to `address` that does not block.
///
/// # Errors
/// It cannot be made.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// A connection, in what is spoken on it.
pub enum Link {
    /// Requests are answered in their order, or not at all.
    Ordered(Ordered),
    /// HTTP/2.
    Http2(Box<Http2>),
}

impl Link {
    /// Over `stream`, which leads to `address` and does not block; replies must be as `expected`.
    ///
    /// # Errors
    /// HTTP/2 cannot be begun on it.
    pub fn new(
        stream: TcpStream,
        address: SocketAddr,
        requests: &RequestPlan,
        expected: &Expected,
    ) -> io::Result<Link> {
        let replies = match requests.wire {
            Wire::Http1 => Replies::Http(expected.clone()),
            Wire::Forward => Replies::Acks {
                run: requests.run.clone(),
                rows: requests.rows as u64,
            },
            Wire::OneWay => Replies::None,
            Wire::Http2 | Wire::Grpc => {
                let head = requests.http2_head();
                return Ok(Link::Http2(Box::new(Http2::new(stream, head, expected.clone())?)));
            }
        };
        Ok(Link::Ordered(Ordered::new(stream, address, replies)))
    }

    /// Requests that are on their way.
    pub fn in_flight(&self) -> usize {
        match self {
            Link::Ordered(link) => link.in_flight(),
            Link::Http2(link) => link.in_flight(),
        }
    }

    /// Sends `request`, the bytes of `flight`, as far as the socket takes them.
    ///
    /// # Errors
    /// The connection broke; one sentence.
    pub fn send(&mut self, flight: Flight, request: &[u8], settled: &mut Settled) -> Result<(), String> {
        match self {
            Link::Ordered(link) => link.send(flight, request, settled),
            Link::Http2(link) => link.send(flight, request, settled),
        }
    }

    /// Does what the socket is ready for, which may be another one afterwards: see [`Link::was_opened_anew`].
    ///
    /// # Errors
    /// The connection broke, or what came is no reply; one sentence.
    pub fn serve(
        &mut self,
        flags: EventFlags,
        scratch: &mut [u8],
        settled: &mut Settled,
    ) -> Result<(), String> {
        match self {
            Link::Ordered(link) => link.serve(flags, scratch, settled),
            Link::Http2(link) => link.serve(settled),
        }
    }

    /// Whether there is more to write than the socket takes now.
    pub fn waits_to_write(&self) -> bool {
        match self {
            Link::Ordered(link) => link.waits_to_write(),
            Link::Http2(link) => link.waits_to_write(),
        }
    }

    /// Whether the server has ended the connection behind a reply since this was asked last, and there is a new one.
    pub fn was_opened_anew(&mut self) -> bool {
        match self {
            Link::Ordered(link) => link.was_opened_anew(),
            Link::Http2(_) => false,
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Link::Ordered(link) => link.as_fd(),
            Link::Http2(link) => link.as_fd(),
        }
    }
}

fn broken(error: io::Error) -> String {
    format!("a connection broke, and what became of its rows is not known: {error}")
}
