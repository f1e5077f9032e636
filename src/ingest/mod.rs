//! One ingest core: its listener, connections, open batches, block pool and ring ends.
//!
//! Everything here belongs to one thread. What crosses to other cores is a sealed block's pointer, plain
//! counters, and the catalog's schemas.

mod body;
mod connection;
mod table;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::ack::{AckLevel, AckTable, Settled};
use crate::block::{Block, Outcome};
use crate::catalog::{Catalog, Lookup};
use crate::clickhouse::frame::FrameEncoder;
use crate::clock::Clock;
use crate::doorbell::Doorbell;
use crate::histogram::{Measure, Recorder};
use crate::http::encodings::DecoderPool;
use crate::http::receive_buffer::BufferPool;
use crate::http::reply::Replier;
use crate::json::Parser;
use crate::ledger::{Account, Ledger};
use crate::limits::Limits;
use crate::mapping::Mappings;
use crate::metrics::IngestMetrics;
use crate::ring::{Consumer, Producer};
use crate::runtime::{self, Connection, Listener, Notify, Watch};
use crate::schema::{Schema, TableName};

use table::Table;

/// What an ingest core is given at start.
pub struct IngestConfig {
    /// Index among the ingest cores, from 0.
    pub index: u16,
    /// Bounds.
    pub limits: Limits,
    /// Ack level of requests that name none.
    pub default_ack: AckLevel,
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
    /// Sealed blocks to the writer.
    pub to_writer: Producer<Box<Block>>,
    /// Blocks back from the writer.
    pub from_writer: Consumer<Box<Block>>,
    /// Rung when a block is back.
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

/// Blocks of one table at the writer beyond which an aging batch is left open: sealing it would not make it
/// visible sooner, and many small blocks would use up the pool.
const OUTSTANDING_FOR_AGE_MAX: u32 = 2;

/// While a block of a table is outstanding, batches with waiting requests are sealed this far apart at least.
const AWAITED_SEAL_INTERVAL_MS: u64 = 50;

/// How soon the sealer looks again at batches it left open.
const SEALER_PAUSE: Duration = Duration::from_millis(10);

/// State of one ingest core, shared by its tasks.
struct Core {
    index: u16,
    limits: Limits,
    default_ack: AckLevel,
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
    encoder: RefCell<FrameEncoder>,
    tables: RefCell<Vec<Rc<Table>>>,
    accounts: RefCell<Vec<(TableName, Arc<Account>)>>,
    /// The catalog's generation `tables` agrees with.
    generation: Cell<u64>,
    #[expect(clippy::vec_box, reason = "a block crosses cores as one pointer")]
    pool: RefCell<Vec<Box<Block>>>,
    /// A block came back to the pool.
    freed: Notify,
    /// A request with an ack level to wait for ended.
    awaited: Notify,
    to_writer: RefCell<Producer<Box<Block>>>,
    sequence: Cell<u64>,
    acks: AckTable,
    buffers: BufferPool,
    decoders: DecoderPool,
    watches: RefCell<Vec<Weak<Watch>>>,
    connections: Cell<usize>,
    draining: Cell<bool>,
    /// `draining` was set.
    drain_started: Notify,
}

/// Runs an ingest core until it has drained. Call inside the core's executor.
pub async fn run(config: IngestConfig, listener: std::net::TcpListener) {
    let IngestConfig {
        from_writer,
        bell,
        draining,
        ..
    } = config;
    let limits = config.limits;
    let block_bytes = FrameEncoder::bound(limits.batch_bytes_max + table::batch_overshoot_bytes(&limits));
    let core = Rc::new(Core {
        index: config.index,
        limits,
        default_ack: config.default_ack,
        catalog: config.catalog,
        mappings: config.mappings,
        ledger: config.ledger,
        metrics: config.metrics,
        clock: config.clock,
        coarse_ms: Cell::new(config.clock.now_ms()),
        recorder: RefCell::new(config.recorder),
        replier: RefCell::new(Replier::new(unix_s(&config.clock), limits.retry_after_s)),
        parser: RefCell::new(Parser::new(&limits)),
        encoder: RefCell::new(FrameEncoder::new()),
        tables: RefCell::new(Vec::with_capacity(limits.tables_per_core)),
        accounts: RefCell::new(Vec::with_capacity(limits.tables_per_core)),
        generation: Cell::new(0),
        pool: RefCell::new(
            (0..limits.blocks_per_core)
                .map(|_| Box::new(Block::with_capacity(block_bytes, config.index)))
                .collect(),
        ),
        freed: Notify::default(),
        awaited: Notify::default(),
        to_writer: RefCell::new(config.to_writer),
        sequence: Cell::new(0),
        acks: AckTable::new(limits.acks_per_core),
        buffers: BufferPool::new(&limits),
        decoders: DecoderPool::new(&limits),
        watches: RefCell::new(Vec::with_capacity(limits.connections_per_core)),
        connections: Cell::new(0),
        draining: Cell::new(false),
        drain_started: Notify::default(),
    });
    runtime::spawn(accept(Rc::clone(&core), Listener::from_std(listener)));
    runtime::spawn(take_back(Rc::clone(&core), from_writer, bell));
    runtime::spawn(seal_awaited(Rc::clone(&core)));
    tick(core, draining).await;
}

/// Takes connections until the core drains. The listener is closed then, so that clients are refused and go
/// elsewhere, instead of being taken by the kernel and never served.
async fn accept(core: Rc<Core>, listener: Listener) {
    while !core.draining.get() {
        let drained = async {
            core.drain_started.notified().await;
            None
        };
        match runtime::first(drained, async { Some(listener.accept().await) }).await {
            None => return,
            Some(Ok(connection)) => core.admit(connection),
            Some(Err(error)) => {
                tracing::warn!(core = core.index, %error, "cannot accept a connection");
                runtime::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Takes blocks back from the writer: settles their requests and frees them.
async fn take_back(core: Rc<Core>, mut from_writer: Consumer<Box<Block>>, bell: Arc<Doorbell>) {
    loop {
        let block = bell.wait(|| from_writer.pop()).await;
        core.settle(block);
        runtime::yield_if_needed().await;
    }
}

/// Seals batches that requests wait for: at once when the writer has nothing of the table, else in step.
async fn seal_awaited(core: Rc<Core>) {
    loop {
        core.awaited.notified().await;
        // Requests that are ready now share the block.
        runtime::yield_now().await;
        while core.seal_awaited() {
            runtime::sleep(SEALER_PAUSE).await;
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
        runtime::sleep(if core.draining.get() { SEALER_PAUSE } else { TICK }).await;
    }
}

impl Core {
    /// Serves a connection, or refuses it when the core holds its most.
    fn admit(self: &Rc<Self>, connection: Connection) {
        self.watches.borrow_mut().push(Rc::downgrade(connection.watch()));
        let core = Rc::clone(self);
        if self.connections.get() >= self.limits.connections_per_core {
            self.metrics.connections_refused.add(1);
            runtime::spawn(connection::refuse(core, connection));
            return;
        }
        self.connections.set(self.connections.get() + 1);
        self.metrics.connections_accepted.add(1);
        runtime::spawn(async move {
            connection::serve(&core, connection).await;
            core.connections.set(core.connections.get() - 1);
        });
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
        for table in self.tables.borrow().iter().filter(|table| !table.is_retired()) {
            let name = &table.schema().name;
            match self.catalog.lookup(Some(&name.database), Some(&name.table)) {
                Lookup::Found(schema) if Arc::ptr_eq(&schema, table.schema()) => {}
                _ => table.retire(),
            }
        }
    }

    /// Seals a batch if a block is free. What was sealed is on its way to the writer.
    fn seal(&self, table: &Table, batch: usize) -> bool {
        let Some(mut block) = self.pool.borrow_mut().pop() else {
            return false;
        };
        block.sequence = self.sequence.replace(self.sequence.get() + 1);
        table.seal(
            batch,
            &mut self.encoder.borrow_mut(),
            &mut block,
            self.clock.now_ms(),
        );
        self.metrics.blocks_sealed.add(1);
        self.to_writer
            .borrow_mut()
            .push(block)
            .unwrap_or_else(|_| unreachable!("the ring holds as many blocks as the pool"));
        true
    }

    /// Whether a batch can be sealed.
    fn has_free_block(&self) -> bool {
        !self.pool.borrow().is_empty()
    }

    /// A block is back: its rows are accounted for, its requests answered, its memory free.
    fn settle(&self, mut block: Box<Block>) {
        let rows = u64::from(block.rows);
        let outcome = block
            .outcome
            .take()
            .expect("the writer sets the outcome of every block it gives back");
        let settled = match outcome {
            Outcome::Inserted => Settled::Kept,
            Outcome::Refused(_) => Settled::Refused,
        };
        {
            let tables = self.tables.borrow();
            let schema = block.sealed_schema();
            let table = tables.iter().find(|table| Arc::ptr_eq(table.schema(), schema));
            let table = table.expect("a table stays open while a block of it is outstanding");
            match settled {
                Settled::Kept => {
                    table.account().insert(rows);
                    let age_ns = self.clock.unix_ns().saturating_sub(block.opened_at_ns).max(0) as u64;
                    self.recorder.borrow_mut().record(Measure::Visible, age_ns);
                }
                Settled::Refused => {
                    table.account().refuse(rows);
                    self.metrics.reject("refused", rows);
                }
            }
            table.block_returned();
            if table.has_awaited() {
                self.awaited.notify();
            }
        }
        for waiter in block.waiters.drain(..) {
            self.acks.settle(waiter, settled);
        }
        block.clear();
        self.pool.borrow_mut().push(block);
        self.freed.notify();
    }

    /// Seals batches that requests wait for; true when some must wait for a later look.
    fn seal_awaited(&self) -> bool {
        let now_ms = self.clock.now_ms();
        let mut later = false;
        for table in self.tables.borrow().iter().filter(|table| table.has_awaited()) {
            let due = table.outstanding() == 0 || now_ms >= table.sealed_ms() + AWAITED_SEAL_INTERVAL_MS;
            if due || self.draining.get() {
                table.for_each_batch(|batch, info| {
                    if info.awaited {
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
                let aged = now_ns.saturating_sub(info.opened_at_ns) >= age_max_ns
                    && table.outstanding() <= OUTSTANDING_FOR_AGE_MAX;
                if at_once || aged {
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
        self.metrics.pool_free.set(self.pool.borrow().len() as u64);
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
        // Connections between requests end now; the others after their reply.
        for watch in self.watches.borrow().iter().filter_map(Weak::upgrade) {
            watch.wake();
        }
        self.awaited.notify();
    }

    fn is_drained(&self) -> bool {
        self.connections.get() == 0 && self.tables.borrow().iter().all(|table| table.is_idle())
    }
}

/// Nothing of the table is under way, and no request is about to change that: one that is being received holds the table.
fn is_unused(table: &Rc<Table>) -> bool {
    table.is_idle() && Rc::strong_count(table) == 1
}

/// Why a request's table cannot take rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TableError {
    /// ClickHouse has no such table, or it is not served: 404.
    NotServed,
    /// ClickHouse has not been reached yet, or does not have the configured table yet: 503.
    NotYetKnown,
    /// Every slot for open tables holds rows: 503.
    TooManyOpen,
}

impl TableError {
    fn sentence(self) -> &'static str {
        match self {
            TableError::NotServed => {
                "no such table is served; it must be in the database given at start, or named by --table"
            }
            TableError::NotYetKnown => {
                "the table's columns are not known yet: ClickHouse has not answered, or does not have the table; try again"
            }
            TableError::TooManyOpen => "too many tables are being written to at once; try again",
        }
    }
}

fn unix_s(clock: &Clock) -> u64 {
    (clock.unix_ns() / 1_000_000_000) as u64
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
