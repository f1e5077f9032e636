//! `bench peers`: the same rows into the same table by this program and by what a user has without it.
//!
//! All go into the default table, a MergeTree, of one embedded ClickHouse, by turns; the table is emptied in between. A
//! run counts from the first byte until every row is there and ClickHouse has merged what it wants to merge: small parts are
//! cheap to write and dear to merge. CPU time is that of ClickHouse and of who sends to it, from lines of JSON on: this program's
//! server, or `clickhouse-rs` in a thread. Who makes the rows is counted for nobody. ClickHouse is given rows under the table's own column names, so that it has less to do.

mod client;
mod send;

use std::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use self::client::Lines;
use self::send::{Load, NativeBlocks, post};
use super::dialect::Dialect;
use super::environment::Environment;
use super::id::RunId;
use super::interrupt::Interrupt;
use super::layout::Layout;
use super::parts::{async_insert_remark, parts_made, wait_until_idle};
use super::server::{Server, ServerPlan};
use super::settle::Stored;
use super::table::{aligned, thousands};
use super::taker::{ASYNC_WAITING, Taker};
use super::target::Judged;
use super::{median, process, unix_ms};
use crate::ack::AckLevel;
use crate::schema::TableName;
use crate::topology;

/// Options of `bench peers`.
#[derive(Debug, Args)]
pub struct PeersArgs {
    /// Rows of one run
    #[arg(long, value_name = "ROWS", default_value_t = 400_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rows: u64,

    /// Runs of each way; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,

    /// Connections of each way over HTTP
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub connections: u64,

    /// File that all figures are written to
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Time a run's rows may take to appear after the last reply.
const APPEAR_PATIENCE: Duration = Duration::from_secs(60);

const TABLE: &str = "otel_logs";

/// Columns that this program's blocks of these rows bring: all, for the default table has no DEFAULT.
const COLUMNS: &str = "Timestamp, TraceId, SpanId, TraceFlags, SeverityText, SeverityNumber, ServiceName, Body, \
                       ResourceSchemaUrl, ResourceAttributes, ScopeSchemaUrl, ScopeName, ScopeVersion, ScopeAttributes, \
                       LogAttributes, EventName";

/// How rows get into ClickHouse.
#[derive(Debug, Clone, Copy)]
enum Way {
    Http(Taker, u64),
    Client,
    Native,
}

impl Way {
    fn is_ours(self) -> bool {
        matches!(self, Way::Http(Taker::Ringhouse { .. }, _))
    }
}

/// What is sent, made before anything is measured.
enum Prepared {
    Bodies(Taker),
    Lines(Lines),
    Blocks(NativeBlocks),
}

const OURS_1000: &str = "ringhouse, ack=wal, 1,000 a request";
const OURS_8192: &str = "ringhouse, ack=wal, 8,192 a request";
const ASYNC_1000: &str = "JSONEachRow, async_insert, waiting, 1,000";
const SYNC_8192: &str = "JSONEachRow, synchronous, 8,192";
const CLIENT: &str = "clickhouse-rs (no LowCardinality, no Map: by a view), 131,072 an INSERT";
const NATIVE: &str = "ready-made Native, 131,072 an INSERT";

const RINGHOUSE: Taker = Taker::Ringhouse {
    dialect: Dialect::Ndjson,
    ack: AckLevel::Wal,
};
const ASYNC_NOT_WAITING: Taker = Taker::ClickHouse {
    settings: "&async_insert=1&wait_for_async_insert=0",
};
const SYNCHRONOUS: Taker = Taker::ClickHouse {
    settings: "&async_insert=0",
};

/// Every way, in the order of the table.
const WAYS: [(&str, Way); 8] = [
    (OURS_1000, Way::Http(RINGHOUSE, 1_000)),
    (OURS_8192, Way::Http(RINGHOUSE, 8_192)),
    (ASYNC_1000, Way::Http(ASYNC_WAITING, 1_000)),
    (
        "JSONEachRow, async_insert, not waiting, 1,000",
        Way::Http(ASYNC_NOT_WAITING, 1_000),
    ),
    ("JSONEachRow, synchronous, 1,000", Way::Http(SYNCHRONOUS, 1_000)),
    (SYNC_8192, Way::Http(SYNCHRONOUS, 8_192)),
    (CLIENT, Way::Client),
    (NATIVE, Way::Native),
];

/// What total CPU time of ours is to stay within, as a multiple of another way's.
const TARGETS: [(&str, &str, f64); 3] = [
    (OURS_1000, ASYNC_1000, 0.2),
    (OURS_8192, SYNC_8192, 0.35),
    (OURS_8192, NATIVE, 1.6),
];

/// What one run took.
#[derive(Debug, Clone, Serialize)]
struct Run {
    /// From the first byte to the last reply.
    replied_s: f64,
    /// ... until every row was there.
    stored_s: f64,
    /// CPU seconds of who sends to ClickHouse: this program's server, or the client.
    sender_cpu_s: f64,
    /// CPU seconds of ClickHouse, merges included.
    clickhouse_cpu_s: f64,
    /// Parts that INSERTs made.
    parts: u64,
    /// Acknowledged and not there.
    lost: u64,
    /// Most memory of this program's server and of ClickHouse during the run.
    memory_bytes: [u64; 2],
}

impl Run {
    fn cpu_s(&self) -> f64 {
        self.sender_cpu_s + self.clickhouse_cpu_s
    }
}

/// The runs of one way.
#[derive(Debug, Serialize)]
struct Ran {
    name: &'static str,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Written<'a> {
    environment: &'a Environment,
    rows: u64,
    ways: &'a [Ran],
}

/// Measures and prints. Failure when rows are missing or doubled.
///
/// # Errors
/// A way cannot be gone.
pub fn run(args: &PeersArgs) -> Result<ExitCode, Box<dyn Error>> {
    let environment = Environment::read();
    println!("{environment}");
    let interrupt = Interrupt::install()?;
    let layout = Layout::plan(&topology::available(), None, None)?;
    let plan = ServerPlan {
        ingest: layout.ingest.clone(),
        writer: layout.writer,
        table: table(),
        socket: None,
        clickhouse: Vec::new(),
        limits: Vec::new(),
    };
    let server = Server::start(&plan, &interrupt)?;
    client::create_table(&server.clickhouse, TABLE)?;
    let mut ways: Vec<Ran> = WAYS
        .iter()
        .map(|(name, _)| Ran {
            name,
            runs: Vec::new(),
        })
        .collect();
    // A first round for caches and code that is compiled at its first use.
    for round in 0..=args.runs {
        for (ran, (name, way)) in ways.iter_mut().zip(WAYS) {
            eprintln!("round {round} of {}: {name}", args.runs);
            let result = go(args, way, &server, &layout, &interrupt);
            let result = result.map_err(|error| format!("{name}: {error}"))?;
            if interrupt.has_come() {
                return Err("interrupted".into());
            }
            if round > 0 {
                ran.runs.push(result);
            }
        }
    }
    let remark = async_insert_remark(&server.clickhouse)?;
    drop(server);
    print(args.rows, &ways);
    if let Some(remark) = remark {
        println!("{remark}");
    }
    if let Some(path) = &args.json {
        let written = Written {
            environment: &environment,
            rows: args.rows,
            ways: &ways,
        };
        let text = serde_json::to_vec_pretty(&written).expect("numbers and texts have a JSON form");
        fs::write(path, text).map_err(|error| format!("--json {}: {error}", path.display()))?;
    }
    let is_whole = ways.iter().all(|ran| ran.runs.iter().all(|run| run.lost == 0));
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn go(
    args: &PeersArgs,
    way: Way,
    server: &Server,
    layout: &Layout,
    interrupt: &Interrupt,
) -> Result<Run, Box<dyn Error>> {
    let clickhouse = &server.clickhouse;
    let run = RunId::random();
    let load = Load {
        rows: args.rows,
        rows_per_request: match way {
            Way::Http(_, rows) => rows,
            Way::Client | Way::Native => args.rows,
        },
        connections: args.connections,
        cpu: layout.load[0],
        table: TABLE.to_owned(),
        run: run.clone(),
        seed: fastrand::Rng::new().u64(..),
        unix_ms: unix_ms(),
    };
    let prepared = match way {
        Way::Http(taker, _) => Prepared::Bodies(taker),
        Way::Client => Prepared::Lines(Lines::make(&load)),
        Way::Native => Prepared::Blocks(NativeBlocks::make(&load)),
    };
    clickhouse.run(&format!("TRUNCATE TABLE {TABLE}"))?;
    wait_until_idle(clickhouse, interrupt)?;
    let processes = [
        server.pid(),
        server.engine_pid().ok_or("the engine's process is not known")?,
    ];
    // From here on VmHWM is the most of this run (proc_pid_clear_refs(5)).
    for pid in processes {
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
    let cpu = || processes.map(|pid| process::cpu(pid).unwrap_or_default());
    let (parts_before, cpu_before) = (parts_made(clickhouse)?, cpu());
    let started = Instant::now();
    let (acknowledged, client_cpu) = match &prepared {
        Prepared::Bodies(taker) => {
            let address = match taker {
                Taker::ClickHouse { .. } => clickhouse.http_address()?,
                Taker::Ringhouse { .. } | Taker::Anyone => server.address,
            };
            (post(&load, *taker, address)?, Duration::ZERO)
        }
        Prepared::Lines(lines) => on_thread(|| lines.insert(&load, server.native_port))?,
        Prepared::Blocks(blocks) => {
            let send = || blocks.send(&load, server.native_port, COLUMNS);
            (on_thread(send)?, Duration::ZERO)
        }
    };
    let replied_s = started.elapsed().as_secs_f64();
    let stored = Stored {
        clickhouse: clickhouse.clone(),
        table: table(),
        // The table was emptied before.
        since: "1".to_owned(),
        id_sql: "TraceId".to_owned(),
        run,
    };
    let (count, _) = stored.wait_for(acknowledged, APPEAR_PATIENCE, interrupt)?;
    let stored_s = started.elapsed().as_secs_f64();
    wait_until_idle(clickhouse, interrupt)?;
    let took = cpu();
    let cpu_s = |index: usize| took[index].saturating_sub(cpu_before[index]).as_secs_f64();
    let parts = parts_made(clickhouse)? - parts_before;
    let distinct = stored.distinct(count)?;
    if count > acknowledged || distinct != count {
        return Err(format!("{count} rows are there, {distinct} different ones, of {acknowledged}").into());
    }
    Ok(Run {
        replied_s,
        stored_s,
        sender_cpu_s: if way.is_ours() {
            cpu_s(0)
        } else {
            client_cpu.as_secs_f64()
        },
        clickhouse_cpu_s: cpu_s(1),
        parts,
        lost: acknowledged - count,
        memory_bytes: processes.map(|pid| process::memory_peak_bytes(pid).unwrap_or(0)),
    })
}

/// On a thread of its own, which may be pinned: this one starts others, which must not be.
fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let worked = scope.spawn(work).join();
        worked.unwrap_or_else(|_| Err(io::Error::other("a sender panicked")))
    })
}

fn table() -> TableName {
    TableName {
        database: "default".to_owned(),
        table: TABLE.to_owned(),
    }
}

fn print(rows: u64, ways: &[Ran]) {
    let millions = rows as f64 / 1e6;
    let mut lines = vec![
        [
            "",
            "rows/s stored",
            "CPU s/M rows",
            "sender",
            "ClickHouse",
            "parts",
            "lost",
            "MiB ours",
            "MiB ClickHouse",
        ]
        .map(String::from)
        .to_vec(),
    ];
    for (ran, (_, way)) in ways.iter().zip(WAYS) {
        let of = |pick: fn(&Run) -> f64| median(ran.runs.iter().map(pick));
        let mib = |bytes: f64| format!("{:.0}", bytes / f64::from(1 << 20));
        lines.push(vec![
            ran.name.to_owned(),
            thousands(rows as f64 / of(|run| run.stored_s)),
            format!("{:.2}", of(Run::cpu_s) / millions),
            format!("{:.2}", of(|run| run.sender_cpu_s) / millions),
            format!("{:.2}", of(|run| run.clickhouse_cpu_s) / millions),
            thousands(of(|run| run.parts as f64)),
            thousands(of(|run| run.lost as f64)),
            if way.is_ours() {
                mib(of(|run| run.memory_bytes[0] as f64))
            } else {
                "-".to_owned()
            },
            mib(of(|run| run.memory_bytes[1] as f64)),
        ]);
    }
    println!("\n{}", aligned(&lines));
    let cpu_s = |name: &str| {
        let ran = ways.iter().find(|ran| ran.name == name).expect("every way ran");
        median(ran.runs.iter().map(Run::cpu_s))
    };
    for (ours, theirs, target) in TARGETS {
        let what = format!("CPU of \"{ours}\" by that of \"{theirs}\"");
        println!("{}", Judged::at_most(what, target, cpu_s(ours) / cpu_s(theirs)));
    }
}
