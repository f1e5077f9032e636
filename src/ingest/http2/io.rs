//! The socket of a connection as `h2` reads and writes it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::receive_buffer::ReceiveBuffer;
use crate::ingest::Core;
use crate::runtime::Connection;

use super::frames::Frames;

/// Bytes read before the core's other tasks have their turn: `h2` goes on for as long as there are any.
const TURN_BYTES: usize = 64 * 1024;

/// A socket that `h2` owns and its connection's task looks at.
///
/// It never fails for a deadline: the task decides what one means for the connection.
pub(super) struct Io(Rc<Socket>);

/// What both share.
pub(super) struct Socket {
    core: Rc<Core>,
    connection: RefCell<Connection>,
    /// What was received before the protocol was known.
    received: RefCell<Option<ReceiveBuffer>>,
    frames: RefCell<Frames>,
    incomplete_since_ms: Cell<Option<u64>>,
    blocked_since_ms: Cell<Option<u64>>,
    turn_bytes: Cell<usize>,
}

impl Socket {
    pub(super) fn new(core: Rc<Core>, connection: Connection, received: ReceiveBuffer) -> Rc<Socket> {
        Rc::new(Socket {
            core,
            connection: RefCell::new(connection),
            received: RefCell::new(Some(received)),
            frames: RefCell::new(Frames::new()),
            incomplete_since_ms: Cell::new(None),
            blocked_since_ms: Cell::new(None),
            turn_bytes: Cell::new(0),
        })
    }

    pub(super) fn io(self: &Rc<Self>) -> Io {
        Io(Rc::clone(self))
    }

    /// Since when a frame or a header block is incomplete.
    pub(super) fn incomplete_since_ms(&self) -> Option<u64> {
        self.incomplete_since_ms.get()
    }

    /// Since when the peer takes nothing.
    pub(super) fn blocked_since_ms(&self) -> Option<u64> {
        self.blocked_since_ms.get()
    }

    /// True when `at_ms` has passed; until then the task is woken when it does, or when the core drains.
    pub(super) fn poll_deadline(&self, cx: &Context<'_>, at_ms: u64) -> bool {
        let connection = self.connection.borrow();
        connection.watch().set_deadline(at_ms);
        self.core.coarse_ms.get() >= at_ms || connection.poll_deadline(cx)
    }

    /// The connection, once `h2` is done with it.
    pub(super) fn into_connection(self: Rc<Self>) -> Option<Connection> {
        Rc::into_inner(self).map(|socket| socket.connection.into_inner())
    }

    fn note_write<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let written = without_deadline(written);
        self.blocked_since_ms.set(match written {
            Poll::Ready(_) => None,
            Poll::Pending => self.blocked_since_ms.get().or(Some(self.core.coarse_ms.get())),
        });
        written
    }

    fn note_read(&self, bytes: &[u8]) {
        let mut frames = self.frames.borrow_mut();
        let ended = frames.take(bytes);
        self.incomplete_since_ms
            .set(match self.incomplete_since_ms.get() {
                _ if frames.is_between() => None,
                Some(since_ms) if !ended => Some(since_ms),
                _ => Some(self.core.coarse_ms.get()),
            });
    }
}

/// What a deadline ended has not ended: the task decides.
fn without_deadline<T>(polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    match polled {
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Poll::Pending,
        polled => polled,
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = &*self.0;
        let mut received = socket.received.borrow_mut();
        if let Some(buffer) = received.as_mut() {
            let bytes = buffer.unread().len().min(out.remaining());
            out.put_slice(&buffer.unread()[..bytes]);
            socket.note_read(&buffer.unread()[..bytes]);
            buffer.consume(bytes);
            if buffer.unread().is_empty() {
                *received = None;
            }
            return Poll::Ready(Ok(()));
        }
        if socket.turn_bytes.get() >= TURN_BYTES {
            socket.turn_bytes.set(0);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let spare = out.initialize_unfilled();
        let read = without_deadline(socket.connection.borrow_mut().poll_read(cx, spare));
        if read.is_pending() {
            socket.turn_bytes.set(0);
        }
        let bytes = ready!(read)?;
        socket.turn_bytes.set(socket.turn_bytes.get() + bytes);
        socket.note_read(&spare[..bytes]);
        out.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.0.connection.borrow_mut().poll_write(cx, bytes);
        self.0.note_write(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.0.connection.borrow_mut().poll_flush(cx);
        self.0.note_write(flushed)
    }

    /// Ends nothing: the connection's task does, with time for the peer to read what was written.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
