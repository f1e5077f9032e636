//! The admin pages: is it alive, can it take a row, and what does it count.

mod client;
mod guard;
mod listener;
mod readiness;
mod status;
mod target;

pub use client::{ExchangeError, FetchError, Reply, Request, exchange, fetch};
pub use guard::Guard;
pub use readiness::Readiness;
pub use target::{Target, TargetError};

use crate::dead_letter;
use crate::histogram::{self, Measure, Reader};
use crate::idempotency::Keys;
use crate::limits::Limits;
use crate::metrics::{self, IngestMetrics, LedgerEntry, Sources, WriterMetrics};
use crate::tls::Certificates;
use crate::topology::Topology;
use crate::wal::segment::Budget;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Everything the pages show. The parts are handles to what the cores count.
pub struct AdminState {
    /// Counters of each ingest core, by core index.
    pub ingest: Vec<Arc<IngestMetrics>>,
    /// Counters of the writer.
    pub writer: Arc<WriterMetrics>,
    /// What the write-ahead log takes of the disk.
    pub log: Arc<Budget>,
    /// Histograms of all cores.
    pub histograms: Reader,
    /// Reads the ledger of every table.
    pub ledger: Box<dyn Fn() -> Vec<LedgerEntry> + Send + Sync>,
    /// Looks into the dead-letter store. Blocks.
    pub dead_letters: Box<dyn Fn() -> dead_letter::Totals + Send + Sync>,
    /// Idempotency keys.
    pub keys: Keys,
    /// Who may read the pages.
    pub guard: Guard,
    /// Whether rows can be taken.
    pub readiness: Arc<Readiness>,
    /// What the server runs with.
    pub limits: Limits,
    /// Which core runs where.
    pub topology: Topology,
    /// Tables served, the default one first.
    pub tables: Vec<String>,
    /// Start of the process.
    pub started: Started,
}

/// The start, on the clock people read and on the one that never jumps.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// Time of day.
    pub at: SystemTime,
    /// Monotonic.
    pub instant: Instant,
}

impl Started {
    /// This moment.
    pub fn now() -> Started {
        Started {
            at: SystemTime::now(),
            instant: Instant::now(),
        }
    }
}

/// A core that has not ticked for this long is dead. Cores tick every 100 ms, also when idle.
const HEARTBEAT_AGE_MAX_MS: u64 = 1_000;

/// A tick comes every 100 ms; a core that is late by two more leaves its last copy.
const HISTOGRAM_PATIENCE: Duration = Duration::from_millis(300);

/// Serves the pages on a thread of its own until the process ends, through TLS when there are certificates.
///
/// A core that hangs cannot take the pages with it: telling which one does is what they are for.
///
/// # Errors
/// The listener or the thread cannot be set up.
pub fn start(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    state: impl Into<Arc<AdminState>>,
) -> io::Result<JoinHandle<()>> {
    start_bounded(
        listener,
        certificates,
        state.into(),
        listener::CONNECTIONS,
        listener::EXCHANGE_DEADLINE,
    )
}

fn start_bounded(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    state: Arc<AdminState>,
    connections: usize,
    exchange_deadline: Duration,
) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let listener = {
        let _entered = runtime.enter();
        listener::Bounded::new(
            tokio::net::TcpListener::from_std(listener)?,
            certificates,
            connections,
            exchange_deadline,
        )
    };
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let pages = pages(state).into_make_service_with_connect_info::<guard::Peer>();
                if let Err(error) = axum::serve(listener, pages).await {
                    tracing::error!(%error, "the admin pages have ended");
                }
            });
        })
}

fn pages(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .route("/histograms", get(histograms))
        .route("/status", get(status::page))
        .fallback(|| async {
            refuse(
                StatusCode::NOT_FOUND,
                "the pages are /livez, /readyz, /metrics, /histograms and /status",
            )
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&state), guard::check))
        .with_state(state)
}

#[derive(Serialize)]
struct Livez {
    alive: bool,
    /// Cores that have not ticked within the last second, with the time since in milliseconds.
    silent: Vec<Silent>,
}

#[derive(Serialize)]
struct Silent {
    core: String,
    silent_ms: u64,
}

async fn livez(State(state): State<Arc<AdminState>>) -> Response {
    let now_ms = unix_ms(SystemTime::now());
    let silent: Vec<Silent> = state
        .heartbeats()
        // A clock set back makes an age negative: that core has ticked just now.
        .map(|(core, at_ms)| Silent {
            core,
            silent_ms: now_ms.saturating_sub(at_ms),
        })
        .filter(|core| core.silent_ms > HEARTBEAT_AGE_MAX_MS)
        .collect();
    let status = if silent.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(
        status,
        &Livez {
            alive: silent.is_empty(),
            silent,
        },
    )
}

impl AdminState {
    fn readyz(&self) -> readiness::Readyz {
        // One core with room is enough: the answer is whether *a* row can be taken.
        let takes = |core: &Arc<IngestMetrics>| core.has_room.get() > 0 && core.log_error.get() == 0;
        self.readiness.page(
            self.ingest.iter().any(takes),
            self.ingest.iter().find_map(|core| core.log_error()),
        )
    }

    /// Name and last tick (Unix time in milliseconds) of every core.
    fn heartbeats(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let ingest = self
            .ingest
            .iter()
            .enumerate()
            .map(|(index, core)| (format!("ingest {index}"), &core.heartbeat_ms));
        ingest
            .chain([("writer".to_owned(), &self.writer.heartbeat_ms)])
            .map(|(core, gauge)| (core, gauge.get()))
    }
}

async fn readyz(State(state): State<Arc<AdminState>>) -> Response {
    let readyz = state.readyz();
    let status = if readyz.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, &readyz)
}

async fn metrics_page(State(state): State<Arc<AdminState>>) -> Response {
    let page = metrics::render(Sources {
        ingest: state.ingest.clone(),
        writer: state.writer.clone(),
        log: Arc::clone(&state.log),
        dead_letters: (state.dead_letters)(),
        keys: state.keys.clone(),
        access: Arc::clone(&state.guard.access),
        admin_refused: state.guard.refused(),
        ledger: (state.ledger)(),
        histograms: state.histograms.read_async(HISTOGRAM_PATIENCE).await,
        started_s: unix_ms(state.started.at) as f64 / 1e3,
    });
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
}

async fn histograms(
    State(state): State<Arc<AdminState>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let name = query
        .get("name")
        .map_or(Measure::RequestInserted.name(), String::as_str);
    let Some(measure) = Measure::from_name(name) else {
        let names = Measure::ALL.map(Measure::name).join(", ");
        return refuse(
            StatusCode::BAD_REQUEST,
            &format!("no histogram has this name; there are {names}"),
        );
    };
    let form = query.get("format").map_or("text", String::as_str);
    if !["text", "hgrm", "log"].contains(&form) {
        return refuse(StatusCode::BAD_REQUEST, "format must be text, hgrm or log");
    }
    let set = state.histograms.read_async(HISTOGRAM_PATIENCE).await;
    let text = match form {
        "hgrm" => histogram::hgrm(set.get(measure)),
        "log" => histogram::log(&set, state.started.at, state.started.instant.elapsed()),
        _ => histogram::percentiles(&set),
    };
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

fn refuse(status: StatusCode, sentence: &str) -> Response {
    json(status, &serde_json::json!({ "error": sentence }))
}

/// Indented: people read these pages too.
fn json(status: StatusCode, page: &impl Serialize) -> Response {
    let mut text = serde_json::to_string_pretty(page).expect("every page has a JSON form");
    text.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
