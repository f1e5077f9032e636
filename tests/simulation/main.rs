//! The durable core on a disk, a clock and a ClickHouse that are simulated: whatever fails, no acknowledged row is lost, none doubled.
//!
//! The code of the log, the journal, recovery, the writer's queue and store and the ledger's reckoning is the server's own. What
//! the server's tasks do between its calls, on several threads, is done here step by step in an order a seed decides, so
//! that a crash can come between any two steps, and within a call at any of its calls to the disk.
//!
//! `RINGHOUSE_SIM_SEEDS=n` runs that many seeds; `RINGHOUSE_SIM_SEED=n` runs one and prints its steps, as a failure does.

mod blocks;
mod disk;
mod house;
mod ingest;
mod lanes;
mod lying_disk;
mod process;
mod world;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ringhouse::ack::AckLevel;
use ringhouse::idempotency::{KeyFile, Keys};
use ringhouse::ingest::KeyLog;
use ringhouse::limits::Limits;
use ringhouse::wal::disk::Disk;

use disk::{Faults, SimDisk};
use process::{Process, Setup, Started};
use world::{HouseFaults, TRACE, World, note, table_name};

/// Seeds of a run in the test suite.
const SEEDS_DEFAULT: u64 = 7000;

/// Steps after which a process that is left in peace must have come to rest.
const STEPS_TO_REST: u32 = 20_000;

/// Steps a process has to drain, as the deadline after SIGTERM.
const STEPS_TO_DRAIN: u32 = 2_000;

/// Steps that are printed of a seed that failed.
const TRACE_LINES: usize = 400;

#[test]
fn rows_survive_whatever_happens() {
    if let Some(seed) = number("RINGHOUSE_SIM_SEED") {
        let (result, trace) = traced(seed);
        trace.iter().for_each(|line| println!("{line}"));
        return result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    let seeds = number("RINGHOUSE_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while failed.lock().expect("nobody panics with it").is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if catch_unwind(AssertUnwindSafe(|| run(seed))).is_err() {
                        *failed.lock().expect("nobody panics with it") = Some(seed);
                    }
                }
            });
        }
    });
    if let Some(seed) = failed.into_inner().expect("nobody panics with it") {
        let (result, trace) = traced(seed);
        let shown = &trace[trace.len().saturating_sub(TRACE_LINES)..];
        shown.iter().for_each(|line| println!("{line}"));
        println!("RINGHOUSE_SIM_SEED={seed} repeats this");
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        panic!("seed {seed} failed once and not when it was repeated");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

fn traced(seed: u64) -> (std::thread::Result<()>, Vec<String>) {
    TRACE.set(Some(Vec::new()));
    let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
    (result, TRACE.take().unwrap_or_default())
}

fn run(seed: u64) {
    let mut sim = Sim::new(seed);
    for _ in 0..sim.world.rng.u32(1..8) {
        sim.live();
    }
    sim.rest();
}

struct Sim {
    world: World,
    disk: SimDisk,
    disk_faults: Faults,
    setup: Setup,
    process: Option<Process>,
    /// The power went at some time: the ledger may know of fewer rows than there were.
    power_went: bool,
    _directory: tempfile::TempDir,
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = SimDisk::new(rng.u64(..));
        let some = |per_thousand: u32, rng: &mut fastrand::Rng| match rng.bool() {
            true => rng.u32(..per_thousand),
            false => 0,
        };
        let disk_faults = match rng.u8(..3) {
            0 => Faults {
                short_writes: some(200, &mut rng),
                writes: some(60, &mut rng),
                syncs: some(60, &mut rng),
                creates: some(150, &mut rng),
                truncates: some(200, &mut rng),
                removes: some(150, &mut rng),
                reads: some(20, &mut rng),
            },
            _ => Faults::default(),
        };
        let mut world = World::new(rng.fork());
        world.poisoned_per_thousand = some(100, &mut rng);
        world.house_faults = HouseFaults {
            refused: some(200, &mut rng),
            cut: some(200, &mut rng),
            died: some(200, &mut rng),
            answer_lost: some(300, &mut rng),
            ghost: some(200, &mut rng),
            too_many_parts: some(100, &mut rng),
        };
        let directory = temporary();
        let segment_bytes = rng.u64(512..4096);
        let limits = Limits {
            insert_rows_max: rng.usize(12..64),
            insert_blocks_max: rng.usize(1..8),
            insert_interval_ms: rng.u64(0..100),
            parts_per_second: 100_000,
            retry_pause_max_ms: 1000,
            backlog_bytes_per_second: rng.u64(1024..100_000),
            wal_bytes_max: 4 * 4 * segment_bytes + rng.u64(16 * 1024..64 * 1024),
            wal_blocks_max: rng.u64(4..100),
            ..Limits::default()
        };
        let setup = Setup {
            limits,
            segment_bytes,
            inserts_in_flight: rng.usize(1..=2),
            directory: directory.path().to_owned(),
            key_log: key_log(directory.path()),
        };
        Sim {
            world,
            disk,
            disk_faults,
            setup,
            process: None,
            power_went: false,
            _directory: directory,
        }
    }

    /// A process starts, works and ends, one way or another.
    fn live(&mut self) {
        self.disk.set_faults(self.disk_faults);
        if self.world.rng.u8(..5) == 0 {
            let calls = self.world.rng.u32(..60);
            self.disk.set_fuse(Some(calls));
        }
        if !self.start() {
            return self.crash();
        }
        self.disk.set_fuse(None);
        let steps = self.world.rng.u32(0..400);
        let dies_at = self.world.rng.u32(..=steps);
        let dies_in_a_call = self.world.rng.bool();
        for step in 0..steps {
            if step == dies_at && dies_in_a_call {
                let calls = self.world.rng.u32(..8);
                self.disk.set_fuse(Some(calls));
            }
            self.step();
            if self.disk.has_died() {
                return self.crash();
            }
        }
        self.disk.set_fuse(None);
        match self.world.rng.u8(..4) {
            0 => self.drain(),
            _ => self.crash(),
        }
    }

    fn start(&mut self) -> bool {
        let cores = self.world.rng.usize(1..=3);
        note!("-- a process with {cores} cores starts");
        match Process::start(&self.disk, &self.setup, cores, &mut self.world) {
            Ok(started) if !self.disk.has_died() => {
                self.check_start(&started);
                self.process = Some(started.process);
                true
            }
            Ok(_) => {
                note!("-- it dies while it starts");
                false
            }
            Err(error) => {
                note!("-- it cannot start: {error}");
                false
            }
        }
    }

    fn step(&mut self) {
        self.world.now_ms += self.world.rng.u64(..5);
        if self.world.rng.u8(..30) == 0 {
            self.world.finish_ghost();
        }
        if self.world.rng.u8(..30) == 0 {
            self.world.now_ms += self.world.rng.u64(..1000);
        }
        let process = self.process.as_mut().expect("a process runs");
        process.step(&self.setup, &mut self.world);
    }

    /// The process dies, and perhaps the machine.
    fn crash(&mut self) {
        if self.world.rng.bool() {
            note!("-- the process is killed");
            self.disk = self.disk.kill();
        } else {
            note!("-- the power goes");
            self.power_went = true;
            self.disk = self.disk.lose_power();
            self.world.ledger.lose_power(&mut self.world.rng);
        }
        // Its calls to the disk fail by now, like those of a thread that is gone.
        self.process = None;
        self.world.era += 1;
    }

    /// SIGTERM.
    fn drain(&mut self) {
        note!("-- the process drains");
        self.process.as_mut().expect("a process runs").draining = true;
        for _ in 0..STEPS_TO_DRAIN {
            self.step();
            if self.process.as_ref().expect("a process runs").is_drained() {
                break;
            }
        }
        note!("-- the process ends");
        self.process = None;
        self.disk = self.disk.kill();
        self.world.era += 1;
    }

    /// What a start must find: every acknowledged row, each at one place.
    fn check_start(&self, started: &Started) {
        let letters = World::letters(&self.setup.directory);
        let waiting = started.announced.iter().chain(&started.unannounced);
        let mut at: HashMap<u64, u32> = HashMap::new();
        waiting.for_each(|id| *at.entry(*id).or_default() += 1);
        for (id, times) in &at {
            assert_eq!(*times, 1, "row {id} waits {times} times");
        }
        for id in &started.unannounced {
            let table = self.world.requests[self.world.rows[*id as usize - 1]].table;
            let stored = self.world.house.count(&table_name(table), *id);
            assert_eq!(stored, 0, "row {id} is stored and its INSERT forgotten");
        }
        for (index, request) in self.world.requests.iter().enumerate() {
            for id in &request.ids {
                let stored = self.world.house.count(&table_name(request.table), *id) > 0;
                assert!(
                    !request.is_acknowledged || stored || at.contains_key(id) || letters.contains_key(id),
                    "row {id} of request {index}, acknowledged at `{}`, is gone",
                    request.level.name()
                );
            }
        }
        for (table, totals) in &started.totals {
            let of_table = |id: u64| self.world.requests[self.world.rows[id as usize - 1]].table == *table;
            let waiting = at.keys().filter(|id| of_table(**id)).count() as u64;
            assert_eq!(totals.waiting, waiting, "rows of t{table} that wait");
            let name = table_name(*table);
            let stored = self.world.house.rows(&name);
            let inserted = stored.filter(|(id, _)| !at.contains_key(id)).count() as u64;
            assert_eq!(
                totals.inserted, inserted,
                "rows of t{table} that are known to be stored"
            );
            let dead = letters.keys().filter(|id| of_table(**id) && !at.contains_key(id));
            assert_eq!(
                totals.dead_lettered,
                dead.count() as u64,
                "dead letters of t{table}"
            );
            let received = self
                .world
                .requests
                .iter()
                .filter(|request| request.table == *table);
            let received: usize = received.map(|request| request.ids.len()).sum();
            if !self.power_went {
                assert_eq!(
                    totals.received, received as u64,
                    "rows of t{table} that were received"
                );
            }
        }
        if !self.power_went && self.disk_faults.syncs == 0 {
            assert_eq!(started.damaged, 0, "nothing damages the log but a lost write");
        }
    }

    /// All faults end; every row must come to its place, and the disk become empty.
    fn rest(&mut self) {
        self.disk.set_faults(Faults::default());
        self.disk.set_fuse(None);
        self.world.house_faults = HouseFaults::default();
        assert!(self.start(), "nothing is in the way of a start");
        self.until_empty();
        self.check_rows();
        let process = self.process.as_ref().expect("a process runs");
        assert_eq!(process.budget.blocks(), 0, "no block waits");
        assert!(
            self.segments() <= process.cores.len(),
            "settled segments are deleted"
        );
        assert_eq!(
            process.budget.used_bytes(),
            self.segment_bytes(),
            "the log's room is what its files take"
        );
        self.drain();
        assert!(self.start(), "nothing is in the way of a start");
        let process = self.process.as_ref().expect("a process runs");
        assert!(process.is_empty(), "nothing is left to insert");
        assert_eq!(self.segments(), 0, "settled segments are deleted");
        assert_eq!(process.budget.used_bytes(), 0, "the log takes no room");
        self.check_journal();
        self.check_rows();
    }

    fn until_empty(&mut self) {
        self.process.as_mut().expect("a process runs").draining = false;
        let busy = self.world.rng.u32(0..200);
        for step in 0..STEPS_TO_REST {
            let process = self.process.as_mut().expect("a process runs");
            // Requests come for a while, the backlog is inserted beside them, then no more.
            process.is_closed = step > busy;
            if step > busy && process.is_empty() && self.world.house.ghosts.is_empty() {
                return;
            }
            self.step();
        }
        panic!("the process does not come to rest");
    }

    fn segments(&self) -> usize {
        self.disk.list(process::wal()).expect("no fault is left").len()
    }

    fn segment_bytes(&self) -> u64 {
        let files = self.disk.list(process::wal()).expect("no fault is left");
        let bytes = files.iter().map(|path| self.disk.content(path).len() as u64);
        bytes.sum()
    }

    fn check_journal(&self) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let journal =
            ringhouse::wal::journal::Journal::open(disk, process::journal()).expect("no fault is left");
        let mut state = journal.state().clone();
        assert!(state.open.is_empty(), "every INSERT has ended: {:?}", state.open);
        state.ended.clear();
        assert_eq!(state, Default::default(), "the journal forgets what is settled");
    }

    /// Every row is where it stays, once.
    fn check_rows(&self) {
        let letters = World::letters(&self.setup.directory);
        for (index, request) in self.world.requests.iter().enumerate() {
            let name = table_name(request.table);
            for &id in &request.ids {
                let stored = self.world.house.count(&name, id);
                let dead = letters.get(&id).copied().unwrap_or(0);
                assert!(stored <= 1, "row {id} is stored {stored} times");
                assert!(dead <= 1, "row {id} is {dead} dead letters");
                assert!(stored == 0 || dead == 0, "row {id} is stored and a dead letter");
                assert!(
                    dead == 0 || self.world.is_poisoned(id),
                    "row {id} is good and a dead letter"
                );
                // What was not acknowledged is only lost when a process ends.
                let must_be = request.is_acknowledged || request.era == self.world.era;
                assert!(
                    !must_be || stored + dead == 1,
                    "row {id} of request {index} at `{}` is gone",
                    request.level.name()
                );
                let never = request.level != AckLevel::Memory && request.era == self.world.era;
                assert!(
                    !never || request.is_acknowledged,
                    "request {index} is never answered"
                );
            }
        }
        let known = |(id, _): (u64, u32)| id as usize <= self.world.rows.len();
        for table in 0..world::TABLES {
            assert!(
                self.world.house.rows(&table_name(table)).all(known),
                "a row that nobody sent"
            );
        }
    }
}

/// A directory in memory, where there is one.
fn temporary() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory
        .or_else(|_| tempfile::tempdir())
        .expect("a directory for dead letters")
}

/// Of no keys: none are simulated.
fn key_log(directory: &Path) -> Arc<Mutex<KeyLog>> {
    let keys = Keys::new(16, 64 * 1024, 1000);
    let (file, _) = KeyFile::open(&directory.join("idempotency")).expect("a directory for keys");
    Arc::new(Mutex::new(KeyLog::new(keys, file)))
}
