//! One ingest core: its listener, connections, open batches, log and ring ends.
//!
//! Everything here belongs to one thread. What crosses to other cores is a commit's pointer, what is known of sealed
//! blocks, plain counters, and the catalog's schemas.

mod answer;
mod awaiting;
mod body;
mod bulk;
mod call;
mod choice;
mod connection;
mod datagrams;
mod dialect;
mod handshake;
pub(crate) mod http2;
mod keyed;
mod lines;
mod link;
mod message;
mod port;
mod rows_call;
mod sender;
mod stream;
mod table;
mod turns;

pub(crate) use keyed::unix_ms;
pub use keyed::{KeyLog, KeyStore, KeyedRequest};

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::access::{Access, CoreKeys};
use crate::ack::AckTable;
use crate::block::{Block, BlockId, Settlement};
use crate::catalog::{Catalog, Lookup};
use crate::clickhouse::frame::FrameEncoder;
use crate::clock::Clock;
use crate::config::{ListenerSettings, Protocol};
use crate::doorbell::Doorbell;
use crate::histogram::{Measure, Recorder};
use crate::http::encodings::DecoderPool;
use crate::http::receive_buffer::BufferPool;
use crate::http::reply::Replier;
use crate::json::{MessageParser, Parser};
use crate::ledger::{Account, Ledger};
use crate::limits::Limits;
use crate::mapping::{Constants, Mappings};
use crate::metrics::IngestMetrics;
use crate::ring::{Consumer, Producer};
use crate::routing::Router;
use crate::runtime::{self, Connection, DatagramSocket, ListenSocket, Listener, Notify, Watch};
use crate::schema::{Schema, TableName};
use crate::tls::Certificates;
use crate::wal::Commit;
use crate::wal::log::{LogEnd, LogError};
use crate::wal::segment::Budget;

use awaiting::Awaiting;
use choice::TableError;
use keyed::KeyedRequests;
use port::Port;
use sender::Sender;
use table::Table;
use turns::Turns;

/// What an ingest core is given at start.
pub struct IngestConfig {
    /// Index among the ingest cores, from 0.
    pub index: u16,
    /// Bounds.
    pub limits: Limits,
    /// What is spoken where, in the order of their sockets.
    pub listeners: Arc<[ListenerSettings]>,
    /// What each of them proves itself with.
    pub certificates: Arc<[Option<Arc<Certificates>>]>,
    /// Which rows go to another table than the listener's.
    pub router: Arc<Router>,
    /// Tables and their columns.
    pub catalog: Arc<Catalog>,
    /// Extra key mappings per table.
    pub mappings: Arc<Mappings>,
    /// Rows' whereabouts.
    pub ledger: Arc<Ledger>,
    /// This core's counters.
    pub metrics: Arc<IngestMetrics>,
    /// This core's histograms.
    pub recorder: Recorder,
    /// Names this process in its blocks.
    pub boot: u64,
    /// Who may send.
    pub access: Arc<Access>,
    /// Idempotency keys.
    pub key_store: KeyStore,
    /// What waits in the log of all cores.
    pub budget: Arc<Budget>,
    /// The core's log.
    pub log: LogEnd,
    /// Durable blocks to the writer.
    pub to_writer: Producer<Block>,
    /// How awaited blocks ended, from the writer.
    pub from_writer: Consumer<Settlement>,
    /// Rung when a commit or an outcome is there.
    pub bell: Arc<Doorbell>,
    /// Shared by all cores.
    pub clock: Clock,
    /// Set once: finish what has begun, seal everything, stop.
    pub draining: Arc<AtomicBool>,
}

/// How often deadlines, ages and schemas are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Pause after accept(2) failed for want of file descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// While an awaited block of a table is outstanding, batches whose requests wait for their INSERT are sealed this far apart
/// at least.
const AWAITED_SEAL_INTERVAL_MS: u64 = 50;

/// How soon batches that were left open, and a commit whose time had not come, are looked at again.
const COMMIT_PAUSE: Duration = Duration::from_millis(1);

/// Waiting blocks that make commits one interval further apart.
const BLOCKS_PER_INTERVAL: u64 = 10_000;

/// How soon a commit that failed is tried again.
const LOG_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How soon a core that drains looks again whether it is done.
const DRAIN_PAUSE: Duration = Duration::from_millis(10);

/// State of one ingest core, shared by its tasks.
struct Core {
    index: u16,
    limits: Limits,
    router: Arc<Router>,
    catalog: Arc<Catalog>,
    mappings: Arc<Mappings>,
    ledger: Arc<Ledger>,
    metrics: Arc<IngestMetrics>,
    clock: Clock,
    /// The tick's reading of the clock, for deadlines that need no better.
    coarse_ms: Cell<u64>,
    recorder: RefCell<Recorder>,
    replier: RefCell<Replier>,
    parser: RefCell<Parser>,
    message_parser: Turns<MessageParser>,
    encoder: RefCell<FrameEncoder>,
    tables: RefCell<Vec<Rc<Table>>>,
    accounts: RefCell<Vec<(TableName, Arc<Account>)>>,
    /// The catalog's generation `tables` agrees with.
    generation: Cell<u64>,
    boot: u64,
    /// Takes sealed blocks; what it holds goes to the log next.
    filling: RefCell<Box<Commit>>,
    /// The other commit, while it is not at the log.
    spare: RefCell<Option<Box<Commit>>>,
    commits: RefCell<Producer<Box<Commit>>>,
    committed_ns: Cell<u64>,
    /// Why the commit at the log is not durable yet, when its last try failed.
    log_error: Cell<Option<LogError>>,
    /// There is room for sealed blocks again.
    freed: Notify,
    /// Something wants to be sealed or committed.
    wanted: Notify,
    to_writer: RefCell<Producer<Block>>,
    sequence: Cell<u64>,
    /// Documents of bulk requests so far: they number the ids that are made for them.
    documents: Cell<u64>,
    acks: AckTable,
    awaiting: RefCell<Awaiting>,
    api_keys: CoreKeys,
    /// Constants of a listener under those of a key, by where the two are.
    constants: RefCell<HashMap<[usize; 2], Constants>>,
    key_store: KeyStore,
    budget: Arc<Budget>,
    keyed: KeyedRequests,
    buffers: BufferPool,
    decoders: DecoderPool,
    watches: RefCell<Vec<Weak<Watch>>>,
    connections: Cell<usize>,
    /// Sockets that datagrams are taken from.
    receivers: Cell<usize>,
    /// Of this machine, for those who ask who they speak to.
    hostname: String,
    /// Of those, the ones that speak HTTP/2.
    http2_connections: Cell<usize>,
    /// Requests of HTTP/2 under way.
    streams: Cell<usize>,
    /// Those of them that are TLS.
    tls_connections: Cell<usize>,
    draining: Cell<bool>,
    /// `draining` was set.
    drain_started: Notify,
    /// Whether rows are taken may have changed.
    health_changed: Notify,
}

/// Runs an ingest core until it has drained. Call inside the core's executor.
pub async fn run(config: IngestConfig, sockets: Vec<ListenSocket>) {
    let IngestConfig {
        listeners,
        certificates,
        log,
        from_writer,
        bell,
        draining,
        ..
    } = config;
    let limits = config.limits;
    dialect::number_acks_from(unix_s(&config.clock));
    let commit = || Box::new(Commit::with_capacity(limits.commit_bytes_max()));
    let core = Rc::new(Core {
        index: config.index,
        limits,
        router: config.router,
        catalog: config.catalog,
        mappings: config.mappings,
        ledger: config.ledger,
        metrics: config.metrics,
        clock: config.clock,
        coarse_ms: Cell::new(config.clock.now_ms()),
        recorder: RefCell::new(config.recorder),
        replier: RefCell::new(Replier::new(unix_s(&config.clock), limits.retry_after_s)),
        parser: RefCell::new(Parser::new(&limits)),
        message_parser: Turns::new(MessageParser::new(&limits)),
        encoder: RefCell::new(FrameEncoder::new()),
        tables: RefCell::new(Vec::with_capacity(limits.tables_per_core)),
        accounts: RefCell::new(Vec::with_capacity(limits.tables_per_core)),
        generation: Cell::new(0),
        boot: config.boot,
        filling: RefCell::new(commit()),
        spare: RefCell::new(Some(commit())),
        commits: RefCell::new(log.commits),
        committed_ns: Cell::new(0),
        log_error: Cell::new(None),
        freed: Notify::default(),
        wanted: Notify::default(),
        to_writer: RefCell::new(config.to_writer),
        sequence: Cell::new(0),
        documents: Cell::new(0),
        acks: AckTable::new(limits.acks_per_core),
        awaiting: RefCell::new(Awaiting::new(limits.awaited_blocks_per_core)),
        api_keys: CoreKeys::new(config.access),
        constants: RefCell::default(),
        key_store: config.key_store,
        budget: config.budget,
        keyed: KeyedRequests::default(),
        buffers: BufferPool::new(&limits),
        decoders: DecoderPool::new(&limits),
        watches: RefCell::new(Vec::with_capacity(limits.connections_per_core)),
        connections: Cell::new(0),
        http2_connections: Cell::new(0),
        streams: Cell::new(0),
        tls_connections: Cell::new(0),
        receivers: Cell::new(0),
        hostname: hostname(),
        draining: Cell::new(false),
        drain_started: Notify::default(),
        health_changed: Notify::default(),
    });
    for ((settings, certificates), socket) in listeners.iter().zip(certificates.iter()).zip(sockets) {
        let port = Rc::new(Port::new(settings, certificates.clone()));
        let core = Rc::clone(&core);
        match socket {
            ListenSocket::Tcp(socket) => runtime::spawn(accept(core, port, Listener::from_std(socket))),
            ListenSocket::Udp(socket) => {
                let socket = DatagramSocket::from_std(socket);
                // Its end is part of the drain also when that begins before its first turn.
                core.receivers.set(core.receivers.get() + 1);
                runtime::spawn(async move {
                    datagrams::receive(&core, &port, socket).await;
                    core.receivers.set(core.receivers.get() - 1);
                });
            }
        }
    }
    runtime::spawn(take_back(Rc::clone(&core), log.done, from_writer, bell));
    runtime::spawn(commit_wanted(Rc::clone(&core)));
    tick(core, draining).await;
}

/// Takes connections until the core drains. The listener is closed then, so that clients are refused and go
/// elsewhere, instead of being taken by the kernel and never served.
async fn accept(core: Rc<Core>, port: Rc<Port>, listener: Listener) {
    while !core.draining.get() {
        let drained = async {
            core.drain_started.notified().await;
            None
        };
        match runtime::first(drained, async { Some(listener.accept().await) }).await {
            None => return,
            Some(Ok(connection)) => core.admit(Rc::clone(&port), connection),
            Some(Err(error)) => {
                tracing::warn!(core = core.index, %error, "cannot accept a connection");
                runtime::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// What comes back to a core.
enum Back {
    Commit(Box<Commit>),
    Settlement(Settlement),
}

/// Takes commits back from the log and outcomes from the writer, and settles the requests that waited for them.
async fn take_back(
    core: Rc<Core>,
    mut done: Consumer<Box<Commit>>,
    mut from_writer: Consumer<Settlement>,
    bell: Arc<Doorbell>,
) {
    loop {
        let look = || match done.pop() {
            Some(commit) => Some(Back::Commit(commit)),
            None => from_writer.pop().map(Back::Settlement),
        };
        match bell.wait(look).await {
            Back::Commit(commit) => match commit.result {
                Ok(()) => core.take_commit(commit).await,
                Err(error) => core.note_log_error(error, commit),
            },
            Back::Settlement(settlement) => core.settle(settlement),
        }
        runtime::yield_if_needed().await;
    }
}

/// Commits what wants to be durable: at once when the log is idle, else with the next commit.
async fn commit_wanted(core: Rc<Core>) {
    loop {
        core.wanted.notified().await;
        // Requests that are ready now share the commit.
        runtime::yield_now().await;
        while core.seal_and_commit() {
            runtime::sleep(COMMIT_PAUSE).await;
        }
    }
}

/// Looks after everything that depends on time, until the core has drained.
async fn tick(core: Rc<Core>, draining: Arc<AtomicBool>) {
    loop {
        // Acquire: what the signal thread did before it asked to drain is done.
        if draining.load(Ordering::Acquire) && !core.draining.get() {
            core.start_draining();
        }
        core.coarse_ms.set(core.clock.now_ms());
        core.check_deadlines();
        core.follow_catalog();
        core.seal_aged();
        core.show();
        if core.draining.get() && core.is_drained() {
            return;
        }
        runtime::sleep(if core.draining.get() { DRAIN_PAUSE } else { TICK }).await;
    }
}

impl Core {
    /// Serves a connection, or refuses it when the core holds its most.
    fn admit(self: &Rc<Self>, port: Rc<Port>, connection: Connection) {
        self.watches.borrow_mut().push(Rc::downgrade(connection.watch()));
        let core = Rc::clone(self);
        if self.connections.get() >= self.limits.connections_per_core {
            self.metrics.connections_refused.add(1);
            // To say so inside TLS would cost the handshake there is no room for.
            if port.certificates.is_none() && port.protocol == Protocol::Http {
                runtime::spawn(connection::refuse(core, port, connection));
            }
            return;
        }
        self.connections.set(self.connections.get() + 1);
        self.metrics.connections_accepted.add(1);
        runtime::spawn(async move {
            core.receive(port, connection).await;
            core.connections.set(core.connections.get() - 1);
        });
    }

    /// Serves a connection once it is known whose it is, and TLS where it is to be.
    async fn receive(self: &Rc<Self>, port: Rc<Port>, mut connection: Connection) {
        // The proxy's header is outside of TLS.
        let from = match sender::address(self, &port, &mut connection).await {
            Ok(from) => from,
            Err(error) => {
                tracing::debug!(core = self.index, %error, "connection without its PROXY header");
                return;
            }
        };
        let Some(certificates) = port.certificates.clone() else {
            let sender = Sender::new(&port, from, &connection);
            return self.serve(port, sender, connection).await;
        };
        self.tls_connections.set(self.tls_connections.get() + 1);
        if let Some(connection) = handshake::shake_hands(self, &certificates, connection).await {
            let sender = Sender::new(&port, from, &connection);
            self.serve(port, sender, connection).await;
        }
        self.tls_connections.set(self.tls_connections.get() - 1);
    }

    async fn serve(self: &Rc<Self>, port: Rc<Port>, sender: Sender, connection: Connection) {
        match port.protocol {
            Protocol::Http => connection::serve(self, port, sender, connection).await,
            _ => stream::serve(self, port, sender, connection).await,
        }
    }

    /// The open table `database.table` (missing parts are the default table's), opened if the catalog serves it.
    fn table(&self, database: Option<&str>, table: Option<&str>) -> Result<Rc<Table>, TableError> {
        self.follow_catalog();
        let default = self.catalog.default_table();
        let (database, table) = (
            database.unwrap_or(&default.database),
            table.unwrap_or(&default.table),
        );
        let open = |candidate: &&Rc<Table>| {
            let name = &candidate.schema().name;
            !candidate.is_retired() && name.table == table && name.database == database
        };
        if let Some(found) = self.tables.borrow().iter().find(open) {
            found.touch(self.coarse_ms.get());
            return Ok(Rc::clone(found));
        }
        match self.catalog.lookup(Some(database), Some(table)) {
            Lookup::Found(schema) => self.open(schema),
            // It may have been created a moment ago.
            Lookup::NotYetKnown => {
                self.catalog.request_refresh();
                Err(TableError::NotYetKnown)
            }
            Lookup::NotServed => {
                self.catalog.request_refresh();
                Err(TableError::NotServed)
            }
        }
    }

    fn open(&self, schema: Schema) -> Result<Rc<Table>, TableError> {
        let mut tables = self.tables.borrow_mut();
        if tables.len() >= self.limits.tables_per_core {
            // The least recently used table gives way, if nothing of it is under way.
            let idle = (0..tables.len())
                .filter(|&i| is_unused(&tables[i]))
                .min_by_key(|&i| tables[i].touched_ms());
            let Some(idle) = idle else {
                return Err(TableError::TooManyOpen);
            };
            tables.swap_remove(idle);
        }
        let account = self.account(&schema.name);
        let mapping = self.mappings.of(&schema.name);
        let table = Rc::new(Table::new(schema, mapping, account, &self.limits));
        table.touch(self.coarse_ms.get());
        tables.push(Rc::clone(&table));
        Ok(table)
    }

    /// One account per table and core, whatever becomes of the table's columns.
    fn account(&self, name: &TableName) -> Arc<Account> {
        let mut accounts = self.accounts.borrow_mut();
        if let Some((_, account)) = accounts.iter().find(|(known, _)| known == name) {
            return Arc::clone(account);
        }
        let account = self.ledger.open(name);
        accounts.push((name.clone(), Arc::clone(&account)));
        account
    }

    /// Retires tables whose columns changed: new rows go to batches of the new columns.
    fn follow_catalog(&self) {
        let generation = self.catalog.generation();
        if generation == self.generation.replace(generation) {
            return;
        }
        self.health_changed.notify();
        for table in self.tables.borrow().iter().filter(|table| !table.is_retired()) {
            let name = &table.schema().name;
            match self.catalog.lookup(Some(&name.database), Some(&name.table)) {
                Lookup::Found(schema) if Arc::ptr_eq(&schema, table.schema()) => {}
                _ => table.retire(),
            }
        }
    }

    /// Seals a batch into the next commit if that has room.
    fn seal(&self, table: &Rc<Table>, batch: usize) -> bool {
        if !self.has_room() {
            return false;
        }
        self.seal_now(table, batch);
        if self.filling.borrow().len() >= self.limits.wal_commit_bytes {
            self.commit();
        }
        self.wanted.notify();
        true
    }

    /// Seals a batch into the next commit.
    fn seal_now(&self, table: &Rc<Table>, batch: usize) {
        let id = BlockId {
            boot: self.boot,
            core: self.index,
            sequence: self.sequence.replace(self.sequence.get() + 1),
        };
        let mut commit = self.filling.borrow_mut();
        let rows = table.seal(
            batch,
            id,
            &mut self.encoder.borrow_mut(),
            &mut commit,
            &self.awaiting,
            self.clock.now_ms(),
        );
        commit.rows.push((Arc::clone(table.account()), rows));
        self.metrics.blocks_sealed.add(1);
    }

    /// Whether a batch can be sealed.
    fn has_room(&self) -> bool {
        self.filling.borrow().len() < self.limits.wal_buffer_bytes && self.awaiting.borrow().has_free()
    }

    /// Hands what was sealed to the log, and with it every batch that requests wait to see there. False when the log is
    /// busy with the commit before.
    fn commit(&self) -> bool {
        let Some(spare) = self.spare.borrow_mut().take() else {
            return false;
        };
        self.seal_log_awaited();
        let commit = self.filling.replace(spare);
        self.committed_ns.set(self.clock.now_ns());
        self.send_to_log(commit);
        self.freed.notify();
        true
    }

    fn send_to_log(&self, commit: Box<Commit>) {
        self.commits
            .borrow_mut()
            .push(commit)
            .unwrap_or_else(|_| unreachable!("one commit is at the log at a time"));
    }

    /// A commit is durable: its requests are answered, its blocks the writer's.
    async fn take_commit(self: &Rc<Self>, mut commit: Box<Commit>) {
        if self.log_error.replace(None).is_some() {
            tracing::info!(core = self.index, "the write-ahead log takes rows again");
            self.health_changed.notify();
        }
        self.metrics.commits.add(1);
        self.recorder
            .borrow_mut()
            .record(Measure::Commit, commit.took.as_nanos() as u64);
        for (account, rows) in commit.rows.drain(..) {
            account.log(rows);
        }
        for waiter in commit.waiters.drain(..) {
            self.acks.settle(waiter.ack, 0);
        }
        for request in commit.keyed.drain(..) {
            self.key_durable(request);
        }
        let mut durable = std::mem::take(&mut commit.durable);
        for mut block in durable.drain(..) {
            while let Err(back) = { self.to_writer.borrow_mut().push(block) } {
                // The writer has much to do; the rows are safe, and nothing more is committed meanwhile.
                block = back;
                runtime::sleep(COMMIT_PAUSE).await;
            }
        }
        commit.durable = durable;
        *self.spare.borrow_mut() = Some(commit);
        self.freed.notify();
        self.wanted.notify();
    }

    /// A commit is not durable. Nobody was told that it is; it is tried until it is, and no new rows are taken meanwhile.
    fn note_log_error(self: &Rc<Self>, error: LogError, commit: Box<Commit>) {
        if self.log_error.replace(Some(error)) != Some(error) {
            tracing::error!(core = self.index, %error, "no rows are taken until the write-ahead log can be written");
            self.health_changed.notify();
        }
        self.metrics.commits_failed.add(1);
        let core = Rc::clone(self);
        runtime::spawn(async move {
            runtime::sleep(LOG_RETRY_PAUSE).await;
            core.send_to_log(commit);
        });
    }

    /// An awaited block ended: its requests are told.
    fn settle(&self, settlement: Settlement) {
        let mut awaiting = self.awaiting.borrow_mut();
        let (table, mut waiters) = awaiting.take(settlement.block);
        for waiter in waiters.drain(..) {
            let refused = settlement
                .dead_rows
                .iter()
                .filter(|row| waiter.rows.contains(row));
            self.acks.settle(waiter.ack, refused.count() as u64);
        }
        awaiting.give_back(settlement.block, waiters);
        table.block_returned();
        if table.has_insert_awaited() {
            self.wanted.notify();
        }
        self.freed.notify();
    }

    /// Seals what requests wait for and commits what was sealed, as far as its time has come; true when some of it must
    /// wait for a later look.
    fn seal_and_commit(&self) -> bool {
        let mut later = self.seal_insert_awaited();
        let wants_commit = !self.filling.borrow().is_empty()
            || self.tables.borrow().iter().any(|table| table.has_log_awaited());
        if wants_commit && self.spare.borrow().is_some() {
            let is_due = self.clock.now_ns() >= self.committed_ns.get() + self.commit_interval_ns();
            if is_due || self.filling.borrow().len() >= self.limits.wal_commit_bytes {
                self.commit();
            } else {
                later = true;
            }
        }
        later
    }

    /// While ClickHouse is away every commit adds blocks that wait: the more there are, the fewer and larger are added. With
    /// 500,000 of them commits are 51 times as far apart, which takes hours of single rows.
    fn commit_interval_ns(&self) -> u64 {
        let interval_ns = self.limits.wal_commit_interval_ms * 1_000_000;
        interval_ns + interval_ns * self.budget.blocks() / BLOCKS_PER_INTERVAL
    }

    /// Seals every batch that has rows of a request which waits to see them in the log.
    fn seal_log_awaited(&self) {
        for table in self
            .tables
            .borrow()
            .iter()
            .filter(|table| table.has_log_awaited())
        {
            table.for_each_batch(|batch, info| {
                // Whether there is room or not: a commit holds what it began with.
                if info.log_awaited {
                    self.seal_now(table, batch);
                }
            });
        }
    }

    /// Seals batches whose requests wait for their INSERT; true when some must wait for a later look.
    fn seal_insert_awaited(&self) -> bool {
        let now_ms = self.clock.now_ms();
        let mut later = false;
        for table in self
            .tables
            .borrow()
            .iter()
            .filter(|table| table.has_insert_awaited())
        {
            let due = table.outstanding() == 0 || now_ms >= table.sealed_ms() + AWAITED_SEAL_INTERVAL_MS;
            if due || self.draining.get() {
                table.for_each_batch(|batch, info| {
                    if info.insert_awaited {
                        later |= !self.seal(table, batch);
                    }
                });
            } else {
                later = true;
            }
        }
        later
    }

    /// Seals batches that are old enough, or that nothing more may enter.
    fn seal_aged(&self) {
        let now_ns = self.clock.unix_ns();
        let age_max_ns = self.limits.batch_age_ms as i64 * 1_000_000;
        for table in self.tables.borrow().iter() {
            let at_once = self.draining.get() || table.is_retired();
            table.for_each_batch(|batch, info| {
                if at_once || now_ns.saturating_sub(info.opened_at_ns) >= age_max_ns {
                    self.seal(table, batch);
                }
            });
        }
        self.tables
            .borrow_mut()
            .retain(|table| !(table.is_retired() && is_unused(table)));
    }

    fn check_deadlines(&self) {
        let now_ms = self.coarse_ms.get();
        self.watches.borrow_mut().retain(|watch| match watch.upgrade() {
            Some(watch) => {
                watch.check(now_ms);
                true
            }
            None => false,
        });
    }

    fn show(&self) {
        self.metrics
            .heartbeat_ms
            .set((self.clock.unix_ns() / 1_000_000) as u64);
        self.metrics.connections_open.set(self.connections.get() as u64);
        self.metrics.streams_open.set(self.streams.get() as u64);
        self.metrics.has_room.set(u64::from(self.has_room()));
        self.metrics
            .log_error
            .set(self.log_error.get().map_or(0, LogError::code) as u32 as u64);
        self.metrics.ring_depth.set(self.to_writer.borrow().len() as u64);
        self.metrics.acks_waiting.set(self.acks.waiting() as u64);
        let open: usize = self
            .tables
            .borrow()
            .iter()
            .map(|table| table.open_batches())
            .sum();
        self.metrics.batches_open.set(open as u64);
        self.recorder.borrow_mut().publish();
        self.replier.borrow_mut().tick(unix_s(&self.clock));
    }

    fn start_draining(&self) {
        self.draining.set(true);
        self.drain_started.notify();
        self.health_changed.notify();
        // Connections between requests end now; the others after their reply.
        for watch in self.watches.borrow().iter().filter_map(Weak::upgrade) {
            watch.wake();
        }
        self.wanted.notify();
    }

    fn is_drained(&self) -> bool {
        self.connections.get() == 0
            && self.receivers.get() == 0
            && self.tables.borrow().iter().all(|table| table.open_batches() == 0)
            && self.filling.borrow().is_empty()
            && self.spare.borrow().is_some()
    }
}

/// Nothing of the table is under way, and no request is about to change that: one that is being received holds the table.
fn is_unused(table: &Rc<Table>) -> bool {
    table.is_idle() && Rc::strong_count(table) == 1
}

fn unix_s(clock: &Clock) -> u64 {
    (clock.unix_ns() / 1_000_000_000) as u64
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether an error only says that the peer went away.
fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof, WriteZero,
    };
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof | WriteZero
    )
}
