//! Bounds the admin pages' connections: how many there are, and how long one may take over a request.

use crate::tls::Certificates;
use axum::serve::Listener;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// Connections at once; a further one waits in the system's backlog. Scrapers, probes and a few people.
pub(super) const CONNECTIONS: usize = 64;

/// Time from one reply to the next, or from accepting to the first. More than the pause of a scraper (15 s is usual),
/// so that its connection is kept; and the longest anyone can hold one of the few places without reading a page.
pub(super) const EXCHANGE_DEADLINE: Duration = Duration::from_secs(60);

/// Pause after the system refused to accept, as when it is out of file descriptors: they do not come back sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A listener that holds at most so many connections open.
pub(super) struct Bounded {
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    places: Arc<Semaphore>,
    exchange_deadline: Duration,
}

impl Bounded {
    pub(super) fn new(
        listener: TcpListener,
        certificates: Option<Arc<Certificates>>,
        connections: usize,
        exchange_deadline: Duration,
    ) -> Bounded {
        Bounded {
            listener,
            certificates,
            places: Arc::new(Semaphore::new(connections)),
            exchange_deadline,
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = self
            .places
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let deadline = Box::pin(tokio::time::sleep(self.exchange_deadline));
                    let patience = self.exchange_deadline;
                    let stream = match &self.certificates {
                        None => Stream::Plain(stream),
                        Some(certificates) => Stream::Handshake(Box::new(
                            TlsAcceptor::from(certificates.config()).accept(stream),
                        )),
                    };
                    return (
                        Connection {
                            stream,
                            deadline,
                            patience,
                            _place: place,
                        },
                        peer,
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin pages cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when no reply bytes leave for too long.
///
/// Only what leaves restarts the clock: a peer that sends a byte a second has not read a page.
pub(super) struct Connection {
    stream: Stream,
    deadline: Pin<Box<Sleep>>,
    patience: Duration,
    _place: OwnedSemaphorePermit,
}

/// What a connection reads and writes. The handshake happens when it is first read, by its own task: whoever stalls in it keeps
/// nobody else from being accepted.
enum Stream {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Stream {
    /// The stream once the handshake is over.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut dyn Duplex>> {
        if let Stream::Handshake(handshake) = self {
            let stream = ready!(Pin::new(&mut **handshake).poll(context))?;
            *self = Stream::Tls(Box::new(stream));
        }
        Poll::Ready(Ok(match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &mut **stream,
            Stream::Handshake(_) => unreachable!("it is over"),
        }))
    }
}

impl Connection {
    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_deadline(context)?;
        Pin::new(ready!(self.stream.poll_ready(context))?).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_deadline(context)?;
        let written = Pin::new(ready!(self.stream.poll_ready(context))?).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(_))) {
            let restarted = Instant::now() + self.patience;
            self.deadline.as_mut().reset(restarted);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.stream.poll_ready(context))?).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            // There is nobody to say goodbye to.
            Stream::Handshake(_) => Poll::Ready(Ok(())),
            stream => Pin::new(ready!(stream.poll_ready(context))?).poll_shutdown(context),
        }
    }
}
