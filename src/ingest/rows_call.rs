//! `ringhouse.v1.Ingest/Stream`: many messages of rows on one call, each acknowledged by itself and in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use crate::access::Key;
use crate::ack::{AckId, AckLevel};
use crate::grpc::ingest::{Reply, Rows, put_reply, rows_of};
use crate::grpc::status::Code;
use crate::http::head::Framing;
use crate::http::status::Status;
use crate::json::{BodyFault, RowForm, RowsText, Split, Splitter};
use crate::mapping::{Reading, Vocabulary};
use crate::routing::Candidates;
use crate::runtime;

use super::body::{BUSY, Failure, Intake, Source, Terms};
use super::call::Refusal;
use super::choice::Paths;
use super::connection::{Plan, Session};
use super::dialect::MessageForm;
use super::sender::{self, Bill};
use super::table::Table;

/// Where the rows of a call go.
pub(super) struct CallRows {
    pub table: Rc<Table>,
    pub level: AckLevel,
    /// The routes its rows may take; none when it names its table.
    pub candidates: Option<Candidates>,
    pub key: Option<Rc<Key>>,
}

/// A message whose rows are taken, and whose reply is not sent.
struct Pending {
    sequence: u64,
    intake: Intake,
    waiter: Option<AckId>,
    due_ms: u64,
}

/// What a call that has sent what it can was woken by.
enum Woken {
    Received,
    Ended,
    Settled,
    Overdue,
    Draining,
    Silent,
}

/// Where in a whole text of rows a call is.
struct JsonRows {
    splitter: Splitter,
    at: usize,
    /// What is left of a chunk: its rows, their form, and what is behind it.
    chunk: Option<(usize, usize, RowForm, usize)>,
}

/// What comes next in it.
enum Next {
    Chunk { start: usize, end: usize, form: RowForm },
    TooLong,
    Fault(BodyFault),
    Done,
}

impl JsonRows {
    fn new(splitter: Splitter) -> JsonRows {
        JsonRows {
            splitter,
            at: 0,
            chunk: None,
        }
    }

    fn next(&mut self, text: &[u8]) -> Next {
        if self.chunk.is_none() {
            match self.splitter.next(&text[self.at..], true) {
                Split::Rows(rows) => {
                    let [start, end, next] =
                        [rows.start, rows.end, rows.consumed].map(|offset| self.at + offset);
                    self.chunk = Some((start, end, rows.form, next));
                }
                Split::NeedMore { .. } => unreachable!("the text is whole"),
                Split::TooLong { consumed } => {
                    self.at += consumed;
                    return Next::TooLong;
                }
                Split::BodyError(fault) => return Next::Fault(fault),
                Split::Done => return Next::Done,
            }
        }
        let (start, end, form, _) = self.chunk.expect("it was just found");
        Next::Chunk { start, end, form }
    }

    /// So many bytes of the chunk are in batches.
    fn took(&mut self, bytes: usize) {
        let (start, end, form, next) = self.chunk.take().expect("rows were of a chunk");
        match start + bytes {
            all if all == end => self.at = next,
            start => self.chunk = Some((start, end, form, next)),
        }
    }
}

/// The replies that are due, oldest first. Dropped with the call, nobody waits for them any more.
struct Replies<'s> {
    pending: VecDeque<Pending>,
    core: &'s super::Core,
}

impl Drop for Replies<'_> {
    fn drop(&mut self) {
        for waiter in self.pending.iter().filter_map(|reply| reply.waiter) {
            self.core.acks.close(waiter);
        }
    }
}

impl Session<'_> {
    /// Serves the call to its end.
    pub(super) async fn take_calls_rows(&mut self, plan: &Plan, rows: &CallRows) -> io::Result<()> {
        let core = self.core;
        let level = rows.level;
        self.begin_replies()?;
        let mut replies = Replies {
            pending: VecDeque::new(),
            core,
        };
        let refusal = loop {
            self.send_settled(&mut replies, level).await?;
            match self.wait_for_message(&replies).await? {
                Woken::Settled => {}
                Woken::Overdue => self.send_overdue(&mut replies).await?,
                Woken::Ended => break None,
                Woken::Draining => break Some(Refusal::draining()),
                Woken::Silent => {
                    let sentence = "the call was silent for too long; begin another";
                    break Some(Refusal::new(Status::ServiceUnavailable, sentence));
                }
                Woken::Received => match self.take_one(plan, rows).await? {
                    Ok(pending) => replies.pending.push_back(pending),
                    Err(refusal) => break Some(refusal),
                },
            }
        };
        // What was taken before the end is answered before it.
        while !replies.pending.is_empty() {
            match self.wait_for_front(&replies).await {
                true => self.send_settled(&mut replies, level).await?,
                false => self.send_overdue(&mut replies).await?,
            }
        }
        self.end_call(refusal.as_ref())
    }

    /// Receives a message and takes its rows.
    async fn take_one(&mut self, plan: &Plan, rows: &CallRows) -> io::Result<Result<Pending, Refusal>> {
        let core = self.core;
        let CallRows {
            table,
            level,
            candidates,
            key,
        } = rows;
        let level = *level;
        self.bill = None;
        if let Some(key) = key {
            match Bill::open(core, key, Framing::OneMessage) {
                Ok(bill) => self.bill = Some(bill),
                Err(refusal) => {
                    core.metrics.refuse(&refusal);
                    return Ok(Err(refusal.into()));
                }
            }
        }
        let source = match self.receive_message(Framing::OneMessage, plan.encoding).await? {
            Ok(source) => source,
            Err(failure) => return Ok(Err(failure.into())),
        };
        let Ok(message) = rows_of(source.text(&self.buffer).0) else {
            return Ok(Err(Refusal::malformed()));
        };
        let sequence = message.sequence;
        let mut pending = Pending {
            sequence,
            intake: Intake::new(&core.limits),
            waiter: None,
            due_ms: core.coarse_ms.get() + core.limits.ack_deadline_ms,
        };
        if let Some(error) = core.log_error.get() {
            pending.intake.failure = Some(Failure::Log(Some(error)));
            return Ok(Ok(pending));
        }
        if !core.seal_full(table) {
            pending.intake.failure = Some(Failure::Log(None));
            return Ok(Ok(pending));
        }
        if level != AckLevel::Memory {
            pending.waiter = core.acks.open();
            if pending.waiter.is_none() {
                return Ok(Err(Refusal::new(Status::ServiceUnavailable, BUSY)));
            }
        }
        let terms = Terms {
            waiting: pending.waiter.map(|waiter| (waiter, level)),
            reading: Reading {
                vocabulary: Vocabulary::Own,
                constants: sender::constants(core, &self.port, key.as_deref()),
                ..Reading::default()
            },
        };
        let none = pending.intake.errors.counts();
        // The rows lie in the message, which stays where it was received until all of them are taken.
        let message = rows_of(source.text(&self.buffer).0).expect("it was read before");
        match message.rows {
            Rows::None => {}
            Rows::Json(_) => {
                self.take_json_rows(&source, table, terms, &mut pending.intake)
                    .await;
            }
            Rows::Otlp(bytes) => {
                let form = MessageForm::OtlpProtobuf;
                let paths = candidates.map(|candidates| Paths {
                    candidates,
                    key: key.as_deref(),
                });
                let taken = self.take_received(form, table, paths, bytes, terms, &mut pending.intake);
                if let Err(failure) = taken.await {
                    pending.intake.failure = Some(failure);
                }
            }
        }
        pending
            .intake
            .errors
            .each_since(&none, |reason, rows| core.metrics.reject(reason.label(), rows));
        drop(source);
        if let Some(bill) = self.bill.take() {
            bill.rows_accepted(pending.intake.accepted);
        }
        if let Some(waiter) = pending.waiter {
            // The message's own claim: from here on the batches alone decide.
            core.acks.settle(waiter, 0);
        }
        core.wanted.notify();
        self.buffer.shrink();
        Ok(Ok(pending))
    }

    /// Takes the rows of a message that was received as `source`.
    async fn take_json_rows(
        &mut self,
        source: &Source,
        table: &Rc<Table>,
        terms: Terms,
        intake: &mut Intake,
    ) {
        let core = self.core;
        let mut json = JsonRows::new(Splitter::new(&core.limits));
        let mut first_row = 0;
        loop {
            let message = rows_of(source.text(&self.buffer).0).expect("it was read before");
            let Rows::Json(text) = message.rows else {
                unreachable!("it does not change");
            };
            match json.next(text) {
                Next::Chunk { start, end, form } => {
                    let chunk = RowsText {
                        bytes: &text[start..end],
                        form,
                    };
                    let pushed = core.push(table, &chunk, 0, first_row, &mut intake.errors, terms);
                    json.took(pushed.consumed);
                    first_row += pushed.rows;
                    intake.accepted += pushed.accepted;
                    if pushed.blocked && !self.wait_for_room(table).await {
                        intake.failure = Some(Failure::Log(core.log_error.get()));
                        return;
                    }
                    runtime::yield_if_needed().await;
                }
                Next::TooLong => {
                    core.reject_too_long(table, first_row, &mut intake.errors);
                    first_row += 1;
                }
                Next::Fault(fault) => {
                    intake.failure = Some(Failure::Json(fault));
                    return;
                }
                Next::Done => return,
            }
        }
    }

    /// Sends the replies that reached their level, in order.
    async fn send_settled(&mut self, replies: &mut Replies<'_>, level: AckLevel) -> io::Result<()> {
        let core = self.core;
        while let Some(front) = replies.pending.front() {
            let refused = match front.waiter.map(|waiter| core.acks.state(waiter)) {
                None => 0,
                Some(Poll::Ready(refused)) => refused,
                Some(Poll::Pending) => return Ok(()),
            };
            let Pending {
                sequence,
                intake,
                waiter,
                ..
            } = replies.pending.pop_front().expect("it was just looked at");
            if let Some(waiter) = waiter {
                core.acks.close(waiter);
            }
            let answer = intake.answer(level, refused);
            self.send_message(|out| match &answer {
                Ok(answer) => {
                    let failure = intake.failure.as_ref();
                    let reply = Reply {
                        sequence,
                        accepted: answer.reply().accepted,
                        rejected: answer.reply().rejected,
                        code: failure.map_or(Code::Ok, |failure| Code::of(failure.status())),
                        message: &failure.map_or(String::new(), Failure::to_string),
                    };
                    put_reply(&reply, answer.errors(&intake), out);
                }
                Err((status, sentence)) => {
                    let failed = intake.failure.is_some();
                    let reply = Reply {
                        sequence,
                        accepted: 0,
                        rejected: 0,
                        // No rows are no mistake here.
                        code: if failed { Code::of(*status) } else { Code::Ok },
                        message: if failed { sentence } else { "" },
                    };
                    put_reply(&reply, [], out);
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Sends the oldest reply, whose time is up.
    async fn send_overdue(&mut self, replies: &mut Replies<'_>) -> io::Result<()> {
        let front = replies.pending.pop_front().expect("it is overdue");
        if let Some(waiter) = front.waiter {
            self.core.acks.close(waiter);
        }
        let reply = Reply {
            sequence: front.sequence,
            accepted: 0,
            rejected: front.intake.errors.count,
            code: Code::Unavailable,
            message: "the rows are held, but are not at the ack level in time; they may still be inserted",
        };
        self.send_message(|out| put_reply(&reply, [], out)).await
    }

    /// Waits for the next message, unless as many wait for their reply as may.
    async fn wait_for_message(&mut self, replies: &Replies<'_>) -> io::Result<Woken> {
        let core = self.core;
        let is_full = replies.pending.len() >= core.limits.pipeline_max;
        if !is_full && !self.buffer.unread().is_empty() {
            return Ok(Woken::Received);
        }
        let idle_ms = core.coarse_ms.get() + core.limits.idle_deadline_ms;
        let due_ms = replies.pending.front().map_or(idle_ms, |front| front.due_ms);
        self.connection.watch().set_deadline(due_ms);
        poll_fn(|cx| {
            let waiter = replies.pending.front().and_then(|front| front.waiter);
            if waiter.is_some_and(|waiter| core.acks.poll_settled(waiter, cx).is_ready()) {
                return Poll::Ready(Ok(Woken::Settled));
            }
            if core.draining.get() {
                return Poll::Ready(Ok(Woken::Draining));
            }
            if !is_full {
                match self.connection.poll_read(cx, self.buffer.spare()) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Woken::Ended)),
                    Poll::Ready(Ok(bytes)) => {
                        self.buffer.filled(bytes);
                        core.metrics.bytes_wire.add(bytes as u64);
                        return Poll::Ready(Ok(Woken::Received));
                    }
                    Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::TimedOut => {
                        return Poll::Ready(Err(error));
                    }
                    Poll::Ready(Err(_)) | Poll::Pending => {}
                }
            }
            match (self.connection.poll_deadline(cx), replies.pending.is_empty()) {
                (true, true) => Poll::Ready(Ok(Woken::Silent)),
                (true, false) => Poll::Ready(Ok(Woken::Overdue)),
                (false, _) => Poll::Pending,
            }
        })
        .await
    }

    /// Waits until the oldest reply is settled; false when its time is up before.
    async fn wait_for_front(&mut self, replies: &Replies<'_>) -> bool {
        let front = replies.pending.front().expect("there is one");
        let Some(waiter) = front.waiter else { return true };
        self.connection.watch().set_deadline(front.due_ms);
        poll_fn(|cx| {
            if self.core.acks.poll_settled(waiter, cx).is_ready() {
                Poll::Ready(true)
            } else if self.connection.poll_deadline(cx) {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
