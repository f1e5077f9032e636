//! A TCP connection of one core, plain or TLS, whose reads and writes have a deadline.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::tls::{self, Session, Taken};

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

    /// True once expired; until then the task is woken when it does.
    pub fn poll_expired(&self, cx: &Context<'_>) -> bool {
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

/// One TCP connection of this core. It is plain until a handshake has made it TLS.
pub struct Connection {
    stream: TcpStream,
    tls: Option<Box<Session>>,
    watch: Rc<Watch>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Replies are written whole; waiting for more to fill a segment only adds latency.
        let _ = stream.set_nodelay(true);
        let watch = Rc::new(Watch::default());
        watch.set_deadline(u64::MAX);
        Connection {
            stream,
            tls: None,
            watch,
        }
    }

    /// Connects to `address` within `timeout`.
    ///
    /// # Errors
    /// Refused, unreachable, timed out.
    pub async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(address, timeout)
            .await
            .map_err(io::Error::from)?;
        Ok(Connection::new(stream))
    }

    /// The accepting side's TLS handshake, by the watch's deadline. Everything read and written later is inside the session.
    ///
    /// # Errors
    /// `TimedOut`, the socket's, `UnexpectedEof` when the peer leaves, `InvalidData` when it is refused: it has been
    /// told why then, and the connection is plain still, fit for nothing but [`Connection::close_write`].
    pub async fn accept_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let session = Session::server(config).map_err(|error| tls::failed(&error))?;
        self.shake_hands(session).await
    }

    /// The connecting side's TLS handshake, by the watch's deadline; the peer must prove to be `name`.
    ///
    /// # Errors
    /// As [`Connection::accept_tls`].
    pub async fn connect_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        let session = Session::client(config, name).map_err(|error| tls::failed(&error))?;
        self.shake_hands(session).await
    }

    async fn shake_hands(&mut self, session: Session) -> io::Result<()> {
        let mut session = Box::new(session);
        poll_fn(|cx| self.poll_handshake(cx, &mut session)).await?;
        self.tls = Some(session);
        Ok(())
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<io::Result<()>> {
        loop {
            // The peer waits for it; and what it could make us say stays bounded.
            ready!(poll_send(&mut self.stream, session, &self.watch, cx))?;
            if !session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if let Err(refusal) = session.shake_hands() {
                // As far as the socket takes it at once: a peer that does not listen is not waited for.
                let _ = poll_send(&mut self.stream, session, &self.watch, cx);
                return Poll::Ready(Err(refusal));
            }
            if session.is_handshaking()
                && !session.wants_send()
                && ready!(poll_receive(&mut self.stream, session, &self.watch, cx))? == 0
            {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The certificate the peer has proven to be its own, in DER; `None` also when the connection is plain.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.peer_certificate()
    }

    /// The protocol agreed on by ALPN; `None` also when the connection is plain.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.alpn()
    }

    /// Whether what is read and written is inside a TLS session.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Address of the other end.
    ///
    /// # Errors
    /// The socket's: the other end may be gone already.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr().map_err(io::Error::from)
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
    /// `TimedOut` when the watch expired, otherwise the socket's error. In a TLS session `UnexpectedEof` when the stream
    /// ended and the peer has not said that it would: somebody else may have cut it there.
    ///
    /// # Panics
    /// When `buffer` is empty: a read of nothing looks like end of stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        assert!(!buffer.is_empty(), "a read into nothing looks like end of stream");
        let Some(session) = &mut self.tls else {
            return match Pin::new(&mut self.stream).poll_read(cx, buffer) {
                Poll::Pending if self.watch.poll_expired(cx) => {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
                other => other,
            };
        };
        loop {
            let taken = session.read(buffer);
            // What was written before, and what the session itself has to say. Reading does not wait for it.
            let sent = match session.wants_send() {
                true => poll_send(&mut self.stream, session, &self.watch, cx),
                false => Poll::Ready(Ok(())),
            };
            match taken? {
                Taken::Bytes(bytes) => return Poll::Ready(Ok(bytes)),
                Taken::End => return Poll::Ready(Ok(0)),
                Taken::Nothing => {
                    if let Poll::Ready(sent) = sent {
                        sent?;
                    }
                    ready!(poll_receive(&mut self.stream, session, &self.watch, cx))?;
                }
            }
        }
    }

    /// See [`Connection::poll_read`].
    ///
    /// # Errors
    /// As `poll_read`.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes some of `buffer`. In a TLS session up to one record may still lie here afterwards; the next call of this, of
    /// `poll_read` or of `poll_flush` sends it.
    ///
    /// # Errors
    /// `TimedOut` when the watch expired, otherwise the socket's error.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let Some(session) = &mut self.tls else {
            return match Pin::new(&mut self.stream).poll_write(cx, buffer) {
                Poll::Pending if self.watch.poll_expired(cx) => {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
                other => other,
            };
        };
        ready!(poll_send(&mut self.stream, session, &self.watch, cx))?;
        let written = session.write(buffer)?;
        match poll_send(&mut self.stream, session, &self.watch, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(written)),
        }
    }

    /// Sends what `poll_write` has taken.
    ///
    /// # Errors
    /// As `poll_write`.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            None => Poll::Ready(Ok(())),
            Some(session) => poll_send(&mut self.stream, session, &self.watch, cx),
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
        match self.tls {
            None => Ok(()),
            Some(_) => poll_fn(|cx| self.poll_flush(cx)).await,
        }
    }

    /// Ends the sending direction, so that the peer sees everything written and then end of stream.
    pub async fn close_write(&mut self) {
        if let Some(session) = &mut self.tls {
            session.close();
            let _ = poll_fn(|cx| self.poll_flush(cx)).await;
        }
        let _ = self.stream.shutdown(std::net::Shutdown::Write).await;
    }
}

/// Sends all ciphertext that is there.
fn poll_send(
    stream: &mut TcpStream,
    session: &mut Session,
    watch: &Watch,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    match session.send(&mut Outlet { stream, cx }) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            if watch.poll_expired(cx) {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            } else {
                Poll::Pending
            }
        }
        result => Poll::Ready(result),
    }
}

/// Receives some ciphertext; 0 is the end of the stream.
fn poll_receive(
    stream: &mut TcpStream,
    session: &mut Session,
    watch: &Watch,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let received = session.receive(|room| match Pin::new(stream).poll_read(cx, room) {
        Poll::Ready(Ok(received)) => Ok(received),
        other => Err(other),
    });
    match received {
        Ok(received) => Poll::Ready(Ok(received)),
        Err(Poll::Pending) if watch.poll_expired(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        Err(other) => other,
    }
}

/// Short messages sent together; a longer one goes from where it lies.
const GATHER_BYTES: usize = 4096;

/// The socket as a session writes to it: `WouldBlock` when it takes nothing more, after which the task is woken.
struct Outlet<'a, 'c> {
    stream: &'a mut TcpStream,
    cx: &'a mut Context<'c>,
}

impl io::Write for Outlet<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.stream).poll_write(self.cx, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// A flight of a handshake is half a dozen messages: one segment when gathered. The runtime's own vectored write takes the
    /// first slice only.
    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [] => return Ok(0),
            [one] => return self.write(one),
            [first, ..] if first.len() >= GATHER_BYTES => return self.write(first),
            _ => {}
        }
        let mut gathered = [0; GATHER_BYTES];
        let mut filled = 0;
        for slice in slices {
            let bytes = slice.len().min(GATHER_BYTES - filled);
            gathered[filled..filled + bytes].copy_from_slice(&slice[..bytes]);
            filled += bytes;
        }
        self.write(&gathered[..filled])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
