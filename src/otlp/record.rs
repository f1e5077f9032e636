//! One log record as one row: which field goes to which column, and how values of any kind become JSON's.
//!
//! | record | column |
//! |---|---|
//! | `time_unix_nano`, else `observed_time_unix_nano`, else the receive time | Timestamp |
//! | `trace_id`, `span_id` | TraceId, SpanId in lower-case hexadecimal |
//! | `flags`, the lowest eight bits | TraceFlags |
//! | `severity_text`, `severity_number` | SeverityText, SeverityNumber |
//! | the resource's `service.name` | ServiceName, and it stays among the attributes |
//! | `body` | Body: texts as they are, all else as JSON |
//! | `attributes` of resource, scope and record | ResourceAttributes, ScopeAttributes, LogAttributes |
//! | both `schema_url`, the scope's name and version | ResourceSchemaUrl, ScopeSchemaUrl, ScopeName, ScopeVersion |
//! | `event_name` | EventName |
//!
//! These are the names that are looked up in a table of other columns as well. What is empty or zero is left out. Bytes
//! become Base64, as in OTLP's JSON form; the counts of dropped attributes have no column in OpenTelemetry's table.

use std::mem;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::message::{Record, Records};
use super::wire::{Fields, Value};
use crate::batch::{Place, RowRefusal, RowSource, RowStop, RowWriter};
use crate::column::{Node, StaticNode};
use crate::limits::Limits;

/// Where the parts of a record go.
#[derive(Debug, Clone, Copy)]
struct Places {
    generation: u32,
    timestamp: Place,
    trace_id: Place,
    span_id: Place,
    trace_flags: Place,
    severity_text: Place,
    severity_number: Place,
    service_name: Place,
    body: Place,
    resource_schema_url: Place,
    resource_attributes: Place,
    scope_schema_url: Place,
    scope_name: Place,
    scope_version: Place,
    scope_attributes: Place,
    log_attributes: Place,
    event_name: Place,
}

impl Places {
    fn find(row: &mut RowWriter<'_, '_>) -> Result<Places, RowStop> {
        Ok(Places {
            generation: row.generation(),
            timestamp: row.place("Timestamp")?,
            trace_id: row.place("TraceId")?,
            span_id: row.place("SpanId")?,
            trace_flags: row.place("TraceFlags")?,
            severity_text: row.place("SeverityText")?,
            severity_number: row.place("SeverityNumber")?,
            service_name: row.place("ServiceName")?,
            body: row.place("Body")?,
            resource_schema_url: row.place("ResourceSchemaUrl")?,
            resource_attributes: row.place("ResourceAttributes")?,
            scope_schema_url: row.place("ScopeSchemaUrl")?,
            scope_name: row.place("ScopeName")?,
            scope_version: row.place("ScopeVersion")?,
            scope_attributes: row.place("ScopeAttributes")?,
            log_attributes: row.place("LogAttributes")?,
            event_name: row.place("EventName")?,
        })
    }
}

/// Bytes of room that any record of so many bytes fits: hexadecimal doubles ids, Base64 adds a third.
fn room_of(record_bytes: usize) -> usize {
    2 * record_bytes + 64
}

/// Tape indexes of what records share, 0 = none, and whose they are.
#[derive(Debug, Clone, Copy, Default)]
struct Shared {
    serial: u32,
    schema_url: u32,
    attributes: u32,
    /// ServiceName of a resource, ScopeName of a scope.
    name: u32,
    /// ScopeVersion.
    version: u32,
}

/// The records of one pass.
pub(super) struct Rows<'t> {
    records: Records<'t>,
    /// Records written or skipped.
    read: usize,
    current: Option<Record<'t>>,
    /// For texts that do not lie in the message as they are stored.
    room: &'t mut [u8],
    record_bytes_max: usize,
    depth_max: u32,
    /// Bytes of records this pass may still take.
    left: usize,
    resource: Shared,
    scope: Shared,
    places: Option<Places>,
}

impl<'t> Rows<'t> {
    /// The records from where `records` is.
    pub(super) fn new(records: Records<'t>, room: &'t mut [u8], limits: &Limits) -> Self {
        Rows {
            records,
            read: 0,
            current: None,
            room,
            record_bytes_max: limits.line_bytes_max,
            depth_max: limits.depth_max as u32,
            left: limits.chunk_bytes,
            resource: Shared::default(),
            scope: Shared::default(),
            places: None,
        }
    }

    /// How many records the pass was done with, and those behind them.
    pub(super) fn into_records(mut self) -> (usize, Records<'t>) {
        if let Some(record) = self.current {
            self.records.put_back(&record);
        }
        (self.read, self.records)
    }

    /// Bytes of room so that a pass takes one record at least.
    pub(super) fn room_bytes(limits: &Limits) -> usize {
        room_of(limits.line_bytes_max.max(limits.chunk_bytes))
    }
}

impl<'t> RowSource<'t> for Rows<'t> {
    fn write(&mut self, row: &mut RowWriter<'_, 't>) -> Result<bool, RowStop> {
        if self.current.is_none() {
            // Borders were checked when the message was parsed.
            self.current = self.records.next().and_then(Result::ok);
        }
        let Some(record) = self.current else {
            return Ok(false);
        };
        // What it shares with others counts with the first that brings it.
        let mut bytes = record.message.len();
        if self.resource.serial != record.resource.serial {
            bytes += record.resource.message.len() + record.resource.schema_url.len();
        }
        if self.scope.serial != record.scope.serial {
            bytes += record.scope.message.len() + record.scope.schema_url.len();
        }
        if row.number() > 0 && (self.left < bytes || self.room.len() < room_of(bytes)) {
            return Ok(false);
        }
        if bytes > self.record_bytes_max {
            return Err(RowRefusal::TooLong.into());
        }
        self.share(&record, row)?;
        let places = match self.places {
            Some(places) if places.generation == row.generation() => places,
            _ => *self.places.insert(Places::find(row)?),
        };
        self.put_shared(&places, row)?;
        self.put_record(record.message, &places, row)?;
        self.left = self.left.saturating_sub(bytes);
        self.current = None;
        self.read += 1;
        Ok(true)
    }

    fn skip(&mut self) {
        self.current = None;
        self.read += 1;
    }
}

impl<'t> Rows<'t> {
    /// Puts what the record shares with others on the tape, unless it is there.
    fn share(&mut self, record: &Record<'t>, row: &mut RowWriter<'_, 't>) -> Result<(), RowStop> {
        if self.resource.serial != record.resource.serial {
            let mut shared = Shared {
                serial: record.resource.serial,
                schema_url: put_text(record.resource.schema_url, row)?,
                ..Shared::default()
            };
            // Resource: 1 attributes.
            shared.attributes = self.put_attributes(record.resource.message, 1, row)?;
            shared.name = find_member(row.tape(), shared.attributes, "service.name");
            self.resource = shared;
        }
        if self.scope.serial != record.scope.serial {
            let mut shared = Shared {
                serial: record.scope.serial,
                schema_url: put_text(record.scope.schema_url, row)?,
                ..Shared::default()
            };
            // InstrumentationScope: 1 name, 2 version, 3 attributes.
            for field in Fields::new(record.scope.message) {
                match field.map_err(|_| RowRefusal::Protobuf)? {
                    (1, Value::Bytes(name)) => shared.name = put_text(name, row)?,
                    (2, Value::Bytes(version)) => shared.version = put_text(version, row)?,
                    _ => {}
                }
            }
            shared.attributes = self.put_attributes(record.scope.message, 3, row)?;
            self.scope = shared;
        }
        Ok(())
    }

    fn put_shared(&self, places: &Places, row: &mut RowWriter<'_, 't>) -> Result<(), RowStop> {
        for (place, value) in [
            (places.service_name, self.resource.name),
            (places.resource_schema_url, self.resource.schema_url),
            (places.resource_attributes, self.resource.attributes),
            (places.scope_schema_url, self.scope.schema_url),
            (places.scope_name, self.scope.name),
            (places.scope_version, self.scope.version),
            (places.scope_attributes, self.scope.attributes),
        ] {
            if value != 0 {
                row.put(place, value)?;
            }
        }
        Ok(())
    }

    /// `LogRecord`, in whatever order its fields come.
    fn put_record(
        &mut self,
        message: &'t [u8],
        places: &Places,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        let mut time = 0;
        let mut observed = 0;
        for field in Fields::new(message) {
            match field.map_err(|_| RowRefusal::Protobuf)? {
                (1, Value::Fixed64(nanos)) => time = nanos,
                // An enum, of which only these are defined.
                (2, Value::Varint(number @ 1..=24)) => {
                    row.put_node(places.severity_number, Node::Static(StaticNode::U64(number)))?;
                }
                (3, Value::Bytes(text)) => put_named(places.severity_text, text, row)?,
                (5, Value::Bytes(value)) => {
                    let index = self.put_value(value, 1, row)?;
                    if row.tape()[index as usize] != Node::Static(StaticNode::Null) {
                        row.put(places.body, index)?;
                    }
                }
                (6, Value::Bytes(attribute)) => {
                    let (key, value) = key_value(attribute)?;
                    let index = self.put_value(value, 1, row)?;
                    row.put_member(places.log_attributes, key, index)?;
                }
                (8, Value::Fixed32(flags)) if flags & 0xff != 0 => {
                    let flags = u64::from(flags & 0xff);
                    row.put_node(places.trace_flags, Node::Static(StaticNode::U64(flags)))?;
                }
                (9, Value::Bytes(id)) => self.put_id(places.trace_id, id, row)?,
                (10, Value::Bytes(id)) => self.put_id(places.span_id, id, row)?,
                (11, Value::Fixed64(nanos)) => observed = nanos,
                (12, Value::Bytes(name)) => put_named(places.event_name, name, row)?,
                _ => {}
            }
        }
        let nanos = if time != 0 { time } else { observed };
        if nanos != 0 {
            let time = self.time(nanos)?;
            row.put_node(places.timestamp, time)?;
        }
        Ok(())
    }

    /// Nanoseconds as a time that is read for nothing else.
    fn time(&mut self, nanos: u64) -> Result<Node<'t>, RowStop> {
        // From here on a number is read as nanoseconds (`timestamp`); before March 1973 it would be a later time.
        if nanos >= 100_000_000_000_000_000 {
            return Ok(Node::Static(StaticNode::U64(nanos)));
        }
        let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        Ok(Node::String(self.keep(text.as_bytes())?))
    }

    /// An id of 16 or 8 bytes in hexadecimal; an invalid one, of zeros, is none.
    fn put_id(&mut self, place: Place, id: &[u8], row: &mut RowWriter<'_, 't>) -> Result<(), RowStop> {
        if id.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let room = self.take(2 * id.len())?;
        for (pair, byte) in room.as_chunks_mut::<2>().0.iter_mut().zip(id) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        row.put_node(place, Node::String(text_of(room)?))
    }

    /// The attributes in fields `number` of a message, as an object on the tape; 0 when there are none.
    fn put_attributes(
        &mut self,
        message: &'t [u8],
        number: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<u32, RowStop> {
        let start = row.tape().len();
        let mut len = 0;
        for field in Fields::new(message) {
            match field.map_err(|_| RowRefusal::Protobuf)? {
                (found, Value::Bytes(attribute)) if found == number => {
                    if len == 0 {
                        row.tape().push(Node::Object { len: 0, count: 0 });
                    }
                    self.put_key_value(attribute, 1, row)?;
                    len += 1;
                }
                _ => {}
            }
        }
        if len == 0 {
            return Ok(0);
        }
        let count = row.tape().len() - start - 1;
        row.tape()[start] = Node::Object { len, count };
        Ok(start as u32)
    }

    fn put_key_value(
        &mut self,
        attribute: &'t [u8],
        depth: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        let (key, value) = key_value(attribute)?;
        row.tape().push(Node::String(key));
        self.put_value(value, depth, row)?;
        Ok(())
    }

    /// An `AnyValue` on the tape, `depth` levels of values around it; its index.
    #[inline]
    fn put_value(
        &mut self,
        value: &'t [u8],
        depth: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<u32, RowStop> {
        // A short text, as most are.
        if let Some((text, [])) = split_short(value, 1) {
            let node = Node::String(text_of(text)?);
            row.tape().push(node);
            return Ok(row.tape().len() as u32 - 1);
        }
        self.put_any_value(value, depth, row)
    }

    fn put_any_value(
        &mut self,
        value: &'t [u8],
        depth: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<u32, RowStop> {
        let mut node = Node::Static(StaticNode::Null);
        // Of several fields of a oneof the last one counts.
        let mut inner: Option<(&'t [u8], bool)> = None;
        for field in Fields::new(value) {
            inner = None;
            node = match field.map_err(|_| RowRefusal::Protobuf)? {
                (1, Value::Bytes(text)) => Node::String(text_of(text)?),
                (2, Value::Varint(truth)) => Node::Static(StaticNode::Bool(truth != 0)),
                (3, Value::Varint(number)) => Node::Static(match number as i64 {
                    negative @ ..0 => StaticNode::I64(negative),
                    _ => StaticNode::U64(number),
                }),
                (4, Value::Fixed64(bits)) => match f64::from_bits(bits) {
                    number if number.is_finite() => Node::Static(StaticNode::F64(number)),
                    // As in OTLP's JSON form: JSON has no number for these.
                    number if number.is_nan() => Node::String("NaN"),
                    number if number > 0.0 => Node::String("Infinity"),
                    _ => Node::String("-Infinity"),
                },
                (5, Value::Bytes(values)) => {
                    inner = Some((values, false));
                    node
                }
                (6, Value::Bytes(members)) => {
                    inner = Some((members, true));
                    node
                }
                (7, Value::Bytes(bytes)) => Node::String(self.base64(bytes)?),
                _ => node,
            };
        }
        let start = row.tape().len();
        row.tape().push(node);
        let Some((message, is_object)) = inner else {
            return Ok(start as u32);
        };
        // The recursion is bounded by this.
        if depth >= self.depth_max {
            return Err(RowRefusal::TooDeep.into());
        }
        let mut len = 0;
        // ArrayValue and KeyValueList: 1 values.
        for field in Fields::new(message) {
            if let (1, Value::Bytes(element)) = field.map_err(|_| RowRefusal::Protobuf)? {
                if is_object {
                    self.put_key_value(element, depth + 1, row)?;
                } else {
                    self.put_value(element, depth + 1, row)?;
                }
                len += 1;
            }
        }
        let count = row.tape().len() - start - 1;
        row.tape()[start] = if is_object {
            Node::Object { len, count }
        } else {
            Node::Array { len, count }
        };
        Ok(start as u32)
    }

    fn base64(&mut self, bytes: &[u8]) -> Result<&'t str, RowStop> {
        let room = self.take(bytes.len().div_ceil(3) * 4)?;
        STANDARD
            .encode_slice(bytes, room)
            .expect("four letters for every three bytes");
        text_of(room)
    }

    fn keep(&mut self, text: &[u8]) -> Result<&'t str, RowStop> {
        let room = self.take(text.len())?;
        room.copy_from_slice(text);
        text_of(room)
    }

    /// A part of the room for the rest of the pass, which has [`room_of`] the record.
    fn take(&mut self, bytes: usize) -> Result<&'t mut [u8], RowStop> {
        if bytes > self.room.len() {
            return Err(RowRefusal::TooLong.into());
        }
        let (taken, rest) = mem::take(&mut self.room).split_at_mut(bytes);
        self.room = rest;
        Ok(taken)
    }
}

/// `KeyValue`: 1 key, 2 value.
#[inline]
fn key_value(attribute: &[u8]) -> Result<(&str, &[u8]), RowStop> {
    // As encoders write it: both fields once, in order, of lengths that take a byte.
    if let Some((key, rest)) = split_short(attribute, 1)
        && let Some((value, [])) = split_short(rest, 2)
    {
        return Ok((text_of(key)?, value));
    }
    key_value_in_any_order(attribute)
}

/// The bytes of a field of this number that comes first and is shorter than 128 bytes, and what is behind it.
#[inline]
fn split_short(message: &[u8], number: u8) -> Option<(&[u8], &[u8])> {
    match message {
        [tag, len @ ..0x80, rest @ ..] if *tag == number << 3 | 2 => rest.split_at_checked(usize::from(*len)),
        _ => None,
    }
}

fn key_value_in_any_order(attribute: &[u8]) -> Result<(&str, &[u8]), RowStop> {
    let (mut key, mut value): (&[u8], &[u8]) = (b"", b"");
    for field in Fields::new(attribute) {
        match field.map_err(|_| RowRefusal::Protobuf)? {
            (1, Value::Bytes(bytes)) => key = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((text_of(key)?, value))
}

#[inline]
fn text_of(bytes: &[u8]) -> Result<&str, RowStop> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| RowRefusal::Utf8.into())
}

/// A text on the tape; 0 for an empty one.
fn put_text<'t>(text: &'t [u8], row: &mut RowWriter<'_, 't>) -> Result<u32, RowStop> {
    if text.is_empty() {
        return Ok(0);
    }
    let node = Node::String(text_of(text)?);
    row.tape().push(node);
    Ok(row.tape().len() as u32 - 1)
}

fn put_named<'t>(place: Place, text: &'t [u8], row: &mut RowWriter<'_, 't>) -> Result<(), RowStop> {
    match put_text(text, row)? {
        0 => Ok(()),
        index => row.put(place, index),
    }
}

/// The value of a member of the object at `object`, which is flat but for the values themselves; 0 when there is none.
fn find_member(tape: &[Node<'_>], object: u32, key: &str) -> u32 {
    let Node::Object { len, .. } = tape[object as usize] else {
        return 0;
    };
    let mut at = object as usize + 1;
    for _ in 0..len {
        if tape[at] == Node::String(key) {
            return at as u32 + 1;
        }
        at += match tape[at + 1] {
            Node::Object { count, .. } | Node::Array { count, .. } => 2 + count,
            Node::String(_) | Node::Static(_) => 2,
        };
    }
    0
}
