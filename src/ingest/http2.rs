//! Serves HTTP/2: every stream is a request like those of HTTP/1.1, and a task of its core.
//!
//! `h2` keeps the protocol; here are its deadlines, its bounds and its end. A stream's request goes the way of any other:
//! its fields are written as the head they would be in HTTP/1.1 and read by the one parser of heads, and its reply,
//! written by the one writer of replies, is taken apart into fields and data.
//!
//! Source: RFC 9113.

pub(crate) mod frames;
mod head;
mod io;
mod stream;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{Error, ErrorKind, Result};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;

use crate::http::receive_buffer::ReceiveBuffer;
use crate::http::reply::Envelope;
use crate::limits::Limits;
use crate::runtime::{self, Connection};

use self::io::{Io, Socket};
use super::Core;
use super::connection::{LINGER_BYTES_MAX, LINGER_MS, Session, linger};
use super::link::Link;
use super::port::Port;
use super::sender::Sender;

pub(super) use self::stream::Stream;

/// What a client that speaks HTTP/2 begins with. RFC 9113 section 3.4.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Empty SETTINGS, and a GOAWAY that says: no request was looked at, come again more calmly. RFC 9113 sections 6.5, 6.8.
const GO_AWAY: &[u8; 26] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";

/// Requests that were reset before they were looked at, within what is accepted; one more ends the connection.
const RESET_UNSEEN_MAX: usize = 64;

/// Streams that `h2` resets for the client's mistakes; one more ends the connection.
const RESET_FOR_ERRORS_MAX: usize = 256;

/// Whether a connection that begins with `received` speaks HTTP/2; `None` while that cannot be told.
pub(super) fn is_spoken(received: &[u8]) -> Option<bool> {
    let known = received.len().min(PREFACE.len());
    match received[..known] == PREFACE[..known] {
        true if known == PREFACE.len() => Some(true),
        true => None,
        false => Some(false),
    }
}

/// The streams of a connection that have a task.
#[derive(Default)]
struct Streams {
    open: Cell<usize>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
    /// When there was none any more.
    idle_since_ms: Cell<u64>,
}

impl Streams {
    fn wake_by(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    async fn ended(&self) {
        poll_fn(|cx| {
            self.wake_by(cx);
            match self.open.get() {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
    }
}

/// One of them, counted for as long as it lives.
struct Open {
    core: Rc<Core>,
    streams: Rc<Streams>,
}

impl Open {
    fn new(core: &Rc<Core>, streams: &Rc<Streams>) -> Open {
        core.streams.set(core.streams.get() + 1);
        streams.open.set(streams.open.get() + 1);
        Open {
            core: Rc::clone(core),
            streams: Rc::clone(streams),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.core.streams.set(self.core.streams.get() - 1);
        self.streams.open.set(self.streams.open.get() - 1);
        self.streams.idle_since_ms.set(self.core.coarse_ms.get());
        if let Some(waker) = &*self.streams.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// One connection of HTTP/2 more on its core.
struct Admitted<'c>(&'c Core);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.http2_connections.set(self.0.http2_connections.get() - 1);
    }
}

/// What the task of a connection is to do next.
#[expect(
    clippy::large_enum_variant,
    reason = "one a connection, in its task's own memory"
)]
enum Next {
    Serve(Request<RecvStream>, SendResponse<Bytes>),
    Leave,
    Expire,
    End(std::result::Result<(), h2::Error>),
}

/// Serves a connection whose first bytes were `received`, until either side ends it and its last stream has.
pub(super) async fn serve(
    core: &Rc<Core>,
    port: Rc<Port>,
    sender: Sender,
    mut connection: Connection,
    received: ReceiveBuffer,
) {
    if core.http2_connections.get() >= core.limits.http2_connections_per_core {
        core.metrics.connections_refused.add(1);
        connection
            .watch()
            .set_deadline(core.clock.now_ms() + core.limits.reply_deadline_ms);
        if connection.write_all(GO_AWAY).await.is_ok() {
            linger(core, &mut connection).await;
        }
        return;
    }
    core.http2_connections.set(core.http2_connections.get() + 1);
    let _admitted = Admitted(core);
    let socket = Socket::new(Rc::clone(core), connection, received);
    let streams = Rc::new(Streams::default());
    streams.idle_since_ms.set(core.coarse_ms.get());
    let served = run(core, port, sender, &socket, &streams).await;
    let is_broken = match &served {
        Ok(()) => false,
        // The client's mistake, of which it was told.
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            tracing::debug!(core = core.index, %error, "connection ended");
            false
        }
        Err(error) if super::is_disconnect(error) || error.kind() == ErrorKind::TimedOut => {
            tracing::debug!(core = core.index, %error, "connection ended");
            true
        }
        Err(error) => {
            tracing::info!(core = core.index, %error, "connection failed");
            true
        }
    };
    if let Some(mut connection) = socket.into_connection()
        && !is_broken
    {
        linger(core, &mut connection).await;
    }
    // Each ends by its own deadlines.
    streams.ended().await;
}

async fn run(
    core: &Rc<Core>,
    port: Rc<Port>,
    sender: Sender,
    socket: &Rc<Socket>,
    streams: &Rc<Streams>,
) -> Result<()> {
    let limits = &core.limits;
    let mut handshake = pin!(builder(limits).handshake::<Io, Bytes>(socket.io()));
    let begun_ms = core.coarse_ms.get();
    let mut h2 = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done.map_err(error_of)),
        Poll::Pending if socket.poll_deadline(cx, begun_ms + limits.head_deadline_ms) => {
            Poll::Ready(Err(ErrorKind::TimedOut.into()))
        }
        Poll::Pending => Poll::Pending,
    })
    .await?;
    let mut leaving_since_ms = None;
    loop {
        let next = poll_fn(|cx| {
            streams.wake_by(cx);
            let polled = match streams.open.get() < limits.streams_per_connection_max {
                true => h2.poll_accept(cx).map(|accepted| match accepted {
                    Some(Ok((request, respond))) => Next::Serve(request, respond),
                    Some(Err(error)) => Next::End(Err(error)),
                    None => Next::End(Ok(())),
                }),
                // It may be full of streams whose requests were reset and are not done with.
                false => h2.poll_closed(cx).map(Next::End),
            };
            if polled.is_ready() {
                return polled;
            }
            let expired = socket.poll_deadline(cx, deadline_ms(limits, socket, streams, leaving_since_ms));
            if core.draining.get() && leaving_since_ms.is_none() {
                Poll::Ready(Next::Leave)
            } else if expired {
                Poll::Ready(Next::Expire)
            } else {
                Poll::Pending
            }
        })
        .await;
        match next {
            Next::Serve(request, respond) => admit(core, &port, &sender, streams, request, respond),
            // What it ends with is our goodbye then.
            Next::End(_) if leaving_since_ms.is_some() => return Ok(()),
            Next::End(ended) => return ended.map_err(error_of),
            Next::Expire if leaving_since_ms.is_some() || socket.blocked_since_ms().is_some() => {
                return Err(ErrorKind::TimedOut.into());
            }
            Next::Leave | Next::Expire => {
                leaving_since_ms = Some(core.coarse_ms.get());
                if socket.incomplete_since_ms().is_some() && !core.draining.get() {
                    h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                } else {
                    h2.graceful_shutdown();
                }
            }
        }
    }
}

fn builder(limits: &Limits) -> Builder {
    let window = |bytes: usize| u32::try_from(bytes).expect("limits keep windows below 2^31");
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(window(limits.streams_per_connection_max))
        .initial_window_size(window(limits.http2_stream_window_bytes))
        .initial_connection_window_size(window(limits.http2_window_bytes))
        .data_frame_budget(limits.http2_frames_bytes())
        .max_header_list_size(window(limits.head_bytes_max))
        .max_send_buffer_size(limits.receive_buffer_bytes)
        // What of a refused body is on its way when its stream ends is passed over, not taken for another mistake.
        .max_concurrent_reset_streams(limits.streams_per_connection_max)
        .max_pending_accept_reset_streams(RESET_UNSEEN_MAX)
        .max_local_error_reset_streams(Some(RESET_FOR_ERRORS_MAX));
    builder
}

/// When something must have happened on the connection.
fn deadline_ms(limits: &Limits, socket: &Socket, streams: &Streams, leaving_since_ms: Option<u64>) -> u64 {
    let blocked = socket
        .blocked_since_ms()
        .map(|since_ms| since_ms + limits.reply_deadline_ms);
    let incomplete = socket
        .incomplete_since_ms()
        .map(|since_ms| since_ms + limits.head_deadline_ms);
    let idle = (streams.open.get() == 0).then(|| match leaving_since_ms {
        None => streams.idle_since_ms.get() + limits.idle_deadline_ms,
        Some(since_ms) => since_ms.max(streams.idle_since_ms.get()) + LINGER_MS,
    });
    let incomplete = incomplete.filter(|_| leaving_since_ms.is_none());
    [blocked, incomplete, idle]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
}

/// Serves a request, or has the client send it again elsewhere when the core serves its most.
fn admit(
    core: &Rc<Core>,
    port: &Rc<Port>,
    sender: &Sender,
    streams: &Rc<Streams>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    if core.streams.get() >= core.limits.streams_per_core {
        core.metrics.streams_refused.add(1);
        respond.send_reset(Reason::REFUSED_STREAM);
        return;
    }
    let open = Open::new(core, streams);
    core.metrics.streams_accepted.add(1);
    let (core, port, sender) = (Rc::clone(core), Rc::clone(port), sender.clone());
    runtime::spawn(async move {
        let (parts, body) = request.into_parts();
        let link = Link::Stream(Stream::new(body, respond));
        core.watches.borrow_mut().push(Rc::downgrade(link.watch()));
        let mut session = Session::new(&core, port, link);
        session.sender = sender;
        if let Err(error) = session.run_stream(&parts).await {
            tracing::debug!(core = core.index, %error, "stream ended");
        }
        session.close();
        drop(session);
        drop(open);
    });
}

impl Session<'_> {
    /// Serves the one request of a stream.
    async fn run_stream(&mut self, request: &http::request::Parts) -> Result<()> {
        match head::put_head(request, self.buffer.spare()) {
            Ok(bytes) => self.buffer.filled(bytes),
            Err(error) => {
                self.error(Envelope::CLOSE, error.status(), error);
                return self.flush().await;
            }
        }
        match self.head() {
            Ok(Some(plan)) => {
                self.request(plan).await?;
                self.settle_all().await?;
            }
            Ok(None) => unreachable!("the head that was written ends in a blank line"),
            Err(error) => {
                self.error(Envelope::CLOSE, error.status(), error);
                self.flush().await?;
            }
        }
        self.linger_on_stream().await;
        Ok(())
    }

    /// Reads what the client still sends after its reply, for a while: some clients take a stream that is reset before they have
    /// sent all for a failure, although it says NO_ERROR (RFC 9113 section 8.1).
    async fn linger_on_stream(&mut self) {
        let now_ms = self.core.clock.now_ms();
        self.connection.watch().set_deadline(now_ms + LINGER_MS);
        let mut left = LINGER_BYTES_MAX;
        while left > 0 && !self.connection.is_at_end() {
            let unread = self.buffer.unread().len();
            self.buffer.consume(unread);
            match self.connection.read(self.buffer.spare()).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => left = left.saturating_sub(bytes),
            }
        }
    }
}

/// The error of the socket, if there was one.
fn error_of(error: h2::Error) -> Error {
    if error.is_io() {
        return error.into_io().expect("it was just asked");
    }
    let kind = match error.is_remote() {
        true => ErrorKind::ConnectionAborted,
        false => ErrorKind::InvalidData,
    };
    Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_anything_else_at_the_first_byte_that_differs() {
        for known in 0..PREFACE.len() {
            assert_eq!(is_spoken(&PREFACE[..known]), None, "{known} bytes of it");
            for other in [b'X', 0, PREFACE[known].wrapping_add(1)] {
                let mut begun = PREFACE[..known].to_vec();
                begun.push(other);
                let expected = (other != PREFACE[known]).then_some(false);
                assert_eq!(is_spoken(&begun), expected, "{known} bytes of it, then {other}");
            }
        }
        assert_eq!(is_spoken(PREFACE), Some(true));
        assert_eq!(is_spoken(&[PREFACE, &b"and more"[..]].concat()), Some(true));
        assert_eq!(is_spoken(b"POST / HTTP/1.1\r\n"), Some(false));
        assert_eq!(is_spoken(b"PRI / HTTP/1.1\r\n"), Some(false));
    }
}
