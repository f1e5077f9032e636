//! Feeds one request body into a table as it arrives, without holding more of it than its longest row.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::ack::{AckId, AckLevel};
use crate::batch::RowInput;
use crate::elasticsearch::ActionError;
use crate::http::body::{BodyDecoder, BodyError};
use crate::http::encodings::Encoding;
use crate::http::head::Framing;
use crate::http::receive_buffer::{CannotGrow, ReceiveBuffer};
use crate::http::status::Status;
use crate::json::{BodyFault, MessageParser, RowErrors, RowsText, Shape, Split, Splitter};
use crate::limits::Limits;
use crate::mapping::Reading;
use crate::runtime::{self, Notify};
use crate::wal::log::LogError;

use super::bulk::{BulkTaken, separator_bytes};
use super::choice::Paths;
use super::connection::Session;
use super::dialect::Asked;
use super::lines::TextLines;
use super::link::Link;
use super::message::Malformed;
use super::table::{Claim, Claimant, Table};
use super::turns::Turn;
use super::{Core, TableError};

/// What became of a body.
pub(super) struct Intake {
    /// Rows that are in batches now.
    pub accepted: u64,
    /// Rows that never will be.
    pub errors: RowErrors,
    /// Why the body was not taken to its end.
    pub failure: Option<Failure>,
    /// What the request's head said for its dialect alone.
    pub asked: Asked,
    /// What became of each action of a bulk request.
    pub bulk: Option<Box<BulkTaken>>,
    /// The body of a query.
    pub query: Vec<u8>,
}

impl Intake {
    pub fn new(limits: &Limits) -> Intake {
        Intake {
            accepted: 0,
            errors: RowErrors::new(limits),
            failure: None,
            asked: Asked::Nothing,
            bulk: None,
            query: Vec::new(),
        }
    }
}

/// Why a body was not taken to its end. The connection's next request cannot be found then.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure {
    /// Chunks, compression or size.
    Body(BodyError),
    /// A JSON array that is not one.
    Json(BodyFault),
    /// A message that is none.
    Message(Malformed),
    /// An action that is none, or too many of them.
    Bulk(ActionError),
    /// The table of some of its rows takes none.
    Table(TableError),
    /// The log did not take sealed blocks in time; why, when it said so.
    Log(Option<LogError>),
    /// No memory for a longer row could be lent.
    NoBuffer,
    /// The client was too slow.
    TooSlow,
}

impl Failure {
    pub fn status(self) -> Status {
        match self {
            Failure::Body(error) => error.status(),
            Failure::Bulk(ActionError::TooMany | ActionError::TooManyIndexes) => Status::ContentTooLarge,
            Failure::Json(_) | Failure::Message(_) | Failure::Bulk(_) => Status::BadRequest,
            Failure::Table(error) => error.status(),
            Failure::Log(_) | Failure::NoBuffer => Status::ServiceUnavailable,
            Failure::TooSlow => Status::RequestTimeout,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Body(error) => error.fmt(f),
            Failure::Json(fault) => fault.fmt(f),
            Failure::Message(malformed) => malformed.fmt(f),
            Failure::Bulk(error) => error.fmt(f),
            Failure::Table(error) => f.write_str(error.sentence()),
            Failure::Log(Some(error)) => error.fmt(f),
            Failure::Log(None) => f.write_str(BUSY),
            Failure::NoBuffer => {
                f.write_str("too many large requests are being received; send the rest again later")
            }
            Failure::TooSlow => f.write_str("the body came too slowly"),
        }
    }
}

/// What a client is told while rows come faster than the log takes them, or more INSERTs are waited for than may be.
pub(super) const BUSY: &str =
    "the server holds as many rows as it can that are not in its write-ahead log yet; try again later";

/// The request that waits for its rows, and until when.
pub(super) type Waiting = Option<(AckId, AckLevel)>;

/// On what terms rows are taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub waiting: Waiting,
    pub reading: Reading,
}

/// What rows come in, and where they go.
pub(super) struct Destination<'a> {
    /// That of rows which no route of `indexed` takes.
    pub table: &'a Rc<Table>,
    /// What their body is.
    pub shape: Shape,
    /// Fields of all lines of text.
    pub fields: &'a [(&'static str, Box<str>)],
    /// What chooses among tables by the index each row names.
    pub indexed: Option<Paths<'a>>,
}

/// Where the text of the body comes from.
// One a connection at most, in its task's own memory: a box would be an allocation for every such request.
#[expect(clippy::large_enum_variant)]
pub(super) enum Source {
    /// The receive buffer itself: plain bytes, their number known.
    Direct { left: u64 },
    /// The receive buffer itself: plain bytes, to the end of a stream.
    Open { received: u64, ended: bool },
    /// What the decoder makes of the receive buffer: chunked or compressed.
    Decoded {
        decoder: BodyDecoder,
        content: ReceiveBuffer,
        done: bool,
    },
}

impl Source {
    /// Text received and not consumed, and whether the body ends with it.
    pub(super) fn text<'a>(&'a self, buffer: &'a ReceiveBuffer) -> (&'a [u8], bool) {
        match self {
            Source::Direct { left } => {
                let unread = buffer.unread();
                let available = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
                (&unread[..available], available as u64 == *left)
            }
            Source::Open { ended, .. } => (buffer.unread(), *ended),
            Source::Decoded { content, done, .. } => (content.unread(), *done),
        }
    }

    /// Nothing comes any more. False where that is no way for a body to end.
    fn end(&mut self) -> bool {
        match self {
            Source::Direct { .. } => false,
            Source::Open { ended, .. } => {
                *ended = true;
                true
            }
            Source::Decoded { decoder, .. } => decoder.end_stream(),
        }
    }

    /// As [`Source::text`], to be changed in place.
    pub(super) fn text_mut<'a>(&'a mut self, buffer: &'a mut ReceiveBuffer) -> (&'a mut [u8], bool) {
        match self {
            Source::Direct { left } => {
                let unread = buffer.unread_mut();
                let available = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
                (&mut unread[..available], available as u64 == *left)
            }
            Source::Open { ended, .. } => (buffer.unread_mut(), *ended),
            Source::Decoded { content, done, .. } => (content.unread_mut(), *done),
        }
    }

    pub(super) fn consume(&mut self, buffer: &mut ReceiveBuffer, bytes: usize) {
        match self {
            Source::Direct { left } => {
                buffer.consume(bytes);
                *left -= bytes as u64;
            }
            Source::Open { .. } => buffer.consume(bytes),
            Source::Decoded { content, .. } => content.consume(bytes),
        }
    }
}

/// Bytes of a query: a client asks for some thousand acknowledgements at once.
const QUERY_BYTES_MAX: usize = 64 * 1024;

impl Session<'_> {
    /// Receives a body that is a question about other requests.
    ///
    /// # Errors
    /// When the connection broke.
    pub(super) async fn take_query(&mut self, framing: Framing, encoding: Encoding) -> io::Result<Intake> {
        let mut intake = Intake::new(&self.core.limits);
        let mut source = match self.source(framing, encoding) {
            Ok(source) => source,
            Err(failure) => {
                intake.failure = Some(failure);
                return Ok(intake);
            }
        };
        self.expect_progress();
        loop {
            let (text, end) = source.text(&self.buffer);
            if text.len() > QUERY_BYTES_MAX {
                intake.failure = Some(Failure::Body(BodyError::TooLong {
                    bytes_max: QUERY_BYTES_MAX as u64,
                }));
                return Ok(intake);
            }
            if end {
                intake.query.extend_from_slice(text);
                let bytes = text.len();
                source.consume(&mut self.buffer, bytes);
                return Ok(intake);
            }
            if let Err(failure) = self.receive(&mut source).await? {
                intake.failure = Some(failure);
                return Ok(intake);
            }
        }
    }

    /// Takes a body of rows. Those that were accepted before a failure stay accepted.
    ///
    /// # Errors
    /// When the connection broke; nobody can be answered then.
    pub(super) async fn take_body(
        &mut self,
        destination: Destination<'_>,
        framing: Framing,
        encoding: Encoding,
        terms: Terms,
    ) -> io::Result<Intake> {
        let core = self.core;
        let mut intake = Intake::new(&core.limits);
        let none = intake.errors.counts();
        let taken = match self.source(framing, encoding) {
            Ok(source) => self.take_rows(destination, source, terms, &mut intake).await,
            Err(failure) => {
                intake.failure = Some(failure);
                Ok(())
            }
        };
        intake
            .errors
            .each_since(&none, |reason, rows| core.metrics.reject(reason.label(), rows));
        taken.map(|()| intake)
    }

    async fn take_rows(
        &mut self,
        destination: Destination<'_>,
        mut source: Source,
        terms: Terms,
        intake: &mut Intake,
    ) -> io::Result<()> {
        let core = self.core;
        let Destination {
            table,
            shape,
            fields,
            indexed,
        } = destination;
        let mut splitter = Splitter::of(shape, &core.limits);
        let mut row = 0;
        self.expect_progress();
        while intake.failure.is_none() {
            let (text, end) = source.text(&self.buffer);
            match splitter.next(text, end) {
                Split::Rows(rows) => {
                    let mut at = rows.start;
                    while at < rows.end && intake.failure.is_none() {
                        let (text, _) = source.text(&self.buffer);
                        let bytes = &text[at..rows.end];
                        let (run, found) = match indexed {
                            None => (bytes.len(), Ok(Rc::clone(table))),
                            Some(paths) => core.run_of_one_table(bytes, paths, table),
                        };
                        let table = &match found {
                            Ok(table) => table,
                            Err(error) => {
                                intake.failure = Some(Failure::Table(error));
                                break;
                            }
                        };
                        let rest = RowsText {
                            bytes: &bytes[..run],
                            form: rows.form,
                        };
                        let errors = &mut intake.errors;
                        let pushed = match shape {
                            Shape::Lines => {
                                let bytes = rest.bytes;
                                core.push(table, &TextLines { bytes, fields }, 0, row, errors, terms)
                            }
                            Shape::Unknown | Shape::Objects => core.push(table, &rest, 0, row, errors, terms),
                        };
                        at += pushed.consumed;
                        row += pushed.rows;
                        intake.accepted += pushed.accepted;
                        if indexed.is_some() {
                            at += separator_bytes(&text[at..rows.end]);
                        }
                        if pushed.blocked && !self.wait_for_room(table).await {
                            intake.failure = Some(Failure::Log(core.log_error.get()));
                        }
                    }
                    source.consume(&mut self.buffer, rows.consumed);
                    runtime::yield_if_needed().await;
                }
                Split::NeedMore { consumed } => {
                    source.consume(&mut self.buffer, consumed);
                    if let Err(failure) = self.receive(&mut source).await? {
                        intake.failure = Some(failure);
                    }
                }
                Split::TooLong { consumed } => {
                    source.consume(&mut self.buffer, consumed);
                    core.reject_too_long(table, row, &mut intake.errors);
                    row += 1;
                }
                Split::BodyError(fault) => intake.failure = Some(Failure::Json(fault)),
                Split::Done => {
                    // Blanks after the last row, or the end of a row too long: left in the buffer they would be
                    // read as the next request, which is how requests are smuggled.
                    let (rest, end) = source.text(&self.buffer);
                    debug_assert!(end, "rows are over only when the body is");
                    let rest = rest.len();
                    source.consume(&mut self.buffer, rest);
                    break;
                }
            }
        }
        Ok(())
    }

    pub(super) fn source(&mut self, framing: Framing, encoding: Encoding) -> Result<Source, Failure> {
        let limits = &self.core.limits;
        let too_long = Failure::Body(BodyError::TooLong {
            bytes_max: limits.body_bytes_max,
        });
        if framing
            .length()
            .is_some_and(|bytes| bytes > limits.body_bytes_max)
        {
            return Err(too_long);
        }
        let left = match (framing, encoding) {
            (Framing::None, Encoding::Identity) => 0,
            (Framing::Length(left), Encoding::Identity) => left,
            (Framing::Stream(_), Encoding::Identity) => {
                return Ok(Source::Open {
                    received: 0,
                    ended: false,
                });
            }
            _ => {
                let decoder = BodyDecoder::new(framing, encoding, limits, &self.core.decoders)
                    .map_err(Failure::Body)?;
                let content = ReceiveBuffer::new(&self.core.buffers);
                return Ok(Source::Decoded {
                    decoder,
                    content,
                    done: false,
                });
            }
        };
        Ok(Source::Direct { left })
    }

    /// Gets more text: from the socket, through the decoder if there is one.
    pub(super) async fn receive(&mut self, source: &mut Source) -> io::Result<Result<(), Failure>> {
        let core = self.core;
        loop {
            if let Source::Decoded {
                decoder,
                content,
                done,
            } = source
            {
                if content.spare().is_empty()
                    && let Err(cannot) = content.grow()
                {
                    return Ok(Err(no_room(cannot)));
                }
                let step = match decoder.decode(self.buffer.unread(), content.spare()) {
                    Ok(step) => step,
                    Err(error) => return Ok(Err(Failure::Body(error))),
                };
                self.buffer.consume(step.consumed);
                self.core.metrics.bytes_wire.add(step.consumed as u64);
                if let Some(bill) = &self.bill {
                    bill.bytes_came(step.consumed as u64, core);
                }
                content.filled(step.produced);
                self.core.metrics.bytes_decoded.add(step.produced as u64);
                *done = step.done;
                if step.produced > 0 {
                    if content.spare().is_empty() {
                        core.enlarge(content);
                    }
                    return Ok(Ok(()));
                }
                if step.done {
                    return Ok(Ok(()));
                }
            }
            if let Source::Direct { left } = source
                && *left > self.buffer.capacity() as u64
            {
                core.enlarge(&mut self.buffer);
            }
            // What is unread fills the buffer: a row that is longer than it.
            if self.buffer.spare().is_empty()
                && let Err(cannot) = self.buffer.grow()
            {
                return Ok(Err(no_room(cannot)));
            }
            match self.connection.read(self.buffer.spare()).await {
                Ok(0) if !source.end() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => match source {
                    Source::Decoded { .. } => {}
                    _ => return Ok(Ok(())),
                },
                Ok(received) => {
                    self.buffer.filled(received);
                    self.progressed(received as u64);
                    if self.buffer.spare().is_empty() {
                        core.enlarge(&mut self.buffer);
                    }
                    // Known with its last bytes, so that a body that is cut off is not taken up to there.
                    if self.connection.is_at_end() {
                        source.end();
                    }
                    if let Source::Open { received: all, .. } = source {
                        *all += received as u64;
                        if *all > core.limits.body_bytes_max {
                            return Ok(Err(Failure::Body(BodyError::TooLong {
                                bytes_max: core.limits.body_bytes_max,
                            })));
                        }
                    }
                    if !matches!(source, Source::Decoded { .. }) {
                        if let Some(bill) = &self.bill {
                            bill.bytes_came(received as u64, core);
                        }
                        self.core.metrics.bytes_wire.add(received as u64);
                        self.core.metrics.bytes_decoded.add(received as u64);
                        return Ok(Ok(()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Err(Failure::TooSlow)),
                Err(error) => return Err(error),
            }
        }
    }

    /// [`Core::wait_for_room`], after which the body comes on.
    pub(super) async fn wait_for_room(&mut self, table: &Rc<Table>) -> bool {
        let freed = self.core.wait_for_room(&self.connection, table).await;
        self.expect_progress();
        freed
    }
}

fn no_room(cannot: CannotGrow) -> Failure {
    match cannot {
        // The splitter drops a row before it fills the largest buffer.
        CannotGrow::Largest | CannotGrow::PoolExhausted => Failure::NoBuffer,
    }
}

/// Waits until `notify` is told; false when the connection's deadline passes before.
async fn notified_in_time(notify: &Notify, connection: &Link) -> bool {
    let mut notified = pin!(notify.notified());
    poll_fn(|cx| {
        if notified.as_mut().poll(cx).is_ready() {
            Poll::Ready(true)
        } else if connection.poll_deadline(cx) {
            Poll::Ready(false)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// What one push of rows did.
pub(super) struct PushEnd {
    /// How much of the input is done with, in its own measure.
    pub consumed: usize,
    /// Rows in them.
    pub rows: u64,
    /// Of those, in batches.
    pub accepted: u64,
    /// A batch is full and cannot be sealed: the rest waits.
    pub blocked: bool,
}

impl Core {
    /// Gives a body that overflows its buffer one for bodies, so that one read brings a chunk's worth of rows. The largest
    /// ones are left to rows that need them: a chunk of text is all that is parsed at once.
    fn enlarge(&self, buffer: &mut ReceiveBuffer) {
        if buffer.capacity() < self.limits.body_buffer_bytes {
            // When no more can be lent, the body comes in smaller pieces.
            let _ = buffer.grow();
        }
    }

    /// Waits until the batch a push was blocked on can be sealed; false when that took too long.
    pub(super) async fn wait_for_room(&self, connection: &Link, table: &Rc<Table>) -> bool {
        connection
            .watch()
            .set_deadline(self.clock.now_ms() + self.limits.ack_deadline_ms);
        loop {
            // A batch that is not full may be what is in the way: all of them are open, and a row needs another.
            if self.has_room() {
                self.seal_full(table);
                return true;
            }
            if !notified_in_time(&self.freed, connection).await {
                return false;
            }
        }
    }

    /// The turn to parse a message in JSON, which others may have while they wait for room; `None` when that took too long.
    pub(super) async fn turn_to_parse(&self, connection: &Link) -> Option<Turn<'_, MessageParser>> {
        if let Some(turn) = self.message_parser.take() {
            return Some(turn);
        }
        connection
            .watch()
            .set_deadline(self.clock.now_ms() + self.limits.ack_deadline_ms);
        loop {
            if !notified_in_time(self.message_parser.ended(), connection).await {
                return None;
            }
            if let Some(turn) = self.message_parser.take() {
                return Some(turn);
            }
        }
    }

    /// Pushes rows of `input` from `at` on into the table's batches, sealing those that are full, until all are in, one cannot be
    /// sealed, or others should have a turn.
    pub(super) fn push(
        &self,
        table: &Rc<Table>,
        input: &impl RowInput,
        at: usize,
        first_row: u64,
        errors: &mut RowErrors,
        terms: Terms,
    ) -> PushEnd {
        let seal = |batch| self.seal(table, batch);
        let end = self.push_with(table, input, at, first_row, errors, terms, false, seal);
        // A batch that became full goes now, if it can; if not, the next push is blocked on it.
        self.seal_full(table);
        end
    }

    /// Pushes all rows, sealing what is full into the commit that is being filled, whether there is room or not: it takes the
    /// rest of the request as well.
    pub(super) fn push_whole(
        &self,
        table: &Rc<Table>,
        input: &impl RowInput,
        first_row: u64,
        errors: &mut RowErrors,
        terms: Terms,
    ) -> PushEnd {
        let seal = |batch| {
            self.seal_now(table, batch);
            true
        };
        self.push_with(table, input, 0, first_row, errors, terms, true, seal)
    }

    #[expect(clippy::too_many_arguments, reason = "what its two callers share")]
    fn push_with<I: RowInput>(
        &self,
        table: &Table,
        input: &I,
        at: usize,
        first_row: u64,
        errors: &mut RowErrors,
        terms: Terms,
        commits: bool,
        seal: impl Fn(usize) -> bool,
    ) -> PushEnd {
        let mut end = PushEnd {
            consumed: 0,
            rows: 0,
            accepted: 0,
            blocked: false,
        };
        let now_ns = self.clock.unix_ns();
        let started_ns = self.clock.now_ns();
        while at + end.consumed < input.end() {
            let pushed = table.push(
                input,
                at + end.consumed,
                &mut self.parser.borrow_mut(),
                first_row + end.rows,
                now_ns,
                errors,
                Claim {
                    waiter: terms.waiting.map(|(ack, level)| Claimant {
                        ack,
                        level,
                        acks: &self.acks,
                    }),
                    commits,
                },
                terms.reading,
            );
            end.consumed += pushed.consumed;
            end.rows += pushed.rows;
            end.accepted += pushed.accepted;
            table
                .account()
                .receive(pushed.accepted, pushed.rows - pushed.accepted);
            self.metrics.rows_received.add(pushed.rows);
            self.metrics.rows_accepted.add(pushed.accepted);
            if let Some(batch) = pushed.blocked_on
                && !seal(batch)
            {
                end.blocked = true;
                break;
            }
            if I::PASS_BY_PASS && !commits {
                break;
            }
        }
        self.recorder
            .borrow_mut()
            .record(crate::histogram::Measure::Parse, self.clock.now_ns() - started_ns);
        end
    }

    /// Seals the table's full batches; false when one is left because the log is behind.
    pub(super) fn seal_full(&self, table: &Rc<Table>) -> bool {
        while let Some(batch) = table.full_batch() {
            if !self.seal(table, batch) {
                return false;
            }
        }
        true
    }
}
