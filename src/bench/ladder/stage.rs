//! `ringhouse bench stage`: one server of the ladder, until it is killed or its standard input closes.
//!
//! Each is what one builds next after the one before: it takes bodies of JSON lines under the table's own column names,
//! with axum on tokio, and puts them into ClickHouse over HTTP as JSONEachRow. All but [`Stage::Cores`] run on one core.

mod buffer;
mod coalesce;
mod commit;
mod cores;
mod forward;
mod insert;
mod log;

use std::error::Error;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use clap::{Args, ValueEnum};

use self::coalesce::{Coalesce, Logged};
use self::forward::Forward;
use self::insert::Inserts;
use crate::ack::AckLevel;
use crate::runtime::listen;
use crate::topology::{CoreChoice, Topology, available, pin_current_thread};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Longest body.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a server of the ladder does with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// An INSERT for each request, replied to when ClickHouse has.
    Insert,
    /// The same into a table that keeps rows in memory for a while.
    Forget,
    /// Two buffers: requests fill one while the other is inserted.
    Coalesce,
    /// The same behind a log that is durable before the reply.
    Log,
    /// A log on each core, rows parsed there, rings to a writer on a core of its own.
    Cores,
}

impl Stage {
    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Insert => "insert",
            Stage::Forget => "forget",
            Stage::Coalesce => "coalesce",
            Stage::Log => "log",
            Stage::Cores => "cores",
        }
    }

    /// What its replies name. ClickHouse's own buffer of [`Stage::Forget`] is memory too.
    pub fn ack(self) -> AckLevel {
        match self {
            Stage::Insert => AckLevel::Inserted,
            Stage::Forget | Stage::Coalesce => AckLevel::Memory,
            Stage::Log | Stage::Cores => AckLevel::Wal,
        }
    }
}

/// Options of `bench stage`.
#[derive(Debug, Args)]
pub struct StageArgs {
    /// Which
    pub stage: Stage,

    /// HTTP interface of ClickHouse
    #[arg(long, value_name = "ADDRESS")]
    pub clickhouse: SocketAddr,

    /// Table of the database `default`
    #[arg(long, value_name = "NAME")]
    pub table: String,

    /// Directory of the log
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: PathBuf,

    /// CPUs that take requests; all but the last stage use the first
    #[arg(long, value_name = "CORES")]
    pub ingest_cores: CoreChoice,

    /// CPU of the writer, where there is one
    #[arg(long, value_name = "CPU")]
    pub writer_core: usize,
}

/// The body of `bench stage`: does not return while all goes well.
///
/// # Errors
/// It cannot listen, or its log fails.
pub fn run(args: &StageArgs) -> Result<ExitCode, Box<dyn Error>> {
    let topology = Topology::plan(&available(), Some(&args.ingest_cores), Some(args.writer_core))?;
    end_with_standard_input();
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), BACKLOG)?;
    let address = listener.local_addr()?;
    let inserts = || Inserts::new(args.clickhouse, &args.table);
    let (ended, end) = mpsc::channel();
    let cpu = topology.ingest[0];
    let ack = args.stage.ack();
    if matches!(args.stage, Stage::Log | Stage::Cores) {
        // Before a log makes a file in the same directory.
        let inserts = inserts();
        on_core_once(cpu, || insert::insert_left_behind(&args.directory, &inserts))?;
    }
    match args.stage {
        Stage::Insert | Stage::Forget => {
            let forward = Arc::new(Forward::new(inserts()));
            on_core(cpu, &ended, move || serve(listener, forward, ack))?;
        }
        Stage::Coalesce => {
            let (coalesce, inserts) = (Arc::new(Coalesce::new()), inserts());
            on_core(cpu, &ended, move || async move {
                tokio::try_join!(
                    serve(listener, Arc::clone(&coalesce), ack),
                    coalesce.insert_all(&inserts)
                )
                .map(drop)
            })?;
        }
        Stage::Log => {
            let (directory, inserts) = (args.directory.clone(), inserts());
            on_core(cpu, &ended, move || async move {
                let logged = Arc::new(Logged::new());
                tokio::try_join!(
                    serve(listener, Arc::clone(&logged), ack),
                    logged.log_all(log::Log::create(&directory, 0)?),
                    logged.insert_all(&inserts)
                )
                .map(drop)
            })?;
        }
        Stage::Cores => {
            let (cores, writer) = cores::cores(topology.ingest.len());
            let inserts = inserts();
            on_core(topology.writer, &ended, move || writer.run(inserts))?;
            for ((index, core), cpu) in cores.into_iter().enumerate().zip(topology.ingest) {
                let listener = match index {
                    0 => listener.try_clone()?,
                    _ => listen(address, BACKLOG)?,
                };
                let log = log::Log::create(&args.directory, index)?;
                on_core(cpu, &ended, move || core.run(listener, log, ack))?;
            }
        }
    }
    println!("ringhouse: listening on http://{address}");
    io::stdout().flush()?;
    drop(ended);
    match end.recv() {
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(())) | Err(mpsc::RecvError) => Err("a thread of the stage has ended".into()),
    }
}

/// Ends this process when whoever started it has ended, however that came.
fn end_with_standard_input() {
    std::thread::spawn(|| {
        let mut byte = [0];
        while matches!(io::stdin().read(&mut byte), Ok(1..)) {}
        std::process::exit(0);
    });
}

/// Runs what `body` makes on a thread of its own on this CPU; its end is told to `ended`.
fn on_core<F, B>(cpu: usize, ended: &mpsc::Sender<io::Result<()>>, body: B) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
    B: FnOnce() -> F + Send + 'static,
{
    let ended = ended.clone();
    let name = format!("stage-{cpu}");
    std::thread::Builder::new().name(name).spawn(move || {
        // Whoever started this may have gone.
        let _ = ended.send(block_on_core(cpu, body));
    })?;
    Ok(())
}

/// The same, waited for.
fn on_core_once<F, B>(cpu: usize, body: B) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
    B: FnOnce() -> F + Send,
{
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || block_on_core(cpu, body));
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread of the stage panicked")))
    })
}

fn block_on_core<F: Future<Output = io::Result<()>>>(cpu: usize, body: impl FnOnce() -> F) -> io::Result<()> {
    pin_current_thread(cpu).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(body())
}

/// What became of a body's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taken {
    accepted: usize,
    rejected: usize,
}

/// Why a body is not taken.
#[derive(Debug)]
enum Refused {
    /// None of its rows is: it may be sent again.
    Full(String),
    /// What became of them is not known.
    Unknown(String),
}

/// Takes bodies.
trait Take: Send + Sync + 'static {
    /// Returns once what the reply promises holds.
    fn take(&self, body: Bytes) -> impl Future<Output = Result<Taken, Refused>> + Send;
}

/// Answers requests like the server this leads to.
async fn serve<T: Take>(listener: TcpListener, taker: Arc<T>, ack: AckLevel) -> io::Result<()> {
    let router = Router::new()
        .route("/ingest/{table}", post(ingest::<T>))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state((taker, ack));
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
        // Replies are late without it; that is no reason not to serve.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await
}

async fn ingest<T: Take>(State((taker, ack)): State<(Arc<T>, AckLevel)>, body: Bytes) -> Response {
    let (status, text) = match taker.take(body).await {
        Ok(Taken { accepted, rejected }) => (
            StatusCode::from_u16(ack.status()).unwrap_or(StatusCode::OK),
            format!("{{\"accepted\":{accepted},\"rejected\":{rejected},\"ack\":\"{ack}\"}}\n"),
        ),
        Err(Refused::Full(reason)) => (StatusCode::SERVICE_UNAVAILABLE, error_text(&reason)),
        Err(Refused::Unknown(reason)) => (StatusCode::INTERNAL_SERVER_ERROR, error_text(&reason)),
    };
    (status, text).into_response()
}

fn error_text(reason: &str) -> String {
    format!("{{\"error\":{}}}\n", serde_json::Value::from(reason))
}

/// Lines of a body, the last one with or without its end.
fn lines(body: &[u8]) -> usize {
    let ends = memchr::memchr_iter(b'\n', body).count();
    ends + usize::from(body.last().is_some_and(|byte| *byte != b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_last_line_without_its_end() {
        for (body, count) in [("", 0), ("{}", 1), ("{}\n", 1), ("{}\n{}", 2)] {
            assert_eq!(lines(body.as_bytes()), count, "{body:?}");
        }
    }

    #[test]
    fn every_stage_is_named_as_on_the_command_line() {
        for stage in Stage::value_variants() {
            let name = stage.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(name.as_deref(), Some(stage.name()));
        }
    }
}
