//! Log records as rows: which part goes to which column, and what they share written once a pass.
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

use crate::batch::{Place, Room, RowRefusal, RowSource, RowStop, RowWriter};
use crate::column::Node;
use crate::limits::Limits;

/// The records of a message, in one of OTLP's encodings.
pub(super) trait Records<'t> {
    /// An encoded part of the message.
    type Part: Copy;

    /// The next record, with what is around it.
    fn next(&mut self) -> Option<Record<Self::Part>>;

    /// Bytes that count for a part.
    fn bytes(&self, part: Self::Part) -> usize;

    /// Puts what the records of a resource share on the tape.
    ///
    /// # Errors
    /// It is malformed, or a bound is reached.
    fn put_resource(
        &self,
        resource: &Context<Self::Part>,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<Shared, RowStop>;

    /// As [`Records::put_resource`], for a scope.
    ///
    /// # Errors
    /// It is malformed, or a bound is reached.
    fn put_scope(
        &self,
        scope: &Context<Self::Part>,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<Shared, RowStop>;

    /// Puts the record's own parts where they go.
    ///
    /// # Errors
    /// It is malformed, or a bound is reached.
    fn put_record(
        &self,
        record: Self::Part,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>;
}

/// What all records of a resource or of a scope share.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context<P> {
    /// `Resource` or `InstrumentationScope`.
    pub message: P,
    pub schema_url: P,
    /// Its number in the request, from 1.
    pub serial: u32,
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<P> {
    pub resource: Context<P>,
    pub scope: Context<P>,
    /// `LogRecord`
    pub message: P,
}

/// Where the parts of a record go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    generation: u32,
    pub timestamp: Place,
    pub trace_id: Place,
    pub span_id: Place,
    pub trace_flags: Place,
    pub severity_text: Place,
    pub severity_number: Place,
    pub service_name: Place,
    pub body: Place,
    pub resource_schema_url: Place,
    pub resource_attributes: Place,
    pub scope_schema_url: Place,
    pub scope_name: Place,
    pub scope_version: Place,
    pub scope_attributes: Place,
    pub log_attributes: Place,
    pub event_name: Place,
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

/// Tape indexes of what records share, 0 = none, and whose they are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shared {
    pub serial: u32,
    pub schema_url: u32,
    pub attributes: u32,
    /// ServiceName of a resource, ScopeName of a scope.
    pub name: u32,
    /// ScopeVersion.
    pub version: u32,
}

/// Bytes of room that any record of so many bytes fits: hexadecimal doubles ids, Base64 adds a third.
fn room_of(record_bytes: usize) -> usize {
    2 * record_bytes + 64
}

/// Bytes of room so that a pass takes one record at least.
pub(super) fn room_bytes(limits: &Limits) -> usize {
    room_of(limits.line_bytes_max.max(limits.chunk_bytes))
}

/// The records of one pass.
pub(super) struct Rows<'t, R: Records<'t>> {
    records: R,
    /// Records written or skipped.
    read: usize,
    current: Option<Record<R::Part>>,
    room: Room<'t>,
    record_bytes_max: usize,
    /// Bytes of records this pass may still take.
    left: usize,
    resource: Shared,
    scope: Shared,
    places: Option<Places>,
}

impl<'t, R: Records<'t>> Rows<'t, R> {
    /// The records from the next one on.
    pub(super) fn new(records: R, room: &'t mut [u8], limits: &Limits) -> Self {
        Rows {
            records,
            read: 0,
            current: None,
            room: Room::new(room, limits),
            record_bytes_max: limits.line_bytes_max,
            left: limits.chunk_bytes,
            resource: Shared::default(),
            scope: Shared::default(),
            places: None,
        }
    }

    /// How many records the pass was done with, those behind them, and one that was read and not written.
    pub(super) fn into_parts(self) -> (usize, R, Option<Record<R::Part>>) {
        (self.read, self.records, self.current)
    }
}

impl<'t, R: Records<'t>> RowSource<'t> for Rows<'t, R> {
    fn write(&mut self, row: &mut RowWriter<'_, 't>) -> Result<bool, RowStop> {
        if self.current.is_none() {
            self.current = self.records.next();
        }
        let Some(record) = self.current else {
            return Ok(false);
        };
        // What it shares with others counts with the first that brings it.
        let records = &self.records;
        let of_context =
            |context: &Context<R::Part>| records.bytes(context.message) + records.bytes(context.schema_url);
        let mut bytes = records.bytes(record.message);
        if self.resource.serial != record.resource.serial {
            bytes += of_context(&record.resource);
        }
        if self.scope.serial != record.scope.serial {
            bytes += of_context(&record.scope);
        }
        if row.number() > 0 && (self.left < bytes || self.room.left() < room_of(bytes)) {
            return Ok(false);
        }
        if bytes > self.record_bytes_max {
            return Err(RowRefusal::TooLong.into());
        }
        if self.resource.serial != record.resource.serial {
            self.resource = self.records.put_resource(&record.resource, &mut self.room, row)?;
        }
        if self.scope.serial != record.scope.serial {
            self.scope = self.records.put_scope(&record.scope, &mut self.room, row)?;
        }
        let places = match self.places {
            Some(places) if places.generation == row.generation() => places,
            _ => *self.places.insert(Places::find(row)?),
        };
        self.put_shared(&places, row)?;
        self.records
            .put_record(record.message, &places, &mut self.room, row)?;
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

impl<'t, R: Records<'t>> Rows<'t, R> {
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
}

/// A text on the tape; 0 for an empty one.
pub(super) fn put_text<'t>(text: &'t str, row: &mut RowWriter<'_, 't>) -> u32 {
    if text.is_empty() {
        return 0;
    }
    row.tape().push(Node::String(text));
    row.tape().len() as u32 - 1
}

/// The value of a member of the object at `object`, which is flat but for the values themselves; 0 when there is none.
pub(super) fn find_member(tape: &[Node<'_>], object: u32, key: &str) -> u32 {
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
