//! The records of a message in order, each with the resource and the scope around it.

use super::rows::{Context, LogRecords};
use crate::message;
use crate::protobuf::{self, Fields, Malformed};

/// A request of log records, its structure checked down to the records' borders.
pub type Message<'b> = message::Message<'b, LogRecords<ProtobufRecords<'b>>>;

impl<'b> Message<'b> {
    /// Takes the bytes of an `ExportLogsServiceRequest`.
    ///
    /// # Errors
    /// Some length or tag outside of the records is wrong. What is wrong within a record costs that record alone.
    pub fn parse(bytes: &'b [u8]) -> Result<Message<'b>, Malformed> {
        let mut all = ProtobufRecords::new(bytes);
        let (mut records, mut shared_first) = (0, true);
        let mut resources = all.resources;
        while let Some(resource_logs) = resources.next_message(1)? {
            shared_first &= each_inner(resource_logs, |scope_logs| {
                shared_first &= each_inner(scope_logs, |_| {
                    records += 1;
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        all.shared_first = shared_first;
        Ok(Message::new(records, LogRecords(all)))
    }
}

/// Field 2 of `ResourceLogs` and of `ScopeLogs`: what is in them, one level further down.
const INNER: u32 = protobuf::bytes(2);
/// Of both what their inner messages share, and its schema URL.
const SHARED: u32 = protobuf::bytes(1);
const SCHEMA_URL: u32 = protobuf::bytes(3);

/// Visits each inner message; whether what they share stands before the first of them.
fn each_inner<'b>(
    message: &'b [u8],
    mut visit: impl FnMut(&'b [u8]) -> Result<(), Malformed>,
) -> Result<bool, Malformed> {
    let (mut fields, mut met_inner, mut shared_first) = (Fields::new(message), false, true);
    while let Some(tag) = fields.tag()? {
        match tag {
            INNER => {
                visit(fields.bytes()?)?;
                met_inner = true;
            }
            SHARED | SCHEMA_URL => {
                fields.bytes()?;
                shared_first &= !met_inner;
            }
            _ => fields.pass_over(tag)?,
        }
    }
    Ok(shared_first)
}

/// The records that are still to come.
#[derive(Debug, Clone, Copy)]
pub struct ProtobufRecords<'b> {
    /// A record that was read and is to be read again.
    again: Option<&'b [u8]>,
    resources: Fields<'b>,
    scopes: Fields<'b>,
    records: Fields<'b>,
    /// Around the record that came last.
    pub(super) resource: Context<&'b [u8]>,
    pub(super) scope: Context<&'b [u8]>,
    /// What records share stands before them everywhere: nobody has to look for it behind them.
    shared_first: bool,
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
            shared_first: false,
        }
    }

    /// The record that was read last comes again.
    pub(super) fn put_back(&mut self, record: &'b [u8]) {
        self.again = Some(record);
    }

    #[inline]
    pub(super) fn step(&mut self) -> Result<Option<&'b [u8]>, Malformed> {
        if let Some(again) = self.again.take() {
            return Ok(Some(again));
        }
        match self.records.next_message(2)? {
            None => self.step_outside(),
            record => Ok(record),
        }
    }

    /// The first record of the next scope that has one.
    #[cold]
    fn step_outside(&mut self) -> Result<Option<&'b [u8]>, Malformed> {
        loop {
            if let Some(scope_logs) = self.scopes.next_message(2)? {
                self.scope = self.context(scope_logs, self.scope.serial + 1)?;
                self.records = Fields::new(scope_logs);
                match self.records.next_message(2)? {
                    None => continue,
                    record => return Ok(record),
                }
            }
            let Some(resource_logs) = self.resources.next_message(1)? else {
                return Ok(None);
            };
            self.resource = self.context(resource_logs, self.resource.serial + 1)?;
            self.scopes = Fields::new(resource_logs);
        }
    }

    /// What the inner messages of a `ResourceLogs` or a `ScopeLogs` share.
    fn context(&self, message: &'b [u8], serial: u32) -> Result<Context<&'b [u8]>, Malformed> {
        let mut context = Context {
            serial,
            ..Context::default()
        };
        let mut fields = Fields::new(message);
        while let Some(tag) = fields.tag()? {
            match tag {
                SHARED => context.message = fields.bytes()?,
                SCHEMA_URL => context.schema_url = fields.bytes()?,
                INNER if self.shared_first => break,
                _ => fields.pass_over(tag)?,
            }
        }
        Ok(context)
    }
}
