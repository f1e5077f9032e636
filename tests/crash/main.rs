//! Fault injection with real processes: whatever is killed, paused, cut or damaged, every row acknowledged at `wal` or
//! `inserted` is in ClickHouse exactly once, and of those acknowledged at `memory` no more are lost than the ledger says.
//!
//! `make crash-test CYCLES=n` runs it for long. `RINGHOUSE_CRASH_SEED` repeats the schedule of an earlier run: the same
//! faults in the same order, if not at the same instants.

#[path = "../common/mod.rs"]
mod common;
mod full_disk;
#[path = "../common/load.rs"]
mod load;
#[path = "../common/proxy.rs"]
mod proxy;
mod rig;
mod schedule;
#[path = "../common/small_disk.rs"]
mod small_disk;
mod tail;
mod verdict;

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use load::{Level, Load, Plan, Producer};
use rig::Rig;
use ringhouse::limits::Limits;
use schedule::{Kind, Schedule};
use verdict::Verdict;

/// Faults of a run in the test suite: each kind once, and some again.
const CYCLES_DEFAULT: u64 = 13;

/// Faults between two looks at what ClickHouse holds.
const CYCLES_PER_ROUND: u64 = 10;

/// Whether the ringhouse under test has a write-ahead log.
fn has_log() -> bool {
    Limits::KEYS.contains(&"wal_segment_bytes")
}

/// The level that is promised while ClickHouse is away and outlives ringhouse.
fn durable() -> Level {
    if has_log() { Level::Wal } else { Level::Memory }
}

fn seed() -> u64 {
    number("RINGHOUSE_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// What has happened so far; printed when the test fails.
struct Tale {
    seed: u64,
    events: Vec<String>,
}

impl Tale {
    fn new(seed: u64) -> Tale {
        eprintln!("RINGHOUSE_CRASH_SEED={seed}");
        Tale {
            seed,
            events: Vec::new(),
        }
    }

    fn tell(&mut self, event: impl Into<String>) {
        self.events.push(event.into());
    }
}

impl Drop for Tale {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- RINGHOUSE_CRASH_SEED={}", self.seed);
            for (index, event) in self.events.iter().enumerate() {
                eprintln!("--- {index}: {event}");
            }
        }
    }
}

/// Small and large requests at every level.
fn plan(seed: u64, producer_first: u64) -> Plan {
    let of = |level, keyed, rows_max| Producer {
        level,
        keyed,
        rows_max,
    };
    let mut producers = vec![
        of(Level::Memory, false, 3),
        of(Level::Memory, false, 200),
        of(Level::Inserted, false, 3),
        of(Level::Inserted, false, 40),
        of(Level::Inserted, false, 500),
    ];
    if has_log() {
        producers.extend([
            of(Level::Wal, false, 3),
            of(Level::Wal, false, 40),
            of(Level::Wal, false, 500),
            of(Level::Wal, true, 3),
            of(Level::Wal, true, 500),
            of(Level::Inserted, true, 100),
        ]);
    }
    Plan {
        producers,
        producer_first,
        pause_max_ms: 30,
        row,
        reconnects: true,
        seed,
        ..Plan::default()
    }
}

/// Most rows are short; some bring what does not compress, so that a large request is more than a chunk of 64 KiB.
fn row(number: u64) -> String {
    let producer = number >> 40;
    let mut random = fastrand::Rng::with_seed(number);
    let length = match random.u8(0..4) {
        0 => random.usize(0..1500),
        _ => 0,
    };
    let filler: String = (0..length).map(|_| random.alphanumeric()).collect();
    format!(
        r#"{{"message":"{number}","service":"crash-{producer}","level":"info","n":{number},"filler":"{filler}"}}"#
    )
}

#[test]
fn whatever_dies_no_acknowledged_row_is_lost_or_doubled() {
    let started = Instant::now();
    let cycles = number("CYCLES").unwrap_or(CYCLES_DEFAULT);
    let mut tale = Tale::new(seed());
    let mut schedule = Schedule::new(tale.seed);
    let mut verdict = Verdict::default();
    let mut rig = Rig::start(tale.seed, None, &rig::log_limits());
    let mut faults: BTreeMap<Kind, u64> = BTreeMap::new();
    let mut producer_first = 0;
    let mut cycle = 0;
    while cycle < cycles {
        let plan = plan(tale.seed, producer_first);
        let load = Load::start(rig.port, &plan);
        for _ in 0..CYCLES_PER_ROUND.min(cycles - cycle) {
            let kind = schedule.next();
            tale.tell(format!("cycle {cycle}: {kind:?}"));
            let detail = schedule.strike(kind, &mut rig, &load);
            tale.tell(format!(
                "cycle {cycle}: {kind:?} {detail}, {:?}",
                started.elapsed()
            ));
            *faults.entry(kind).or_default() += 1;
            cycle += 1;
        }
        load.more_inserted(200);
        let sent = load.finish();
        tale.tell(format!("replies {:?}", sent.statuses));
        verdict.check(&rig, producer_first, &sent);
        rig.forget_earlier_lives();
        producer_first += plan.producers.len() as u64;
        println!("{cycle} cycles: {}", summary(&verdict, &rig, started));
    }
    println!(
        "crash-test: {cycles} cycles, faults {faults:?}, {}, seed {}",
        summary(&verdict, &rig, started),
        tale.seed
    );
}

fn summary(verdict: &Verdict, rig: &Rig, started: Instant) -> String {
    let [memory, wal, inserted] = verdict.promised;
    format!(
        "{} kills, {} starts too early, {wal} rows acknowledged at wal, {inserted} at inserted, {memory} at memory, {} lost, {} doubled, \
         {} of memory lost (told {}), {} s",
        rig.kills,
        rig.starts_too_early,
        verdict.lost,
        verdict.doubled,
        verdict.memory_lost,
        verdict.told_lost,
        started.elapsed().as_secs()
    )
}
