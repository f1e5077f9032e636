//! Requests with an idempotency key: taken as a whole, in one commit with their key, or not at all.
//!
//! The body is received to its end before the first row is pushed, all rows are pushed in one go, and the commit that is
//! being filled takes the key and every batch that has rows of the request: so the log holds either all of it or
//! nothing. Until that commit is durable, and at `inserted` until the reply, duplicates are told 409.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use crate::access::Key as ApiKey;
use crate::ack::AckLevel;
use crate::http::body::BodyError;
use crate::idempotency::{Begin, KeyFile, Keys, Record, StoredReply, Ticket};
use crate::json::{MessageParser, RejectReason, RowsText, Split, Splitter};
use crate::offload::Worker;

use super::Core;
use super::body::{Failure, Intake, Terms};
use super::connection::{Plan, Session};
use super::dialect::{BodyForm, Dialect, MessageForm};
use super::table::Table;

/// What an ingest core needs for them. Shared by all cores.
#[derive(Debug, Clone)]
pub struct KeyStore {
    /// In memory.
    pub keys: Keys,
    /// On disk, beyond the life of the log's segments.
    pub log: Arc<Mutex<KeyLog>>,
    /// Writes the file.
    pub worker: Worker,
}

impl KeyStore {
    /// Has a record written some time, before anything that is handed to the worker later.
    fn keep(&self, record: Record) {
        let log = Arc::clone(&self.log);
        self.worker
            .submit(move || log.lock().expect("no holder of this lock panics").keep(record));
    }
}

/// The file of the keys, and whether it has them all. Its calls block for as long as the disk takes.
#[derive(Debug)]
pub struct KeyLog {
    keys: Keys,
    file: KeyFile,
    /// Records are missing in the file because the disk refused them; their segments of the log still have them.
    is_behind: bool,
}

impl KeyLog {
    /// `file` has what is in `keys`.
    pub fn new(keys: Keys, file: KeyFile) -> KeyLog {
        KeyLog {
            keys,
            file,
            is_behind: false,
        }
    }

    /// Writes a record; when the disk refuses, [`KeyLog::settle`] tries again.
    pub fn keep(&mut self, record: Record) {
        // Here and not on a core: what is over is let go of in passing, a page at a time.
        self.keys.expire(unix_ms());
        let kept =
            self.file
                .append(&[record])
                .and_then(|()| match self.file.outgrew(self.keys.file_bytes()) {
                    true => self.file.rewrite(self.keys.live(unix_ms())),
                    false => Ok(()),
                });
        if let Err(error) = kept
            && !std::mem::replace(&mut self.is_behind, true)
        {
            tracing::error!(%error, "idempotency keys cannot be written beside the log, which keeps its segments until they can");
        }
    }

    /// Makes every record durable: what a segment of the log had of keys is here too.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn settle(&mut self) -> io::Result<()> {
        if self.is_behind {
            self.file.rewrite(self.keys.live(unix_ms()))?;
            self.is_behind = false;
            return Ok(());
        }
        let synced = self.file.sync();
        // What a failed sync has lost a later one does not bring back.
        self.is_behind = synced.is_err();
        synced
    }
}

/// Now, for a thread that has no clock of a core's.
pub(crate) fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// A request whose key is in flight after its rows were taken. Valid until it is durable and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedRequest(u32);

struct Entry {
    ticket: Ticket,
    reply: StoredReply,
    durable: bool,
    answered: bool,
}

/// Those of one core.
#[derive(Default)]
pub(super) struct KeyedRequests(RefCell<Vec<Option<Entry>>>);

impl KeyedRequests {
    fn open(&self, entry: Entry) -> KeyedRequest {
        let mut entries = self.0.borrow_mut();
        let free = entries.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            entries.push(None);
            entries.len() - 1
        });
        entries[index] = Some(entry);
        KeyedRequest(index as u32)
    }

    /// Changes an entry; takes it when it is durable and answered.
    fn change(&self, request: KeyedRequest, change: impl FnOnce(&mut Entry)) -> Option<Entry> {
        let mut entries = self.0.borrow_mut();
        let slot = &mut entries[request.0 as usize];
        let entry = slot
            .as_mut()
            .expect("it is valid until it is durable and answered");
        change(entry);
        match entry.durable && entry.answered {
            true => slot.take(),
            false => None,
        }
    }
}

impl Core {
    /// Asks what a key means for a request into `table`, of whoever sends it: two senders who choose the same key know nothing of
    /// each other.
    pub(super) fn begin_key(&self, key: &[u8], table: &Table, sender: Option<&ApiKey>) -> Begin {
        let now_unix_ms = self.clock.unix_ns() / 1_000_000;
        let mut scope = table.schema().name.plain();
        if let Some(sender) = sender {
            // No table has a name with it.
            scope.push('\u{1f}');
            scope.push_str(&sender.name);
        }
        self.key_store.keys.begin(key, &scope, now_unix_ms)
    }

    /// The commit with a request's rows is durable.
    pub(super) fn key_durable(&self, request: KeyedRequest) {
        let entry = self.keyed.change(request, |entry| {
            entry.durable = true;
            // Before its segment can be deleted, because what the writer asks of the worker comes later.
            let record = self.key_record(&entry.ticket, &entry.reply);
            self.key_store.keep(record);
        });
        self.finish_key(entry);
    }

    /// The request is answered, with `reply` if its rows ended otherwise than was stored; or nobody waits any more.
    pub(super) fn key_answered(&self, request: KeyedRequest, reply: Option<StoredReply>) {
        let entry = self.keyed.change(request, |entry| {
            entry.answered = true;
            if let Some(reply) = reply {
                entry.reply = reply;
                if entry.durable {
                    let record = self.key_record(&entry.ticket, &entry.reply);
                    self.key_store.keep(record);
                }
            }
        });
        self.finish_key(entry);
    }

    fn finish_key(&self, entry: Option<Entry>) {
        if let Some(Entry { ticket, reply, .. }) = entry {
            let now_unix_ms = self.clock.unix_ns() / 1_000_000;
            self.key_store.keys.finish(ticket, reply, now_unix_ms);
        }
    }

    fn key_record(&self, ticket: &Ticket, reply: &StoredReply) -> Record {
        Record {
            name: ticket.name().clone(),
            expires_unix_ms: self.clock.unix_ns() / 1_000_000 + self.limits.idempotency_ttl_ms as i64,
            reply: reply.clone(),
        }
    }

    /// Pushes all rows of a whole body, and the key with them.
    #[expect(
        clippy::too_many_arguments,
        reason = "the body, what it is parsed with, and how it is answered"
    )]
    fn push_keyed(
        &self,
        table: &Rc<Table>,
        text: &[u8],
        parser: Option<&mut MessageParser>,
        terms: Terms,
        level: AckLevel,
        dialect: &'static dyn Dialect,
        ticket: Ticket,
    ) -> (Intake, Option<KeyedRequest>) {
        let mut intake = Intake::new(&self.limits);
        let none = intake.errors.counts();
        match dialect.body() {
            BodyForm::Rows => self.push_whole_rows(table, text, terms, &mut intake),
            BodyForm::Message(form) => {
                match self.push_whole_message(form, table, text, parser, &mut intake.errors, terms) {
                    Ok(pushed) => intake.accepted = pushed.accepted,
                    Err(failure) => intake.failure = Some(failure),
                }
            }
            BodyForm::Objects | BodyForm::Lines | BodyForm::Query | BodyForm::Bulk => {
                unreachable!("dialects of these bodies take no idempotency key")
            }
        }
        intake
            .errors
            .each_since(&none, |reason, rows| self.metrics.reject(reason.label(), rows));
        if intake.accepted == 0 {
            // Nothing is in the log that a repetition could double: the key is free again.
            return (intake, None);
        }
        let reached = level.max(AckLevel::Wal);
        let answer = intake.answer(reached, 0);
        let answer = answer.unwrap_or_else(|_| unreachable!("rows were accepted"));
        let reply = dialect.stored(&answer, &intake);
        let record = self.key_record(&ticket, &at_wal(&reply));
        let request = self.keyed.open(Entry {
            ticket,
            reply: at_wal(&reply),
            durable: false,
            answered: level != AckLevel::Inserted,
        });
        let mut payload = Vec::new();
        record.encode(&mut payload);
        self.filling.borrow_mut().put_key(&payload, request);
        self.wanted.notify();
        self.seal_full(table);
        (intake, (level == AckLevel::Inserted).then_some(request))
    }

    fn push_whole_rows(&self, table: &Rc<Table>, text: &[u8], terms: Terms, intake: &mut Intake) {
        let mut splitter = Splitter::new(&self.limits);
        let (mut at, mut row) = (0, 0);
        while intake.failure.is_none() {
            match splitter.next(&text[at..], true) {
                Split::Rows(rows) => {
                    let chunk = RowsText {
                        bytes: &text[at + rows.start..at + rows.end],
                        form: rows.form,
                    };
                    let pushed = self.push_whole(table, &chunk, row, &mut intake.errors, terms);
                    row += pushed.rows;
                    intake.accepted += pushed.accepted;
                    at += rows.consumed;
                }
                Split::NeedMore { .. } => unreachable!("the text is whole"),
                Split::TooLong { consumed } => {
                    at += consumed;
                    self.reject_too_long(table, row, &mut intake.errors);
                    row += 1;
                }
                Split::BodyError(fault) => intake.failure = Some(Failure::Json(fault)),
                Split::Done => break,
            }
        }
    }

    /// A row that never reaches the parser.
    pub(super) fn reject_too_long(&self, table: &Table, row: u64, errors: &mut crate::json::RowErrors) {
        let line_bytes_max = self.limits.line_bytes_max;
        errors.push(row, RejectReason::TooLong, || {
            format!("the row is longer than {line_bytes_max} bytes")
        });
        table.account().receive(0, 1);
        self.metrics.rows_received.add(1);
    }
}

/// What is certain once the commit is durable, whatever the request has asked for.
fn at_wal(reply: &StoredReply) -> StoredReply {
    let text = String::from_utf8_lossy(reply.body()).replace("\"ack\":\"inserted\"", "\"ack\":\"wal\"");
    StoredReply::new(
        reply.status,
        reply.accepted,
        reply.rejected,
        AckLevel::Wal,
        text.as_bytes(),
    )
}

impl Session<'_> {
    /// Takes the body of a request with a key: all of it, or none.
    ///
    /// # Errors
    /// When the connection broke; none of its rows was taken then.
    pub(super) async fn take_keyed_body(
        &mut self,
        table: &Rc<Table>,
        plan: &Plan,
        terms: Terms,
        level: AckLevel,
        ticket: Ticket,
    ) -> io::Result<(Intake, Option<KeyedRequest>)> {
        let core = self.core;
        let failed = |failure| {
            let mut intake = Intake::new(&core.limits);
            intake.failure = Some(failure);
            Ok((intake, None))
        };
        let mut source = match self.source(plan.framing, plan.encoding) {
            Ok(source) => source,
            Err(failure) => return failed(failure),
        };
        self.expect_progress();
        let bytes_max = core
            .limits
            .idempotent_body_bytes_max
            .min(core.limits.line_bytes_max);
        loop {
            let (text, end) = source.text(&self.buffer);
            if text.len() > bytes_max {
                return failed(Failure::Body(BodyError::TooLong {
                    bytes_max: bytes_max as u64,
                }));
            }
            if end {
                break;
            }
            if let Err(failure) = self.receive(&mut source).await? {
                return failed(failure);
            }
        }
        // Before there is room: nothing may come between that and the rows.
        let mut parser = match plan.dialect.body() {
            BodyForm::Message(MessageForm::LogEntryJson) => {
                let Some(turn) = core.turn_to_parse(&self.connection).await else {
                    return failed(Failure::Log(core.log_error.get()));
                };
                Some(turn)
            }
            _ => None,
        };
        if !core.has_room() && !self.wait_for_room(table).await {
            return failed(Failure::Log(core.log_error.get()));
        }
        let (text, _) = source.text(&self.buffer);
        let taken = core.push_keyed(
            table,
            text,
            parser.as_deref_mut(),
            terms,
            level,
            plan.dialect,
            ticket,
        );
        let bytes = text.len();
        source.consume(&mut self.buffer, bytes);
        Ok(taken)
    }
}
