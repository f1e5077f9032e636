//! One stream of a connection: the body of a request, and the way of its reply.

use std::future::poll_fn;
use std::io::{Error, ErrorKind, Result};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::http::reply_parts::ReplyParts;
use crate::runtime::Watch;

/// Both directions of a stream.
pub(in crate::ingest) struct Stream {
    body: RecvStream,
    /// What was received and not read. The peer may send as much again once it is.
    received: Bytes,
    respond: SendResponse<Bytes>,
    reply: Option<SendStream<Bytes>>,
    watch: Rc<Watch>,
}

impl Stream {
    pub(super) fn new(body: RecvStream, respond: SendResponse<Bytes>) -> Stream {
        let watch = Rc::new(Watch::default());
        watch.set_deadline(u64::MAX);
        Stream {
            body,
            received: Bytes::new(),
            respond,
            reply: None,
            watch,
        }
    }

    pub(in crate::ingest) fn watch(&self) -> &Rc<Watch> {
        &self.watch
    }

    /// The request has no body, or all of it was read.
    pub(in crate::ingest) fn is_at_end(&self) -> bool {
        self.received.is_empty() && self.body.is_end_stream()
    }

    /// Reads of the body; 0 is its end.
    pub(in crate::ingest) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize>> {
        assert!(!buffer.is_empty(), "a read into nothing looks like the end");
        while self.received.is_empty() {
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(bytes))) => self.received = bytes,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error_of(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                Poll::Pending if self.watch.poll_expired(cx) => {
                    return Poll::Ready(Err(ErrorKind::TimedOut.into()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        let bytes = self.received.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&self.received.split_to(bytes));
        // What is read here goes into rows: only then there is room for more on the connection.
        self.body
            .flow_control()
            .release_capacity(bytes)
            .map_err(error_of)?;
        Poll::Ready(Ok(bytes))
    }

    /// Sends a reply as it was written for HTTP/1.1. Of a call of gRPC its status goes behind the message, or alone.
    ///
    /// # Errors
    /// The stream was reset, or the peer takes nothing of it in time.
    pub(in crate::ingest) async fn reply(&mut self, reply: &[u8]) -> Result<()> {
        let parts = ReplyParts::of(reply);
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(parts.status).map_err(Error::other)?;
        if response.status().is_informational() {
            return self.respond.send_informational(response).map_err(error_of);
        }
        let mut trailers = HeaderMap::new();
        for (name, value) in parts.fields() {
            let name = HeaderName::from_bytes(name).map_err(Error::other)?;
            let value = HeaderValue::from_bytes(value).map_err(Error::other)?;
            if name == CONNECTION {
                continue;
            }
            let is_trailer = matches!(
                name.as_str(),
                "grpc-status" | "grpc-message" | "grpc-status-details-bin"
            );
            match is_trailer {
                true => trailers.append(name, value),
                false => response.headers_mut().append(name, value),
            };
        }
        if trailers.is_empty() {
            self.begin(response, parts.body.is_empty())?;
            return match parts.body {
                [] => Ok(()),
                body => self.send(Bytes::copy_from_slice(body), true).await,
            };
        }
        response.headers_mut().remove(CONTENT_LENGTH);
        if parts.body.is_empty() {
            // "Trailers-Only" of gRPC.
            response.headers_mut().extend(trailers);
            return self.begin(response, true);
        }
        self.begin(response, false)?;
        self.send(Bytes::copy_from_slice(parts.body), false).await?;
        self.finish(trailers)
    }

    /// Sends the fields of a reply whose body follows, unless this is its `end`.
    pub(in crate::ingest) fn begin(&mut self, response: Response<()>, end: bool) -> Result<()> {
        self.reply = Some(self.respond.send_response(response, end).map_err(error_of)?);
        Ok(())
    }

    /// Sends a part of the body of a reply that was begun.
    ///
    /// # Errors
    /// As [`Stream::reply`].
    pub(in crate::ingest) async fn send(&mut self, mut bytes: Bytes, end: bool) -> Result<()> {
        let reply = self.reply.as_mut().expect("the reply was begun");
        while !bytes.is_empty() {
            reply.reserve_capacity(bytes.len());
            let capacity = poll_fn(|cx| poll_capacity(reply, &self.watch, cx)).await;
            let capacity = match capacity {
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    reply.send_reset(Reason::CANCEL);
                    return Err(error);
                }
                capacity => capacity?,
            };
            let piece = bytes.split_to(capacity.min(bytes.len()));
            let is_last = end && bytes.is_empty();
            reply.send_data(piece, is_last).map_err(error_of)?;
        }
        Ok(())
    }

    /// How the peer ended the stream, once it has.
    pub(in crate::ingest) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let reply = self.reply.as_mut().expect("the reply was begun");
        reply.poll_reset(cx).map(|reset| match reset {
            Ok(_) => ErrorKind::ConnectionReset.into(),
            Err(error) => error_of(error),
        })
    }

    /// Ends a reply that was begun.
    pub(in crate::ingest) fn finish(&mut self, trailers: HeaderMap) -> Result<()> {
        let reply = self.reply.as_mut().expect("the reply was begun");
        reply.send_trailers(trailers).map_err(error_of)
    }
}

/// Bytes that the peer takes now, at least one.
fn poll_capacity(reply: &mut SendStream<Bytes>, watch: &Watch, cx: &mut Context<'_>) -> Poll<Result<usize>> {
    loop {
        let polled = reply.poll_capacity(cx);
        if polled.is_pending() && watch.poll_expired(cx) {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        match ready!(polled) {
            Some(Ok(0)) => {}
            Some(capacity) => return Poll::Ready(capacity.map_err(error_of)),
            None => return Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        }
    }
}

/// A stream's end that its peer did not ask for is none of the connection's.
fn error_of(error: h2::Error) -> Error {
    let kind = match error.is_reset() && error.is_remote() {
        true => ErrorKind::ConnectionReset,
        false => ErrorKind::ConnectionAborted,
    };
    Error::new(kind, error)
}
