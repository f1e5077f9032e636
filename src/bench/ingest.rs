//! `ringhouse bench ingest`: the load generator. Posts rows, checks every reply, and counts every row in ClickHouse.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::args::{ID_SQL, IngestArgs};
use super::clickhouse::AskError;
use super::dialect::Dialect;
use super::environment::Environment;
use super::id::RunId;
use super::interrupt::Interrupt;
use super::layout::Layout;
use super::load::{self, LoadPlan};
use super::measured::{Measured, Progress};
use super::output::write_files;
use super::place::Place;
use super::probe::{self, ProbePlan, Probed};
use super::process;
use super::report::{Core, Generator, Latency, Process, Report, Settings, Throughput, Verdict, Visible};
use super::request::{RequestPlan, Requests};
use super::rows::{CorpusError, Rows};
use super::schedule::Schedule;
use super::server::{ID_TABLE, NULL_TABLE, Server, ServerError};
use super::settle::Stored;
use super::taker::Taker;
use super::ticker::Ticker;
use super::unix_ms;
use super::usage::{Meter, Parties};
use super::wire::Wire;
use crate::config::{ConfigError, split_table_name};
use crate::schema::TableName;
use crate::topology::TopologyError;

/// Service of the rows that probe, by which ClickHouse finds them without reading the others.
const PROBE_SERVICE: &str = "ringhouse-bench-probe";

/// Why there are no figures.
#[derive(Debug)]
pub enum BenchError {
    /// No server to measure.
    Server(ServerError),
    /// The CPUs are not as asked for.
    Topology(TopologyError),
    /// What was asked for does not go together; one sentence.
    Asked(&'static str),
    /// The table's name is none.
    Table(ConfigError),
    /// The corpus gives no rows.
    Corpus(CorpusError),
    /// The URL's host is not known, or does not take connections.
    Connect(String, io::Error),
    /// ClickHouse does not tell.
    ClickHouse(AskError),
    /// The system gives no thread, signal handler or compressor.
    System(io::Error),
    /// A result cannot be written.
    Output(PathBuf, io::Error),
    /// A rung of the ladder failed, and why.
    Rung(&'static str, String),
    /// SIGINT or SIGTERM has come.
    Interrupted,
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BenchError::Server(error) => error.fmt(f),
            BenchError::Topology(error) => error.fmt(f),
            BenchError::Asked(sentence) => f.write_str(sentence),
            BenchError::Table(error) => error.fmt(f),
            BenchError::Corpus(error) => error.fmt(f),
            BenchError::Connect(host, error) => write!(f, "{host} cannot be connected to: {error}"),
            BenchError::ClickHouse(error) => write!(f, "rows cannot be counted: {error}"),
            BenchError::System(error) => write!(f, "the load cannot be started: {error}"),
            BenchError::Output(path, error) => write!(f, "{} cannot be written: {error}", path.display()),
            BenchError::Rung(rung, reason) => write!(f, "{rung}: {reason}"),
            BenchError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for BenchError {}

impl From<ServerError> for BenchError {
    fn from(error: ServerError) -> BenchError {
        match error {
            ServerError::Interrupted => BenchError::Interrupted,
            error => BenchError::Server(error),
        }
    }
}

impl From<AskError> for BenchError {
    fn from(error: AskError) -> BenchError {
        BenchError::ClickHouse(error)
    }
}

/// The body of `bench ingest`. Failure when the run is VOID.
///
/// # Errors
/// See [`BenchError`].
pub fn run(args: &IngestArgs) -> Result<ExitCode, BenchError> {
    let environment = Environment::read();
    let interrupt = Interrupt::install().map_err(BenchError::System)?;
    let outcome = measure(args, environment, &interrupt)?;
    print!("{}", outcome.report);
    write_files(args, &outcome)?;
    Ok(if outcome.report.verdict.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What came of one run.
#[derive(Debug)]
pub struct Outcome {
    /// Its figures.
    pub report: Report,
    /// Due to whole reply, of every measured request, in nanoseconds.
    pub reply: Histogram<u64>,
    /// Due to visible, of every probe, in nanoseconds.
    pub visible: Histogram<u64>,
}

/// One run, whose server is gone when this returns.
///
/// # Errors
/// See [`BenchError`]. A run that is VOID is none.
pub fn measure(
    args: &IngestArgs,
    environment: Environment,
    interrupt: &Interrupt,
) -> Result<Outcome, BenchError> {
    Bench::start(args, interrupt)?.measure(environment, interrupt)
}

/// Everything that is there before the first row is sent.
struct Bench<'a> {
    args: &'a IngestArgs,
    server: Option<Server>,
    layout: Option<Layout>,
    /// CPUs of the load, a thread each; not pinned when `None`.
    cpus: Vec<Option<usize>>,
    address: SocketAddr,
    /// Where the load goes, if not there.
    socket: Option<SocketAddr>,
    stored: Stored,
    requests: RequestPlan,
    rows: Rows,
}

impl Bench<'_> {
    fn start<'a>(args: &'a IngestArgs, interrupt: &Interrupt) -> Result<Bench<'a>, BenchError> {
        args.check()?;
        let (database, table) = split_table_name(&args.table).map_err(BenchError::Table)?;
        let started_unix_ms = unix_ms();
        let rows = args.load.rows(started_unix_ms)?;
        let Place {
            server,
            layout,
            mut cpus,
            address,
            socket,
            clickhouse,
        } = match (&args.url, &args.clickhouse) {
            (Some(url), Some(clickhouse)) => Place::existing(args, url, clickhouse)?,
            _ => {
                let name = TableName {
                    database: database.unwrap_or("default").to_owned(),
                    table: table.to_owned(),
                };
                Place::own(args, name, interrupt)?
            }
        };
        cpus.truncate(args.load.connections as usize);
        let run = RunId::random();
        let stored = Stored {
            table: TableName {
                database: database.unwrap_or(clickhouse.database()).to_owned(),
                table: if args.null { ID_TABLE } else { table }.to_owned(),
            },
            clickhouse,
            since: match &args.id_sql {
                None => format!("Timestamp >= fromUnixTimestamp64Milli(toInt64({started_unix_ms}))"),
                Some(_) => "1".to_owned(),
            },
            id_sql: match &args.id_sql {
                Some(id_sql) => id_sql.clone(),
                None if args.null => ID_SQL.to_owned(),
                None => args.load.dialect.id_sql().to_owned(),
            },
            run: run.clone(),
        };
        // A wrong table, column or password is told before anything is sent.
        stored.count()?;
        Ok(Bench {
            args,
            server,
            layout,
            cpus,
            address,
            socket,
            stored,
            requests: RequestPlan {
                host: address.to_string(),
                table: if args.null { NULL_TABLE } else { &args.table }.to_owned(),
                taker: Taker::Ringhouse {
                    dialect: args.load.dialect,
                    ack: args.load.ack,
                },
                wire: args.load.wire(),
                encoding: args.load.encoding,
                rows: args.load.rows_per_request as usize,
                id_key: args.id_key.clone(),
                run,
            },
            rows,
        })
    }

    /// Sends, waits for every row, and counts.
    fn measure(&self, environment: Environment, interrupt: &Interrupt) -> Result<Outcome, BenchError> {
        let processes = [
            self.server.as_ref().map(Server::pid).or(self.args.pid),
            self.server.as_ref().and_then(Server::engine_pid),
        ];
        let before = processes.map(|pid| pid.and_then(process::cpu));
        let started = Instant::now();
        let progress = Progress::default();
        let mut meter = self.meter();
        let (measured, probed) = self.send(&progress, &mut meter, interrupt)?;
        if interrupt.has_come() {
            return Err(BenchError::Interrupted);
        }
        let sending = started.elapsed();
        let mut reasons: Vec<String> = progress.failure().into_iter().collect();
        let probed = probed.unwrap_or_else(|reason| {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
            Probed::none()
        });
        let sent = measured.rows_sent + probed.sent;
        let acknowledged = measured.rows_acknowledged + probed.acknowledged;
        // After a failure nobody knows how many to wait for.
        let patience = if reasons.is_empty() {
            self.args.load.patience
        } else {
            Duration::ZERO
        };
        let (stored, settled) = self.stored.wait_for(acknowledged, patience, interrupt)?;
        let after = processes.map(|pid| pid.and_then(process::cpu));
        if interrupt.has_come() {
            return Err(BenchError::Interrupted);
        }
        let distinct = self.stored.distinct(stored)?;
        reasons.extend(shortfalls(sent, acknowledged, stored, distinct, &probed));
        let process = |index: usize| -> Option<Process> {
            let pid = processes[index]?;
            let cpu_s = (after[index]?.checked_sub(before[index]?)?).as_secs_f64();
            Some(Process {
                pid,
                cpu_s,
                cpu_s_per_million_rows: cpu_s * 1e6 / (acknowledged as f64).max(1.0),
                memory_peak_bytes: process::memory_peak_bytes(pid)?,
            })
        };
        let available_s = sending.as_secs_f64() * self.cpus.len() as f64;
        let report = Report {
            environment,
            settings: self.settings(),
            verdict: Verdict {
                valid: reasons.is_empty(),
                reasons,
                sent,
                acknowledged,
                stored,
                distinct,
            },
            throughput: self.throughput(&measured),
            reply_ms: Latency::of(&measured.reply),
            late_ms: self.args.load.rate.map(|_| Latency::of(&measured.late)),
            visible_ms: (!probed.visible.is_empty()).then(|| Visible {
                latency: Latency::of(&probed.visible),
                poll_p50_ms: Latency::of(&probed.poll).p50,
                poll_max_ms: Latency::of(&probed.poll).max,
            }),
            server: process(0),
            clickhouse: process(1),
            cores: self.cores(),
            usages: meter.usages(),
            generator: Generator {
                threads: self.cpus.len(),
                cpu_s: measured.time.cpu.as_secs_f64(),
                cpu_share: measured.time.cpu.as_secs_f64() / available_s,
                wait_share: measured.time.waited.as_secs_f64() / available_s,
            },
            settled_ms: settled.as_millis() as u64,
        };
        Ok(Outcome {
            report,
            reply: measured.reply,
            visible: probed.visible,
        })
    }

    /// Runs the generator's threads and the probe to their end.
    fn send(
        &self,
        progress: &Progress,
        meter: &mut Meter,
        interrupt: &Interrupt,
    ) -> Result<(Measured, Result<Probed, String>), BenchError> {
        let args = self.args;
        let plan = LoadPlan {
            address: self.socket.unwrap_or(self.address),
            schedule: match args.load.rate {
                Some(rows_per_second) => Schedule::Open {
                    rows_per_second,
                    rows_per_request: u64::from(args.load.rows_per_request),
                },
                None => Schedule::Closed,
            },
            connections: args.load.connections as usize,
            pipeline: args.load.pipeline as usize,
            rows: u64::from(args.load.rows_per_request),
            warm_up: args.load.warm_up,
            duration: args.load.duration,
            expected: self.requests.taker.expected(self.requests.rows),
        };
        let parts = load::prepare(&plan, self.cpus.len(), &self.requests, &self.rows)?;
        let single = RequestPlan {
            rows: 1,
            taker: self.probe_taker(),
            wire: Wire::Http1,
            ..self.requests.clone()
        };
        let mut probe_rows = Rows::generated(args.load.seed, unix_ms()).of_service(PROBE_SERVICE);
        let probe_requests = Requests::new(&single, &mut probe_rows).map_err(BenchError::System)?;
        let origin = Instant::now();
        let probe_plan = self.probe_plan(origin);
        let result = std::thread::scope(|scope| {
            let senders = load::start(scope, &plan, &self.cpus, parts, origin, progress)?;
            let prober = probe_plan.as_ref().map(|plan| {
                let probe = move || {
                    let probed = probe::run(plan, probe_requests, args.load.patience, progress);
                    if let Err(reason) = &probed {
                        progress.fail(reason.clone());
                    }
                    probed
                };
                std::thread::Builder::new()
                    .name("probe".to_owned())
                    .spawn_scoped(scope, probe)
            });
            let prober = prober.transpose()?;
            let mut ticker = Ticker::new(origin);
            while senders.iter().any(|sender| !sender.is_finished())
                || prober.as_ref().is_some_and(|prober| !prober.is_finished())
            {
                if interrupt.has_come() {
                    progress.stop();
                    self.server.iter().for_each(Server::kill);
                }
                std::thread::sleep(TICK);
                ticker.tick(progress, &plan);
                meter.tick(origin.elapsed(), progress.rows.load(Ordering::Relaxed));
            }
            let measured = load::join(senders);
            let probed = match prober {
                Some(prober) => prober.join().expect("the probe does not panic"),
                None => Ok(Probed::none()),
            };
            Ok((measured, probed))
        });
        result.map_err(BenchError::System)
    }

    /// Rows that probe are lines of JSON, whatever the load is: when they become visible is no matter of dialects.
    fn probe_taker(&self) -> Taker {
        Taker::Ringhouse {
            dialect: Dialect::Ndjson,
            ack: self.args.load.ack,
        }
    }

    fn probe_plan(&self, origin: Instant) -> Option<ProbePlan> {
        let args = self.args;
        if args.load.probe_rate == 0 {
            return None;
        }
        let of_service = if args.id_sql.is_none() {
            format!("ServiceName = '{PROBE_SERVICE}' AND {}", self.stored.since)
        } else {
            "1".to_owned()
        };
        Some(ProbePlan {
            address: self.address,
            origin,
            warm_up: args.load.warm_up,
            duration: args.load.duration,
            interval: Duration::from_secs(1) / args.load.probe_rate,
            expected: self.probe_taker().expected(1),
            clickhouse: self.stored.clickhouse.clone(),
            select: format!(
                "SELECT toString({}) FROM {} WHERE {of_service}",
                self.stored.id_sql, self.stored.table
            ),
            id_sql: self.stored.id_sql.clone(),
            run: self.stored.run.clone(),
        })
    }

    fn meter(&self) -> Meter {
        let load = &self.args.load;
        let server = self.server.as_ref().zip(self.layout.as_ref());
        let parties = Parties {
            server: server.map(|(server, layout)| (server.pid(), layout.ingest.len())),
            engine: self.server.as_ref().and_then(Server::engine_pid),
        };
        Meter::new(parties, load.warm_up, load.warm_up + load.duration)
    }

    fn cores(&self) -> Vec<Core> {
        let (Some(server), Some(layout)) = (&self.server, &self.layout) else {
            return Vec::new();
        };
        let rows = server.rows_by_core();
        let cores = layout.ingest.iter().zip(rows).enumerate();
        cores
            .map(|(core, (cpu, rows))| Core {
                core,
                cpu: *cpu,
                rows,
                cpu_s: process::cpu_of_threads(server.pid(), &format!("ingest-{core}-")).as_secs_f64(),
            })
            .collect()
    }

    fn throughput(&self, measured: &Measured) -> Throughput {
        let seconds = self.args.load.duration.as_secs_f64();
        Throughput {
            rows: measured.rows,
            requests: measured.requests,
            rows_per_s: measured.rows as f64 / seconds,
            requests_per_s: measured.requests as f64 / seconds,
            body_mb_per_s: measured.body_bytes as f64 / seconds / 1e6,
            wire_mb_per_s: measured.wire_bytes as f64 / seconds / 1e6,
            refused: measured.refused,
            reopened: measured.reopened,
            unsent: measured.unsent,
        }
    }

    fn settings(&self) -> Settings {
        let args = self.args;
        Settings {
            url: match args.load.dialect.protocol().zip(self.socket) {
                Some((protocol, socket)) => format!("{protocol}://{socket}"),
                None => format!("http://{}", self.address),
            },
            clickhouse: self.stored.clickhouse.to_string(),
            table: self.requests.table.clone(),
            r#loop: if args.load.rate.is_some() {
                "open"
            } else {
                "closed"
            },
            rate: args.load.rate,
            rows_per_request: args.load.rows_per_request as usize,
            connections: args.load.connections as usize,
            pipeline: args.load.pipeline as usize,
            dialect: args.load.dialect.name(),
            encoding: args.load.encoding.name(),
            protocol: args.load.wire().name(),
            ack: match args.load.wire() {
                Wire::OneWay => "none",
                _ => args.load.ack.name(),
            },
            warm_up_s: args.load.warm_up.as_secs_f64(),
            duration_s: args.load.duration.as_secs_f64(),
            seed: args.load.seed,
            row_bytes: args.load.row_bytes,
            corpus: args.load.corpus.as_ref().map(|path| path.display().to_string()),
            run: self.stored.run.prefix().to_owned(),
            ingest_cpus: self.layout.as_ref().map(|layout| layout.ingest.clone()),
            writer_cpu: self.layout.as_ref().map(|layout| layout.writer),
            clickhouse_cpus: args.clickhouse_cpus.clone(),
            load_cpus: self.cpus.iter().copied().flatten().collect(),
            cpus_shared: self.layout.as_ref().is_some_and(Layout::is_shared),
        }
    }
}

/// What is missing or too much, a sentence each.
pub fn shortfalls(sent: u64, acknowledged: u64, stored: u64, distinct: u64, probed: &Probed) -> Vec<String> {
    let mut reasons = Vec::new();
    if acknowledged != sent {
        reasons.push(format!("{sent} rows were sent and {acknowledged} acknowledged"));
    }
    if stored != acknowledged {
        reasons.push(format!(
            "{acknowledged} rows were acknowledged and {stored} are in ClickHouse"
        ));
    }
    if distinct != stored {
        reasons.push(format!(
            "the {stored} rows in ClickHouse have {distinct} different ids"
        ));
    }
    if probed.unseen > 0 {
        reasons.push(format!("{} probes were never seen in ClickHouse", probed.unseen));
    }
    if sent == 0 {
        reasons.push("no row was sent".to_owned());
    }
    reasons
}

/// How often it is looked whether the run is over.
pub const TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_a_run_void_for_every_row_that_is_not_once_in_its_place() {
        let probed = Probed::none();
        assert_eq!(shortfalls(5, 5, 5, 5, &probed), Vec::<String>::new());
        for (sent, acknowledged, stored, distinct) in [
            (5, 4, 4, 4),
            (5, 5, 4, 4),
            (5, 5, 6, 5),
            (5, 5, 5, 4),
            (0, 0, 0, 0),
        ] {
            let reasons = shortfalls(sent, acknowledged, stored, distinct, &probed);
            assert!(!reasons.is_empty(), "{sent} {acknowledged} {stored} {distinct}");
        }
        let unseen = Probed { unseen: 1, ..probed };
        assert_eq!(shortfalls(5, 5, 5, 5, &unseen).len(), 1);
    }
}
