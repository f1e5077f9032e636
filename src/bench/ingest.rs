//! `ringhouse bench ingest`: the load generator. Posts rows, checks every reply, and counts every row in ClickHouse.

// The doc comments of arguments are their help texts, where `[env: NAME]` is no link.
#![allow(rustdoc::broken_intra_doc_links)]

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use hdrhistogram::Histogram;

use super::chart::{self, Series};
use super::clickhouse::{AskError, ClickHouse};
use super::dialect::Dialect;
use super::environment::Environment;
use super::id::RunId;
use super::interrupt::Interrupt;
use super::layout::Layout;
use super::load::{self, LoadPlan, Measured, Progress};
use super::probe::{self, ProbePlan, Probed};
use super::process;
use super::reply::Expected;
use super::report::{Core, Generator, Latency, Process, Report, Settings, Throughput, Verdict, Visible};
use super::request::{Encoding, RequestPlan, Requests};
use super::rows::{CorpusError, Rows};
use super::schedule::Schedule;
use super::server::{ID_TABLE, NULL_TABLE, Server, ServerError, ServerPlan};
use super::settle::Stored;
use super::table::thousands;
use crate::ack::AckLevel;
use crate::config::{ConfigError, split_table_name};
use crate::dead_letter::Target;
use crate::histogram::hgrm;
use crate::schema::TableName;
use crate::topology::{self, CoreChoice, TopologyError};

/// Options of `bench ingest`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct IngestArgs {
    /// The server, as http://HOST:PORT; without it one is started, with an embedded ClickHouse, and removed afterwards
    #[arg(long, value_name = "URL", requires = "clickhouse", help_heading = "Server")]
    pub url: Option<Target>,

    /// ClickHouse to count in, as http://USER@HOST:8123/DATABASE or tcp://USER@HOST:9000/DATABASE
    ///
    /// The password may come from RINGHOUSE_CLICKHOUSE_PASSWORD.
    #[arg(long, value_name = "URL", requires = "url", help_heading = "Server")]
    pub clickhouse: Option<ClickHouse>,

    /// Process id of the server, when it runs on this machine, for its CPU time and memory
    #[arg(long, value_name = "PID", requires = "url", help_heading = "Server")]
    pub pid: Option<u32>,

    /// Table, as `table` or `database.table`
    #[arg(
        long,
        value_name = "NAME",
        default_value = "otel_logs",
        help_heading = "Server"
    )]
    pub table: String,

    /// JSON key of a row's id
    #[arg(long, value_name = "KEY", default_value = "trace_id", help_heading = "Server")]
    pub id_key: String,

    /// SQL expression of a row's id in the table
    #[arg(long, value_name = "SQL", default_value = ID_SQL, help_heading = "Server")]
    pub id_sql: String,

    /// Ingest cores of the server that is started: a count or CPUs [default: a quarter of the CPUs]
    #[arg(long, value_name = "CORES", conflicts_with = "url", help_heading = "Server")]
    pub ingest_cores: Option<CoreChoice>,

    /// Set a limit of the server that is started; repeat for more
    #[arg(
        long = "limit",
        value_name = "KEY=VALUE",
        conflicts_with = "url",
        help_heading = "Server"
    )]
    pub limits: Vec<String>,

    /// Throw the rows away in ClickHouse but for their ids, to measure the server of this run rather than ClickHouse
    #[arg(long, conflicts_with_all = ["url", "table", "id_key", "id_sql"], help_heading = "Server")]
    pub null: bool,

    /// What is sent.
    #[command(flatten)]
    pub load: LoadArgs,

    /// Write everything as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// Write the reply latencies' percentiles as HdrHistogram plotters read them; those to visible beside it, as
    /// FILE with `visible` before its extension
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hdr: Option<PathBuf>,

    /// Draw both by percentile
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub svg: Option<PathBuf>,
}

impl IngestArgs {
    /// A server of its own with so many ingest cores, whose rows are thrown away but for their ids.
    pub fn null_on(ingest_cores: usize, limits: Vec<String>, load: LoadArgs) -> IngestArgs {
        IngestArgs {
            url: None,
            clickhouse: None,
            pid: None,
            table: "otel_logs".to_owned(),
            id_key: "trace_id".to_owned(),
            id_sql: ID_SQL.to_owned(),
            ingest_cores: Some(CoreChoice::Count(ingest_cores)),
            limits,
            null: true,
            load,
            json: None,
            hdr: None,
            svg: None,
        }
    }
}

/// What is sent, and for how long.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Rows a second, each request due at a fixed time and its latency counted from there; as fast as it goes when absent
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..=10_000_000_000), help_heading = "Load")]
    pub rate: Option<u64>,

    /// Rows of one request
    #[arg(long, value_name = "ROWS", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Load")]
    pub rows_per_request: u32,

    /// Connections
    #[arg(long, value_name = "COUNT", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Load")]
    pub connections: u32,

    /// Requests in flight on one connection at most
    #[arg(long, value_name = "REQUESTS", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000), help_heading = "Load")]
    pub pipeline: u32,

    /// How rows are written
    #[arg(long, value_name = "DIALECT", default_value = "ndjson", help_heading = "Load")]
    pub dialect: Dialect,

    /// What replies must promise
    #[arg(long, value_name = "LEVEL", value_parser = crate::cli::ack_levels(), default_value = "wal", help_heading = "Load")]
    pub ack: AckLevel,

    /// Content coding of bodies; each is compressed anew, which costs the generator CPU time
    #[arg(
        long,
        value_name = "CODING",
        default_value = "identity",
        help_heading = "Load"
    )]
    pub encoding: Encoding,

    /// Seconds that are measured
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Load")]
    pub duration: Duration,

    /// Seconds before
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, help_heading = "Load")]
    pub warm_up: Duration,

    /// Directory whose files' lines become messages; generated rows when absent
    #[arg(long, value_name = "DIRECTORY", help_heading = "Load")]
    pub corpus: Option<PathBuf>,

    /// Seed of the rows' content
    #[arg(long, value_name = "NUMBER", default_value = "1", help_heading = "Load")]
    pub seed: u64,

    /// CPUs of the generator, a thread each: a count or CPUs [default: away from the server's]
    #[arg(long, value_name = "CPUS", help_heading = "Load")]
    pub load_cpus: Option<CoreChoice>,

    /// Rows a second that are posted on a connection of their own to measure when they become visible; 0 for none
    #[arg(long, value_name = "ROWS", default_value = "5", value_parser = clap::value_parser!(u32).range(0..=1000), help_heading = "Load")]
    pub probe_rate: u32,

    /// Seconds without a new row in ClickHouse after which those that are missing count as lost
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Load")]
    pub patience: Duration,
}

/// Where the id of the default table's rows is.
const ID_SQL: &str = "TraceId";

/// Service of the rows that probe, by which ClickHouse finds them without reading the others.
const PROBE_SERVICE: &str = "ringhouse-bench-probe";

const EXAMPLES: &str = "\
Examples:
  ringhouse bench ingest
      as fast as it goes, against a server and a ClickHouse of its own
  ringhouse bench ingest --rate 100000 --duration 60 --svg latency.svg
      latencies at 100,000 rows a second
  ringhouse bench ingest --url http://10.0.0.7:8080 --clickhouse http://10.0.0.8:8123 --connections 256
      against a running server; the rows stay in its table, under a trace id that begins with the run's 16 digits

The run is VOID, and the exit code not 0, unless every row sent was acknowledged and is in ClickHouse exactly once.";

/// Why there are no figures.
#[derive(Debug)]
pub enum BenchError {
    /// No server to measure.
    Server(ServerError),
    /// The CPUs are not as asked for.
    Topology(TopologyError),
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
    /// SIGINT or SIGTERM has come.
    Interrupted,
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BenchError::Server(error) => error.fmt(f),
            BenchError::Topology(error) => error.fmt(f),
            BenchError::Table(error) => error.fmt(f),
            BenchError::Corpus(error) => error.fmt(f),
            BenchError::Connect(host, error) => write!(f, "{host} cannot be connected to: {error}"),
            BenchError::ClickHouse(error) => write!(f, "rows cannot be counted: {error}"),
            BenchError::System(error) => write!(f, "the load cannot be started: {error}"),
            BenchError::Output(path, error) => write!(f, "{} cannot be written: {error}", path.display()),
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
    stored: Stored,
    requests: RequestPlan,
    rows: Rows,
}

impl Bench<'_> {
    fn start<'a>(args: &'a IngestArgs, interrupt: &Interrupt) -> Result<Bench<'a>, BenchError> {
        let (database, table) = split_table_name(&args.table).map_err(BenchError::Table)?;
        let started_unix_ms = unix_ms();
        let rows = match &args.load.corpus {
            Some(directory) => {
                Rows::from_corpus(args.load.seed, started_unix_ms, directory).map_err(BenchError::Corpus)?
            }
            None => Rows::generated(args.load.seed, started_unix_ms),
        };
        let available = topology::available();
        let (server, layout, mut cpus, address, clickhouse) = match (&args.url, &args.clickhouse) {
            (Some(url), Some(clickhouse)) => {
                let cpus = match &args.load.load_cpus {
                    Some(choice) => {
                        let layout =
                            Layout::plan(&available, None, Some(choice)).map_err(BenchError::Topology)?;
                        layout.load.into_iter().map(Some).collect()
                    }
                    // Half of the machine, wherever the server is not: it may be on this one.
                    None => vec![None; (available.len() / 2).max(1)],
                };
                let clickhouse = match std::env::var("RINGHOUSE_CLICKHOUSE_PASSWORD") {
                    Ok(password) => clickhouse.clone().with_password(&password),
                    Err(_) => clickhouse.clone(),
                };
                (None, None, cpus, resolve(url)?, clickhouse)
            }
            _ => {
                let layout = Layout::plan(
                    &available,
                    args.ingest_cores.as_ref(),
                    args.load.load_cpus.as_ref(),
                )
                .map_err(BenchError::Topology)?;
                let plan = ServerPlan {
                    ingest: layout.ingest.clone(),
                    writer: layout.writer,
                    table: TableName {
                        database: database.unwrap_or("default").to_owned(),
                        table: table.to_owned(),
                    },
                    limits: args.limits.clone(),
                };
                let server = Server::start(&plan, interrupt)?;
                if args.null {
                    server.create_null_table(interrupt)?;
                }
                let (address, clickhouse) = (server.address, server.clickhouse.clone());
                let cpus = layout.load.iter().copied().map(Some).collect();
                (Some(server), Some(layout), cpus, address, clickhouse)
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
            since: match args.id_sql.as_str() {
                ID_SQL => format!("Timestamp >= fromUnixTimestamp64Milli(toInt64({started_unix_ms}))"),
                _ => "1".to_owned(),
            },
            id_sql: args.id_sql.clone(),
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
            stored,
            requests: RequestPlan {
                host: address.to_string(),
                table: if args.null { NULL_TABLE } else { &args.table }.to_owned(),
                dialect: args.load.dialect,
                encoding: args.load.encoding,
                ack: args.load.ack,
                rows: args.load.rows_per_request as usize,
                id_key: args.id_key.clone(),
                run,
            },
            rows,
        })
    }

    fn expected(&self, rows: usize) -> Expected {
        Expected {
            status: self.args.load.ack.status(),
            body: self.args.load.dialect.success(rows, self.args.load.ack),
        }
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
        let (measured, probed) = self.send(&progress, interrupt)?;
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
        let cpu_s = measured.cpu.as_secs_f64();
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
            generator: Generator {
                threads: self.cpus.len(),
                cpu_s,
                cpu_share: cpu_s / (sending.as_secs_f64() * self.cpus.len() as f64),
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
        interrupt: &Interrupt,
    ) -> Result<(Measured, Result<Probed, String>), BenchError> {
        let args = self.args;
        let plan = LoadPlan {
            address: self.address,
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
            expected: self.expected(args.load.rows_per_request as usize),
        };
        let threads = self.cpus.len();
        let mut prepared = Vec::new();
        for thread in 0..threads {
            // Each has rows of its own: bodies are changed where they are when they are sent.
            let mut rows = self.rows.of_thread(thread as u64);
            let requests = Requests::new(&self.requests, &mut rows).map_err(BenchError::System)?;
            let streams = load::connect(&plan, thread, threads)
                .map_err(|error| BenchError::Connect(self.address.to_string(), error))?;
            prepared.push((requests, streams));
        }
        let single = RequestPlan {
            rows: 1,
            ..self.requests.clone()
        };
        let mut probe_rows = Rows::generated(args.load.seed, unix_ms()).of_service(PROBE_SERVICE);
        let probe_requests = Requests::new(&single, &mut probe_rows).map_err(BenchError::System)?;
        let origin = Instant::now();
        let probe_plan = self.probe_plan(origin);
        let result = std::thread::scope(|scope| {
            let mut senders = Vec::new();
            for (thread, (requests, streams)) in prepared.into_iter().enumerate() {
                let (plan, cpu) = (&plan, self.cpus[thread]);
                let name = format!("load-{thread}");
                let body =
                    move || load::run(plan, (thread, threads), cpu, streams, requests, origin, progress);
                senders.push(std::thread::Builder::new().name(name).spawn_scoped(scope, body)?);
            }
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
            }
            let mut measured = Measured::new();
            for sender in senders {
                measured.add(&sender.join().expect("a sender does not panic"));
            }
            let probed = match prober {
                Some(prober) => prober.join().expect("the probe does not panic"),
                None => Ok(Probed::none()),
            };
            Ok((measured, probed))
        });
        result.map_err(BenchError::System)
    }

    fn probe_plan(&self, origin: Instant) -> Option<ProbePlan> {
        let args = self.args;
        if args.load.probe_rate == 0 {
            return None;
        }
        let of_service = if args.id_sql == ID_SQL {
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
            expected: self.expected(1),
            clickhouse: self.stored.clickhouse.clone(),
            select: format!(
                "SELECT toString({}) FROM {} WHERE {of_service}",
                args.id_sql, self.stored.table
            ),
            id_sql: args.id_sql.clone(),
            run: self.stored.run.clone(),
        })
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
            unsent: measured.unsent,
        }
    }

    fn settings(&self) -> Settings {
        let args = self.args;
        Settings {
            url: format!("http://{}", self.address),
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
            ack: args.load.ack.name(),
            warm_up_s: args.load.warm_up.as_secs_f64(),
            duration_s: args.load.duration.as_secs_f64(),
            seed: args.load.seed,
            corpus: args.load.corpus.as_ref().map(|path| path.display().to_string()),
            run: self.stored.run.prefix().to_owned(),
            ingest_cpus: self.layout.as_ref().map(|layout| layout.ingest.clone()),
            writer_cpu: self.layout.as_ref().map(|layout| layout.writer),
            load_cpus: self.cpus.iter().copied().flatten().collect(),
            cpus_shared: self.layout.as_ref().is_some_and(Layout::is_shared),
        }
    }
}

/// What is missing or too much, a sentence each.
fn shortfalls(sent: u64, acknowledged: u64, stored: u64, distinct: u64, probed: &Probed) -> Vec<String> {
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
const TICK: Duration = Duration::from_millis(20);

/// Prints a line a second while the run goes on.
struct Ticker {
    origin: Instant,
    printed_s: u64,
    rows: u64,
    requests: u64,
}

impl Ticker {
    fn new(origin: Instant) -> Ticker {
        Ticker {
            origin,
            printed_s: 0,
            rows: 0,
            requests: 0,
        }
    }

    fn tick(&mut self, progress: &Progress, plan: &LoadPlan) {
        let elapsed = self.origin.elapsed();
        if elapsed.as_secs() == self.printed_s {
            return;
        }
        let passed = (elapsed.as_secs() - self.printed_s) as f64;
        self.printed_s = elapsed.as_secs();
        let rows = progress.rows.load(Ordering::Relaxed);
        let requests = progress.requests.load(Ordering::Relaxed);
        let phase = if elapsed < plan.warm_up {
            " (warm-up)"
        } else if elapsed > plan.warm_up + plan.duration {
            " (waiting for replies and probes)"
        } else {
            ""
        };
        let behind = match plan.schedule {
            Schedule::Closed => String::new(),
            Schedule::Open { .. } => format!(
                ", {:.1} ms behind",
                progress.behind_ns.load(Ordering::Relaxed) as f64 / 1e6
            ),
        };
        eprintln!(
            "{:4} s  {:>12} rows/s  {:>9} requests/s  {} refused{behind}{phase}",
            self.printed_s,
            thousands((rows - self.rows) as f64 / passed),
            thousands((requests - self.requests) as f64 / passed),
            progress.refused.load(Ordering::Relaxed),
        );
        (self.rows, self.requests) = (rows, requests);
    }
}

fn write_files(args: &IngestArgs, outcome: &Outcome) -> Result<(), BenchError> {
    let Outcome {
        report,
        reply,
        visible,
    } = outcome;
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| BenchError::Output(path.to_owned(), error))
    };
    if let Some(path) = &args.json {
        let mut text = serde_json::to_string_pretty(report).expect("numbers, texts and lists are JSON");
        text.push('\n');
        write(path, &text)?;
    }
    if let Some(path) = &args.hdr {
        write(path, &hgrm(reply))?;
        if !visible.is_empty() {
            write(&beside(path, "visible"), &hgrm(visible))?;
        }
    }
    if let Some(path) = &args.svg {
        let series = [
            Series {
                name: "reply",
                histogram: reply,
            },
            Series {
                name: "visible in ClickHouse",
                histogram: visible,
            },
        ];
        let title = format!(
            "ringhouse bench ingest: {} rows/s, ack={}",
            thousands(report.throughput.rows_per_s),
            report.settings.ack
        );
        let mut notes: Vec<String> = report
            .environment
            .to_string()
            .lines()
            .map(str::to_owned)
            .collect();
        notes.extend(
            report
                .verdict
                .reasons
                .iter()
                .map(|reason| format!("VOID: {reason}")),
        );
        write(path, &chart::percentiles(&title, &series, &notes))?;
    }
    Ok(())
}

/// `a/b.hgrm` → `a/b.visible.hgrm`.
fn beside(path: &Path, what: &str) -> PathBuf {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => path.with_extension(format!("{what}.{extension}")),
        None => path.with_extension(what),
    }
}

fn resolve(url: &Target) -> Result<SocketAddr, BenchError> {
    let failed = |error| BenchError::Connect(url.to_string(), error);
    let mut addresses = url.authority().to_socket_addrs().map_err(failed)?;
    addresses
        .next()
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Seconds, with a fraction if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let digits = text.strip_suffix('s').unwrap_or(text);
    match digits.parse::<f64>().map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) if duration <= Duration::from_secs(7 * 86_400) => Ok(duration),
        _ => Err("seconds are a number from 0 to 604800, such as 10 or 0.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_seconds() {
        assert_eq!(seconds("10"), Ok(Duration::from_secs(10)));
        assert_eq!(seconds("0.5s"), Ok(Duration::from_millis(500)));
        for text in ["", "-1", "NaN", "inf", "1e9", "1m"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_the_second_distribution_after_the_first() {
        assert_eq!(
            beside(Path::new("a/b.hgrm"), "visible"),
            Path::new("a/b.visible.hgrm")
        );
        assert_eq!(beside(Path::new("a/b"), "visible"), Path::new("a/b.visible"));
    }

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
