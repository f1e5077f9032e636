//! Which fault strikes when, and how: all of it follows from a seed.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::common::{eventually, signal};
use super::load::Load;
use super::proxy::Fault;
use super::rig::{INSERT_DEADLINE_MS, Rig};
use super::{durable, has_log, tail};

/// What can go wrong in a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// kill -9 of ringhouse under load.
    KillServer,
    /// The same after a while without ClickHouse: everything since is in the log only.
    KillServerInOutage,
    /// The same, and again before or while it recovers.
    KillServerTwice,
    /// kill -9 of ringhouse, and damage behind the log's last record.
    DamageTail,
    /// kill -9 of the engine.
    KillEngine,
    /// Both at once.
    KillBoth,
    /// SIGSTOP and SIGCONT.
    PauseServer,
    PauseEngine,
    /// ClickHouse's connections end anywhere in the stream.
    CutMidStream,
    /// ... when an INSERT is complete and not answered.
    CutBeforeAnswer,
    /// ... when it is answered, and the answer is lost.
    LoseAnswer,
    /// Every piece takes some milliseconds.
    Delay,
    /// SIGTERM and a new start.
    Restart,
}

/// Longer than the deadline of an INSERT: ringhouse gives it up, and ClickHouse may finish it yet.
const LONG_PAUSE_MS: Range<u64> = INSERT_DEADLINE_MS + 200..INSERT_DEADLINE_MS + 1200;

/// How often each strikes, after each has struck once.
const WEIGHTS: [(Kind, usize); 13] = [
    (Kind::KillServer, 5),
    (Kind::KillServerInOutage, 4),
    (Kind::KillServerTwice, 3),
    (Kind::DamageTail, 3),
    (Kind::KillEngine, 3),
    (Kind::KillBoth, 3),
    (Kind::PauseServer, 1),
    (Kind::PauseEngine, 2),
    (Kind::CutMidStream, 2),
    (Kind::CutBeforeAnswer, 2),
    (Kind::LoseAnswer, 2),
    (Kind::Delay, 1),
    (Kind::Restart, 1),
];

/// Every kind once, in an order of its own; then any, by weight.
pub struct Schedule {
    random: fastrand::Rng,
    first: Vec<Kind>,
}

impl Schedule {
    pub fn new(seed: u64) -> Schedule {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut first: Vec<Kind> = kinds().map(|(kind, _)| kind).collect();
        random.shuffle(&mut first);
        Schedule { random, first }
    }

    pub fn next(&mut self) -> Kind {
        if let Some(kind) = self.first.pop() {
            return kind;
        }
        let all: Vec<Kind> = kinds().flat_map(|(kind, weight)| vec![kind; weight]).collect();
        self.random.choice(all).expect("there are kinds")
    }

    /// Lets the load run, then lets the fault strike and end: afterwards everything runs again, if not yet well.
    pub fn strike(&mut self, kind: Kind, rig: &mut Rig, load: &Load) -> String {
        // Not always before the last fault is overcome.
        if self.random.u8(0..4) != 0 {
            load.more_inserted(self.random.u64(1..200));
        }
        load.more(self.random.u64(1..400));
        // The fault strikes anywhere within an INSERT, a commit, a request.
        self.pause_ms(0..30);
        match kind {
            Kind::KillServer => {
                rig.kill_server();
                self.pause_ms(0..200);
                rig.start_server();
            }
            Kind::KillServerInOutage => {
                rig.proxy.set(Fault::Refuse);
                load.more_at(durable(), self.random.u64(1..3_000));
                self.pause_ms(0..30);
                rig.kill_server();
                rig.start_server();
                if self.random.bool() {
                    load.more_at(durable(), self.random.u64(1..500));
                }
                rig.proxy.set(Fault::None);
            }
            Kind::KillServerTwice => {
                rig.kill_server();
                for _ in 0..self.random.u8(1..4) {
                    rig.spawn_server();
                    self.pause_ms(0..150);
                    rig.kill_server();
                }
                rig.start_server();
            }
            Kind::DamageTail => {
                rig.kill_server();
                let damage = tail::damage(&rig.log_directory(), &mut self.random);
                rig.start_server();
                return damage.unwrap_or_else(|| "no room for damage".to_owned());
            }
            Kind::KillEngine => {
                rig.kill_engine();
                rig.start_engine();
            }
            Kind::KillBoth => {
                rig.kill_engine();
                rig.kill_server();
                if self.random.bool() {
                    rig.start_server();
                    rig.start_engine();
                } else {
                    rig.start_engine();
                    rig.start_server();
                }
            }
            Kind::PauseServer => {
                signal(rig.server().pid(), Signal::STOP);
                self.pause_ms(50..1500);
                signal(rig.server().pid(), Signal::CONT);
            }
            Kind::PauseEngine => {
                rig.signal_engine(Signal::STOP);
                let is_long = self.random.u8(0..3) == 0;
                self.pause_ms(if is_long { LONG_PAUSE_MS } else { 50..1500 });
                rig.signal_engine(Signal::CONT);
            }
            Kind::CutMidStream => {
                let within = 1 << self.random.u8(8..18);
                self.until_cut(Fault::CutWithin(within), rig);
                return format!("within {within} bytes");
            }
            Kind::CutBeforeAnswer => self.until_cut(Fault::CutBeforeAnswer, rig),
            Kind::LoseAnswer => self.until_cut(Fault::LoseAnswer, rig),
            Kind::Delay => {
                // For a while only: an INSERT that needs longer than its deadline would never end.
                let ms = self.random.u64(1..15);
                rig.proxy.set(Fault::Delay(ms));
                self.pause_ms(100..2000);
                rig.proxy.set(Fault::None);
                return format!("{ms} ms");
            }
            Kind::Restart => {
                rig.stop_server();
                rig.start_server();
            }
        }
        String::new()
    }

    fn until_cut(&mut self, fault: Fault, rig: &Rig) {
        let cuts = rig.proxy.cuts();
        let wanted = self.random.u64(1..4);
        rig.proxy.set(fault);
        eventually("connections to be cut", || {
            (rig.proxy.cuts() >= cuts + wanted).then_some(())
        });
        rig.proxy.set(Fault::None);
    }

    fn pause_ms(&mut self, range: Range<u64>) {
        thread::sleep(Duration::from_millis(self.random.u64(range)));
    }
}

fn kinds() -> impl Iterator<Item = (Kind, usize)> {
    WEIGHTS
        .into_iter()
        .filter(|(kind, _)| has_log() || *kind != Kind::DamageTail)
}
