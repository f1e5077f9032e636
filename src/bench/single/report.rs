//! What `bench single` found: as JSON for programs, as lines for people.

use std::fmt;

use serde::Serialize;

use super::super::environment::Environment;
use super::super::median;
use super::super::report::Latency;
use super::super::table::{aligned, thousands};
use super::super::target::Judged;

/// What one run gave.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Requests a second by the clock.
    pub requests_per_s: f64,
    /// Requests for each second that the core's thread had a CPU.
    pub requests_per_core_s: Option<f64>,
    /// Due (or, in a closed loop, sent) to whole reply.
    pub reply_ms: Latency,
    /// Due to sent; in an open loop.
    pub late_ms: Option<Latency>,
    /// Replies that refused a request for now.
    pub refused: u64,
    /// Requests that were due and never sent.
    pub unsent: u64,
    /// CPU time of the generator's threads, as a share of the time they had.
    pub generator_cpu_share: f64,
    /// Time in which they could have run and had no CPU, as such a share.
    pub generator_wait_share: f64,
    /// Why the figures mean nothing, if they do not.
    pub reasons: Vec<String>,
}

/// The runs of one measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Ran {
    /// What was measured.
    pub name: &'static str,
    /// Connections.
    pub connections: usize,
    /// Requests a second that were due; `null` in a closed loop.
    pub rate: Option<u64>,
    /// One by one.
    pub runs: Vec<Run>,
}

impl Ran {
    /// Median over the runs.
    pub fn of(&self, pick: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(pick))
    }

    /// Median of what each run is of the other's in the same turn.
    fn by(&self, other: &Ran, pick: impl Fn(&Run) -> f64) -> f64 {
        let turns = self.runs.iter().zip(&other.runs);
        median(turns.map(|(ours, theirs)| pick(ours) / pick(theirs)))
    }

    fn cells(&self) -> Vec<String> {
        let per_core_s = self.runs.iter().map(|run| run.requests_per_core_s);
        let per_core_s: Option<Vec<f64>> = per_core_s.collect();
        let ms = |pick: fn(&Latency) -> f64| format!("{:.2}", self.of(|run| pick(&run.reply_ms)));
        let late = self.runs.iter().map(|run| Some(run.late_ms.as_ref()?.p99));
        let late: Option<Vec<f64>> = late.collect();
        let dash = || "-".to_owned();
        vec![
            self.name.to_owned(),
            thousands(self.of(|run| run.requests_per_s)),
            per_core_s.map_or_else(dash, |all| thousands(median(all))),
            ms(|reply| reply.p50),
            ms(|reply| reply.p99),
            ms(|reply| reply.p999),
            late.map_or_else(dash, |all| format!("{:.2}", median(all))),
            format!("{:.0} %", 100.0 * self.of(|run| run.generator_cpu_share)),
            format!("{:.0} %", 100.0 * self.of(|run| run.generator_wait_share)),
        ]
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Single {
    /// Where, with what and how.
    pub environment: Environment,
    /// CPU of the ingest core and of the bare responder.
    pub ingest_cpu: usize,
    /// CPU of the writer.
    pub writer_cpu: usize,
    /// CPUs of the generator.
    pub load_cpus: Vec<usize>,
    /// The generator has a CPU of the server's.
    pub cpus_shared: bool,
    /// The measurements, a pair after the other.
    pub ways: Vec<Ran>,
    /// Their targets.
    pub targets: Vec<Judged>,
}

impl fmt::Display for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "one log a request",
            "requests/s",
            "per core second",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "sent late p99",
            "generator",
            "without a CPU",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.ways.iter().map(Ran::cells));
        writeln!(f, "\n{}", aligned(&rows))?;
        writeln!(
            f,
            "ingest core and bare responder on CPU {}, writer on CPU {}, load on CPU {:?}; ClickHouse on any{}",
            self.ingest_cpu,
            self.writer_cpu,
            self.load_cpus,
            if self.cpus_shared {
                "\nthe server, ClickHouse and the generator wait for each other's CPUs: read the core time"
            } else {
                ""
            }
        )?;
        self.targets
            .iter()
            .try_for_each(|target| writeln!(f, "{target}"))?;
        for ran in &self.ways {
            for reason in ran.runs.iter().flat_map(|run| &run.reasons) {
                writeln!(f, "VOID, {}: {reason}", ran.name)?;
            }
        }
        Ok(())
    }
}

/// Of a bare responder's requests.
const BARE_TARGET: f64 = 0.85;
/// Milliseconds.
const HALF_P99_TARGET: f64 = 1.0;
/// Milliseconds.
const WAL_P99_TARGET: f64 = 10.0;
/// Times the requests of waiting `async_insert`.
const ASYNC_TARGET: f64 = 100.0;

/// Judges the six measurements.
///
/// # Panics
/// When they are not six.
pub fn targets(ways: &[Ran]) -> Vec<Judged> {
    let [memory, bare, half, _, wal, waiting] = ways else {
        unreachable!("three pairs were measured");
    };
    let per_s = |run: &Run| run.requests_per_s;
    let per_core_s = |run: &Run| run.requests_per_core_s.unwrap_or(f64::NAN);
    let p99 = |run: &Run| run.reply_ms.p99;
    let what = |figure: &str, ours: &Ran, theirs: &Ran| {
        format!("{figure} of \"{}\" by those of \"{}\"", ours.name, theirs.name)
    };
    vec![
        Judged::at_least(
            what("requests per core second", memory, bare),
            BARE_TARGET,
            memory.by(bare, per_core_s),
        ),
        Judged::at_least(
            what("requests/s by the clock", memory, bare),
            BARE_TARGET,
            memory.by(bare, per_s),
        ),
        Judged::at_most(
            format!("p99 of \"{}\", ms", half.name),
            HALF_P99_TARGET,
            half.of(p99),
        ),
        Judged::at_most(
            format!("p99 of \"{}\", ms", wal.name),
            WAL_P99_TARGET,
            wal.of(p99),
        ),
        Judged::at_least(
            what("requests/s", wal, waiting),
            ASYNC_TARGET,
            wal.by(waiting, per_s),
        ),
    ]
}
