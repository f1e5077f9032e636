//! The records of a message in order, each with the resource and the scope around it.

use std::cell::Cell;

use super::record::Rows;
use super::wire::{Fields, Malformed, Value};
use crate::batch::{Pushed, RowInput, TableSink};
use crate::json::{Parser, RowErrors};

/// A request of log records, its structure checked down to the records' borders.
#[derive(Debug)]
pub struct Message<'b> {
    bytes: &'b [u8],
    records: u32,
    /// Where the last pass ended, and behind how many records.
    ended: Cell<Option<(usize, Cursor)>>,
}

impl<'b> Message<'b> {
    /// Takes the bytes of an `ExportLogsServiceRequest`.
    ///
    /// # Errors
    /// Some length or tag outside of the records is wrong. What is wrong within a record costs that record alone.
    pub fn parse(bytes: &'b [u8]) -> Result<Message<'b>, Malformed> {
        let mut records = 0;
        for record in Records::new(bytes) {
            record?;
            records += 1;
        }
        Ok(Message {
            bytes,
            records,
            ended: Cell::new(None),
        })
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records as usize
    }
}

/// What all records of a resource or of a scope share.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context<'b> {
    /// `Resource` or `InstrumentationScope`.
    pub message: &'b [u8],
    pub schema_url: &'b [u8],
    /// Its number in the request, from 1.
    pub serial: u32,
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'b> {
    pub resource: Context<'b>,
    pub scope: Context<'b>,
    /// `LogRecord`
    pub message: &'b [u8],
}

/// Field 2 of `ResourceLogs` and of `ScopeLogs`: what is in them, one level further down.
const INNER: u32 = 2;

#[derive(Debug, Clone)]
pub(super) struct Records<'b> {
    /// A record that was read and is to be read again.
    again: Option<&'b [u8]>,
    resources: Fields<'b>,
    scopes: Fields<'b>,
    records: Fields<'b>,
    resource: Context<'b>,
    scope: Context<'b>,
    failed: bool,
}

impl<'b> Records<'b> {
    fn new(bytes: &'b [u8]) -> Records<'b> {
        Records {
            again: None,
            resources: Fields::new(bytes),
            scopes: Fields::new(b""),
            records: Fields::new(b""),
            resource: Context::default(),
            scope: Context::default(),
            failed: false,
        }
    }

    /// The record that was read last comes again.
    pub(super) fn put_back(&mut self, record: &Record<'b>) {
        self.again = Some(record.message);
    }

    fn step(&mut self) -> Result<Option<Record<'b>>, Malformed> {
        loop {
            let message = match self.again.take() {
                Some(message) => Some(message),
                None => next_message(&mut self.records, INNER)?,
            };
            if let Some(message) = message {
                return Ok(Some(Record {
                    resource: self.resource,
                    scope: self.scope,
                    message,
                }));
            }
            if let Some(scope_logs) = next_message(&mut self.scopes, INNER)? {
                self.scope = context(scope_logs, self.scope.serial + 1)?;
                self.records = Fields::new(scope_logs);
                continue;
            }
            let Some(resource_logs) = next_message(&mut self.resources, 1)? else {
                return Ok(None);
            };
            self.resource = context(resource_logs, self.resource.serial + 1)?;
            self.scopes = Fields::new(resource_logs);
        }
    }
}

impl<'b> Iterator for Records<'b> {
    type Item = Result<Record<'b>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

/// A place between two records, as offsets into the message.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    again: Option<Span>,
    resources: Span,
    scopes: Span,
    records: Span,
    resource: (Span, Span, u32),
    scope: (Span, Span, u32),
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where a part of `whole` is in it.
    fn of(part: &[u8], whole: &[u8]) -> Span {
        // An empty one may be from anywhere.
        let start = match part {
            [] => 0,
            _ => part.as_ptr().addr() - whole.as_ptr().addr(),
        };
        Span {
            start: start as u32,
            end: (start + part.len()) as u32,
        }
    }

    fn part(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

impl Cursor {
    fn of(records: &Records<'_>, whole: &[u8]) -> Cursor {
        let span = |part: &[u8]| Span::of(part, whole);
        let context =
            |context: &Context<'_>| (span(context.message), span(context.schema_url), context.serial);
        Cursor {
            again: records.again.map(span),
            resources: span(records.resources.rest()),
            scopes: span(records.scopes.rest()),
            records: span(records.records.rest()),
            resource: context(&records.resource),
            scope: context(&records.scope),
        }
    }

    fn records(self, whole: &[u8]) -> Records<'_> {
        let context = |(message, schema_url, serial): (Span, Span, u32)| Context {
            message: message.part(whole),
            schema_url: schema_url.part(whole),
            serial,
        };
        Records {
            again: self.again.map(|span| span.part(whole)),
            resources: Fields::new(self.resources.part(whole)),
            scopes: Fields::new(self.scopes.part(whole)),
            records: Fields::new(self.records.part(whole)),
            resource: context(self.resource),
            scope: context(self.scope),
            failed: false,
        }
    }
}

/// The next field of this number, which holds a message.
fn next_message<'b>(fields: &mut Fields<'b>, wanted: u32) -> Result<Option<&'b [u8]>, Malformed> {
    for field in fields {
        match field? {
            (number, Value::Bytes(bytes)) if number == wanted => return Ok(Some(bytes)),
            // A known number of another wire type is a field of another version: unknown ones are passed over.
            _ => {}
        }
    }
    Ok(None)
}

/// `ResourceLogs` and `ScopeLogs` have the same shape: 1 what is shared, 3 its schema URL.
fn context<'b>(message: &'b [u8], serial: u32) -> Result<Context<'b>, Malformed> {
    let mut context = Context {
        serial,
        ..Context::default()
    };
    for field in Fields::new(message) {
        match field? {
            (1, Value::Bytes(bytes)) => context.message = bytes,
            (3, Value::Bytes(bytes)) => context.schema_url = bytes,
            _ => {}
        }
    }
    Ok(context)
}

impl RowInput for Message<'_> {
    const PASS_BY_PASS: bool = true;

    fn end(&self) -> usize {
        self.records()
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
        parser.lend(self.bytes, Rows::room_bytes(&limits), |bytes, room, tape| {
            let records = match self.ended.get() {
                Some((ended, cursor)) if ended == at => cursor.records(bytes),
                _ => {
                    let mut records = Records::new(bytes);
                    for _ in 0..at {
                        records.next();
                    }
                    records
                }
            };
            let mut rows = Rows::new(records, room, &limits);
            let pushed = sink.push_rows(&mut rows, self.records() - at, tape, first_row, now_ns, errors);
            let (read, records) = rows.into_records();
            // Of rows that found no batch the next pass begins with the first.
            let ended = (read == pushed.consumed).then(|| (at + read, Cursor::of(&records, bytes)));
            self.ended.set(ended);
            pushed
        })
    }
}
