//! `bench ladder`: the way to this design, each rung a server of its own, with the same rows into the same ClickHouse.
//!
//! The generator is that of `bench ingest`, in a closed loop, and all but the last are sent the same bytes: JSON lines under the
//! names of the default table's columns; the last one gets the same rows as OTLP. They go into that table, a MergeTree, of one embedded ClickHouse, by turns; it is emptied in
//! between. Rows a second count until every row is there; CPU time, that of the rung's server and of ClickHouse, until it
//! has also merged what it wants to merge. A rung may lose rows only where its replies promise nothing, and then the
//! table says so.
//!
//! Fire and forget is a Buffer table and not `async_insert`: the embedded engine is `clickhouse local`, which has no queue for
//! it and takes such an INSERT as a synchronous one (26.7: `AsynchronousInsertThreads` is 0, and each becomes a part).

mod child;
mod climb;
mod report;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

pub use self::stage::{StageArgs, run as run_stage};

use self::climb::Climb;
use self::report::{Climbed, Ladder};
use self::stage::Stage;
use super::args::seconds;
use super::dialect::Dialect;
use super::environment::Environment;
use super::ingest::BenchError;
use super::interrupt::Interrupt;
use super::layout::Layout;
use super::server::{Server, ServerPlan};
use crate::ack::AckLevel;
use crate::topology;

/// Options of `bench ladder`.
#[derive(Debug, Clone, Args)]
pub struct LadderArgs {
    /// Rows of one request
    #[arg(long, value_name = "ROWS", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rows_per_request: u32,

    /// Connections, one request in flight on each
    #[arg(long, value_name = "COUNT", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,

    /// Seconds of each run in which replies are counted and timed
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub duration: Duration,

    /// Seconds before; their rows are stored and counted too
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub warm_up: Duration,

    /// Runs of each rung; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,

    /// File that all figures are written to
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// File that a bar chart is written to
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// One way to take rows.
#[derive(Debug, Clone, Copy)]
struct Rung {
    name: &'static str,
    /// Where the rows are when a request is answered with success.
    promise: &'static str,
    server: RungServer,
    /// Its replies promise so little that rows may be missing without a crash.
    may_lose: bool,
}

/// Who takes the rows.
#[derive(Debug, Clone, Copy)]
enum RungServer {
    /// A process of `bench stage`.
    Stage(Stage),
    /// This program as it is, at that level, sent that.
    Ringhouse(AckLevel, Dialect),
}

impl RungServer {
    fn ack(self) -> AckLevel {
        match self {
            RungServer::Stage(stage) => stage.ack(),
            RungServer::Ringhouse(ack, _) => ack,
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            RungServer::Stage(_) => Dialect::Columns,
            RungServer::Ringhouse(_, dialect) => dialect,
        }
    }
}

/// From the first to the last.
const RUNGS: [Rung; 8] = [
    Rung {
        name: "one synchronous INSERT a request",
        promise: "in a part of ClickHouse",
        server: RungServer::Stage(Stage::Insert),
        may_lose: false,
    },
    Rung {
        name: "the same into a Buffer table, fire and forget",
        promise: "in ClickHouse's memory, lost with it",
        server: RungServer::Stage(Stage::Forget),
        may_lose: true,
    },
    Rung {
        name: "requests coalesced, double buffering",
        promise: "in memory, lost with the process",
        server: RungServer::Stage(Stage::Coalesce),
        may_lose: false,
    },
    Rung {
        name: "a durable log before the INSERT",
        promise: "on disk; after a crash some rows are inserted twice",
        server: RungServer::Stage(Stage::Log),
        may_lose: false,
    },
    Rung {
        name: "a log and a parser on each core, rings",
        promise: "on disk, and a row that is no JSON rejected alone",
        server: RungServer::Stage(Stage::Cores),
        may_lose: false,
    },
    Rung {
        name: "SIMD parse, native blocks: ringhouse, ack=wal",
        promise: "on disk, typed; inserted once, also after a crash",
        server: RungServer::Ringhouse(AckLevel::Wal, Dialect::Columns),
        may_lose: false,
    },
    Rung {
        name: "the same, ack=memory",
        promise: "in memory, typed; lost with the process",
        server: RungServer::Ringhouse(AckLevel::Memory, Dialect::Columns),
        may_lose: false,
    },
    Rung {
        name: "protobuf instead of JSON: OTLP, ack=wal",
        promise: "on disk, typed; inserted once, also after a crash",
        server: RungServer::Ringhouse(AckLevel::Wal, Dialect::Otlp),
        may_lose: false,
    },
];

/// Measures and prints. Failure when a rung lost rows that its replies promised, or doubled some.
///
/// # Errors
/// See [`BenchError`].
pub fn run(args: &LadderArgs) -> Result<ExitCode, BenchError> {
    let environment = Environment::read();
    let interrupt = Interrupt::install().map_err(BenchError::System)?;
    let layout = Layout::plan(&topology::available(), None, None).map_err(BenchError::Topology)?;
    let plan = ServerPlan {
        ingest: layout.ingest.clone(),
        writer: layout.writer,
        table: climb::table(),
        socket: None,
        clickhouse: Vec::new(),
        limits: Vec::new(),
    };
    let server = Server::start(&plan, &interrupt)?;
    let climb = Climb {
        args,
        server: &server,
        layout: &layout,
        interrupt: &interrupt,
    };
    let mut climbed: Vec<Climbed> = RUNGS.iter().map(Climbed::new).collect();
    for round in 1..=args.runs {
        for (climbed, rung) in climbed.iter_mut().zip(&RUNGS) {
            eprintln!("round {round} of {}: {}", args.runs, rung.name);
            climbed.runs.push(climb.once(rung)?);
        }
    }
    drop(server);
    let ladder = Ladder::new(environment, args, &layout, climbed);
    print!("{ladder}");
    ladder.write_files(args)?;
    let is_whole = RUNGS.iter().zip(&ladder.rungs).all(|(rung, climbed)| {
        let runs = &climbed.runs;
        runs.iter()
            .all(|run| run.rows_doubled == 0 && (run.rows_lost == 0 || rung.may_lose))
    });
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
