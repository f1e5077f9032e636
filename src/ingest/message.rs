//! Takes a body that is one message: received whole, then pushed pass by pass.

use std::fmt;
use std::io;
use std::rc::Rc;

use crate::batch::RowInput;
use crate::column::Node;
use crate::http::body::BodyError;
use crate::http::encodings::{Encoding, InflateError};
use crate::http::head::Framing;
use crate::http::receive_buffer::ReceiveBuffer;
use crate::json::{MessageParser, RejectReason, RowErrors, RowFault};
use crate::limits::Limits;
use crate::message::{Group, Message, Records, WrongStructure};
use crate::routing::{RowFacts, split_checked};
use crate::runtime;
use crate::{logentry, logger, logtide, loki, otlp};

use super::Core;
use super::body::{Failure, Intake, PushEnd, Source, Terms};
use super::choice::Paths;
use super::connection::Session;
use super::dialect::MessageForm;
use super::link::Link;
use super::table::Table;

/// Why a body is not the message it should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Malformed {
    Protobuf,
    Json(RowFault),
    Structure(WrongStructure),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Protobuf => f.write_str("the body is not the protobuf message it should be"),
            Malformed::Json(fault) => write!(f, "the body is {fault}"),
            Malformed::Structure(wrong) => write!(f, "the body is {wrong}"),
        }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Failure {
        Failure::Message(malformed)
    }
}

impl From<crate::protobuf::Malformed> for Failure {
    fn from(_: crate::protobuf::Malformed) -> Failure {
        Failure::Message(Malformed::Protobuf)
    }
}

impl Session<'_> {
    /// Takes the records of a message into `table`, or where `paths` lead.
    ///
    /// # Errors
    /// When the connection broke; none of its rows was taken then.
    pub(super) async fn take_message(
        &mut self,
        form: MessageForm,
        table: &Rc<Table>,
        paths: Option<Paths<'_>>,
        framing: Framing,
        encoding: Encoding,
        terms: Terms,
    ) -> io::Result<Intake> {
        let core = self.core;
        let mut intake = Intake::new(&core.limits);
        let none = intake.errors.counts();
        // Loki's is a block of Snappy, whether its head says so or not.
        let encoding = match (form, encoding) {
            (MessageForm::LokiProtobuf, Encoding::Snappy) => Encoding::Identity,
            _ => encoding,
        };
        match self.receive_message(framing, encoding).await? {
            Err(failure) => intake.failure = Some(failure),
            Ok(mut source) => {
                let (bytes, _) = source.text(&self.buffer);
                let len = bytes.len();
                let taken = self.take_received(form, table, paths, bytes, terms, &mut intake);
                if let Err(failure) = taken.await {
                    intake.failure = Some(failure);
                }
                source.consume(&mut self.buffer, len);
            }
        }
        intake
            .errors
            .each_since(&none, |reason, rows| core.metrics.reject(reason.label(), rows));
        Ok(intake)
    }

    /// Takes the records of a message that was received.
    pub(super) async fn take_received(
        &self,
        form: MessageForm,
        table: &Rc<Table>,
        paths: Option<Paths<'_>>,
        bytes: &[u8],
        terms: Terms,
        intake: &mut Intake,
    ) -> Result<(), Failure> {
        let core = self.core;
        let mut taking = Taking {
            core,
            connection: &self.connection,
            table,
            paths: paths.filter(|paths| core.router.depends_on_rows(paths.candidates)),
            routed: Vec::new(),
            run: None,
            terms,
            first: 0,
            at: 0,
            intake,
        };
        taking.take(form, bytes).await
    }

    /// Receives a body to its end, at most `message_bytes_max` of it.
    pub(super) async fn receive_message(
        &mut self,
        framing: Framing,
        encoding: Encoding,
    ) -> io::Result<Result<Source, Failure>> {
        let bytes_max = self.core.limits.message_bytes_max;
        let too_long = Failure::Body(BodyError::TooLong {
            bytes_max: bytes_max as u64,
        });
        if let (Some(bytes), Encoding::Identity) = (framing.length(), encoding)
            && bytes > bytes_max as u64
        {
            return Ok(Err(too_long));
        }
        let mut source = match self.source(framing, encoding) {
            Ok(source) => source,
            Err(failure) => return Ok(Err(failure)),
        };
        self.expect_progress();
        loop {
            let (text, end) = source.text(&self.buffer);
            if text.len() > bytes_max {
                return Ok(Err(too_long));
            }
            if end {
                return Ok(Ok(source));
            }
            if let Err(failure) = self.receive(&mut source).await? {
                return Ok(Err(failure));
            }
        }
    }
}

/// A message whose records are being taken.
struct Taking<'a> {
    core: &'a Rc<Core>,
    connection: &'a Link,
    table: &'a Rc<Table>,
    /// Routes that look at labels are among them.
    paths: Option<Paths<'a>>,
    /// The tables of routes so far, by their names: at most one a route.
    routed: Vec<(String, Rc<Table>)>,
    /// The table of the records ahead, and where others follow; none before routes were looked at.
    run: Option<(Rc<Table>, usize)>,
    terms: Terms,
    /// Number of the message's first record in the request.
    first: usize,
    /// Records of the request that were taken or rejected.
    at: usize,
    intake: &'a mut Intake,
}

/// Where a push stopped.
enum Stopped {
    AtEnd,
    /// Others should have a turn.
    Pass,
    /// A batch of a table is full and cannot be sealed.
    Blocked(Rc<Table>),
}

impl Taking<'_> {
    async fn take(&mut self, form: MessageForm, bytes: &[u8]) -> Result<(), Failure> {
        match form {
            MessageForm::OtlpProtobuf => self.take_records(&otlp::Message::parse(bytes)?).await,
            MessageForm::LokiProtobuf => {
                let inflated = self.core.inflate_snappy(bytes)?;
                self.take_records(&loki::Message::parse(inflated.unread())?).await
            }
            MessageForm::IngestLogs => {
                self.take_records(&logentry::Message::ingest_logs_request(bytes)?)
                    .await
            }
            MessageForm::SendLog => self.take_records(&logger::Message::log_request(bytes)).await,
            MessageForm::LogEntry => self.take_records(&logentry::Message::entry(bytes)).await,
            MessageForm::LogEntryBatch => self.take_records(&logentry::Message::batch(bytes)?).await,
            MessageForm::OtlpJson
            | MessageForm::LokiJson
            | MessageForm::LogEntryJson
            | MessageForm::Logger
            | MessageForm::LogTide => self.take_json(form, bytes).await,
            MessageForm::LogTideSingle => match self.take_json(form, bytes).await {
                Err(Failure::Message(Malformed::Json(_)))
                    if memchr::memchr(b'\n', bytes.trim_ascii()).is_some() =>
                {
                    self.take_lines(form, bytes).await
                }
                taken => taken,
            },
        }
    }

    async fn take_records<'b, R: Records<'b>>(&mut self, message: &Message<'b, R>) -> Result<(), Failure> {
        loop {
            let stopped = self.push(message)?;
            if let Stopped::AtEnd = stopped {
                return Ok(());
            }
            self.pause(stopped).await?;
        }
    }

    /// The tape is many times the text, and there is one: other messages in JSON wait for it, and nobody else does.
    async fn take_json(&mut self, form: MessageForm, bytes: &[u8]) -> Result<(), Failure> {
        let core = Rc::clone(self.core);
        let Some(mut parser) = core.turn_to_parse(self.connection).await else {
            return Err(Failure::Log(core.log_error.get()));
        };
        let wrong = |wrong| Failure::Message(Malformed::Structure(wrong));
        let taken = parser.parse_for(bytes, async |nodes: &[Node<'_>]| match form {
            MessageForm::OtlpJson => {
                self.take_records(&otlp::JsonMessage::parse(nodes).map_err(wrong)?)
                    .await
            }
            MessageForm::LokiJson => {
                self.take_records(&loki::JsonMessage::parse(nodes).map_err(wrong)?)
                    .await
            }
            MessageForm::LogEntryJson => {
                self.take_records(&logentry::JsonMessage::parse(nodes).map_err(wrong)?)
                    .await
            }
            MessageForm::Logger => {
                self.take_records(&logger::JsonMessage::parse(nodes).map_err(wrong)?)
                    .await
            }
            MessageForm::LogTide => {
                self.take_records(&logtide::JsonMessage::parse(nodes).map_err(wrong)?)
                    .await
            }
            MessageForm::LogTideSingle => {
                self.take_records(&logtide::SingleMessage::parse(nodes).map_err(wrong)?)
                    .await
            }
            MessageForm::OtlpProtobuf
            | MessageForm::LokiProtobuf
            | MessageForm::LogEntry
            | MessageForm::LogEntryBatch
            | MessageForm::IngestLogs
            | MessageForm::SendLog => unreachable!("it is no JSON"),
        });
        let taken = taken.await;
        taken.map_err(|fault| Failure::Message(Malformed::Json(fault)))?
    }

    /// Takes a message a line; a line that is none is rejected alone.
    async fn take_lines(&mut self, form: MessageForm, bytes: &[u8]) -> Result<(), Failure> {
        let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        for line in lines.filter(|line| !line.is_empty()) {
            self.first = self.at;
            let (reason, malformed) = match self.take_json(form, line).await {
                Ok(()) => continue,
                Err(Failure::Message(malformed @ Malformed::Json(fault))) => (fault.kind.into(), malformed),
                Err(Failure::Message(malformed)) => (RejectReason::NotObject, malformed),
                Err(failure) => return Err(failure),
            };
            let row = self.at as u64;
            self.intake.errors.push(row, reason, || malformed.to_string());
            self.table.account().receive(0, 1);
            self.core.metrics.rows_received.add(1);
            self.at += 1;
        }
        Ok(())
    }

    fn push<'b, R: Records<'b>>(&mut self, message: &Message<'b, R>) -> Result<Stopped, Failure> {
        let Some(paths) = self.paths else {
            return Ok(self.push_into(&Rc::clone(self.table), message));
        };
        if self.run.is_none() {
            // Before the first row is taken: a table that cannot take any refuses the message.
            message.each_group(0, |group, _| self.route(paths, group).map(drop))?;
            self.run = Some((Rc::clone(self.table), self.at));
        }
        while self.at - self.first < message.records() {
            let (table, end) = match &self.run {
                Some((table, end)) if self.at < *end => (Rc::clone(table), *end),
                _ => self.next_run(paths, message)?,
            };
            message.end_at(end - self.first);
            match self.push_into(&table, message) {
                // Runs may be short and many.
                Stopped::AtEnd if R::PASS_BY_PASS && self.at - self.first < message.records() => {
                    return Ok(Stopped::Pass);
                }
                Stopped::AtEnd => {}
                stopped => return Ok(stopped),
            }
        }
        Ok(Stopped::AtEnd)
    }

    /// The table of the records ahead, and where records of another one follow.
    fn next_run<'b, R: Records<'b>>(
        &mut self,
        paths: Paths<'_>,
        message: &Message<'b, R>,
    ) -> Result<(Rc<Table>, usize), Failure> {
        let mut run: Option<(Rc<Table>, usize)> = None;
        let first = self.first;
        let walked = message.each_group(self.at - first, |group, end| {
            let table = self.route(paths, group).map_err(Some)?;
            match &mut run {
                Some((of_run, run_end)) if Rc::ptr_eq(of_run, &table) => *run_end = first + end,
                Some(_) => return Err(None),
                None => run = Some((table, first + end)),
            }
            Ok(())
        });
        if let Err(Some(failure)) = walked {
            return Err(failure);
        }
        let run = run.expect("there are records ahead");
        self.run = Some((Rc::clone(&run.0), run.1));
        Ok(run)
    }

    /// The table of a group of records.
    fn route(&mut self, paths: Paths<'_>, group: &Group) -> Result<Rc<Table>, Failure> {
        let label = |name: &str| group.label(name);
        let rows = RowFacts {
            label: Some(&label),
            ..RowFacts::default()
        };
        let Some(name) = self.core.router.table(paths.candidates, rows) else {
            return Ok(Rc::clone(self.table));
        };
        if let Some((_, table)) = self.routed.iter().find(|(known, _)| known == name) {
            return Ok(Rc::clone(table));
        }
        let (database, table) = split_checked(name);
        let found = self.core.table_in_reach(paths.key, (database, Some(table)));
        let table = found.map_err(Failure::Table)?;
        self.routed.push((name.to_owned(), Rc::clone(&table)));
        Ok(table)
    }

    fn push_into<'b, R: Records<'b>>(&mut self, table: &Rc<Table>, message: &Message<'b, R>) -> Stopped {
        let at = self.at - self.first;
        if at == message.end() {
            return Stopped::AtEnd;
        }
        let errors = &mut self.intake.errors;
        let pushed = self
            .core
            .push(table, message, at, self.at as u64, errors, self.terms);
        self.at += pushed.consumed;
        self.intake.accepted += pushed.accepted;
        match pushed.blocked {
            true => Stopped::Blocked(Rc::clone(table)),
            false if self.at - self.first == message.end() => Stopped::AtEnd,
            false => Stopped::Pass,
        }
    }

    async fn pause(&mut self, stopped: Stopped) -> Result<(), Failure> {
        if let Stopped::Blocked(table) = stopped
            && !self.core.wait_for_room(self.connection, &table).await
        {
            return Err(Failure::Log(self.core.log_error.get()));
        }
        runtime::yield_if_needed().await;
        Ok(())
    }
}

impl Core {
    /// Pushes all records of a message with a key, as [`Core::push_whole`] does; the forms are those of dialects that take keys.
    pub(super) fn push_whole_message(
        &self,
        form: MessageForm,
        table: &Rc<Table>,
        bytes: &[u8],
        parser: Option<&mut MessageParser>,
        errors: &mut RowErrors,
        terms: Terms,
    ) -> Result<PushEnd, Failure> {
        match form {
            MessageForm::LogEntry => {
                Ok(self.push_whole(table, &logentry::Message::entry(bytes), 0, errors, terms))
            }
            MessageForm::LogEntryBatch => {
                Ok(self.push_whole(table, &logentry::Message::batch(bytes)?, 0, errors, terms))
            }
            MessageForm::LogEntryJson => {
                let parser = parser.expect("a message in JSON has the turn");
                let pushed = parser.parse(bytes, |nodes| {
                    let message = logentry::JsonMessage::parse(nodes).map_err(Malformed::Structure)?;
                    Ok(self.push_whole(table, &message, 0, errors, terms))
                });
                Ok(pushed
                    .map_err(Malformed::Json)?
                    .map_err(|malformed: Malformed| malformed)?)
            }
            _ => unreachable!("its dialect takes no keys"),
        }
    }

    /// Inflates a block of Snappy into a lent buffer, whose size is bounded before it is lent.
    fn inflate_snappy(&self, block: &[u8]) -> Result<ReceiveBuffer, Failure> {
        let malformed = |reason| {
            Failure::Body(BodyError::Inflate(InflateError::Malformed {
                encoding: Encoding::Snappy,
                reason,
            }))
        };
        let len = snappy_bytes(block, &self.limits)?.ok_or(malformed("its length is malformed"))?;
        let mut buffer = ReceiveBuffer::new(&self.buffers);
        while buffer.capacity() < len {
            buffer.grow().map_err(|_| Failure::NoBuffer)?;
        }
        match snap::raw::Decoder::new().decompress(block, &mut buffer.spare()[..len]) {
            Ok(inflated) if inflated == len => buffer.filled(len),
            _ => return Err(malformed("its data is corrupt")),
        }
        // The block itself was counted when it was received.
        self.metrics
            .bytes_decoded
            .add(len.saturating_sub(block.len()) as u64);
        Ok(buffer)
    }
}

/// Bytes that a block of Snappy says it inflates to; `None` when it does not say.
fn snappy_bytes(block: &[u8], limits: &Limits) -> Result<Option<usize>, Failure> {
    let len = match snap::raw::decompress_len(block) {
        Ok(len) if !block.is_empty() => len,
        _ => return Ok(None),
    };
    if len > limits.message_bytes_max {
        return Err(Failure::Body(BodyError::TooLong {
            bytes_max: limits.message_bytes_max as u64,
        }));
    }
    let earned = (block.len() as u64).saturating_mul(limits.inflate_ratio_max);
    if len as u64 > earned.saturating_add(limits.inflate_free_bytes) {
        return Err(Failure::Body(BodyError::Bomb {
            ratio_max: limits.inflate_ratio_max,
        }));
    }
    Ok(Some(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_snappy_is_bounded_by_the_length_it_says() {
        let limits = Limits {
            message_bytes_max: 1 << 20,
            inflate_ratio_max: 10,
            inflate_free_bytes: 1000,
            ..Limits::default()
        };
        let block = |bytes: usize| snap::raw::Encoder::new().compress_vec(&vec![7; bytes]).unwrap();
        assert_eq!(snappy_bytes(&block(900), &limits).unwrap(), Some(900));
        assert!(matches!(snappy_bytes(b"", &limits), Ok(None)));
        assert!(matches!(
            snappy_bytes(b"\xff\xff\xff\xff\xff\xff", &limits),
            Ok(None)
        ));
        // A block says that it is long without being so.
        assert!(matches!(
            snappy_bytes(b"\x80\x80\x40", &limits),
            Err(Failure::Body(BodyError::Bomb { .. }))
        ));
        assert!(matches!(
            snappy_bytes(b"\x81\x80\x40", &limits),
            Err(Failure::Body(BodyError::TooLong { .. }))
        ));
    }
}
