//! A TCP connection of one core, whose reads and writes have a deadline.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};

/// When a connection's current read or write must have made progress, and who to wake when it has not.
///
/// A connection shares its watch with the core's tick, which is what compares deadlines with the clock: a
/// timer per read would cost more than the read.
#[derive(Debug, Default)]
pub struct Watch {
    deadline_ms: Cell<u64>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// Sets the moment (the core's clock, milliseconds) by which progress is due; `u64::MAX` is never.
    pub fn set_deadline(&self, at_ms: u64) {
        self.deadline_ms.set(at_ms);
        self.expired.set(false);
    }

    /// Expires the watch when its deadline has passed: the pending read or write returns `TimedOut`.
    pub fn check(&self, now_ms: u64) {
        if now_ms >= self.deadline_ms.get() {
            self.expire();
        }
    }

    /// Ends the pending read or write with `TimedOut`, whatever the deadline.
    pub fn expire(&self) {
        self.expired.set(true);
        self.wake();
    }

    /// Has the connection's task look again at what it waits for.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn poll_expired(&self, cx: &Context<'_>) -> bool {
        if self.expired.get() {
            return true;
        }
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
        false
    }
}

/// One TCP connection of this core.
pub struct Connection {
    stream: glommio::net::TcpStream,
    watch: Rc<Watch>,
}

impl Connection {
    pub(super) fn new(stream: glommio::net::TcpStream) -> Self {
        // Replies are written whole; waiting for more to fill a segment only adds latency.
        let _ = stream.set_nodelay(true);
        let watch = Rc::new(Watch::default());
        watch.set_deadline(u64::MAX);
        Connection { stream, watch }
    }

    /// Connects to `address` within `timeout`.
    ///
    /// # Errors
    /// Refused, unreachable, timed out.
    pub async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = glommio::net::TcpStream::connect_timeout(address, timeout)
            .await
            .map_err(io::Error::from)?;
        Ok(Connection::new(stream))
    }

    /// The deadline shared with the core's tick.
    pub fn watch(&self) -> &Rc<Watch> {
        &self.watch
    }

    /// True once the watch has expired; until then the task is woken when it does.
    pub fn poll_deadline(&self, cx: &Context<'_>) -> bool {
        self.watch.poll_expired(cx)
    }

    /// Reads into `buffer`; 0 is end of stream.
    ///
    /// # Errors
    /// `TimedOut` when the watch expired, otherwise the socket's error.
    ///
    /// # Panics
    /// When `buffer` is empty: a read of nothing looks like end of stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        assert!(!buffer.is_empty(), "a read into nothing looks like end of stream");
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending if self.watch.poll_expired(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    }

    /// See [`Connection::poll_read`].
    ///
    /// # Errors
    /// As `poll_read`.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes some of `buffer`.
    ///
    /// # Errors
    /// `TimedOut` when the watch expired, otherwise the socket's error.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buffer) {
            Poll::Pending if self.watch.poll_expired(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    }

    /// Writes all of `buffer`.
    ///
    /// # Errors
    /// As `poll_write`; `WriteZero` when the peer takes nothing more.
    pub async fn write_all(&mut self, mut buffer: &[u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match poll_fn(|cx| self.poll_write(cx, buffer)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => buffer = &buffer[written..],
            }
        }
        Ok(())
    }

    /// Ends the sending direction, so that the peer sees everything written and then end of stream.
    pub async fn close_write(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write).await;
    }
}
