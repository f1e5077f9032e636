//! The writer core: takes what all ingest cores have sealed and sends it as few, large INSERTs.
//!
//! Each table has a lane: a queue of blocks and, by default, one INSERT in flight that carries everything the
//! queue held when it started. Before it is sent the journal knows which blocks it brings under which deduplication
//! token; a lane holds its group until ClickHouse has confirmed or refused it, and every retry, also the next process's,
//! sends the same blocks in the same order under the same token. What a failure means is decided in
//! `clickhouse::error`, when to try again in [`breaker`], what comes next in [`queue`], when in [`pace`], what goes together
//! in [`group`], which of several servers it goes to in `failover`. Blocks are read from the log when they are sent; what blocks on the disk is in [`store`].

pub mod breaker;
pub mod group;
pub mod pace;
pub mod queue;
pub mod store;

mod failover;
mod feed;
mod insert;
mod lane;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::block::{Block, Settlement};
use crate::catalog::{Catalog, Lookup};
use crate::clickhouse::endpoints::Endpoints;
use crate::clock::Clock;
use crate::doorbell::Doorbell;
use crate::histogram::Recorder;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::metrics::{BreakerState, WriterMetrics};
use crate::offload::Worker;
use crate::ring::{Consumer, Producer};
use crate::runtime::{self, Watch};
use crate::schema::{Schema, TableName};

use breaker::{Breaker, State};
use group::Group;
use lane::Lane;
use store::Store;

/// What the writer is given at start.
pub struct WriterConfig {
    /// Bounds.
    pub limits: Limits,
    /// ClickHouse.
    pub endpoints: Endpoints,
    /// Told when ClickHouse says that a table's columns are not those of a block.
    pub catalog: Arc<Catalog>,
    /// Names this process in deduplication tokens; no other process may use it.
    pub boot: u64,
    /// Journal, dead letters and the log's segments.
    pub store: Arc<Store>,
    /// What former processes have left to insert.
    pub left: Left,
    /// Rows' whereabouts.
    pub ledger: Arc<Ledger>,
    /// Ends of the rings, one pair per ingest core, in the order of their indices.
    pub rings: Vec<RingEnds>,
    /// Rung when a block was sealed and when the last ingest core is done.
    pub bell: Arc<Doorbell>,
    /// Ingest cores that still run.
    pub ingest_running: Arc<AtomicUsize>,
    /// Does what would block the core.
    pub worker: Worker,
    /// Counters.
    pub metrics: Arc<WriterMetrics>,
    /// Histograms.
    pub recorder: Recorder,
    /// Shared by all cores.
    pub clock: Clock,
}

/// The writer's ends of its rings with one ingest core: durable blocks in, outcomes of awaited ones back.
pub type RingEnds = (Consumer<Block>, Producer<Settlement>);

/// What former processes have left to insert.
#[derive(Debug, Default)]
pub struct Left {
    /// INSERTs that were announced and have not ended: they are sent as they were, under their token.
    pub announced: Vec<Begun>,
    /// Blocks of no INSERT.
    pub blocks: Vec<Block>,
}

/// An INSERT that a former process has announced.
#[derive(Debug)]
pub struct Begun {
    /// Its deduplication token.
    pub token: String,
    /// See [`Announced::server`](crate::wal::journal::Announced::server).
    pub server: Option<String>,
    /// What it brings.
    pub group: Group,
}

/// How often deadlines are looked at and counters shown.
const TICK: Duration = Duration::from_millis(100);

/// How often the writer looks at the end whether its lanes are done.
const DRAIN_PAUSE: Duration = Duration::from_millis(5);

/// Time the lanes have at the end to close their connections.
const CLOSE_PAUSE: Duration = Duration::from_millis(5);

/// State of the writer core, shared by its tasks.
struct Writer {
    limits: Limits,
    endpoints: RefCell<Endpoints>,
    catalog: Arc<Catalog>,
    boot: u64,
    inserts: Cell<u64>,
    queries: Cell<u64>,
    store: Arc<Store>,
    worker: Worker,
    ledger: Arc<Ledger>,
    returns: RefCell<Vec<Producer<Settlement>>>,
    /// Every ingest core is done: lanes insert what is live, end and close their connections, for which the embedded engine
    /// waits.
    finished: Cell<bool>,
    metrics: Arc<WriterMetrics>,
    recorder: RefCell<Recorder>,
    clock: Clock,
    breaker: RefCell<Breaker>,
    watches: RefCell<Vec<Weak<Watch>>>,
    lanes: RefCell<BTreeMap<TableName, Rc<Lane>>>,
}

/// Runs the writer until every ingest core is done. Call inside the writer's executor.
pub async fn run(config: WriterConfig) {
    let WriterConfig {
        rings,
        bell,
        ingest_running,
        left,
        ..
    } = config;
    let (mut sealed, returns): (Vec<_>, Vec<_>) = rings.into_iter().unzip();
    let limits = config.limits;
    let seed = config.clock.unix_ns() as u64;
    let writer = Rc::new(Writer {
        limits,
        endpoints: RefCell::new(config.endpoints),
        catalog: config.catalog,
        boot: config.boot,
        inserts: Cell::new(0),
        queries: Cell::new(0),
        store: config.store,
        worker: config.worker,
        ledger: config.ledger,
        returns: RefCell::new(returns),
        finished: Cell::new(false),
        metrics: config.metrics,
        recorder: RefCell::new(config.recorder),
        clock: config.clock,
        breaker: RefCell::new(Breaker::new(
            limits.retry_pause_min_ms,
            limits.retry_pause_max_ms,
            seed,
        )),
        watches: RefCell::new(Vec::new()),
        lanes: RefCell::new(BTreeMap::new()),
    });
    runtime::spawn(tick(Rc::downgrade(&writer)));
    for begun in left.announced {
        failover::resume(&writer, begun);
    }
    for block in left.blocks {
        Writer::lane(&writer, &block).enqueue_recovered(block);
    }
    loop {
        let next = bell
            .wait(|| {
                if let Some(block) = sealed.iter_mut().find_map(Consumer::pop) {
                    return Some(Some(block));
                }
                // Acquire pairs with the Release of a core that ends: its last blocks are in the rings by then, and
                // were looked for after this reading or will be at the next call.
                (ingest_running.load(Ordering::Acquire) == 0 && sealed.iter().all(Consumer::is_empty))
                    .then_some(None)
            })
            .await;
        let Some(block) = next else { break };
        Writer::lane(&writer, &block).enqueue(block);
        runtime::yield_if_needed().await;
    }
    writer.finished.set(true);
    for lane in writer.lanes.borrow().values() {
        lane.wake();
    }
    while !writer.lanes.borrow().values().all(|lane| lane.is_drained()) {
        runtime::sleep(DRAIN_PAUSE).await;
    }
    // The lanes run, and close their connections, before the writer counts as done.
    runtime::sleep(CLOSE_PAUSE).await;
}

/// Looks after deadlines and counters while the writer lives.
async fn tick(writer: Weak<Writer>) {
    while let Some(writer) = writer.upgrade() {
        let now_ms = writer.clock.now_ms();
        writer
            .watches
            .borrow_mut()
            .retain(|watch| watch.upgrade().inspect(|watch| watch.check(now_ms)).is_some());
        writer
            .metrics
            .heartbeat_ms
            .set((writer.clock.unix_ns() / 1_000_000) as u64);
        writer.recorder.borrow_mut().publish();
        let breaker = match writer.breaker.borrow().state() {
            State::Closed => BreakerState::Closed,
            State::Open => BreakerState::Open,
            State::HalfOpen => BreakerState::HalfOpen,
        };
        for (name, lane) in writer.lanes.borrow().iter() {
            lane.show(breaker, now_ms, &name.plain());
        }
        drop(writer);
        runtime::sleep(TICK).await;
    }
}

impl Writer {
    /// The lane of a block's table, started on first use. Lanes are as many as the catalog has had tables.
    fn lane(writer: &Rc<Writer>, block: &Block) -> Rc<Lane> {
        let name = &block.info.schema.name;
        if let Some(lane) = writer.lanes.borrow().get(name) {
            return Rc::clone(lane);
        }
        let lane = Rc::new(Lane::new(
            writer.metrics.table(&name.plain()),
            writer.ledger.open(name),
        ));
        writer.lanes.borrow_mut().insert(name.clone(), Rc::clone(&lane));
        for _ in 0..writer.limits.inserts_in_flight_per_table {
            runtime::spawn(lane::run(Rc::clone(writer), Rc::clone(&lane)));
        }
        lane
    }

    /// Tells a core how an awaited block ended.
    fn tell(&self, core: u16, settlement: Settlement) {
        self.returns.borrow_mut()[usize::from(core)]
            .push(settlement)
            .unwrap_or_else(|_| unreachable!("the ring holds as many outcomes as blocks may be awaited"));
    }

    /// The table as it is now, as far as the catalog knows.
    fn current_schema(&self, table: &TableName) -> Option<Schema> {
        match self.catalog.lookup(Some(&table.database), Some(&table.table)) {
            Lookup::Found(schema) => Some(schema),
            Lookup::NotServed | Lookup::NotYetKnown => None,
        }
    }

    /// A deduplication token no other INSERT of any process has.
    fn next_token(&self) -> String {
        let insert = self.inserts.replace(self.inserts.get() + 1);
        format!("ringhouse-{:016x}-{insert}", self.boot)
    }

    /// A query id no other try has: ClickHouse refuses a second query of one id while the first still runs.
    fn next_query_id(&self, token: &str) -> String {
        let query = self.queries.replace(self.queries.get() + 1);
        format!("{token}-{query}")
    }
}
