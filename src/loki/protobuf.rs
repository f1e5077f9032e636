//! The push request in protobuf: `PushRequest`, its streams and their entries read where they lie.
//!
//! | message | fields |
//! |---|---|
//! | `PushRequest` | 1 streams |
//! | `StreamAdapter` | 1 labels, 2 entries, 3 hash |
//! | `EntryAdapter` | 1 timestamp, 2 line, 3 structured metadata |
//! | `Timestamp` | 1 seconds, 2 nanos |
//! | `LabelPairAdapter` | 1 name, 2 value |

use super::labels::{Labels, Malformed as MalformedLabels};
use super::rows::{LABELS, LABELS_TOO_LONG, Metadata, Shared, put_labels};
use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::Node;
use crate::message::{self, Group, Places, Records, Room, text_of};
use crate::protobuf::{Fields, Malformed, Value};

/// A push request, its structure checked down to the entries' borders.
pub type Message<'b> = message::Message<'b, Entries<'b>>;

impl<'b> Message<'b> {
    /// Takes the bytes of a `PushRequest`, not compressed.
    ///
    /// # Errors
    /// Some length or tag outside of the entries is wrong. What is wrong within an entry costs that alone, what is wrong with
    /// the labels of a stream its entries.
    pub fn parse(bytes: &'b [u8]) -> Result<Message<'b>, Malformed> {
        let all = Entries {
            again: None,
            streams: Fields::new(bytes),
            entries: Fields::new(b""),
            labels: b"",
            stream: 0,
        };
        let (mut rest, mut records) = (all, 0);
        while rest.step()?.is_some() {
            records += 1;
        }
        Ok(Message::new(records, all))
    }
}

/// The entries that are still to come.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'b> {
    again: Option<&'b [u8]>,
    streams: Fields<'b>,
    entries: Fields<'b>,
    labels: &'b [u8],
    /// Number of the stream, from 1.
    stream: u32,
}

/// One entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'b> {
    message: &'b [u8],
    labels: &'b [u8],
    stream: u32,
}

impl<'b> Entries<'b> {
    fn step(&mut self) -> Result<Option<Entry<'b>>, Malformed> {
        loop {
            let message = match self.again.take() {
                Some(message) => Some(message),
                None => self.entries.next_message(2)?,
            };
            if let Some(message) = message {
                return Ok(Some(Entry {
                    message,
                    labels: self.labels,
                    stream: self.stream,
                }));
            }
            let Some(stream) = self.streams.next_message(1)? else {
                return Ok(None);
            };
            self.labels = b"";
            let mut fields = Fields::new(stream);
            // Of a field that comes twice the last one counts; entries may stand before it.
            while let Some(labels) = fields.next_message(1)? {
                self.labels = labels;
            }
            self.entries = Fields::new(stream);
            self.stream += 1;
        }
    }
}

impl<'b> Records<'b> for Entries<'b> {
    const PASS_BY_PASS: bool = true;

    type Record = Entry<'b>;
    type Shared = Shared;

    fn next(&mut self) -> Option<Entry<'b>> {
        // Borders were checked when the message was parsed.
        self.step().ok().flatten()
    }

    fn put_back(&mut self, entry: &Entry<'b>) {
        self.again = Some(entry.message);
    }

    fn bytes(&self, entry: &Entry<'b>, shared: &Shared) -> usize {
        match entry.stream == shared.stream {
            true => entry.message.len(),
            false => entry.message.len() + entry.labels.len(),
        }
    }

    fn repeated_bytes(&self, shared: &Shared) -> usize {
        shared.bytes
    }

    fn group(&self, entry: &Entry<'b>) -> u32 {
        entry.stream
    }

    fn labels(&self, entry: &Entry<'b>, group: &mut Group) {
        for label in Labels::of(std::str::from_utf8(entry.labels).unwrap_or_default()) {
            // Of labels that are refused it does not matter where to.
            let Ok((name, value)) = label else { return };
            let mut room = vec![0; value.bytes_max()];
            if let Ok(len) = value.unescape(&mut room) {
                room.truncate(len);
                group.put(name, String::from_utf8(room).unwrap_or_default());
            }
        }
    }

    fn put<'t>(
        &self,
        entry: &Entry<'b>,
        shared: &mut Shared,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't,
    {
        if entry.stream != shared.stream {
            let labels: &'t [u8] = entry.labels;
            *shared = put_labels(entry.stream, room, row, |writer| {
                if labels.len() > writer.room.labels_bytes_max {
                    return Err(LABELS_TOO_LONG.into());
                }
                let refused = |MalformedLabels| RowStop::from(LABELS);
                for label in Labels::of(text_of(labels)?) {
                    let (name, value) = label.map_err(refused)?;
                    let value = match value.plain() {
                        Some(value) => value,
                        None => {
                            let text = writer.room.take(value.bytes_max())?;
                            let len = value.unescape(text).map_err(refused)?;
                            text_of(&text[..len])?
                        }
                    };
                    writer.put(name, value);
                }
                Ok(())
            });
        }
        shared.put(places, row)?;
        let mut metadata = Metadata::default();
        for field in Fields::new(entry.message) {
            match field.map_err(|_| RowRefusal::Protobuf)? {
                (1, Value::Bytes(timestamp)) => room.put_time(nanos_of(timestamp)?, places.timestamp, row)?,
                (2, Value::Bytes(line)) => row.put_node(places.body, Node::String(text_of(line)?))?,
                (3, Value::Bytes(pair)) => {
                    let (mut name, mut value) = ("", "");
                    for field in Fields::new(pair) {
                        match field.map_err(|_| RowRefusal::Protobuf)? {
                            (1, Value::Bytes(text)) => name = text_of(text)?,
                            (2, Value::Bytes(text)) => value = text_of(text)?,
                            _ => {}
                        }
                    }
                    row.tape().push(Node::String(value));
                    let index = row.tape().len() as u32 - 1;
                    metadata.put(name, index, places, room, row)?;
                }
                _ => {}
            }
        }
        metadata.put_columns(shared, places, row)
    }
}

/// A `Timestamp` as nanoseconds since 1970.
fn nanos_of(timestamp: &[u8]) -> Result<u64, RowStop> {
    const OUT_OF_RANGE: RowRefusal = RowRefusal::Rule("its timestamp is out of range");
    let (mut seconds, mut nanos) = (0_u64, 0);
    for field in Fields::new(timestamp) {
        match field.map_err(|_| RowRefusal::Protobuf)? {
            // Before 1970 it is a number of 64 bits, and so is a time without a value in Go.
            (1, Value::Varint(number)) => seconds = number,
            (2, Value::Varint(number)) => nanos = number,
            _ => {}
        }
    }
    if nanos >= 1_000_000_000 {
        return Err(OUT_OF_RANGE.into());
    }
    let seconds = seconds.checked_mul(1_000_000_000);
    seconds
        .and_then(|seconds| seconds.checked_add(nanos))
        .ok_or_else(|| OUT_OF_RANGE.into())
}
