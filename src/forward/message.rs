//! Takes a message apart: its tag, its entries in one of four modes, and what it wants to be told.

use std::fmt;

use super::msgpack::{Extent, Head, Malformed, Reader, Value, put_text};
use crate::batch::Span;

/// An event message, as offsets into its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its tag.
    pub tag: Span,
    /// Its entries.
    pub entries: Entries,
    /// `chunk`: the sender waits for it.
    pub chunk: Option<Span>,
}

/// The entries of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entries {
    /// Message mode: time and record of one event.
    One(Span),
    /// Forward mode: so many entries one after the other.
    Listed(Span),
    /// PackedForward and CompressedPackedForward mode: entries in one piece of bytes.
    Packed(Span, Compression),
}

/// How packed entries are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878
    Zstd,
}

/// A value that is no event message, though its end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongMessage {
    /// Not `[tag, time, record]`, `[tag, entries]` or `[tag, packed entries]`, with options behind.
    Shape,
    /// `compressed` names neither `text`, `gzip` nor `zstd`.
    Compression,
    /// Metrics or traces of Fluent Bit.
    Signal,
}

impl fmt::Display for WrongMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WrongMessage::Shape => "not a message of the Forward protocol: tag, entries, options",
            WrongMessage::Compression => "its entries are compressed neither with gzip nor with zstd",
            WrongMessage::Signal => "it carries metrics or traces, not logs",
        })
    }
}

/// Takes a message whose end was found; `None` for the nil that some send as a sign of life.
///
/// # Errors
/// It is some other value. The next message begins behind it.
pub fn parse(bytes: &[u8]) -> Result<Option<Event>, WrongMessage> {
    parts(bytes).unwrap_or(Err(WrongMessage::Shape))
}

/// `None` where the shape is wrong.
fn parts(bytes: &[u8]) -> Option<Result<Option<Event>, WrongMessage>> {
    let mut reader = Reader::new(bytes);
    let at = |reader: &Reader<'_>| bytes.len() - reader.rest().len();
    let span_of = |reader: &Reader<'_>, part: &[u8]| Span::new(at(reader) - part.len(), at(reader));
    let elements = match reader.read()? {
        Value::Array(elements) => elements,
        Value::Plain(Head::Nil) => return Some(Ok(None)),
        _ => return None,
    };
    let Value::Bytes(tag) = reader.read()? else {
        return None;
    };
    let tag = span_of(&reader, tag);
    let start = at(&reader);
    let mut peek = reader;
    let (mut entries, taken) = match peek.read()? {
        Value::Array(count) => {
            let first = at(&peek);
            reader = peek;
            (0..count).try_for_each(|_| reader.skip())?;
            (Entries::Listed(Span::new(first, at(&reader))), 2)
        }
        Value::Bytes(packed) => {
            reader = peek;
            (Entries::Packed(span_of(&reader, packed), Compression::None), 2)
        }
        _ => {
            reader.skip()?;
            reader.skip()?;
            (Entries::One(Span::new(start, at(&reader))), 3)
        }
    };
    let mut chunk = None;
    match elements.checked_sub(taken)? {
        0 => {}
        1 => {
            let options = match reader.read()? {
                Value::Map(options) => options,
                Value::Plain(Head::Nil) => 0,
                _ => return None,
            };
            for _ in 0..options {
                let Value::Bytes(key) = reader.read()? else {
                    return None;
                };
                let mut value = reader;
                reader.skip()?;
                match (key, value.read()?) {
                    (b"chunk", Value::Bytes(id)) => chunk = Some(span_of(&value, id)),
                    (b"compressed", Value::Bytes(name)) => {
                        let compression = match name {
                            b"text" => Compression::None,
                            b"gzip" => Compression::Gzip,
                            b"zstd" => Compression::Zstd,
                            _ => return Some(Err(WrongMessage::Compression)),
                        };
                        if let Entries::Packed(_, found) = &mut entries {
                            *found = compression;
                        }
                    }
                    (b"fluent_signal", Value::Plain(Head::Integer(1..))) => {
                        return Some(Err(WrongMessage::Signal));
                    }
                    _ => {}
                }
            }
        }
        _ => return None,
    }
    Some(Ok(Some(Event { tag, entries, chunk })))
}

/// Appends the entries of `bytes` to `spans`, up to `count` of them there; how many bytes they take.
///
/// # Errors
/// What follows those found is no value or cut short: the rest cannot be taken apart.
pub(super) fn list(
    bytes: &[u8],
    depth_max: usize,
    extent: &mut Extent,
    spans: &mut Vec<Span>,
    count: usize,
) -> Result<usize, (usize, Malformed)> {
    extent.reset();
    let mut at = 0;
    while at < bytes.len() && spans.len() < count {
        match extent.find(&bytes[at..], depth_max) {
            Ok(Some(len)) => {
                spans.push(Span::new(at, at + len));
                at += len;
            }
            Ok(None) => return Err((at, Malformed::Byte)),
            Err(malformed) => return Err((at, malformed)),
        }
    }
    Ok(at)
}

/// Appends the reply to a message with this chunk.
pub fn put_ack(chunk: &[u8], out: &mut Vec<u8>) {
    out.push(0x81);
    put_text(b"ack", out);
    put_text(chunk, out);
}
