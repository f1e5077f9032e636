//! Turns the received bytes of a body into its content: de-chunked, inflated, and bounded.

use std::fmt;

use crate::grpc::frame::{FrameError, MessageFrame};
use crate::http::chunked::{Chunk, ChunkError, Chunked};
use crate::http::encodings::{DecoderPool, Encoding, InflateError, Inflater};
use crate::http::head::Framing;
use crate::http::status::Status;
use crate::limits::Limits;

/// Reads one body. Made for each request without allocating; its inflater is on loan from the core's pool.
///
/// A body with Content-Length and without coding is its own content: the caller may read that where it was
/// received. Passing it through here works too, at the cost of a copy.
#[derive(Debug)]
pub struct BodyDecoder {
    framing: Frame,
    inflater: Option<Inflater>,
    /// Bytes of payload: the body without its chunk framing, before inflating.
    payload_bytes: u64,
    content_bytes: u64,
    bounds: Bounds,
    done: bool,
}

/// What one call of [`BodyDecoder::decode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the received ones that are not needed any more.
    pub consumed: usize,
    /// Bytes of content written.
    pub produced: usize,
    /// The body is complete: what is received after `consumed` belongs to the next request.
    pub done: bool,
}

/// Why a body is refused. The connection ends after the reply: where the body ends is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// Malformed chunked framing.
    Chunk(ChunkError),
    /// Malformed compressed data, or no decoder free for it.
    Inflate(InflateError),
    /// The body ended within the compressed data.
    Truncated {
        /// What the body was said to be.
        encoding: Encoding,
    },
    /// No message of gRPC.
    Message(FrameError),
    /// The content is longer than the limit.
    TooLong {
        /// `Limits::body_bytes_max`.
        bytes_max: u64,
    },
    /// The content is too many times longer than its compressed form.
    Bomb {
        /// `Limits::inflate_ratio_max`.
        ratio_max: u64,
    },
}

impl BodyError {
    /// The status the reply carries.
    pub fn status(&self) -> Status {
        match self {
            BodyError::Inflate(InflateError::PoolExhausted) => Status::ServiceUnavailable,
            BodyError::TooLong { .. }
            | BodyError::Bomb { .. }
            | BodyError::Message(FrameError::TooLong { .. }) => Status::ContentTooLarge,
            BodyError::Chunk(_)
            | BodyError::Inflate(_)
            | BodyError::Truncated { .. }
            | BodyError::Message(_) => Status::BadRequest,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Chunk(error) => error.fmt(f),
            BodyError::Inflate(error) => error.fmt(f),
            BodyError::Message(error) => error.fmt(f),
            BodyError::Truncated { encoding } => {
                write!(f, "The body ends before its {} data does.", encoding.token())
            }
            BodyError::TooLong { bytes_max } => {
                write!(
                    f,
                    "The body is longer than {bytes_max} bytes; split it into several requests."
                )
            }
            BodyError::Bomb { ratio_max } => {
                write!(
                    f,
                    "The body inflates to more than {ratio_max} times its size; send it with less compression."
                )
            }
        }
    }
}

impl std::error::Error for BodyError {}

impl From<ChunkError> for BodyError {
    fn from(error: ChunkError) -> Self {
        BodyError::Chunk(error)
    }
}

impl From<FrameError> for BodyError {
    fn from(error: FrameError) -> Self {
        BodyError::Message(error)
    }
}

impl From<InflateError> for BodyError {
    fn from(error: InflateError) -> Self {
        BodyError::Inflate(error)
    }
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    body_bytes_max: u64,
    inflate_ratio_max: u64,
    inflate_free_bytes: u64,
}

#[derive(Debug)]
enum Frame {
    Length(u64),
    Chunked(Chunked),
    Stream { ended: bool },
    Message(MessageFrame),
}

/// What stands at the start of the bytes received.
struct Found {
    /// Bytes to skip.
    framing: usize,
    /// Bytes of payload after them.
    payload: usize,
    /// The body ends after those.
    end: bool,
    /// Whether the payload is compressed, where that is said late.
    compressed: Option<bool>,
}

impl Found {
    fn new(framing: usize, payload: usize, end: bool) -> Found {
        Found {
            framing,
            payload,
            end,
            compressed: None,
        }
    }
}

impl BodyDecoder {
    /// A decoder for one body; fails when the pool has no inflater left for its coding.
    pub fn new(
        framing: Framing,
        encoding: Encoding,
        limits: &Limits,
        pool: &DecoderPool,
    ) -> Result<BodyDecoder, BodyError> {
        Ok(BodyDecoder {
            framing: match framing {
                Framing::None => Frame::Length(0),
                Framing::Length(length) => Frame::Length(length),
                Framing::Chunked => Frame::Chunked(Chunked::default()),
                Framing::Stream(_) => Frame::Stream { ended: false },
                Framing::OnlyMessage => Frame::Message(MessageFrame::new(limits.message_bytes_max, true)),
                Framing::OneMessage => Frame::Message(MessageFrame::new(limits.message_bytes_max, false)),
            },
            inflater: pool.lend(encoding)?,
            payload_bytes: 0,
            content_bytes: 0,
            bounds: Bounds {
                body_bytes_max: limits.body_bytes_max,
                inflate_ratio_max: limits.inflate_ratio_max,
                inflate_free_bytes: limits.inflate_free_bytes,
            },
            done: false,
        })
    }

    /// Reads from `raw` and writes content to `out` until one of them is used up or the body is over.
    ///
    /// When `out` comes back full, call again with the rest of `raw`, also when that is empty: a little
    /// compressed input may have much content. Otherwise all of `raw` is consumed and more must be received.
    ///
    /// # Panics
    ///
    /// When `out` is empty.
    pub fn decode(&mut self, raw: &[u8], out: &mut [u8]) -> Result<Step, BodyError> {
        assert!(!out.is_empty(), "a body decoder needs room to write");
        let mut step = Step {
            consumed: 0,
            produced: 0,
            done: self.done,
        };
        while !step.done {
            let found = self.framing.next(&raw[step.consumed..])?;
            match (found.compressed, &self.inflater) {
                (Some(true), None) => return Err(FrameError::CompressedAsNothing.into()),
                (Some(false), _) => self.inflater = None,
                _ => {}
            }
            step.consumed += found.framing;
            let payload = &raw[step.consumed..step.consumed + found.payload];
            let (read, wrote) = self.transfer(payload, &mut out[step.produced..])?;
            self.framing.took(read);
            step.consumed += read;
            step.produced += wrote;
            self.count(read, wrote)?;
            if step.produced == out.len() {
                // The end is told by the next call, which finds whether more content was pending.
                return Ok(step);
            }
            if found.end {
                self.finish()?;
                step.done = true;
            } else if read == 0 && wrote == 0 && found.compressed.is_none() {
                return Ok(step);
            }
        }
        Ok(step)
    }

    /// The stream is over: what was received is all there is. True where that is how a body ends; anywhere else it is cut off.
    pub fn end_stream(&mut self) -> bool {
        match &mut self.framing {
            Frame::Length(_) | Frame::Chunked(_) => return false,
            Frame::Stream { ended } => *ended = true,
            Frame::Message(message) => message.end(),
        }
        true
    }

    /// Bytes of content so far.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    fn transfer(&mut self, payload: &[u8], out: &mut [u8]) -> Result<(usize, usize), BodyError> {
        match &mut self.inflater {
            Some(inflater) => {
                let inflated = inflater.inflate(payload, out)?;
                Ok((inflated.read, inflated.wrote))
            }
            None => {
                let length = payload.len().min(out.len());
                out[..length].copy_from_slice(&payload[..length]);
                Ok((length, length))
            }
        }
    }

    /// Payload counts as well as content: frames and members may be empty, a million of them too.
    fn count(&mut self, read: usize, wrote: usize) -> Result<(), BodyError> {
        self.payload_bytes += read as u64;
        self.content_bytes += wrote as u64;
        let bounds = &self.bounds;
        if self.payload_bytes.max(self.content_bytes) > bounds.body_bytes_max {
            return Err(BodyError::TooLong {
                bytes_max: bounds.body_bytes_max,
            });
        }
        let earned = self.payload_bytes.saturating_mul(bounds.inflate_ratio_max);
        if self.inflater.is_some() && self.content_bytes > earned.saturating_add(bounds.inflate_free_bytes) {
            return Err(BodyError::Bomb {
                ratio_max: bounds.inflate_ratio_max,
            });
        }
        Ok(())
    }

    /// Ends the body, and the loan of its inflater.
    fn finish(&mut self) -> Result<(), BodyError> {
        self.done = true;
        match self.inflater.take() {
            Some(inflater) if !inflater.at_end() => Err(BodyError::Truncated {
                encoding: inflater.encoding(),
            }),
            _ => Ok(()),
        }
    }
}

impl Frame {
    fn next(&mut self, received: &[u8]) -> Result<Found, BodyError> {
        Ok(match self {
            Frame::Length(left) => {
                let payload = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                Found::new(0, payload, *left == 0)
            }
            Frame::Chunked(chunked) => match chunked.next(received)? {
                Chunk::Payload { framing, payload } => Found::new(framing, payload, false),
                Chunk::NeedMore { framing } => Found::new(framing, 0, false),
                Chunk::End { framing } => Found::new(framing, 0, true),
            },
            Frame::Stream { ended } => {
                let payload = received.len();
                Found::new(0, payload, *ended && payload == 0)
            }
            Frame::Message(message) => {
                let piece = message.next(received)?;
                Found {
                    compressed: piece.compressed,
                    ..Found::new(piece.prefix, piece.payload, piece.end)
                }
            }
        })
    }

    fn took(&mut self, bytes: usize) {
        match self {
            Frame::Length(left) => *left -= bytes as u64,
            Frame::Chunked(chunked) => chunked.took(bytes),
            Frame::Stream { .. } => {}
            Frame::Message(message) => message.took(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
