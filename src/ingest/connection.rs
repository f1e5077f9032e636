//! Requests in, rows to their table, replies out in order: a connection of HTTP/1.1, or one stream of HTTP/2.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use crate::access::{Key, Refusal};
use crate::ack::{AckId, AckLevel};
use crate::histogram::Measure;
use crate::http::encodings::Encoding;
use crate::http::head::{Framing, Head, Parse, parse_head};
use crate::http::receive_buffer::{Loan, ReceiveBuffer};
use crate::http::reply::{CONTINUE, Envelope, Persistence};
use crate::http::status::Status;
use crate::http::uri;
use crate::idempotency::{Begin, StoredReply};
use crate::json::Shape;
use crate::mapping::Reading;
use crate::routing::Candidates;
use crate::runtime::Connection;
use crate::wal::log::LogError;

use super::body::{BUSY, Destination, Intake, Terms};
use super::call::Call;
use super::choice::{Paths, TableError};
use super::dialect::{self, Asked, BodyForm, Dialect, Fixed, Found, OWN};
use super::http2;
use super::keyed::KeyedRequest;
use super::link::Link;
use super::port::Port;
use super::rows_call::CallRows;
use super::sender::{self, Bill, Sender};
use super::table::Table;
use super::{Core, is_disconnect};

/// Replies gathered before a write.
const OUT_BYTES: usize = 16 * 1024;

/// A refused request's body is read and thrown away up to this size, so that the connection can go on; a
/// longer one ends it.
const DISCARD_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// After the last reply the rest of what the client sends is read for so long, because closing a socket with
/// unread bytes makes the kernel reset it and the client lose the reply (RFC 9112 section 9.6).
pub(super) const LINGER_MS: u64 = 1_000;

/// What lingering reads at most.
pub(super) const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// State of one connection, or of one stream.
pub(super) struct Session<'c> {
    pub(super) core: &'c Rc<Core>,
    pub(super) port: Rc<Port>,
    /// Whoever sends here.
    pub(super) sender: Sender,
    /// Of the request whose body is being received, when it came under a key.
    pub(super) bill: Option<Bill>,
    pub(super) connection: Link,
    pub(super) buffer: ReceiveBuffer,
    pub(super) out: Vec<u8>,
    /// Count what long replies in `out` take.
    out_loans: Vec<Loan>,
    /// Replies that are not in `out` yet, oldest first: the first one waits for its ack level.
    replies: VecDeque<Reply>,
    uri: Box<uri::Scratch>,
    /// Bytes of the current body since its deadline was last moved.
    progress_bytes: u64,
    /// When the first byte of an incomplete head was seen.
    head_since_ms: Option<u64>,
    /// No byte was taken yet: the connection may be one of HTTP/2.
    is_new: bool,
}

/// A request whose rows are taken.
struct Reply {
    dialect: &'static dyn Dialect,
    intake: Intake,
    level: AckLevel,
    waiter: Option<AckId>,
    envelope: Envelope,
    started_ns: u64,
    due_ms: u64,
    /// What it is told then: that we are late, or that the time it gave is over.
    late: Status,
    /// Its idempotency key waits for this reply.
    keyed: Option<KeyedRequest>,
}

/// What a request asks for, once its head is understood and no longer needed.
pub(super) struct Plan {
    pub(super) dialect: &'static dyn Dialect,
    action: Action,
    pub(super) framing: Framing,
    pub(super) encoding: Encoding,
    expect_continue: bool,
    /// When the client waits no more.
    pub(super) timeout_at_ms: Option<u64>,
    envelope: Envelope,
    idempotency_key: Option<Box<[u8]>>,
}

enum Action {
    Ingest {
        table: Rc<Table>,
        level: AckLevel,
        key: Option<Rc<Key>>,
        /// The routes its rows may take; none when it names its table.
        candidates: Option<Candidates>,
        /// Taken once.
        asked: Cell<Asked>,
    },
    /// Messages of rows for as long as the call lasts.
    Rows(CallRows),
    Call(Call),
    /// It asks for what does not depend on rows.
    Tell(Fixed),
    Refuse {
        status: Status,
        sentence: Sentence,
    },
    MethodNotAllowed,
    /// The body is of a media type that the path does not take; those it takes.
    WrongMediaType(&'static str),
}

enum Sentence {
    Access(Refusal),
    Fixed(&'static str),
    Uri(uri::UriError),
    Table(TableError),
    Log(LogError),
}

impl std::fmt::Display for Sentence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sentence::Access(refusal) => refusal.fmt(f),
            Sentence::Fixed(text) => f.write_str(text),
            Sentence::Uri(error) => error.fmt(f),
            Sentence::Table(error) => f.write_str(error.sentence()),
            Sentence::Log(error) => error.fmt(f),
        }
    }
}

/// What a connection that waits was woken by.
enum Woken {
    Received(usize),
    Settled,
    Draining,
    Deadline,
}

/// Whether the connection can carry another request.
#[derive(PartialEq, Eq)]
pub(super) enum Next {
    Request,
    /// Everything was received; close.
    Close,
    /// The client may still be sending; let it see the reply first.
    Linger,
    /// It speaks HTTP/2: what was received is for another.
    Http2,
}

/// Serves requests until either side ends the connection.
pub(super) async fn serve(core: &Rc<Core>, port: Rc<Port>, sender: Sender, connection: Connection) {
    let mut session = Session::new(core, Rc::clone(&port), Link::Connection(connection));
    session.sender = sender.clone();
    let ended = session.run().await;
    session.close();
    let Session {
        connection: Link::Connection(mut connection),
        buffer,
        ..
    } = session
    else {
        unreachable!("a connection stays one");
    };
    match ended {
        Ok(Next::Http2) => http2::serve(core, port, sender, connection, buffer).await,
        Ok(Next::Linger) => linger(core, &mut connection).await,
        // A TLS client takes an end that is not announced for a cut.
        Ok(_) if connection.is_tls() => connection.close_write().await,
        Ok(_) => {}
        Err(error) if is_disconnect(&error) || error.kind() == io::ErrorKind::TimedOut => {
            tracing::debug!(core = core.index, %error, "connection ended");
        }
        Err(error) => tracing::info!(core = core.index, %error, "connection failed"),
    }
}

/// Answers one connection more than the core may hold, and ends it.
pub(super) async fn refuse(core: Rc<Core>, port: Rc<Port>, connection: Connection) {
    let mut session = Session::new(&core, port, Link::Connection(connection));
    session.error(
        Envelope::CLOSE,
        Status::ServiceUnavailable,
        "this core holds as many connections as it may; try again later",
    );
    if session.flush().await.is_ok()
        && let Link::Connection(connection) = &mut session.connection
    {
        linger(&core, connection).await;
    }
}

/// Lets the client read what was sent last before the socket is closed.
pub(super) async fn linger(core: &Core, connection: &mut Connection) {
    connection.close_write().await;
    connection.watch().set_deadline(core.clock.now_ms() + LINGER_MS);
    let mut thrown_away = [0; 4096];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match connection.read(&mut thrown_away).await {
            Ok(0) | Err(_) => return,
            Ok(received) => left = left.saturating_sub(received),
        }
    }
}

impl<'c> Session<'c> {
    pub(super) fn new(core: &'c Rc<Core>, port: Rc<Port>, connection: Link) -> Self {
        Session {
            core,
            port,
            sender: Sender::default(),
            bill: None,
            connection,
            buffer: ReceiveBuffer::new(&core.buffers),
            out: Vec::with_capacity(1024),
            out_loans: Vec::new(),
            replies: VecDeque::new(),
            uri: Box::default(),
            progress_bytes: 0,
            head_since_ms: None,
            is_new: true,
        }
    }

    /// Nobody waits for a reply any more.
    pub(super) fn close(&mut self) {
        for reply in self.replies.drain(..) {
            if let Some(waiter) = reply.waiter {
                self.core.acks.close(waiter);
            }
            if let Some(keyed) = reply.keyed {
                self.core.key_answered(keyed, None);
            }
        }
    }

    async fn run(&mut self) -> io::Result<Next> {
        loop {
            self.reply_settled();
            if self.is_new && http2::is_spoken(self.buffer.unread()) == Some(true) {
                return Ok(Next::Http2);
            }
            if self.out.len() >= OUT_BYTES {
                self.flush().await?;
                continue;
            }
            let parsed = if self.replies.len() < self.core.limits.pipeline_max {
                self.head()
            } else {
                Ok(None)
            };
            match parsed {
                Ok(Some(plan)) => {
                    self.head_since_ms = None;
                    let next = self.request(plan).await?;
                    if self.out.len() >= OUT_BYTES {
                        self.flush().await?;
                    }
                    if next != Next::Request {
                        self.settle_all().await?;
                        return Ok(next);
                    }
                }
                Ok(None) => {
                    self.flush().await?;
                    match self.wait().await? {
                        Woken::Received(0) => {
                            self.settle_all().await?;
                            return Ok(Next::Close);
                        }
                        // Its next request may be on the way.
                        Woken::Draining => {
                            self.settle_all().await?;
                            return Ok(Next::Linger);
                        }
                        Woken::Received(_) | Woken::Settled => {}
                        Woken::Deadline if self.expire_front() => {}
                        Woken::Deadline => {
                            if self.head_since_ms.is_none() {
                                return Ok(Next::Close);
                            }
                            // Replies come in the order of their requests.
                            self.settle_all().await?;
                            self.error(
                                Envelope::CLOSE,
                                Status::RequestTimeout,
                                "the request's head came too slowly",
                            );
                            self.flush().await?;
                            return Ok(Next::Linger);
                        }
                    }
                }
                Err(error) => {
                    self.settle_all().await?;
                    self.error(Envelope::CLOSE, error.status(), error);
                    self.flush().await?;
                    return Ok(Next::Linger);
                }
            }
        }
    }

    /// Parses the next head in the buffer and decides what to do with the request.
    pub(super) fn head(&mut self) -> Result<Option<Plan>, crate::http::head::HeadError> {
        let core = self.core;
        if self.is_new && http2::is_spoken(self.buffer.unread()).is_none() {
            if !self.buffer.unread().is_empty() && self.head_since_ms.is_none() {
                self.head_since_ms = Some(core.coarse_ms.get());
            }
            return Ok(None);
        }
        match parse_head(self.buffer.unread(), &core.limits)? {
            Parse::Partial => {
                if !self.buffer.unread().is_empty() && self.head_since_ms.is_none() {
                    self.head_since_ms = Some(core.coarse_ms.get());
                }
                Ok(None)
            }
            Parse::Complete(bytes, head) => {
                let mut envelope = head.envelope();
                if core.draining.get() {
                    envelope = envelope.closing();
                }
                let call = match &self.connection {
                    Link::Connection(_) => None,
                    Link::Stream(_) => dialect::grpc::find(&head),
                };
                let (found, framing, encoding, timeout_ms) = match (call, &self.connection) {
                    (Some(call), _) => (call.found, Framing::OnlyMessage, call.encoding, call.timeout_ms),
                    (None, Link::Stream(stream)) if !stream.is_at_end() => {
                        let length = head.framing.length().filter(|_| head.framing != Framing::None);
                        (dialect::find(&head), Framing::Stream(length), head.encoding, None)
                    }
                    (None, _) => (dialect::find(&head), head.framing, head.encoding, None),
                };
                let (dialect, action) = route(core, &self.port, &self.sender, &head, found, &mut self.uri);
                let plan = Plan {
                    dialect,
                    action,
                    framing,
                    encoding,
                    expect_continue: head.expect_continue,
                    timeout_at_ms: timeout_ms.map(|timeout_ms| core.clock.now_ms() + timeout_ms),
                    envelope,
                    idempotency_key: head.idempotency_key.map(Box::from),
                };
                self.buffer.consume(bytes);
                self.is_new = false;
                Ok(Some(plan))
            }
        }
    }

    /// Takes a request: its rows into their table, its reply into the queue.
    pub(super) async fn request(&mut self, plan: Plan) -> io::Result<Next> {
        let core = self.core;
        let (table, level, key, candidates, asked) = match &plan.action {
            Action::Ingest {
                table,
                level,
                key,
                candidates,
                asked,
            } => (Rc::clone(table), *level, key, *candidates, asked.take()),
            Action::Call(call) => return self.call(*call, &plan).await,
            Action::Rows(rows) => {
                self.take_calls_rows(&plan, rows).await?;
                return Ok(Next::Close);
            }
            Action::Tell(fixed) => return self.tell(&plan, fixed).await,
            Action::Refuse { status, sentence } => return self.refuse(&plan, *status, sentence).await,
            Action::MethodNotAllowed => {
                self.settle_all().await?;
                core.replier
                    .borrow()
                    .method_not_allowed(&mut self.out, plan.refusal_envelope(), "POST");
                core.metrics.request(Status::MethodNotAllowed.code());
                return self.discard(&plan).await;
            }
            Action::WrongMediaType(accept) => {
                self.settle_all().await?;
                core.replier
                    .borrow()
                    .unsupported_media_type(&mut self.out, plan.refusal_envelope(), accept);
                core.metrics.request(Status::UnsupportedMediaType.code());
                return self.discard(&plan).await;
            }
        };
        if let Some(error) = core.log_error.get() {
            return self
                .refuse(&plan, Status::ServiceUnavailable, &Sentence::Log(error))
                .await;
        }
        if !core.seal_full(&table) {
            return self
                .refuse(&plan, Status::ServiceUnavailable, &Sentence::Fixed(BUSY))
                .await;
        }
        // Last of what time mends: a request that is not taken for want of room costs its sender nothing.
        self.bill = None;
        if let Some(key) = key {
            match Bill::open(core, key, plan.framing) {
                Ok(bill) => self.bill = Some(bill),
                Err(refusal) => {
                    return self
                        .refuse(&plan, refusal.status(), &Sentence::Access(refusal))
                        .await;
                }
            }
        }
        let ticket = match &plan.idempotency_key {
            None => None,
            Some(idempotency_key) => match core.begin_key(idempotency_key, &table, key.as_deref()) {
                Begin::New(ticket) => Some(ticket),
                Begin::Done(reply) => return self.replay(&plan, &reply).await,
                Begin::InFlight => {
                    let sentence =
                        "a request with this Idempotency-Key is being taken; ask again when it is answered";
                    return self
                        .refuse(&plan, Status::Conflict, &Sentence::Fixed(sentence))
                        .await;
                }
                Begin::Full => {
                    let sentence = "as many requests with an Idempotency-Key as possible are being taken; try again later";
                    return self
                        .refuse(&plan, Status::ServiceUnavailable, &Sentence::Fixed(sentence))
                        .await;
                }
            },
        };
        let waiter = match level {
            AckLevel::Memory => None,
            AckLevel::Wal | AckLevel::Inserted => match core.acks.open() {
                Some(waiter) => Some(waiter),
                None => {
                    let sentence = Sentence::Fixed(
                        "as many requests as possible wait for their ack level; try again later",
                    );
                    return self.refuse(&plan, Status::ServiceUnavailable, &sentence).await;
                }
            },
        };
        let constants = sender::constants(core, &self.port, key.as_deref());
        let constants = match plan.dialect.body() {
            BodyForm::Rows => constants.over(asked.fields()),
            _ => Some(constants),
        };
        let Some(constants) = constants else {
            if let Some(waiter) = waiter {
                core.acks.settle(waiter, 0);
                core.acks.close(waiter);
            }
            let sentence =
                "too many different values in the URLs of requests; put them into the entries themselves";
            return self
                .refuse(&plan, Status::BadRequest, &Sentence::Fixed(sentence))
                .await;
        };
        let started_ns = core.clock.now_ns();
        let paths = candidates.map(|candidates| Paths {
            candidates,
            key: key.as_deref(),
        });
        let indexed = paths.filter(|paths| core.router.depends_on_rows(paths.candidates));
        let taken = match self.invite(&plan).await {
            Ok(()) => {
                let terms = Terms {
                    waiting: waiter.map(|waiter| (waiter, level)),
                    reading: Reading {
                        vocabulary: plan.dialect.vocabulary(),
                        constants,
                        ..Reading::default()
                    },
                };
                match ticket {
                    None => {
                        let (framing, encoding) = (plan.framing, plan.encoding);
                        let rows = |shape, indexed| Destination {
                            table: &table,
                            shape,
                            fields: asked.fields(),
                            indexed,
                        };
                        let taken = match plan.dialect.body() {
                            BodyForm::Rows => {
                                let rows = rows(Shape::Unknown, None);
                                self.take_body(rows, framing, encoding, terms).await
                            }
                            BodyForm::Objects => {
                                let rows = rows(Shape::Objects, indexed);
                                self.take_body(rows, framing, encoding, terms).await
                            }
                            BodyForm::Lines => {
                                let rows = rows(Shape::Lines, None);
                                self.take_body(rows, framing, encoding, terms).await
                            }
                            BodyForm::Query => self.take_query(framing, encoding).await,
                            BodyForm::Message(form) => {
                                self.take_message(form, &table, paths, framing, encoding, terms)
                                    .await
                            }
                            BodyForm::Bulk => {
                                let Asked::Bulk(asked) = &asked else {
                                    unreachable!("a bulk request's dialect asks for one")
                                };
                                self.take_bulk(asked, &table, paths, framing, encoding, terms)
                                    .await
                            }
                        };
                        taken.map(|intake| (Intake { asked, ..intake }, None))
                    }
                    Some(ticket) => self.take_keyed_body(&table, &plan, terms, level, ticket).await,
                }
            }
            Err(error) => Err(error),
        };
        if let Some(waiter) = waiter {
            // The body's own claim: from here on the batches alone decide.
            core.acks.settle(waiter, 0);
            if taken.is_err() {
                core.acks.close(waiter);
            }
            core.wanted.notify();
        }
        let (intake, keyed) = taken?;
        if let Some(bill) = self.bill.take() {
            bill.rows_accepted(intake.accepted);
        }
        let broken = intake.failure.is_some();
        let envelope = if broken {
            plan.envelope.closing()
        } else {
            plan.envelope
        };
        let due_ms = core.coarse_ms.get() + core.limits.ack_deadline_ms;
        let timeout_at_ms = plan.timeout_at_ms.unwrap_or(u64::MAX);
        self.buffer.shrink();
        self.replies.push_back(Reply {
            dialect: plan.dialect,
            intake,
            level,
            waiter,
            envelope,
            started_ns,
            due_ms: due_ms.min(timeout_at_ms),
            late: match due_ms < timeout_at_ms {
                true => Status::ServiceUnavailable,
                false => Status::RequestTimeout,
            },
            keyed,
        });
        Ok(match envelope.persistence {
            Persistence::Close if broken => Next::Linger,
            Persistence::Close => Next::Close,
            _ => Next::Request,
        })
    }

    /// Answers what does not depend on rows.
    async fn tell(&mut self, plan: &Plan, fixed: &Fixed) -> io::Result<Next> {
        if fixed.when_there_is_room && (!self.core.has_room() || self.core.log_error.get().is_some()) {
            let sentence = Sentence::Fixed(BUSY);
            return self.refuse(plan, Status::ServiceUnavailable, &sentence).await;
        }
        self.settle_all().await?;
        self.core.replier.borrow().message_with(
            &mut self.out,
            plan.refusal_envelope(),
            fixed.status,
            fixed.content_type,
            fixed.field,
            |out| out.extend_from_slice(fixed.body.as_bytes()),
        );
        self.core.metrics.request(fixed.status.code());
        self.discard(plan).await
    }

    /// Gives the answer a request with the same key had.
    async fn replay(&mut self, plan: &Plan, stored: &StoredReply) -> io::Result<Next> {
        self.settle_all().await?;
        self.core.replier.borrow().replay(
            &mut self.out,
            plan.refusal_envelope(),
            stored.status,
            stored.body(),
        );
        self.core.metrics.request(stored.status.code());
        self.discard(plan).await
    }

    /// Tells a client that asked first that its body is wanted.
    async fn invite(&mut self, plan: &Plan) -> io::Result<()> {
        if plan.expect_continue {
            self.settle_all().await?;
            self.out.extend_from_slice(CONTINUE);
            self.flush().await?;
        }
        Ok(())
    }

    /// Answers a request whose body is not wanted.
    async fn refuse(&mut self, plan: &Plan, status: Status, sentence: &Sentence) -> io::Result<Next> {
        self.settle_all().await?;
        let mut envelope = plan.refusal_envelope();
        if let Sentence::Access(refusal) = sentence {
            let core = self.core;
            envelope.rate_limit = refusal.over_quota().map(Into::into);
            let replier = core.replier.borrow();
            let status = plan
                .dialect
                .refuse_sender(&replier, &mut self.out, envelope, refusal);
            core.metrics.refuse(refusal);
            core.metrics.request(status.code());
        } else {
            self.error_in(plan.dialect, envelope, status, sentence);
        }
        self.discard(plan).await
    }

    /// Reads the body of a refused request, so that the next request is found behind it.
    async fn discard(&mut self, plan: &Plan) -> io::Result<Next> {
        self.flush().await?;
        if !plan.body_is_discardable() {
            return Ok(Next::Linger);
        }
        let mut left = match plan.framing {
            Framing::Length(bytes) => bytes,
            _ => 0,
        };
        self.expect_progress();
        loop {
            let drop = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.unread().len());
            self.buffer.consume(drop);
            left -= drop as u64;
            if left == 0 {
                break;
            }
            match self.connection.read(self.buffer.spare()).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                received => {
                    self.buffer.filled(received);
                    self.progressed(received as u64);
                }
            }
        }
        Ok(if plan.envelope.persistence == Persistence::Close {
            Next::Close
        } else {
            Next::Request
        })
    }

    /// Waits for more bytes, for the oldest reply to be settled, or for a deadline.
    async fn wait(&mut self) -> io::Result<Woken> {
        let core = self.core;
        let limits = &core.limits;
        let deadline_ms = match (self.replies.front(), self.head_since_ms) {
            (Some(front), None) => front.due_ms,
            (Some(front), Some(since_ms)) => front.due_ms.min(since_ms + limits.head_deadline_ms),
            (None, Some(since_ms)) => since_ms + limits.head_deadline_ms,
            (None, None) => core.coarse_ms.get() + limits.idle_deadline_ms,
        };
        self.connection.watch().set_deadline(deadline_ms);
        poll_fn(|cx| {
            if let Some(waiter) = self.replies.front().and_then(|reply| reply.waiter)
                && core.acks.poll_settled(waiter, cx).is_ready()
            {
                return Poll::Ready(Ok(Woken::Settled));
            }
            if core.draining.get() && self.head_since_ms.is_none() {
                return Poll::Ready(Ok(Woken::Draining));
            }
            let spare = self.buffer.spare();
            if spare.is_empty() || self.replies.len() >= limits.pipeline_max {
                return if self.connection.poll_deadline(cx) {
                    Poll::Ready(Ok(Woken::Deadline))
                } else {
                    Poll::Pending
                };
            }
            match self.connection.poll_read(cx, spare) {
                Poll::Ready(Ok(received)) => {
                    self.buffer.filled(received);
                    Poll::Ready(Ok(Woken::Received(received)))
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    Poll::Ready(Ok(Woken::Deadline))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Moves replies that reached their level into `out`, in order.
    fn reply_settled(&mut self) {
        // Of long replies one is in memory at a time; the caller writes it and comes back.
        while let Some(front) = self.replies.front()
            && self.out.len() < OUT_BYTES
        {
            let settled = match front.waiter {
                None => 0,
                Some(waiter) => match self.core.acks.state(waiter) {
                    Poll::Ready(settled) => settled,
                    Poll::Pending => return,
                },
            };
            let reply = self.replies.pop_front().expect("the front was just looked at");
            self.answer(reply, Some(settled));
        }
    }

    /// Answers the oldest reply whose time is up; false when none is.
    fn expire_front(&mut self) -> bool {
        let due = self
            .replies
            .front()
            .is_some_and(|front| front.due_ms <= self.core.clock.now_ms());
        if due && let Some(reply) = self.replies.pop_front() {
            self.answer(reply, None);
        }
        due
    }

    /// Waits until every queued reply is settled or overdue, and writes them.
    pub(super) async fn settle_all(&mut self) -> io::Result<()> {
        let core = self.core;
        loop {
            self.reply_settled();
            if self.out.len() >= OUT_BYTES {
                self.flush().await?;
                continue;
            }
            let Some(front) = self.replies.front() else { break };
            let waiter = front.waiter.expect("a reply that waits for nothing is settled");
            self.connection.watch().set_deadline(front.due_ms);
            self.flush().await?;
            let settled = poll_fn(|cx| {
                if core.acks.poll_settled(waiter, cx).is_ready() {
                    return Poll::Ready(true);
                }
                if self.connection.poll_deadline(cx) {
                    Poll::Ready(false)
                } else {
                    Poll::Pending
                }
            });
            if !settled.await {
                self.expire_front();
            }
        }
        self.flush().await
    }

    /// Appends the reply of a request whose rows were taken. `refused` of them are dead letters now; `None` when its time
    /// was up before they were where it wants them.
    fn answer(&mut self, mut reply: Reply, refused: Option<u64>) {
        let core = self.core;
        if let Some(waiter) = reply.waiter {
            core.acks.close(waiter);
        }
        let Some(refused) = refused else {
            if let Some(keyed) = reply.keyed {
                core.key_answered(keyed, None);
            }
            return self.answer_late(&reply);
        };
        let took_ms = (core.clock.now_ns() - reply.started_ns) / 1_000_000;
        let answer = match reply.intake.answer(reply.level, refused) {
            Ok(answer) => answer.after(took_ms),
            Err((status, sentence)) => {
                let is_empty = reply.intake.failure.is_none();
                let answered = is_empty.then(|| {
                    let replier = core.replier.borrow();
                    reply
                        .dialect
                        .answer_empty(&replier, &mut self.out, reply.envelope, &reply.intake)
                });
                return match answered.flatten() {
                    Some(status) => core.metrics.request(status.code()),
                    None => self.error_in(reply.dialect, reply.envelope, status, &sentence),
                };
            }
        };
        if let Some(keyed) = reply.keyed {
            core.key_answered(keyed, Some(reply.dialect.stored(&answer, &reply.intake)));
        }
        let status = reply.dialect.answer(
            &core.replier.borrow(),
            &mut self.out,
            reply.envelope,
            &answer,
            &reply.intake,
        );
        core.metrics.request(status.code());
        if let Some(bulk) = reply.intake.bulk.take() {
            self.out_loans.push(bulk.loan);
        }
        let measure = match reply.level {
            AckLevel::Memory => Measure::RequestMemory,
            AckLevel::Wal => Measure::RequestWal,
            AckLevel::Inserted => Measure::RequestInserted,
        };
        core.recorder
            .borrow_mut()
            .record(measure, core.clock.now_ns() - reply.started_ns);
    }

    /// Answers a request whose rows are held, but not where it wants them.
    fn answer_late(&mut self, reply: &Reply) {
        let sentence = match (reply.level, self.core.log_error.get()) {
            (AckLevel::Inserted, None) => {
                "the rows are held, but ClickHouse has not confirmed them in time; they may still be inserted"
                    .to_owned()
            }
            (_, None) => {
                "the rows are held, but were not in the write-ahead log in time; they may still be inserted"
                    .to_owned()
            }
            (_, Some(error)) => format!("{error}; the rows are held in memory and may still be inserted"),
        };
        self.error_in(reply.dialect, reply.envelope, reply.late, &sentence);
    }

    /// Answers a request of which too little is known to say it otherwise.
    pub(super) fn error(&mut self, envelope: Envelope, status: Status, sentence: impl std::fmt::Display) {
        self.error_in(OWN, envelope, status, &sentence);
    }

    fn error_in(
        &mut self,
        dialect: &'static dyn Dialect,
        envelope: Envelope,
        status: Status,
        sentence: &dyn std::fmt::Display,
    ) {
        let replier = self.core.replier.borrow();
        dialect.refuse(&replier, &mut self.out, envelope, status, sentence);
        self.core.metrics.request(status.code());
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let core = self.core;
        self.connection
            .watch()
            .set_deadline(core.coarse_ms.get() + core.limits.reply_deadline_ms);
        self.connection.write_all(&self.out).await?;
        self.out.clear();
        self.out.shrink_to(2 * OUT_BYTES);
        self.out_loans.clear();
        Ok(())
    }

    /// Starts the time in which the body must bring `body_rate_min_bytes`.
    pub(super) fn expect_progress(&mut self) {
        self.progress_bytes = 0;
        let deadline_ms = self.core.coarse_ms.get() + self.core.limits.body_deadline_ms;
        self.connection.watch().set_deadline(deadline_ms);
    }

    /// So many bytes of the body came.
    pub(super) fn progressed(&mut self, bytes: u64) {
        self.progress_bytes += bytes;
        if self.progress_bytes >= self.core.limits.body_rate_min_bytes {
            self.expect_progress();
        }
    }
}

impl Plan {
    /// The envelope of a refusal: the connection goes on only if the next request can be found.
    fn refusal_envelope(&self) -> Envelope {
        if self.body_is_discardable() {
            self.envelope
        } else {
            self.envelope.closing()
        }
    }

    fn body_is_discardable(&self) -> bool {
        // A client that waits for leave may send the body or not: what comes next could be either.
        !self.expect_continue
            && match self.framing {
                Framing::None => true,
                Framing::Length(bytes) => bytes <= DISCARD_BYTES_MAX,
                Framing::Chunked => false,
                // A stream that ends with its reply is ended for the client too.
                Framing::Stream(_) | Framing::OnlyMessage | Framing::OneMessage => false,
            }
    }
}

/// What a request head asks for, and in which dialect.
fn route(
    core: &Core,
    port: &Port,
    sender: &Sender,
    head: &Head<'_>,
    found: Found,
    scratch: &mut uri::Scratch,
) -> (&'static dyn Dialect, Action) {
    let refuse = |status, sentence| Action::Refuse { status, sentence };
    let refuse_sender = |refusal: Refusal| refuse(refusal.status(), Sentence::Access(refusal));
    let is_call = matches!(found, Found::Call(..));
    let admitted = match found.is_told_to_all() {
        true => sender.check_address(port).map(|()| None),
        false => sender::admit(core, port, sender, head),
    };
    let key = match admitted {
        Ok(key) => key,
        Err(refusal) => return (found.dialect(), refuse_sender(refusal)),
    };
    let (dialect, accept) = match found {
        Found::Refused(dialect, status, sentence) => {
            return (dialect, refuse(status, Sentence::Fixed(sentence)));
        }
        Found::Call(dialect, _) if head.method != "POST" => return (dialect, Action::MethodNotAllowed),
        Found::Call(dialect, Call::Rows) => (dialect, None),
        Found::Call(dialect, call) => return (dialect, Action::Call(call)),
        Found::Rows(dialect) => (dialect, None),
        Found::WrongMediaType(dialect, accept) => (dialect, Some(accept)),
        Found::Fixed(dialect, fixed) => return (dialect, Action::Tell(fixed)),
        Found::Nothing => {
            let sentence = "nothing is here; post rows to /ingest or /ingest/{table}, OTLP to /v1/logs, Loki's to /loki/api/v1/push";
            return (OWN, refuse(Status::NotFound, Sentence::Fixed(sentence)));
        }
    };
    let named = match dialect.table(head, scratch) {
        Ok(named) => named,
        Err(error) => return (dialect, refuse(error.status(), Sentence::Uri(error))),
    };
    if !dialect.takes(head.method) {
        return (dialect, Action::MethodNotAllowed);
    }
    if head.idempotency_key.is_some() && !dialect.takes_idempotency_key() {
        let sentence = "an Idempotency-Key is kept for /ingest and /api/logs only; send this without one";
        return (dialect, refuse(Status::BadRequest, Sentence::Fixed(sentence)));
    }
    let written = uri::query_parameter(head.query, "ack")
        .map(str::as_bytes)
        .or(head.ack);
    let level = match written.map(|level| std::str::from_utf8(level).unwrap_or_default().parse()) {
        None => port.ack,
        Some(Ok(level)) => level,
        Some(Err(_)) => {
            let sentence = "the ack level is `memory`, `wal` or `inserted`";
            return (dialect, refuse(Status::BadRequest, Sentence::Fixed(sentence)));
        }
    };
    let (named, candidates) = core.table_of(port, key.as_deref(), head, named);
    let action = match (core.table_in_reach(key.as_deref(), named), accept) {
        (Err(TableError::OutOfReach), _) => refuse_sender(Refusal::TableNotAllowed),
        (Err(error), _) => refuse(error.status(), Sentence::Table(error)),
        (Ok(_), Some(accept)) => Action::WrongMediaType(accept),
        (Ok(table), None) if is_call => Action::Rows(CallRows {
            table,
            level,
            candidates,
            key,
        }),
        (Ok(table), None) => match dialect.asked(head) {
            Ok(asked) => Action::Ingest {
                table,
                level,
                key,
                candidates,
                asked: Cell::new(asked),
            },
            Err(error) => refuse(error.status(), Sentence::Uri(error)),
        },
    };
    (dialect, action)
}
