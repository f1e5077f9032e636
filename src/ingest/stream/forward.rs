//! Fluent Forward over TCP: messages are taken one after the other, and acknowledged in their order.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::ack::{AckId, AckLevel};
use crate::batch::Span;
use crate::forward::handshake::{Handshake, Secrets, Verdict};
use crate::forward::msgpack::{Extent, Malformed};
use crate::forward::{Compression, Entries, Event, Rows, Shape, parse, put_ack};
use crate::http::body::{BodyDecoder, BodyError};
use crate::http::encodings::{Encoding, InflateError};
use crate::http::head::Framing;
use crate::http::receive_buffer::{CannotGrow, ReceiveBuffer};
use crate::json::RejectReason;
use crate::runtime;

use super::{PAUSE, ROWS_MAX, Received, RowsOf, Stream};
use crate::ingest::Core;
use crate::ingest::body::Waiting;
use crate::ingest::table::Table;

/// A message that waits for its ack level.
struct Pending {
    waiter: Option<AckId>,
    chunk: Box<[u8]>,
}

/// Why a connection cannot go on: the next message cannot be found, or this one must be sent elsewhere.
#[derive(Debug)]
enum Fault {
    Malformed(Malformed),
    TooLong(usize),
    Inflate(BodyError),
    NoBuffer,
    Refused(&'static str),
    NoPing,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(Malformed::Byte) => f.write_str("this is not MessagePack"),
            Fault::Malformed(Malformed::TooDeep) => f.write_str("the message is nested too deep"),
            Fault::TooLong(bytes_max) => write!(f, "the message is longer than {bytes_max} bytes"),
            Fault::Inflate(error) => write!(f, "the message's entries do not inflate: {error}"),
            Fault::NoBuffer => f.write_str("too many large messages are being received"),
            Fault::Refused(reason) => write!(f, "the client was not let in: {reason}"),
            Fault::NoPing => f.write_str("the client ended before it was let in"),
        }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> io::Error {
        io::Error::other(fault.to_string())
    }
}

impl Stream<'_> {
    /// Takes messages until the stream ends.
    ///
    /// # Errors
    /// The connection broke, or the client's messages cannot be told apart; nothing more was acknowledged.
    pub(super) async fn take_forward(&mut self) -> io::Result<()> {
        let mut pending = VecDeque::new();
        let mut extent = Extent::new();
        let ended = match self.port.secrets.clone() {
            None => Ok(()),
            Some(secrets) => self.let_in(&secrets, &mut extent).await,
        };
        let ended = match ended {
            Ok(()) => self.take_events(&mut pending, &mut extent).await,
            Err(error) => Err(error),
        };
        for Pending { waiter, .. } in pending {
            if let Some(waiter) = waiter {
                self.core.acks.close(waiter);
            }
        }
        ended
    }

    async fn let_in(&mut self, secrets: &Rc<Secrets>, extent: &mut Extent) -> io::Result<()> {
        let random = runtime::random_bytes()?;
        let handshake = Handshake::new(secrets, &self.core.hostname, random);
        let mut out = Vec::new();
        handshake.put_helo(&mut out);
        self.write(&mut out).await?;
        let bytes_max = self.core.limits.head_bytes_max;
        let len = loop {
            let found = extent.find(self.buffer.unread(), 2).map_err(Fault::Malformed)?;
            if let Some(len) = found {
                break len;
            }
            if extent.bytes_min() > bytes_max as u64 {
                return Err(Fault::TooLong(bytes_max).into());
            }
            if self.receive(None).await? == Received::End {
                return Err(Fault::NoPing.into());
            }
        };
        let verdict = handshake.answer(&self.buffer.unread()[..len], &mut out);
        self.consume(len);
        self.write(&mut out).await?;
        match verdict {
            Verdict::Welcome => Ok(()),
            Verdict::Refused(reason) => Err(Fault::Refused(reason).into()),
        }
    }

    async fn take_events(&mut self, pending: &mut VecDeque<Pending>, extent: &mut Extent) -> io::Result<()> {
        let core = self.core;
        let depth_max = Rows::depth_max(&core.limits);
        let bytes_max = core.limits.message_bytes_max;
        let mut spans = Vec::new();
        let mut out = Vec::new();
        let mut end = false;
        loop {
            while let Some(front) = pending.front()
                && front
                    .waiter
                    .is_none_or(|waiter| core.acks.state(waiter).is_ready())
            {
                let Pending { waiter, chunk } = pending.pop_front().expect("the front was just looked at");
                put_ack(&chunk, &mut out);
                if let Some(waiter) = waiter {
                    core.acks.close(waiter);
                }
            }
            self.write(&mut out).await?;
            if !end && pending.len() < core.limits.pipeline_max {
                match extent
                    .find(self.buffer.unread(), depth_max)
                    .map_err(Fault::Malformed)?
                {
                    Some(len) if len <= bytes_max => {
                        let Some(table) = core.table_of_port(&self.port, self.rows.key.as_deref()).await
                        else {
                            return Ok(());
                        };
                        pending.extend(self.take_event(&table, len, extent, &mut spans).await?);
                        self.consume(len);
                        continue;
                    }
                    Some(_) => return Err(Fault::TooLong(bytes_max).into()),
                    None if extent.bytes_min() > bytes_max as u64 => {
                        return Err(Fault::TooLong(bytes_max).into());
                    }
                    None => {}
                }
            }
            let waiter = pending.front().and_then(|front| front.waiter);
            match waiter {
                None if end => return Ok(()),
                Some(waiter) if end || pending.len() >= core.limits.pipeline_max => {
                    std::future::poll_fn(|cx| core.acks.poll_settled(waiter, cx)).await;
                }
                // What there is of a message at the end is not acknowledged, and comes again.
                waiter => end = self.receive(waiter).await? == Received::End,
            }
        }
    }

    /// Takes the message in the buffer's first `len` bytes; what is to be acknowledged. `extent` and `spans` lend their memory.
    async fn take_event(
        &mut self,
        table: &Rc<Table>,
        len: usize,
        extent: &mut Extent,
        spans: &mut Vec<Span>,
    ) -> Result<Option<Pending>, Fault> {
        let core = self.core;
        let message = &self.buffer.unread()[..len];
        let event = match parse(message) {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(None),
            Err(wrong) => {
                self.rows
                    .reject(core, table, RejectReason::MessagePack, || wrong.to_string());
                return Ok(None);
            }
        };
        let level = self.port.ack;
        let waiter = match event.chunk {
            Some(_) if level != AckLevel::Memory => Some(loop {
                match core.acks.open() {
                    Some(waiter) => break waiter,
                    None => runtime::sleep(PAUSE).await,
                }
            }),
            _ => None,
        };
        let waiting = waiter.map(|waiter| (waiter, level));
        let lent = (extent, spans);
        let taken = take_entries(core, &mut self.rows, table, message, event, lent, waiting).await;
        if let Some(waiter) = waiter {
            // The message's own claim: from here on the batches alone decide.
            core.acks.settle(waiter, 0);
            if taken.is_err() {
                core.acks.close(waiter);
            }
            core.wanted.notify();
        }
        taken?;
        let chunk = event.chunk.map(|chunk| Box::from(chunk.of(message)));
        Ok(chunk.map(|chunk| Pending { waiter, chunk }))
    }
}

async fn take_entries(
    core: &Core,
    rows: &mut RowsOf,
    table: &Rc<Table>,
    message: &[u8],
    event: Event,
    (extent, spans): (&mut Extent, &mut Vec<Span>),
    waiting: Waiting,
) -> Result<(), Fault> {
    let tag = event.tag.of(message);
    let inflated;
    let bytes = match event.entries {
        Entries::One(span) => {
            let bytes = span.of(message);
            core.metrics.bytes_decoded.add(bytes.len() as u64);
            let entry = Rows {
                bytes,
                spans: &[Span::new(0, bytes.len())],
                shape: Shape::Bare,
                tag,
            };
            rows.push(core, table, &entry, waiting).await;
            return Ok(());
        }
        Entries::Listed(span) | Entries::Packed(span, Compression::None) => span.of(message),
        Entries::Packed(span, Compression::Gzip) => {
            inflated = inflate(core, span.of(message), Encoding::Gzip).await?;
            inflated.unread()
        }
        Entries::Packed(span, Compression::Zstd) => {
            inflated = inflate(core, span.of(message), Encoding::Zstd).await?;
            inflated.unread()
        }
    };
    core.metrics.bytes_decoded.add(bytes.len() as u64);
    let mut rest = bytes;
    while !rest.is_empty() {
        spans.clear();
        let listed = Rows::list(rest, &core.limits, extent, spans, ROWS_MAX);
        let entries = Rows {
            bytes: rest,
            spans,
            shape: Shape::Entry,
            tag,
        };
        rows.push(core, table, &entries, waiting).await;
        match listed {
            Ok(len) => rest = &rest[len..],
            // They would be as bad if they came again.
            Err(_) => {
                rows.reject(core, table, RejectReason::MessagePack, || {
                    "the entries of a message are cut short, or no MessagePack from some entry on".to_owned()
                });
                break;
            }
        }
    }
    Ok(())
}

/// Inflates the entries of a message, which are together no longer than a message may be.
async fn inflate(core: &Core, compressed: &[u8], encoding: Encoding) -> Result<ReceiveBuffer, Fault> {
    let framing = Framing::Length(compressed.len() as u64);
    // The message itself holds a buffer: who waits for another for ever may wait for who waits for this one.
    let due_ms = core.coarse_ms.get() + core.limits.body_deadline_ms;
    let mut decoder = loop {
        match BodyDecoder::new(framing, encoding, &core.limits, &core.decoders) {
            Ok(decoder) => break decoder,
            Err(BodyError::Inflate(InflateError::PoolExhausted)) if core.coarse_ms.get() < due_ms => {
                runtime::sleep(PAUSE).await;
            }
            Err(error) => return Err(Fault::Inflate(error)),
        }
    };
    let mut content = ReceiveBuffer::new(&core.buffers);
    let mut rest = compressed;
    loop {
        while content.spare().is_empty() {
            let bytes_max = core.limits.message_bytes_max;
            match content.grow() {
                _ if content.unread().len() > bytes_max => return Err(Fault::TooLong(bytes_max)),
                Ok(()) => {}
                Err(CannotGrow::Largest) => return Err(Fault::TooLong(bytes_max)),
                Err(CannotGrow::PoolExhausted) if core.coarse_ms.get() < due_ms => {
                    runtime::sleep(PAUSE).await;
                }
                Err(CannotGrow::PoolExhausted) => return Err(Fault::NoBuffer),
            }
        }
        let step = decoder.decode(rest, content.spare()).map_err(Fault::Inflate)?;
        rest = &rest[step.consumed..];
        content.filled(step.produced);
        if step.done {
            return Ok(content);
        }
        runtime::yield_if_needed().await;
    }
}
