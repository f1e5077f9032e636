//! Connections without requests: messages come as long as the client likes, and most are never answered.
//!
//! Nothing that was received is dropped but for its own fault: while the log is behind, or no table is there to take rows, the
//! socket is not read and the client waits.

mod forward;
mod json;
mod syslog;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::access::{Key, Refusal, Token};
use crate::ack::AckId;
use crate::batch::RowInput;
use crate::config::Protocol;
use crate::http::head::Framing;
use crate::http::receive_buffer::ReceiveBuffer;
use crate::json::{RejectReason, RowErrors};
use crate::limits::Limits;
use crate::mapping::Reading;
use crate::routing::RequestFacts;
use crate::runtime::{self, Connection};

use super::body::{Terms, Waiting};
use super::port::Port;
use super::sender::{self, Bill, Sender};
use super::table::Table;
use super::{Core, is_disconnect};

/// Rows that are found before they are pushed: more than a chunk has of most logs, and 4 KiB for each connection.
pub(super) const ROWS_MAX: usize = 512;

/// How soon a table or a buffer that was not to be had is asked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// At a drain, the rest of a message that has begun is waited for so long.
const DRAIN_BORDER_MS: u64 = 1_000;

/// One connection, whatever it speaks.
struct Stream<'c> {
    core: &'c Rc<Core>,
    port: Rc<Port>,
    connection: Connection,
    buffer: ReceiveBuffer,
    rows: RowsOf,
    /// When the message that has begun must have come further.
    due_ms: u64,
    /// Bytes of it since that was last moved.
    progress_bytes: u64,
    /// When a drain waits no longer, once there is one.
    drain_due_ms: u64,
    /// Whoever sends.
    sender: Sender,
}

/// What came of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    /// More bytes.
    Bytes,
    /// A reply may go out.
    Settled,
    /// Nothing more comes: the client is done or too slow, or the server drains.
    End,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(core: &Rc<Core>, port: Rc<Port>, sender: Sender, connection: Connection) {
    let protocol = port.protocol;
    let mut stream = Stream::new(core, port, sender, connection);
    let ended = match (stream.admit(), protocol) {
        (Err(error), _) => Err(error),
        (Ok(()), Protocol::Forward) => stream.take_forward().await,
        (Ok(()), Protocol::Json) => stream.take_json().await,
        (Ok(()), Protocol::Syslog) => stream.take_syslog().await,
        (Ok(()), Protocol::Http | Protocol::SyslogUdp) => {
            unreachable!("not a protocol of such connections")
        }
    };
    match ended {
        // A TLS client takes an end that is not announced for a cut.
        Ok(()) if stream.connection.is_tls() => stream.connection.close_write().await,
        Ok(()) => {}
        Err(error) if is_disconnect(&error) || error.kind() == io::ErrorKind::TimedOut => {
            tracing::debug!(core = core.index, %protocol, %error, "connection ended");
        }
        Err(error) => tracing::info!(core = core.index, %protocol, %error, "connection failed"),
    }
}

impl<'c> Stream<'c> {
    fn new(core: &'c Rc<Core>, port: Rc<Port>, sender: Sender, connection: Connection) -> Stream<'c> {
        Stream {
            core,
            rows: RowsOf::new(&port, &core.limits),
            port,
            connection,
            buffer: ReceiveBuffer::new(&core.buffers),
            due_ms: u64::MAX,
            progress_bytes: 0,
            drain_due_ms: u64::MAX,
            sender,
        }
    }

    /// Looks at who sends. Only JSON lines have a place for a token, which is looked for there first.
    ///
    /// # Errors
    /// Nothing is taken from there.
    fn admit(&mut self) -> io::Result<()> {
        let is_allowed = self.sender.check_address(&self.port);
        is_allowed.map_err(|refusal| self.refused(&refusal))?;
        if !self.port.require_key || self.port.protocol.has_token() {
            return Ok(());
        }
        self.come_under(None).map_err(|refusal| self.refused(&refusal))
    }

    /// Takes all further rows under the key of a token, or without one under that of the certificate.
    fn come_under(&mut self, token: Option<&str>) -> Result<(), Refusal> {
        let core = self.core;
        let key = match token {
            Some(token) => {
                let token = Token::new(token.as_bytes()).ok_or(Refusal::Malformed)?;
                core.api_keys.find(&token)?
            }
            None => self.sender.key_by_certificate(core)?,
        };
        key.admit_rows(self.sender.from)?;
        core.check_reach(&self.port, &key)?;
        self.rows.come_under(core, &self.port, key)
    }

    /// Counts a refusal; the connection ends for it.
    fn refused(&self, refusal: &Refusal) -> io::Error {
        self.core.metrics.refuse(refusal);
        io::Error::new(io::ErrorKind::PermissionDenied, *refusal)
    }

    /// Forgets what was taken from the buffer's front.
    fn consume(&mut self, bytes: usize) {
        self.buffer.consume(bytes);
        if bytes > 0 {
            self.expect_progress();
        }
    }

    /// Starts the time in which a message must bring `body_rate_min_bytes` more of itself.
    fn expect_progress(&mut self) {
        self.progress_bytes = 0;
        self.due_ms = self.core.coarse_ms.get() + self.core.limits.body_deadline_ms;
    }

    /// Waits for more bytes, or until a request of ours is settled.
    ///
    /// At a drain it goes on until no message is begun, or for [`DRAIN_BORDER_MS`].
    async fn receive(&mut self, waiter: Option<AckId>) -> io::Result<Received> {
        let core = self.core;
        while self.buffer.spare().is_empty() {
            // A message that does not fit the largest buffer is refused before it fills it.
            if self.buffer.grow().is_err() {
                // All that may be lent is. Who has it may wait for more like this one, so that some must end.
                runtime::sleep(PAUSE).await;
                if core.draining.get() || core.coarse_ms.get() >= self.due_ms {
                    return Ok(Received::End);
                }
            }
        }
        if self.buffer.unread().is_empty() {
            self.buffer.shrink();
        }
        loop {
            let is_begun = !self.buffer.unread().is_empty();
            let draining = core.draining.get();
            let now_ms = core.coarse_ms.get();
            if draining {
                self.drain_due_ms = self.drain_due_ms.min(now_ms + DRAIN_BORDER_MS);
                // Who always has more to send would be read for ever.
                if !is_begun || now_ms >= self.drain_due_ms {
                    return Ok(Received::End);
                }
            }
            let deadline_ms = match is_begun {
                true => self.due_ms.min(self.drain_due_ms),
                false => now_ms + core.limits.stream_idle_deadline_ms,
            };
            self.connection.watch().set_deadline(deadline_ms);
            let Stream {
                connection, buffer, ..
            } = self;
            let received = poll_fn(|cx| {
                if let Some(waiter) = waiter
                    && core.acks.poll_settled(waiter, cx).is_ready()
                {
                    return Poll::Ready(Ok(None));
                }
                match connection.poll_read(cx, buffer.spare()) {
                    Poll::Pending if core.draining.get() != draining => Poll::Ready(Ok(None)),
                    other => other.map_ok(Some),
                }
            });
            match received.await {
                Ok(Some(0)) => return Ok(Received::End),
                Ok(Some(received)) => {
                    if !is_begun {
                        self.expect_progress();
                    }
                    self.buffer.filled(received);
                    self.progress_bytes += received as u64;
                    if self.progress_bytes >= core.limits.body_rate_min_bytes {
                        self.expect_progress();
                    }
                    core.metrics.bytes_wire.add(received as u64);
                    if let Some(bill) = &self.rows.bill {
                        bill.bytes_came(received as u64, core);
                    }
                    // One read should bring a chunk's worth of rows.
                    if self.buffer.spare().is_empty()
                        && self.buffer.capacity() < core.limits.body_buffer_bytes
                    {
                        let _ = self.buffer.grow();
                    }
                    return Ok(Received::Bytes);
                }
                Ok(None) if core.draining.get() == draining => return Ok(Received::Settled),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Received::End),
                Err(error) => return Err(error),
            }
        }
    }

    async fn write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let deadline_ms = self.core.coarse_ms.get() + self.core.limits.reply_deadline_ms;
        self.connection.watch().set_deadline(deadline_ms);
        self.connection.write_all(out).await?;
        out.clear();
        Ok(())
    }
}

/// The rows of a listener that has no requests: where they go, and what became of them.
pub(super) struct RowsOf {
    errors: RowErrors,
    /// Rows so far.
    count: u64,
    reading: Reading,
    /// A rejected row of this connection was told of.
    told: bool,
    /// The key they come under, when they come under one.
    key: Option<Rc<Key>>,
    bill: Option<Bill>,
}

impl RowsOf {
    pub(super) fn new(port: &Port, limits: &Limits) -> RowsOf {
        // One reason for the log; the metrics have the numbers.
        let limits = Limits {
            errors_in_reply_max: 1,
            ..*limits
        };
        RowsOf {
            errors: RowErrors::new(&limits),
            count: 0,
            reading: Reading {
                constants: port.constants,
                zone: port.zone,
                ..Reading::default()
            },
            told: false,
            key: None,
            bill: None,
        }
    }

    /// Takes all further rows under a key.
    ///
    /// # Errors
    /// Its quotas are used up.
    fn come_under(&mut self, core: &Core, port: &Port, key: Rc<Key>) -> Result<(), Refusal> {
        self.bill = Some(Bill::open(core, &key, Framing::Chunked)?);
        self.reading.constants = sender::constants(core, port, Some(&key));
        self.key = Some(key);
        Ok(())
    }

    /// Pushes all of `input`, waiting while the log is behind.
    pub(super) async fn push(
        &mut self,
        core: &Core,
        table: &Rc<Table>,
        input: &impl RowInput,
        waiting: Waiting,
    ) {
        let terms = Terms {
            waiting,
            reading: self.reading,
        };
        let none = self.errors.counts();
        let mut at = 0;
        // What is taken while the log takes nothing would only be in memory.
        if core.log_error.get().is_some() {
            core.wait_for_log(table).await;
        }
        while at < input.end() {
            let pushed = core.push(table, input, at, self.count, &mut self.errors, terms);
            at += pushed.consumed;
            self.count += pushed.rows;
            if let Some(bill) = &self.bill {
                bill.rows_accepted(pushed.accepted);
            }
            if pushed.blocked {
                core.wait_for_log(table).await;
            }
            runtime::yield_if_needed().await;
        }
        self.errors
            .each_since(&none, |reason, rows| core.metrics.reject(reason.label(), rows));
        self.tell(core);
    }

    /// Rejects a row that was not even read.
    pub(super) fn reject(
        &mut self,
        core: &Core,
        table: &Table,
        reason: RejectReason,
        sentence: impl FnOnce() -> String,
    ) {
        self.errors.push(self.count, reason, sentence);
        self.count += 1;
        table.account().receive(0, 1);
        core.metrics.rows_received.add(1);
        core.metrics.reject(reason.label(), 1);
        self.tell(core);
    }

    pub(super) fn reject_too_long(&mut self, core: &Core, table: &Table) {
        let line_bytes_max = core.limits.line_bytes_max;
        self.reject(core, table, RejectReason::TooLong, || {
            format!("the message is longer than {line_bytes_max} bytes")
        });
    }

    /// Nobody is answered, so the log has the first reason of each connection.
    fn tell(&mut self, core: &Core) {
        if let Some(error) = self.errors.first.first()
            && !std::mem::replace(&mut self.told, true)
        {
            tracing::warn!(
                core = core.index,
                row = error.row,
                reason = error.text,
                "a row was rejected; further ones of this connection are counted in the metrics"
            );
        }
    }
}

impl Core {
    /// The table of rows that name none, waited for while it cannot take any; `None` when the core drains meanwhile.
    pub(super) async fn table_of_port(&self, port: &Port, key: Option<&Key>) -> Option<Rc<Table>> {
        let mut told = false;
        loop {
            let (database, table) = self.name_of_table(port, key);
            let error = match self.table(database, table) {
                Ok(table) => return Some(table),
                Err(error) => error,
            };
            if !std::mem::replace(&mut told, true) {
                let (listener, why) = (&port.name, error.sentence());
                tracing::warn!(
                    core = self.index,
                    listener,
                    why,
                    "nothing is read until the table is there"
                );
            }
            if self.draining.get() {
                return None;
            }
            runtime::sleep(PAUSE).await;
        }
    }

    /// Database and table of rows that come in without a request.
    fn name_of_table<'a>(
        &'a self,
        port: &'a Port,
        key: Option<&'a Key>,
    ) -> (Option<&'a str>, Option<&'a str>) {
        let nothing = RequestFacts {
            listener: &port.name,
            path: "",
            header: &|_| None,
        };
        self.configured_table(port, key, &nothing).0
    }

    /// Whether a key reaches the table that its rows go to.
    fn check_reach(&self, port: &Port, key: &Key) -> Result<(), Refusal> {
        let (database, table) = self.name_of_table(port, Some(key));
        self.reach(key, database, table)
    }

    /// Waits until the log takes blocks and the batch a push was blocked on can be sealed, however long that takes.
    pub(super) async fn wait_for_log(&self, table: &Rc<Table>) {
        while !self.has_room() || self.log_error.get().is_some() {
            self.freed.notified().await;
        }
        // A batch that is not full may be what is in the way: all of them are open, and a row needs another.
        self.seal_full(table);
    }
}
