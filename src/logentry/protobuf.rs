//! Entries in protobuf, in each of the messages that hold some.
//!
//! | message | fields |
//! |---|---|
//! | `LogEntryBatch`, `IngestLogsRequest` | 1 entries |
//! | `LogEntry` | 1 id, 2 app_id, 3 timestamp int64, 4 level enum, 5 message, 6 source, 7 environment, 8 metadata, 9 trace_id, 10 user_id |
//! | `LogEntryInput` | 1 app_id, 2 level, 3 message, 4 source, 5 environment, 6 metadata, 7 trace_id, 8 user_id |
//! | an entry of a map | 1 key, 2 value |

use super::entry::{Entry, LEVELS, METADATA_BYTES_MAX, METADATA_TOO_LONG};
use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::Node;
use crate::message::tape::quoted_bytes;
use crate::message::{self, Places, Records, Room, text_of};
use crate::protobuf::{Fields, Malformed, Value};

/// A request of entries, its structure checked down to their borders.
pub type Message<'b> = message::Message<'b, Entries<'b>>;

impl<'b> Message<'b> {
    /// Takes the bytes of one `LogEntry`.
    pub fn entry(bytes: &'b [u8]) -> Message<'b> {
        let entry = Entries {
            layout: &LOG_ENTRY,
            again: Some(bytes),
            rest: Fields::new(b""),
        };
        Message::new(1, entry)
    }

    /// Takes the bytes of a `LogEntryBatch`.
    ///
    /// # Errors
    /// Some length or tag outside of the entries is wrong. What is wrong within an entry costs that alone.
    pub fn batch(bytes: &'b [u8]) -> Result<Message<'b>, Malformed> {
        Message::parse(&LOG_ENTRY, bytes)
    }

    /// Takes the bytes of an `IngestLogsRequest`, as gRPC has it.
    ///
    /// # Errors
    /// As [`Message::batch`].
    pub fn ingest_logs_request(bytes: &'b [u8]) -> Result<Message<'b>, Malformed> {
        Message::parse(&LOG_ENTRY_INPUT, bytes)
    }

    fn parse(layout: &'static Layout, bytes: &'b [u8]) -> Result<Message<'b>, Malformed> {
        let all = Entries {
            layout,
            again: None,
            rest: Fields::new(bytes),
        };
        let (mut rest, mut records) = (all, 0);
        while rest.step()?.is_some() {
            records += 1;
        }
        Ok(Message::new(records, all))
    }
}

/// What a field of an entry holds.
#[derive(Debug, Clone, Copy)]
enum Field {
    Unknown,
    Id,
    AppId,
    Timestamp,
    LevelNumber,
    Level,
    Message,
    Source,
    Environment,
    Metadata,
    TraceId,
    UserId,
}

/// What the fields of an entry hold, by their numbers.
#[derive(Debug)]
struct Layout {
    fields: [Field; 11],
    /// Level of an entry without one: proto3 sends no number that is zero.
    level: &'static str,
}

static LOG_ENTRY: Layout = Layout {
    fields: [
        Field::Unknown,
        Field::Id,
        Field::AppId,
        Field::Timestamp,
        Field::LevelNumber,
        Field::Message,
        Field::Source,
        Field::Environment,
        Field::Metadata,
        Field::TraceId,
        Field::UserId,
    ],
    level: LEVELS[0],
};

static LOG_ENTRY_INPUT: Layout = Layout {
    fields: [
        Field::Unknown,
        Field::AppId,
        Field::Level,
        Field::Message,
        Field::Source,
        Field::Environment,
        Field::Metadata,
        Field::TraceId,
        Field::UserId,
        Field::Unknown,
        Field::Unknown,
    ],
    level: "",
};

/// The entries that are still to come.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'b> {
    layout: &'static Layout,
    /// One that was read and is to be read again.
    again: Option<&'b [u8]>,
    rest: Fields<'b>,
}

impl<'b> Entries<'b> {
    fn step(&mut self) -> Result<Option<&'b [u8]>, Malformed> {
        match self.again.take() {
            Some(entry) => Ok(Some(entry)),
            None => self.rest.next_message(1),
        }
    }
}

impl<'b> Records<'b> for Entries<'b> {
    const PASS_BY_PASS: bool = true;

    type Record = &'b [u8];
    type Shared = ();

    fn next(&mut self) -> Option<&'b [u8]> {
        // Borders were checked when the message was parsed.
        self.step().ok().flatten()
    }

    fn put_back(&mut self, entry: &&'b [u8]) {
        self.again = Some(*entry);
    }

    fn bytes(&self, entry: &&'b [u8], (): &()) -> usize {
        entry.len()
    }

    fn put<'t>(
        &self,
        entry: &&'b [u8],
        (): &mut (),
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't,
    {
        let mut metadata_bytes = 1;
        let mut read = Entry {
            level: self.layout.level,
            ..Entry::default()
        };
        for field in Fields::new(entry) {
            let (number, value) = field.map_err(|_| RowRefusal::Protobuf)?;
            let fields = &self.layout.fields;
            let field = fields.get(number as usize).unwrap_or(&Field::Unknown);
            match (field, value) {
                (Field::Timestamp, Value::Varint(millis)) => {
                    // An int64: what is negative comes as a number of 64 bits, and is far beyond the years of a column.
                    let nanos = millis.checked_mul(1_000_000);
                    let nanos = nanos.ok_or(RowRefusal::Rule("timestamp is out of range"))?;
                    room.put_time(nanos, places.timestamp, row)?;
                }
                (Field::LevelNumber, Value::Varint(number)) => {
                    let level = usize::try_from(number).ok().and_then(|number| LEVELS.get(number));
                    read.level = level.unwrap_or(&"");
                }
                (Field::Id, Value::Bytes(text)) => read.id = text_of(text)?,
                (Field::AppId, Value::Bytes(text)) => read.app_id = text_of(text)?,
                (Field::Level, Value::Bytes(text)) => read.level = text_of(text)?,
                (Field::Message, Value::Bytes(text)) => read.message = text_of(text)?,
                (Field::Source, Value::Bytes(text)) => read.source = text_of(text)?,
                (Field::Environment, Value::Bytes(text)) => read.environment = text_of(text)?,
                (Field::TraceId, Value::Bytes(text)) => read.trace_id = text_of(text)?,
                (Field::UserId, Value::Bytes(text)) => read.user_id = text_of(text)?,
                (Field::Metadata, Value::Bytes(member)) => {
                    let (name, value) = member_of(member)?;
                    // With the colon, and the comma or bracket before it.
                    metadata_bytes += quoted_bytes(name) + quoted_bytes(value) + 2;
                    if metadata_bytes > METADATA_BYTES_MAX {
                        return Err(METADATA_TOO_LONG.into());
                    }
                    row.tape().push(Node::String(value));
                    let index = row.tape().len() as u32 - 1;
                    row.put_member(places.log_attributes, name, index)?;
                }
                _ => {}
            }
        }
        read.put(places, room, row)
    }
}

/// An entry of a map of texts.
fn member_of(member: &[u8]) -> Result<(&str, &str), RowStop> {
    let (mut name, mut value) = ("", "");
    for field in Fields::new(member) {
        match field.map_err(|_| RowRefusal::Protobuf)? {
            (1, Value::Bytes(text)) => name = text_of(text)?,
            (2, Value::Bytes(text)) => value = text_of(text)?,
            _ => {}
        }
    }
    Ok((name, value))
}
