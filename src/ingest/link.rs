//! What a request comes by: a connection of its own, or one stream of a connection.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::runtime::{Connection, Watch};

use super::http2::Stream;

/// Bytes of requests in, replies out. Both sides of it have the same deadlines.
pub(super) enum Link {
    /// HTTP/1.1: one request after the other.
    Connection(Connection),
    /// HTTP/2: the body of one request.
    Stream(Stream),
}

impl Link {
    /// The deadline shared with the core's tick.
    pub(super) fn watch(&self) -> &Rc<Watch> {
        match self {
            Link::Connection(connection) => connection.watch(),
            Link::Stream(stream) => stream.watch(),
        }
    }

    /// True once the watch has expired; until then the task is woken when it does.
    pub(super) fn poll_deadline(&self, cx: &Context<'_>) -> bool {
        self.watch().poll_expired(cx)
    }

    /// Nothing more can be read. Of a connection that is known only from reading nothing.
    pub(super) fn is_at_end(&self) -> bool {
        match self {
            Link::Connection(_) => false,
            Link::Stream(stream) => stream.is_at_end(),
        }
    }

    /// Reads into `buffer`; 0 is the end of the connection or of the stream.
    ///
    /// # Errors
    /// `TimedOut` when the watch expired, otherwise how it broke.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Link::Connection(connection) => connection.poll_read(cx, buffer),
            Link::Stream(stream) => stream.poll_read(cx, buffer),
        }
    }

    /// See [`Link::poll_read`].
    ///
    /// # Errors
    /// As `poll_read`.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes replies: any number to a connection, one at a time to a stream.
    ///
    /// # Errors
    /// As `poll_read`.
    pub(super) async fn write_all(&mut self, replies: &[u8]) -> io::Result<()> {
        match self {
            Link::Connection(connection) => connection.write_all(replies).await,
            Link::Stream(stream) => stream.reply(replies).await,
        }
    }
}
