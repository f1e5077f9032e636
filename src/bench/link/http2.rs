//! A connection of HTTP/2: a stream for each request, `h2`'s futures polled when the socket is ready.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Flight, Settled, broken};
use crate::bench::reply::{Expected, Reply, Verdict};

/// Such a connection.
pub struct Http2 {
    socket: Rc<Socket>,
    connection: Connection<Io, Bytes>,
    requests: SendRequest<Bytes>,
    head: Request<()>,
    expected: Expected,
    exchanges: Vec<Exchange>,
    woken: Arc<Woken>,
}

/// A request, and what there is of its reply.
struct Exchange {
    flight: Flight,
    response: ResponseFuture,
    reply: Option<PartialReply>,
}

struct PartialReply {
    status: u16,
    headers: HeaderMap,
    stream: RecvStream,
    body: Vec<u8>,
}

/// Whether anything that was polled can go on: there is no other task to be woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // Set and read by the one thread that polls.
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Http2 {
    /// Begins it on `stream`, whose requests have `head`.
    pub(super) fn new(stream: TcpStream, head: Request<()>, expected: Expected) -> io::Result<Http2> {
        let socket = Rc::new(Socket {
            stream,
            is_full: Cell::new(false),
        });
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let io = Io(Rc::clone(&socket));
        let handshake = pin!(Builder::new().handshake(io));
        // It writes some bytes into an empty socket, and waits for none.
        let Poll::Ready(begun) = handshake.poll(&mut Context::from_waker(&waker)) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let (requests, connection) = begun.map_err(io::Error::other)?;
        Ok(Http2 {
            socket,
            connection,
            requests,
            head,
            expected,
            exchanges: Vec::new(),
            woken,
        })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.exchanges.len()
    }

    pub(super) fn waits_to_write(&self) -> bool {
        self.socket.is_full.get()
    }

    pub(super) fn send(&mut self, flight: Flight, body: &[u8], settled: &mut Settled) -> Result<(), String> {
        let (response, mut stream) = self
            .requests
            .send_request(self.head.clone(), false)
            .map_err(|error| broken(io::Error::other(error)))?;
        // As far as its windows are open; `h2` keeps the rest.
        stream
            .send_data(Bytes::copy_from_slice(body), true)
            .map_err(|error| broken(io::Error::other(error)))?;
        self.exchanges.push(Exchange {
            flight,
            response,
            reply: None,
        });
        self.serve(settled)
    }

    /// Polls all there is until nothing of it can go on.
    pub(super) fn serve(&mut self, settled: &mut Settled) -> Result<(), String> {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        loop {
            self.woken.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(&mut cx) {
                let error = ended.map_or_else(io::Error::other, |()| ErrorKind::UnexpectedEof.into());
                return Err(broken(error));
            }
            let mut at = 0;
            while let Some(exchange) = self.exchanges.get_mut(at) {
                match exchange.poll(&self.expected, &mut cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(verdict) => {
                        let verdict = verdict.map_err(|error| broken(io::Error::other(error)))?;
                        settled.push((self.exchanges.swap_remove(at).flight, verdict));
                    }
                }
            }
            if !self.woken.0.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }
}

impl AsFd for Http2 {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.stream.as_fd()
    }
}

impl Exchange {
    fn poll(&mut self, expected: &Expected, cx: &mut Context<'_>) -> Poll<Result<Verdict, h2::Error>> {
        if self.reply.is_none() {
            let response = match ready!(Pin::new(&mut self.response).poll(cx)) {
                Ok(response) => response,
                // Not looked at: RFC 9113 section 8.7.
                Err(error) if error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM) => {
                    return Poll::Ready(Ok(Verdict::Refused));
                }
                Err(error) => return Poll::Ready(Err(error)),
            };
            let (parts, stream) = response.into_parts();
            self.reply = Some(PartialReply {
                status: parts.status.as_u16(),
                headers: parts.headers,
                stream,
                body: Vec::new(),
            });
        }
        let reply = self.reply.as_mut().expect("it was just begun");
        ready!(reply.poll_end(cx))?;
        Poll::Ready(Ok(reply.judge(expected)))
    }
}

impl PartialReply {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    self.body.extend_from_slice(&bytes);
                    self.stream.flow_control().release_capacity(bytes.len())?;
                }
                // Whole, and the rest of the request is not wanted: RFC 9113 section 8.1.
                Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => break,
            }
        }
        if let Some(trailers) = ready!(self.stream.poll_trailers(cx))? {
            self.headers.extend(trailers);
        }
        Poll::Ready(Ok(()))
    }

    fn judge(&self, expected: &Expected) -> Verdict {
        let field = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        match field("grpc-status") {
            Some(code) if code != "0" => {
                Verdict::of_failed_call(code, field("grpc-message").unwrap_or_default())
            }
            _ => expected.judge(&Reply {
                status: self.status,
                body: &self.body,
                bytes: self.body.len(),
                is_kept: true,
            }),
        }
    }
}

/// The socket as both see it: who polls, and `h2`.
struct Socket {
    stream: TcpStream,
    /// It took not all that was written last.
    is_full: Cell<bool>,
}

struct Io(Rc<Socket>);

/// What does not block is waited for by epoll.
fn polled<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = (&self.0.stream).read(out.initialize_unfilled());
        let bytes = ready!(polled(read))?;
        out.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = polled((&self.0.stream).write(bytes));
        self.0.is_full.set(written.is_pending());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
