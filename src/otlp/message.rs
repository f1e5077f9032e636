//! The records of a message in order, each with the resource and the scope around it.

use super::rows::{Context, LogRecords, Record};
use crate::message;
use crate::protobuf::{Fields, Malformed, Value};

/// A request of log records, its structure checked down to the records' borders.
pub type Message<'b> = message::Message<'b, LogRecords<ProtobufRecords<'b>>>;

impl<'b> Message<'b> {
    /// Takes the bytes of an `ExportLogsServiceRequest`.
    ///
    /// # Errors
    /// Some length or tag outside of the records is wrong. What is wrong within a record costs that record alone.
    pub fn parse(bytes: &'b [u8]) -> Result<Message<'b>, Malformed> {
        let all = ProtobufRecords::new(bytes);
        let (mut rest, mut records) = (all, 0);
        while rest.step()?.is_some() {
            records += 1;
        }
        Ok(Message::new(records, LogRecords(all)))
    }
}

/// Field 2 of `ResourceLogs` and of `ScopeLogs`: what is in them, one level further down.
const INNER: u32 = 2;

/// The records that are still to come.
#[derive(Debug, Clone, Copy)]
pub struct ProtobufRecords<'b> {
    /// A record that was read and is to be read again.
    again: Option<&'b [u8]>,
    resources: Fields<'b>,
    scopes: Fields<'b>,
    records: Fields<'b>,
    resource: Context<&'b [u8]>,
    scope: Context<&'b [u8]>,
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
        }
    }

    /// The record that was read last comes again.
    pub(super) fn put_back(&mut self, record: &'b [u8]) {
        self.again = Some(record);
    }

    pub(super) fn step(&mut self) -> Result<Option<Record<&'b [u8]>>, Malformed> {
        loop {
            let message = match self.again.take() {
                Some(message) => Some(message),
                None => self.records.next_message(INNER)?,
            };
            if let Some(message) = message {
                return Ok(Some(Record {
                    resource: self.resource,
                    scope: self.scope,
                    message,
                }));
            }
            if let Some(scope_logs) = self.scopes.next_message(INNER)? {
                self.scope = context(scope_logs, self.scope.serial + 1)?;
                self.records = Fields::new(scope_logs);
                continue;
            }
            let Some(resource_logs) = self.resources.next_message(1)? else {
                return Ok(None);
            };
            self.resource = context(resource_logs, self.resource.serial + 1)?;
            self.scopes = Fields::new(resource_logs);
        }
    }
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
