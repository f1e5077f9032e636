//! `bench single`: one log a request, beside a responder that does nothing with it and beside ClickHouse's `async_insert`.
//!
//! Three pairs of measurements, each by turns and with the same generator, of one server with one ingest core:
//!
//! 1. as fast as it goes at `ack=memory` over 64 connections, beside a bare responder on the same CPU and runtime;
//! 2. both at half of the requests a second that this program took in the first;
//! 3. as fast as it goes at `ack=wal` over 256 connections, beside ClickHouse's HTTP interface with `async_insert`,
//!    waiting.
//!
//! Rows go into a table that keeps their ids only, also those that ClickHouse takes itself, and each is counted there. Core
//! time is that of the ingest core's thread, and of the bare responder's: where the generator shares CPUs with the
//! writer and ClickHouse, requests a second are those of the machine, and the bare responder has its CPUs for itself.

mod bare;
mod report;

pub use self::bare::{BareArgs, run as run_bare};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use self::bare::Bare;
use self::report::{Ran, Run, Single, targets};
use super::args::{ID_SQL, seconds};
use super::dialect::Dialect;
use super::environment::Environment;
use super::id::RunId;
use super::ingest::{BenchError, TICK, shortfalls};
use super::interrupt::Interrupt;
use super::layout::Layout;
use super::load::{self, LoadPlan};
use super::measured::{Measured, Progress};
use super::output::write_json;
use super::parts::{async_insert_remark, wait_until_idle};
use super::probe::Probed;
use super::process;
use super::report::Latency;
use super::request::{Encoding, RequestPlan};
use super::rows::Rows;
use super::schedule::Schedule;
use super::server::{ID_TABLE, NULL_TABLE, Server, ServerError, ServerPlan};
use super::settle::Stored;
use super::taker::{ASYNC_WAITING, Taker};
use super::ticker::Ticker;
use super::unix_ms;
use super::wire::Wire;
use crate::ack::AckLevel;
use crate::schema::TableName;
use crate::topology::{self, CoreChoice};

/// Options of `bench single`.
#[derive(Debug, Args)]
pub struct SingleArgs {
    /// Runs of each measurement; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,

    /// Seconds of a run that are measured
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub duration: Duration,

    /// Seconds before
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub warm_up: Duration,

    /// Seed of the rows' content
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    /// File that all figures are written to
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Time rows may take to appear.
const APPEAR_PATIENCE: Duration = Duration::from_secs(30);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Party {
    Ringhouse,
    Bare,
    ClickHouse,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    party: Party,
    taker: Taker,
    connections: usize,
    /// At half of what this program took in the first pair, each request due at a fixed time.
    at_half: bool,
}

/// Those that are gone by turns.
const PAIRS: [[Way; 2]; 3] = [
    [ours(AckLevel::Memory, false), bare(false)],
    [ours(AckLevel::Memory, true), bare(true)],
    [
        ours(AckLevel::Wal, false),
        Way {
            name: "ClickHouse, async_insert, waiting, 256 connections",
            party: Party::ClickHouse,
            taker: ASYNC_WAITING,
            connections: 256,
            at_half: false,
        },
    ],
];

const fn ours(ack: AckLevel, at_half: bool) -> Way {
    let is_memory = matches!(ack, AckLevel::Memory);
    Way {
        name: match (is_memory, at_half) {
            (true, false) => "ringhouse, ack=memory, 64 connections",
            (true, true) => "ringhouse, ack=memory, at half of that",
            (false, _) => "ringhouse, ack=wal, 256 connections",
        },
        party: Party::Ringhouse,
        taker: Taker::Ringhouse {
            dialect: Dialect::Ndjson,
            ack,
        },
        connections: if is_memory { 64 } else { 256 },
        at_half,
    }
}

const fn bare(at_half: bool) -> Way {
    Way {
        name: if at_half {
            "bare responder, at the same rate"
        } else {
            "bare responder, 64 connections"
        },
        party: Party::Bare,
        taker: Taker::Anyone,
        connections: 64,
        at_half,
    }
}

/// Measures and prints. Failure when a run is VOID.
///
/// # Errors
/// See [`BenchError`].
pub fn run(args: &SingleArgs) -> Result<ExitCode, BenchError> {
    let environment = Environment::read();
    println!("{environment}");
    let interrupt = Interrupt::install().map_err(BenchError::System)?;
    let one = CoreChoice::Count(1);
    let layout = Layout::plan(&topology::available(), Some(&one), None).map_err(BenchError::Topology)?;
    let bench = Bench::start(args, layout, &interrupt)?;
    let mut ways: Vec<Ran> = Vec::new();
    for pair in PAIRS {
        let rate = pair[0].at_half.then(|| {
            let most = ways[0].of(|run| run.requests_per_s);
            ((most / 2.0) as u64).max(1)
        });
        ways.extend(bench.by_turns(pair, rate)?);
    }
    let single = Single {
        environment,
        ingest_cpu: bench.layout.ingest[0],
        writer_cpu: bench.layout.writer,
        load_cpus: bench.layout.load.clone(),
        cpus_shared: bench.layout.is_shared(),
        targets: targets(&ways),
        ways,
    };
    let remark = async_insert_remark(&bench.server.clickhouse)?;
    drop(bench);
    print!("{single}");
    if let Some(remark) = remark {
        println!("{remark}");
    }
    if let Some(path) = &args.json {
        write_json(path, &single)?;
    }
    let mut runs = single.ways.iter().flat_map(|ran| &ran.runs);
    Ok(if runs.all(|run| run.reasons.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Who is measured, and by what.
struct Bench<'a> {
    args: &'a SingleArgs,
    interrupt: &'a Interrupt,
    layout: Layout,
    server: Server,
    bare: Bare,
    clickhouse: SocketAddr,
}

impl Bench<'_> {
    fn start<'a>(
        args: &'a SingleArgs,
        layout: Layout,
        interrupt: &'a Interrupt,
    ) -> Result<Bench<'a>, BenchError> {
        let plan = ServerPlan {
            ingest: layout.ingest.clone(),
            writer: layout.writer,
            table: table("otel_logs"),
            socket: None,
            clickhouse: Vec::new(),
            limits: Vec::new(),
        };
        let server = Server::start(&plan, interrupt)?;
        server.create_null_table(ID_SQL, interrupt)?;
        Ok(Bench {
            args,
            interrupt,
            bare: Bare::start(layout.ingest[0]).map_err(ServerError::Io)?,
            clickhouse: server.clickhouse.http_address()?,
            layout,
            server,
        })
    }

    /// Runs both as often as asked for; who begins changes.
    fn by_turns(&self, pair: [Way; 2], rate: Option<u64>) -> Result<[Ran; 2], BenchError> {
        let mut ran = pair.map(|way| Ran {
            name: way.name,
            connections: way.connections,
            rate,
            runs: Vec::new(),
        });
        for run in 1..=self.args.runs {
            let order = if run % 2 == 0 { [1, 0] } else { [0, 1] };
            for index in order {
                eprintln!("{}, run {run} of {}:", pair[index].name, self.args.runs);
                ran[index].runs.push(self.go(&pair[index], rate)?);
            }
        }
        Ok(ran)
    }

    fn go(&self, way: &Way, rate: Option<u64>) -> Result<Run, BenchError> {
        // The merges of one run's ids are not to slow the next one down.
        wait_until_idle(&self.server.clickhouse, self.interrupt)?;
        let (started_unix_ms, run) = (unix_ms(), RunId::random());
        let address = match way.party {
            Party::Ringhouse => self.server.address,
            Party::Bare => self.bare.address,
            Party::ClickHouse => self.clickhouse,
        };
        let requests = RequestPlan {
            host: address.to_string(),
            table: NULL_TABLE.to_owned(),
            taker: way.taker,
            wire: Wire::Http1,
            encoding: Encoding::Identity,
            rows: 1,
            id_key: "trace_id".to_owned(),
            run: run.clone(),
        };
        let plan = LoadPlan {
            address,
            schedule: match rate {
                Some(rows_per_second) => Schedule::Open {
                    rows_per_second,
                    rows_per_request: 1,
                },
                None => Schedule::Closed,
            },
            connections: way.connections,
            pipeline: 1,
            rows: 1,
            warm_up: self.args.warm_up,
            duration: self.args.duration,
            expected: way.taker.expected(1),
        };
        let rows = Rows::generated(self.args.seed, started_unix_ms);
        let (progress, cpu_before, started) = (Progress::default(), self.core_cpu(way.party), Instant::now());
        let measured = self.send(&plan, &requests, &rows, &progress)?;
        let available_s = started.elapsed().as_secs_f64() * self.layout.load.len() as f64;
        let cpu = self.core_cpu(way.party).zip(cpu_before);
        let core_s = cpu.map(|(after, before)| after.saturating_sub(before).as_secs_f64());
        let mut reasons: Vec<String> = progress.failure().into_iter().collect();
        if way.party != Party::Bare {
            let since = format!("Timestamp >= fromUnixTimestamp64Milli(toInt64({started_unix_ms}))");
            reasons.extend(self.missing(&measured, run, since, reasons.is_empty())?);
        }
        Ok(Run {
            requests_per_s: measured.requests as f64 / self.args.duration.as_secs_f64(),
            requests_per_core_s: core_s.map(|core_s| measured.rows_acknowledged as f64 / core_s),
            reply_ms: Latency::of(&measured.reply),
            late_ms: rate.map(|_| Latency::of(&measured.late)),
            refused: measured.refused,
            unsent: measured.unsent,
            generator_cpu_share: measured.time.cpu.as_secs_f64() / available_s,
            generator_wait_share: measured.time.waited.as_secs_f64() / available_s,
            reasons,
        })
    }

    fn send(
        &self,
        plan: &LoadPlan,
        requests: &RequestPlan,
        rows: &Rows,
        progress: &Progress,
    ) -> Result<Measured, BenchError> {
        let cpus: Vec<Option<usize>> = self.layout.load.iter().copied().map(Some).collect();
        let parts = load::prepare(plan, cpus.len(), requests, rows)?;
        let origin = Instant::now();
        let measured = std::thread::scope(|scope| {
            let senders = load::start(scope, plan, &cpus, parts, origin, progress)?;
            let mut ticker = Ticker::new(origin);
            while senders.iter().any(|sender| !sender.is_finished()) {
                if self.interrupt.has_come() {
                    progress.stop();
                    self.server.kill();
                }
                std::thread::sleep(TICK);
                ticker.tick(progress, plan);
            }
            Ok(load::join(senders))
        });
        if self.interrupt.has_come() {
            return Err(BenchError::Interrupted);
        }
        measured.map_err(BenchError::System)
    }

    /// CPU time of the core that answers, so far.
    fn core_cpu(&self, party: Party) -> Option<Duration> {
        let (pid, name) = match party {
            Party::Ringhouse => (self.server.pid(), "ingest-0-".to_owned()),
            Party::Bare => (self.bare.pid(), format!("{}-", bare::THREAD_NAME)),
            Party::ClickHouse => return None,
        };
        Some(process::cpu_of_threads(pid, &name))
    }

    /// What is missing of the rows or too much, once they are all there or `is_whole` says that they will not be.
    fn missing(
        &self,
        measured: &Measured,
        run: RunId,
        since: String,
        is_whole: bool,
    ) -> Result<Vec<String>, BenchError> {
        let stored = Stored {
            clickhouse: self.server.clickhouse.clone(),
            table: table(ID_TABLE),
            since,
            id_sql: ID_SQL.to_owned(),
            run,
        };
        let patience = if is_whole { APPEAR_PATIENCE } else { Duration::ZERO };
        let (sent, acknowledged) = (measured.rows_sent, measured.rows_acknowledged);
        let (count, _) = stored.wait_for(acknowledged, patience, self.interrupt)?;
        let distinct = stored.distinct(count)?;
        if self.interrupt.has_come() {
            return Err(BenchError::Interrupted);
        }
        Ok(shortfalls(sent, acknowledged, count, distinct, &Probed::none()))
    }
}

fn table(name: &str) -> TableName {
    TableName {
        database: "default".to_owned(),
        table: name.to_owned(),
    }
}
