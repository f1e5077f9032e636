//! The records of a message in order, each with the resource and the scope around it.

use super::rows::{Context, Record, Rows, room_bytes};
use super::wire::{Fields, Malformed, Value};
use crate::batch::{Pushed, RowInput, TableSink};
use crate::json::{Parser, RowErrors};

/// A request of log records, its structure checked down to the records' borders.
#[derive(Debug, Clone, Copy)]
pub struct Message<'b> {
    bytes: &'b [u8],
    records: u32,
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
        Ok(Message { bytes, records })
    }

    /// A message that was parsed before and had `records`.
    pub fn again(bytes: &'b [u8], records: usize) -> Message<'b> {
        Message {
            bytes,
            records: records as u32,
        }
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records as usize
    }
}

/// Field 2 of `ResourceLogs` and of `ScopeLogs`: what is in them, one level further down.
const INNER: u32 = 2;

pub(super) struct ProtobufRecords<'b> {
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
            resources: Fields::new(bytes),
            scopes: Fields::new(b""),
            records: Fields::new(b""),
            resource: Context::default(),
            scope: Context::default(),
            failed: false,
        }
    }

    fn step(&mut self) -> Result<Option<Record<&'b [u8]>>, Malformed> {
        loop {
            if let Some(message) = next_message(&mut self.records, INNER)? {
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
            let mut records = ProtobufRecords::new(self.bytes);
            for _ in 0..at {
                records.next();
            }
            let mut rows = Rows::new(records, room, &limits);
            sink.push_rows(&mut rows, self.records() - at, tape, first_row, now_ns, errors)
        })
    }
}
