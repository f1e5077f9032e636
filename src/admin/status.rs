//! The `/status` page: everything the cores count, by core and by table.

use super::readiness::Readyz;
use super::{AdminState, json, unix_ms};
use crate::limits::{Limits, Memory};
use crate::metrics::{EndpointMetrics, IngestMetrics, LedgerEntry, TableMetrics};
use crate::topology::Topology;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    uptime_s: u64,
    ready: Readyz,
    clickhouse_version: Option<String>,
    topology: &'a Topology,
    tables: &'a [String],
    cores: Vec<CoreStatus>,
    writer: WriterStatus<'a>,
    wal: WalStatus,
    dead_letters: DeadLetterStatus,
    idempotency: KeyStatus,
    ledger: Vec<LedgerEntry>,
    limits: &'a Limits,
    memory_max_bytes: usize,
    memory_max: Memory,
}

#[derive(Serialize)]
struct CoreStatus {
    core: usize,
    cpu: Option<usize>,
    heartbeat_age_ms: u64,
    connections_open: u64,
    connections_accepted: u64,
    connections_refused: u64,
    requests: BTreeMap<u16, u64>,
    bytes_wire: u64,
    bytes_decoded: u64,
    rows_received: u64,
    rows_accepted: u64,
    rows_rejected: BTreeMap<&'static str, u64>,
    batches_open: u64,
    blocks_sealed: u64,
    ring_depth: u64,
    has_room: bool,
    commits: u64,
    commits_failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_error: Option<String>,
    acks_waiting: u64,
}

#[derive(Serialize)]
struct WriterStatus<'a> {
    heartbeat_age_ms: u64,
    connects: u64,
    connects_failed: u64,
    endpoints: Vec<EndpointStatus<'a>>,
    tables: Vec<TableStatus>,
}

#[derive(Serialize)]
struct DeadLetterStatus {
    rows: u64,
    bytes: u64,
    /// Deleted because the store was too large.
    dropped_rows: u64,
}

#[derive(Serialize)]
struct KeyStatus {
    keys: usize,
    bytes: usize,
    /// Forgotten before their time because there were too many.
    evicted: u64,
}

#[derive(Serialize)]
struct WalStatus {
    bytes: u64,
    bytes_max: u64,
    blocks_waiting: u64,
}

#[derive(Serialize)]
struct EndpointStatus<'a> {
    endpoint: &'a str,
    connected: bool,
    connects: u64,
    failures: u64,
    /// Unix time in milliseconds, 0 before the first.
    last_failed_ms: u64,
    held_rows: u64,
}

#[derive(Serialize)]
struct TableStatus {
    table: String,
    breaker: &'static str,
    inserts: u64,
    failed: Vec<Failed>,
    retries: u64,
    in_flight: u64,
    blocks_waiting: u64,
    rows: u64,
    blocks: u64,
    bytes_raw: u64,
    bytes_compressed: u64,
    parts_estimated: u64,
    /// Active parts of the fullest partition, as ClickHouse last told.
    parts_max: u64,
    dead_lettered: u64,
    lost: u64,
    backlog_rows: u64,
    backlog_bytes: u64,
    /// Estimated.
    backlog_left_s: u64,
    /// Unix time in milliseconds, 0 before the first.
    last_insert_ms: u64,
}

#[derive(Serialize)]
struct Failed {
    verdict: &'static str,
    code: i32,
    count: u64,
}

pub(super) async fn page(State(state): State<Arc<AdminState>>) -> Response {
    let now_ms = unix_ms(SystemTime::now());
    let memory = state.limits.memory(state.ingest.len());
    let page = Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: state.started.instant.elapsed().as_secs(),
        ready: state.readyz(),
        clickhouse_version: state.readiness.clickhouse_version(),
        topology: &state.topology,
        tables: &state.tables,
        cores: state
            .ingest
            .iter()
            .enumerate()
            .map(|(index, core)| core_status(index, state.topology.ingest.get(index).copied(), core, now_ms))
            .collect(),
        writer: WriterStatus {
            heartbeat_age_ms: now_ms.saturating_sub(state.writer.heartbeat_ms.get()),
            connects: state.writer.connects.get(),
            connects_failed: state.writer.connects_failed.get(),
            endpoints: state.writer.endpoints().iter().map(endpoint_status).collect(),
            tables: state
                .writer
                .tables()
                .iter()
                .map(|(name, table)| table_status(name, table))
                .collect(),
        },
        wal: WalStatus {
            bytes: state.log.used_bytes(),
            bytes_max: state.log.bytes_max(),
            blocks_waiting: state.log.blocks(),
        },
        dead_letters: {
            let totals = (state.dead_letters)();
            DeadLetterStatus {
                rows: totals.rows,
                bytes: totals.bytes,
                dropped_rows: totals.dropped_rows,
            }
        },
        idempotency: KeyStatus {
            keys: state.keys.len(),
            bytes: state.keys.bytes(),
            evicted: state.keys.evicted(),
        },
        ledger: (state.ledger)(),
        limits: &state.limits,
        memory_max_bytes: memory.total_bytes(),
        memory_max: memory,
    };
    json(StatusCode::OK, &page)
}

fn core_status(index: usize, cpu: Option<usize>, core: &IngestMetrics, now_ms: u64) -> CoreStatus {
    CoreStatus {
        core: index,
        cpu,
        heartbeat_age_ms: now_ms.saturating_sub(core.heartbeat_ms.get()),
        connections_open: core.connections_open.get(),
        connections_accepted: core.connections_accepted.get(),
        connections_refused: core.connections_refused.get(),
        requests: core.requests().collect(),
        bytes_wire: core.bytes_wire.get(),
        bytes_decoded: core.bytes_decoded.get(),
        rows_received: core.rows_received.get(),
        rows_accepted: core.rows_accepted.get(),
        rows_rejected: core.rejected().filter(|(_, rows)| *rows > 0).collect(),
        batches_open: core.batches_open.get(),
        blocks_sealed: core.blocks_sealed.get(),
        ring_depth: core.ring_depth.get(),
        has_room: core.has_room.get() > 0,
        commits: core.commits.get(),
        commits_failed: core.commits_failed.get(),
        log_error: core.log_error().map(|error| error.to_string()),
        acks_waiting: core.acks_waiting.get(),
    }
}

fn endpoint_status(server: &EndpointMetrics) -> EndpointStatus<'_> {
    EndpointStatus {
        endpoint: &server.endpoint,
        connected: server.connected.get() == 1,
        connects: server.connects.get(),
        failures: server.failures.get(),
        last_failed_ms: server.last_failed_ms.get(),
        held_rows: server.held_rows.get(),
    }
}

fn table_status(name: &str, table: &TableMetrics) -> TableStatus {
    TableStatus {
        table: name.to_owned(),
        breaker: table.breaker().name(),
        inserts: table.inserts.get(),
        failed: table
            .failed()
            .into_iter()
            .map(|((verdict, code), count)| Failed { verdict, code, count })
            .collect(),
        retries: table.retries.get(),
        in_flight: table.in_flight.get(),
        blocks_waiting: table.blocks_waiting.get(),
        rows: table.rows.get(),
        blocks: table.blocks.get(),
        bytes_raw: table.bytes_raw.get(),
        bytes_compressed: table.bytes_compressed.get(),
        parts_estimated: table.parts_estimated.get(),
        parts_max: table.parts_max.get(),
        dead_lettered: table.dead_lettered.get(),
        lost: table.lost.get(),
        backlog_rows: table.backlog_rows.get(),
        backlog_bytes: table.backlog_bytes.get(),
        backlog_left_s: table.backlog_left_ms.get() / 1000,
        last_insert_ms: table.last_insert_ms.get(),
    }
}
