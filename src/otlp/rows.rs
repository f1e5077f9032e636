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

use crate::batch::{RowStop, RowWriter};
use crate::message::{Places, Records, Room};

/// The records of a message that are still to come, in one of OTLP's encodings.
pub trait Encoding<'b>: Copy {
    /// As [`Records::PASS_BY_PASS`].
    const PASS_BY_PASS: bool;

    /// An encoded part of the message.
    type Part: Copy;

    /// The next `LogRecord`.
    fn next(&mut self) -> Option<Self::Part>;

    /// What the record that came last came from, and what made it there.
    fn around(&self) -> [&Context<Self::Part>; 2];

    /// The record that was read last comes again.
    fn put_back(&mut self, record: Self::Part);

    /// Bytes that count for a part.
    fn bytes(&self, part: Self::Part) -> usize;

    /// Puts what the records of a resource share on the tape.
    ///
    /// # Errors
    /// It is malformed, or a bound is reached.
    fn put_resource<'t>(
        &self,
        resource: &Context<Self::Part>,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<Shared, RowStop>
    where
        'b: 't;

    /// As [`Encoding::put_resource`], for a scope.
    ///
    /// # Errors
    /// It is malformed, or a bound is reached.
    fn put_scope<'t>(
        &self,
        scope: &Context<Self::Part>,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<Shared, RowStop>
    where
        'b: 't;

    /// Puts the record's own parts where they go.
    ///
    /// # Errors
    /// It is malformed, or a bound is reached.
    fn put_record<'t>(
        &self,
        record: Self::Part,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't;
}

/// What all records of a resource or of a scope share.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<P> {
    /// `Resource` or `InstrumentationScope`.
    pub message: P,
    /// Where its attributes' names are defined.
    pub schema_url: P,
    /// Its number in the request, from 1.
    pub serial: u32,
}

/// Tape indexes of what records share, 0 = none, and whose they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shared {
    /// Of the context.
    pub serial: u32,
    /// ResourceSchemaUrl, ScopeSchemaUrl.
    pub schema_url: u32,
    /// ResourceAttributes, ScopeAttributes.
    pub attributes: u32,
    /// ServiceName of a resource, ScopeName of a scope.
    pub name: u32,
    /// ScopeVersion.
    pub version: u32,
}

/// What a resource or a scope has put on the tape.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnTape {
    shared: Shared,
    /// Bytes that count for it.
    bytes: usize,
}

/// Log records as rows.
#[derive(Debug, Clone, Copy)]
pub struct LogRecords<E>(pub E);

impl<'b, E: Encoding<'b>> Records<'b> for LogRecords<E> {
    const PASS_BY_PASS: bool = E::PASS_BY_PASS;

    type Record = E::Part;
    /// Those of the resource and of the scope.
    type Shared = (OnTape, OnTape);

    #[inline]
    fn next(&mut self) -> Option<E::Part> {
        self.0.next()
    }

    fn put_back(&mut self, record: &E::Part) {
        self.0.put_back(*record);
    }

    #[inline]
    fn bytes(&self, record: &E::Part, (resource, scope): &(OnTape, OnTape)) -> usize {
        let mut bytes = self.0.bytes(*record);
        for (context, on_tape) in self.0.around().into_iter().zip([resource, scope]) {
            if on_tape.shared.serial != context.serial {
                bytes += self.context_bytes(context);
            }
        }
        bytes
    }

    #[inline]
    fn repeated_bytes(&self, (resource, scope): &(OnTape, OnTape)) -> usize {
        resource.bytes + scope.bytes
    }

    #[inline]
    fn put<'t>(
        &self,
        record: &E::Part,
        (resource, scope): &mut (OnTape, OnTape),
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't,
    {
        let [of_resource, of_scope] = self.0.around();
        if resource.shared.serial != of_resource.serial {
            *resource = OnTape {
                shared: self.0.put_resource(of_resource, room, row)?,
                bytes: self.context_bytes(of_resource),
            };
        }
        if scope.shared.serial != of_scope.serial {
            *scope = OnTape {
                shared: self.0.put_scope(of_scope, room, row)?,
                bytes: self.context_bytes(of_scope),
            };
        }
        let (resource, scope) = (&resource.shared, &scope.shared);
        for (place, value) in [
            (places.service_name, resource.name),
            (places.resource_schema_url, resource.schema_url),
            (places.resource_attributes, resource.attributes),
            (places.scope_schema_url, scope.schema_url),
            (places.scope_name, scope.name),
            (places.scope_version, scope.version),
            (places.scope_attributes, scope.attributes),
        ] {
            if value != 0 {
                row.put(place, value)?;
            }
        }
        self.0.put_record(*record, places, room, row)
    }
}

impl<'b, E: Encoding<'b>> LogRecords<E> {
    fn context_bytes(&self, context: &Context<E::Part>) -> usize {
        self.0.bytes(context.message) + self.0.bytes(context.schema_url)
    }
}
