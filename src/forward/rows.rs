//! Entries as rows: a record's keys are those of a row in JSON.

use super::message::list;
use super::msgpack::{Extent, Head, Malformed, Reader, Value};
use crate::batch::{
    Place, Pushed, RowInput, RowRefusal, RowSource, RowStop, RowWriter, Span, Spans, TableSink,
};
use crate::column::{Node, StaticNode};
use crate::json::{Parser, RowErrors};
use crate::limits::Limits;
use crate::message::Room;
use crate::message::tape::{double_node, integer_node};

/// Entries of one message, pushed by their numbers.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'b> {
    /// The message's entries, inflated.
    pub bytes: &'b [u8],
    /// The entries in them.
    pub spans: &'b [Span],
    /// What an entry is.
    pub shape: Shape,
    /// The message's tag.
    pub tag: &'b [u8],
}

/// How an entry stands in its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `[time, record]`
    Entry,
    /// The two without an array around them: message mode.
    Bare,
}

/// Levels of nesting in an entry for each of a row: what is deeper costs the rest of its message, not the row.
const LEVELS_PER_LEVEL: usize = 16;

/// Levels of a message's own around an entry.
const LEVELS_AROUND: usize = 4;

impl Rows<'_> {
    /// Levels of arrays and maps that a message may have.
    pub fn depth_max(limits: &Limits) -> usize {
        LEVELS_PER_LEVEL * limits.depth_max + LEVELS_AROUND
    }

    /// Appends the entries of `bytes` to `spans`, up to `count` of them there; how many bytes they take. `extent` only lends its
    /// memory.
    ///
    /// # Errors
    /// What follows those found is no entry: how many bytes they take, and why the rest cannot be taken apart.
    pub fn list(
        bytes: &[u8],
        limits: &Limits,
        extent: &mut Extent,
        spans: &mut Vec<Span>,
        count: usize,
    ) -> Result<usize, (usize, Malformed)> {
        list(bytes, Self::depth_max(limits), extent, spans, count)
    }
}

impl RowInput for Rows<'_> {
    const PASS_BY_PASS: bool = true;

    fn end(&self) -> usize {
        self.spans.len()
    }

    fn push(
        &self,
        at: usize,
        sink: &mut TableSink,
        parser: &mut Parser,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
    ) -> Pushed {
        let limits = *sink.limits();
        parser.lend(room_bytes(&limits), |room, tape| {
            let mut source = Source {
                entries: Spans::new(self.bytes, &self.spans[at..], limits.chunk_bytes),
                shape: self.shape,
                tag: self.tag,
                tag_text: None,
                places: None,
                entry_bytes_max: limits.line_bytes_max,
                room: Room::new(room, &limits),
            };
            sink.push_rows(
                &mut source,
                self.spans.len() - at,
                tape,
                first_row,
                now_ns,
                errors,
            )
        })
    }
}

/// Bytes of room that any entry of so many bytes fits: U+FFFD is three for one, Base64 adds a third, a key of one byte has up to
/// three digits.
fn room_of(entry_bytes: usize) -> usize {
    3 * entry_bytes + 64
}

/// Bytes of room so that a pass takes one entry and its tag at least, also when it is read twice: its names may be too many to be
/// remembered beside those of others.
fn room_bytes(limits: &Limits) -> usize {
    3 * room_of(limits.line_bytes_max.max(limits.chunk_bytes))
}

/// The entries of one pass.
struct Source<'t> {
    entries: Spans<'t>,
    shape: Shape,
    tag: &'t [u8],
    tag_text: Option<&'t str>,
    places: Option<Places>,
    entry_bytes_max: usize,
    room: Room<'t>,
}

/// Where what is not in the record goes.
#[derive(Debug, Clone, Copy)]
struct Places {
    generation: u32,
    timestamp: Place,
    log_attributes: Place,
}

impl<'t> RowSource<'t> for Source<'t> {
    fn write(&mut self, row: &mut RowWriter<'_, 't>) -> Result<bool, RowStop> {
        let has_room = |bytes| self.room.bytes() >= room_of(bytes);
        let Some(entry) = self.entries.next(row.number(), has_room) else {
            return Ok(false);
        };
        if entry.len() + self.tag.len() > self.entry_bytes_max {
            return Err(RowRefusal::TooLong.into());
        }
        self.put(entry, row)?;
        self.entries.take();
        Ok(true)
    }

    fn skip(&mut self) {
        self.entries.skip();
    }
}

impl<'t> Source<'t> {
    fn put(&mut self, entry: &'t [u8], row: &mut RowWriter<'_, 't>) -> Result<(), RowStop> {
        let mut reader = Reader::new(entry);
        if self.shape == Shape::Entry && read(&mut reader)? != Value::Array(2) {
            return Err(RowRefusal::Field.into());
        }
        // Fluent Bit has the time with what it knows of the event beyond its record.
        let mut peek = reader;
        let metadata = read(&mut peek)? == Value::Array(2);
        if metadata {
            reader = peek;
        }
        let time = self.time(&mut reader)?;
        let mut metadata = match metadata {
            true => self.put_value(&mut reader, 1, row)?,
            false => 0,
        };
        if matches!(row.tape()[metadata as usize], Node::Object { len: 0, .. }) {
            metadata = 0;
        }
        let mut peek = reader;
        let Value::Map(_) = read(&mut peek)? else {
            return Err(RowRefusal::NotObject.into());
        };
        let record = self.put_value(&mut reader, 0, row)?;
        row.put_object(record)?;
        let places = match self.places {
            Some(places) if places.generation == row.generation() => places,
            _ => *self.places.insert(Places {
                generation: row.generation(),
                timestamp: row.place("Timestamp")?,
                log_attributes: row.place("LogAttributes")?,
            }),
        };
        if let Some(time) = time {
            row.put_node(places.timestamp, time)?;
        }
        let tag = match self.tag_text {
            Some(tag) => tag,
            None => *self.tag_text.insert(self.room.lossy(self.tag)?),
        };
        row.tape().push(Node::String(tag));
        let tag = row.tape().len() as u32 - 1;
        row.put_member(places.log_attributes, "fluent.tag", tag)?;
        if metadata != 0 {
            row.put_member(places.log_attributes, "fluent.metadata", metadata)?;
        }
        Ok(())
    }

    /// Seconds, or an EventTime: seconds and nanoseconds of 32 bits each. Nil is the receive time.
    fn time(&mut self, reader: &mut Reader<'t>) -> Result<Option<Node<'t>>, RowStop> {
        Ok(match read(reader)? {
            Value::Plain(Head::Nil) => None,
            Value::Plain(Head::Integer(seconds)) => Some(integer_node(seconds)),
            Value::Plain(Head::Float(seconds)) => Some(double_node(seconds)),
            Value::Extension(0, bytes) => {
                let bytes: [u8; 8] = bytes.try_into().map_err(|_| RowRefusal::Field)?;
                let time = u64::from_be_bytes(bytes);
                Some(
                    self.room
                        .time((time >> 32) * 1_000_000_000 + (time & 0xffff_ffff))?,
                )
            }
            _ => return Err(RowRefusal::Field.into()),
        })
    }

    /// A value on the tape, `depth` levels of values around it; its index.
    fn put_value(
        &mut self,
        reader: &mut Reader<'t>,
        depth: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<u32, RowStop> {
        let start = row.tape().len();
        let value = read(reader)?;
        let (is_object, len) = match value {
            Value::Map(pairs) => (true, pairs as usize),
            Value::Array(values) => (false, values as usize),
            _ => {
                let node = self.scalar(value)?;
                row.tape().push(node);
                return Ok(start as u32);
            }
        };
        // The recursion is bounded by this.
        if depth >= self.room.depth_max {
            return Err(RowRefusal::TooDeep.into());
        }
        row.tape().push(Node::Static(StaticNode::Null));
        for _ in 0..len {
            if is_object {
                let key = self.key(read(reader)?)?;
                row.tape().push(Node::String(key));
            }
            self.put_value(reader, depth + 1, row)?;
        }
        let count = row.tape().len() - start - 1;
        row.tape()[start] = if is_object {
            Node::Object { len, count }
        } else {
            Node::Array { len, count }
        };
        Ok(start as u32)
    }

    fn scalar(&mut self, value: Value<'t>) -> Result<Node<'t>, RowStop> {
        Ok(match value {
            Value::Bytes(bytes) => Node::String(self.room.lossy(bytes)?),
            Value::Plain(Head::Bool(truth)) => Node::Static(StaticNode::Bool(truth)),
            Value::Plain(Head::Integer(number)) => integer_node(number),
            Value::Plain(Head::Unsigned(number)) => Node::Static(StaticNode::U64(number)),
            Value::Plain(Head::Float(number)) => double_node(number),
            // An EventTime within a record.
            Value::Extension(0, bytes) if bytes.len() == 8 => {
                let time = bytes.iter().fold(0, |time, byte| time << 8 | u64::from(*byte));
                self.room
                    .time((time >> 32) * 1_000_000_000 + (time & 0xffff_ffff))?
            }
            Value::Extension(_, bytes) => Node::String(self.room.base64(bytes)?),
            Value::Plain(_) | Value::Array(_) | Value::Map(_) => Node::Static(StaticNode::Null),
        })
    }

    /// A key: a text, or an integer in decimal.
    fn key(&mut self, value: Value<'t>) -> Result<&'t str, RowStop> {
        match value {
            Value::Bytes(bytes) => self.room.lossy(bytes),
            Value::Plain(Head::Integer(number)) => {
                let mut buffer = itoa::Buffer::new();
                let digits = buffer.format(number).as_bytes();
                let room = self.room.take(digits.len())?;
                room.copy_from_slice(digits);
                crate::message::text_of(room)
            }
            _ => Err(RowRefusal::Field.into()),
        }
    }
}

fn read<'b>(reader: &mut Reader<'b>) -> Result<Value<'b>, RowStop> {
    // Only an entry of message mode, or one of too few values, has none.
    reader.read().ok_or(RowStop::Refused(RowRefusal::Field))
}
