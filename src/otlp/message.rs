//! The records of a message in order, each with the resource and the scope around it.

use std::cell::Cell;

use super::rows::{Context, Record, Rows, room_bytes};
use crate::protobuf::{Fields, Malformed, Value};
use crate::batch::{Pushed, RowInput, TableSink};
use crate::json::{Parser, RowErrors};

/// A request of log records, its structure checked down to the records' borders.
#[derive(Debug)]
pub struct Message<'b> {
    bytes: &'b [u8],
    progress: Cell<Progress>,
}

/// What is known of a message that was parsed, while its bytes stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    records: usize,
    /// Where the last pass ended, and behind how many records.
    ended: Option<(usize, Cursor)>,
}

impl Progress {
    /// Of a message of so many records.
    pub fn new(records: usize) -> Progress {
        Progress { records, ended: None }
    }

    /// How many records the message has.
    pub fn records(&self) -> usize {
        self.records
    }
}

impl<'b> Message<'b> {
    /// Takes the bytes of an `ExportLogsServiceRequest`.
    ///
    /// # Errors
    /// Some length or tag outside of the records is wrong. What is wrong within a record costs that record alone.
    pub fn parse(bytes: &'b [u8]) -> Result<Message<'b>, Malformed> {
        let mut records = 0;
        for record in ProtobufRecords::new(bytes) {
            record?;
            records += 1;
        }
        Ok(Message::again(bytes, Progress::new(records)))
    }

    /// The message that was parsed before and has come so far.
    pub fn again(bytes: &'b [u8], progress: Progress) -> Message<'b> {
        Message {
            bytes,
            progress: Cell::new(progress),
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.progress.get()
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.progress().records
    }
}

/// Field 2 of `ResourceLogs` and of `ScopeLogs`: what is in them, one level further down.
const INNER: u32 = 2;

#[derive(Debug)]
pub(super) struct ProtobufRecords<'b> {
    /// A record that was read and is to be read again.
    again: Option<&'b [u8]>,
    resources: Fields<'b>,
    scopes: Fields<'b>,
    records: Fields<'b>,
    resource: Context<&'b [u8]>,
    scope: Context<&'b [u8]>,
    failed: bool,
}

impl<'b> ProtobufRecords<'b> {
    fn new(bytes: &'b [u8]) -> ProtobufRecords<'b> {
        ProtobufRecords {
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
    fn put_back(&mut self, record: &Record<&'b [u8]>) {
        self.again = Some(record.message);
    }

    fn step(&mut self) -> Result<Option<Record<&'b [u8]>>, Malformed> {
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

impl<'b> Iterator for ProtobufRecords<'b> {
    type Item = Result<Record<&'b [u8]>, Malformed>;

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
    resource: Context<Span>,
    scope: Context<Span>,
}

/// A part of a message.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part` of `whole` is in it.
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
    fn of(records: &ProtobufRecords<'_>, whole: &[u8]) -> Cursor {
        let span = |part: &[u8]| Span::of(part, whole);
        let context = |context: &Context<&[u8]>| Context {
            message: span(context.message),
            schema_url: span(context.schema_url),
            serial: context.serial,
        };
        Cursor {
            again: records.again.map(span),
            resources: span(records.resources.rest()),
            scopes: span(records.scopes.rest()),
            records: span(records.records.rest()),
            resource: context(&records.resource),
            scope: context(&records.scope),
        }
    }

    fn records(self, whole: &[u8]) -> ProtobufRecords<'_> {
        let context = |context: Context<Span>| Context {
            message: context.message.part(whole),
            schema_url: context.schema_url.part(whole),
            serial: context.serial,
        };
        ProtobufRecords {
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
fn context(message: &[u8], serial: u32) -> Result<Context<&[u8]>, Malformed> {
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
        parser.lend(room_bytes(&limits), |room, tape| {
            let progress = self.progress();
            let records = match progress.ended {
                Some((ended, cursor)) if ended == at => cursor.records(self.bytes),
                _ => {
                    let mut records = ProtobufRecords::new(self.bytes);
                    for _ in 0..at {
                        records.next();
                    }
                    records
                }
            };
            let mut rows = Rows::new(records, room, &limits);
            let pushed = sink.push_rows(&mut rows, progress.records - at, tape, first_row, now_ns, errors);
            let (read, mut records, current) = rows.into_parts();
            if let Some(record) = current {
                records.put_back(&record);
            }
            // Of rows that found no batch the next pass begins with the first.
            let ended = (read == pushed.consumed).then(|| (at + read, Cursor::of(&records, self.bytes)));
            self.progress.set(Progress { ended, ..progress });
            pushed
        })
    }
}
