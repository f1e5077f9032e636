//! One run of one rung: starts its server, sends, and waits for every row.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::id::RunId;
use super::super::ingest::BenchError;
use super::super::interrupt::Interrupt;
use super::super::layout::Layout;
use super::super::load::{self, LoadPlan};
use super::super::measured::{Measured, Progress};
use super::super::parts::{parts_made, wait_until_idle};
use super::super::report::Latency;
use super::super::request::{Encoding, RequestPlan};
use super::super::rows::Rows;
use super::super::schedule::Schedule;
use super::super::server::Server;
use super::super::settle::Stored;
use super::super::taker::Taker;
use super::super::wire::Wire;
use super::super::{process, unix_ms};
use super::child::StageProcess;
use super::stage::Stage;
use super::{LadderArgs, Rung, RungServer};
use crate::schema::TableName;

/// Time without a new row after which those that are missing count as lost.
const APPEAR_PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether all threads have sent everything.
const TICK: Duration = Duration::from_millis(20);

/// Seed of the rows' content: every run sends the same.
const SEED: u64 = 1;

const TABLE: &str = "otel_logs";

/// The table before it for [`Stage::Forget`], which keeps rows for up to a second, or a million of them, or 100 MB.
const BUFFER_TABLE: &str = "bench_buffer";
/// One layer: each makes parts of its own.
const BUFFER_ENGINE: &str = "Buffer(default, otel_logs, 1, 1, 1, 1000000, 1000000, 100000000, 100000000)";

const ID_COLUMN: &str = "TraceId";

/// The table of all rungs.
pub fn table() -> TableName {
    TableName {
        database: "default".to_owned(),
        table: TABLE.to_owned(),
    }
}

/// What one run gave.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Requests answered in a measured second.
    pub requests_per_s: f64,
    /// All rows over the time from the first request, warm-up included, until the last of them was in ClickHouse.
    pub rows_per_s_stored: f64,
    /// Sent to whole reply, the median.
    pub reply_p50_ms: f64,
    /// 99 % of replies came as soon.
    pub reply_p99_ms: f64,
    /// CPU seconds of the rung's server per million rows.
    pub server_cpu_s: f64,
    /// CPU seconds of ClickHouse per million rows, merges included.
    pub clickhouse_cpu_s: f64,
    /// Parts that INSERTs made.
    pub parts: u64,
    /// Rows acknowledged, warm-up included.
    pub rows: u64,
    /// Acknowledged and not there.
    pub rows_lost: u64,
    /// There more than once.
    pub rows_doubled: u64,
    /// Requests answered 503, and sent again.
    pub refused: u64,
    /// The generator's CPU time as a share of the time it had.
    pub generator_cpu_share: f64,
    /// Time in which it could have run and had no CPU, as such a share.
    pub generator_wait_share: f64,
}

impl Run {
    /// CPU seconds of both sides per million rows.
    pub fn cpu_s(&self) -> f64 {
        self.server_cpu_s + self.clickhouse_cpu_s
    }

    /// Rows of an average part.
    pub fn rows_per_part(&self) -> f64 {
        self.rows as f64 / (self.parts as f64).max(1.0)
    }
}

/// What all runs have in common.
pub struct Climb<'a> {
    /// How they are to be.
    pub args: &'a LadderArgs,
    /// The last rungs' server, whose ClickHouse is that of all.
    pub server: &'a Server,
    /// CPUs.
    pub layout: &'a Layout,
    /// Whether to end.
    pub interrupt: &'a Interrupt,
}

impl Climb<'_> {
    /// One run of `rung`; its process is gone when this returns.
    ///
    /// # Errors
    /// See [`BenchError`]; a rung that does not take every row, or not as it says, is one.
    pub fn once(&self, rung: &Rung) -> Result<Run, BenchError> {
        let clickhouse = &self.server.clickhouse;
        clickhouse.run(&format!("TRUNCATE TABLE {TABLE}"))?;
        wait_until_idle(clickhouse, self.interrupt)?;
        let stage = match rung.server {
            RungServer::Stage(stage) => Some(self.start(stage)?),
            RungServer::Ringhouse(..) => None,
        };
        let address = stage.as_ref().map_or(self.server.address, |stage| stage.address);
        let run = RunId::random();
        let stored = Stored {
            clickhouse: clickhouse.clone(),
            table: table(),
            // The table was emptied before.
            since: "1".to_owned(),
            id_sql: ID_COLUMN.to_owned(),
            run: run.clone(),
        };
        let pids = [
            stage.as_ref().map_or(self.server.pid(), StageProcess::pid),
            self.server
                .engine_pid()
                .ok_or(BenchError::System(io::Error::other(
                    "the process of ClickHouse is not known",
                )))?,
        ];
        let cpu = || pids.map(|pid| process::cpu(pid).unwrap_or_default());
        let (parts_before, cpu_before) = (parts_made(clickhouse)?, cpu());
        let progress = Progress::default();
        let started = Instant::now();
        let measured = self.send(address, rung.server, &run, stage.as_ref(), &progress)?;
        if self.interrupt.has_come() {
            return Err(BenchError::Interrupted);
        }
        if let Some(reason) = progress.failure() {
            let said = stage.map(|stage| stage.last_words()).unwrap_or_default();
            return Err(BenchError::Rung(rung.name, format!("{reason} {said}")));
        }
        let sending_s = started.elapsed().as_secs_f64();
        stored.wait_for(measured.rows_acknowledged, APPEAR_PATIENCE, self.interrupt)?;
        let stored_s = started.elapsed().as_secs_f64();
        clickhouse.run(&format!("DROP TABLE IF EXISTS {BUFFER_TABLE}"))?;
        wait_until_idle(clickhouse, self.interrupt)?;
        let cpu_after = cpu();
        let parts = parts_made(clickhouse)? - parts_before;
        // Again: what is doubled may have come late.
        let count = stored.count()?;
        let distinct = stored.distinct(count)?;
        if self.interrupt.has_come() {
            return Err(BenchError::Interrupted);
        }
        let rows = measured.rows_acknowledged;
        let per_million = |index: usize| {
            let took = cpu_after[index].saturating_sub(cpu_before[index]);
            took.as_secs_f64() * 1e6 / (rows as f64).max(1.0)
        };
        let reply = Latency::of(&measured.reply);
        let generator_s = sending_s * self.cpus().len() as f64;
        Ok(Run {
            requests_per_s: measured.requests as f64 / self.args.duration.as_secs_f64(),
            rows_per_s_stored: distinct as f64 / stored_s,
            reply_p50_ms: reply.p50,
            reply_p99_ms: reply.p99,
            server_cpu_s: per_million(0),
            clickhouse_cpu_s: per_million(1),
            parts,
            rows,
            rows_lost: rows.saturating_sub(distinct),
            rows_doubled: count - distinct,
            refused: measured.refused,
            generator_cpu_share: measured.time.cpu.as_secs_f64() / generator_s,
            generator_wait_share: measured.time.waited.as_secs_f64() / generator_s,
        })
    }

    fn start(&self, stage: Stage) -> Result<StageProcess, BenchError> {
        let clickhouse = &self.server.clickhouse;
        let table = match stage {
            Stage::Forget => {
                clickhouse.run(&format!(
                    "CREATE TABLE {BUFFER_TABLE} AS {TABLE} ENGINE = {BUFFER_ENGINE}"
                ))?;
                BUFFER_TABLE
            }
            Stage::Insert | Stage::Coalesce | Stage::Log | Stage::Cores => TABLE,
        };
        let address = clickhouse.http_address()?;
        Ok(StageProcess::start(
            stage,
            address,
            table,
            self.layout,
            self.interrupt,
        )?)
    }

    fn cpus(&self) -> &[usize] {
        let threads = self.layout.load.len().min(self.args.connections as usize);
        &self.layout.load[..threads]
    }

    fn send(
        &self,
        address: SocketAddr,
        server: RungServer,
        run: &RunId,
        stage: Option<&StageProcess>,
        progress: &Progress,
    ) -> Result<Measured, BenchError> {
        let taker = Taker::Ringhouse {
            dialect: server.dialect(),
            ack: server.ack(),
        };
        let rows = self.args.rows_per_request as usize;
        let plan = LoadPlan {
            address,
            schedule: Schedule::Closed,
            connections: self.args.connections as usize,
            pipeline: 1,
            rows: rows as u64,
            warm_up: self.args.warm_up,
            duration: self.args.duration,
            expected: taker.expected(rows),
        };
        let requests = RequestPlan {
            host: address.to_string(),
            table: TABLE.to_owned(),
            taker,
            wire: Wire::Http1,
            encoding: Encoding::Identity,
            rows,
            id_key: ID_COLUMN.to_owned(),
            run: run.clone(),
        };
        let source = Rows::generated(SEED, unix_ms());
        let cpus: Vec<Option<usize>> = self.cpus().iter().copied().map(Some).collect();
        let parts = load::prepare(&plan, cpus.len(), &requests, &source)?;
        let origin = Instant::now();
        let sent = std::thread::scope(|scope| {
            let senders = load::start(scope, &plan, &cpus, parts, origin, progress)?;
            while senders.iter().any(|sender| !sender.is_finished()) {
                if self.interrupt.has_come() {
                    progress.stop();
                    stage.into_iter().for_each(StageProcess::kill);
                    self.server.kill();
                }
                std::thread::sleep(TICK);
            }
            Ok(load::join(senders))
        });
        sent.map_err(BenchError::System)
    }
}
