//! Counters of one core each, written by that core alone and read by anyone.

mod endpoint;
mod prometheus;
pub use endpoint::EndpointMetrics;
pub use prometheus::{CONTENT_TYPE, Sources, render};

use crate::access::Refusal;
use crate::wal::log::LogError;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts up. One thread writes it, any thread reads it.
///
/// Two writers would lose counts (never memory safety): each core has its own structs.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`: a plain load and store, no locked instruction.
    pub fn add(&self, n: u64) {
        // Relaxed: a count orders nothing, and its one writer sees its own stores.
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level that goes up and down. One thread writes it, any thread reads it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the level.
    pub fn set(&self, level: u64) {
        // Relaxed: a level orders nothing.
        self.0.store(level, Ordering::Relaxed);
    }

    /// The level last set.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Statuses counted one by one; any other counts as the last, `0`.
pub const STATUSES: [u16; 21] = [
    200, 202, 204, 400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415, 417, 429, 431, 500, 501, 503, 0,
];

/// Why rows are rejected: the labels of the batch's reasons, and `refused` for rows ClickHouse will never take.
/// Any other counts as the last, `other`.
pub const REASONS: [&str; 14] = [
    "json",
    "utf8",
    "not_object",
    "too_deep",
    "too_long",
    "attributes",
    "type",
    "range",
    "time",
    "protobuf",
    "messagepack",
    "rule",
    "refused",
    "other",
];

/// What one ingest core counts. Alone on its cache lines, so that a scrape or a neighbour never slows the core.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct IngestMetrics {
    /// Connections taken.
    pub connections_accepted: Counter,
    /// Connections answered 503 and closed, because the core held its most.
    pub connections_refused: Counter,
    /// Connections that did not begin with the PROXY protocol header they should.
    pub proxy_headers_refused: Counter,
    /// TLS connections whose handshake came to nothing.
    pub tls_handshakes_failed: Counter,
    /// Connections held now.
    pub connections_open: Gauge,
    /// Requests of HTTP/2 taken.
    pub streams_accepted: Counter,
    /// Requests of HTTP/2 not looked at, because the core served its most.
    pub streams_refused: Counter,
    /// Requests of HTTP/2 under way now.
    pub streams_open: Gauge,
    requests: [Counter; STATUSES.len()],
    rejected: [Counter; REASONS.len()],
    access_refused: [Counter; Refusal::LABELS.len()],
    /// Body bytes as they came over the wire (compressed, chunk framing not counted).
    pub bytes_wire: Counter,
    /// Body bytes after decompression.
    pub bytes_decoded: Counter,
    /// Datagrams received.
    pub datagrams: Counter,
    /// Datagrams the kernel dropped, because its buffer was full of those that wait for the log.
    pub datagrams_dropped: Counter,
    /// Rows seen, good and bad.
    pub rows_received: Counter,
    /// Rows put into a batch.
    pub rows_accepted: Counter,
    /// Batches with rows now.
    pub batches_open: Gauge,
    /// Blocks sealed.
    pub blocks_sealed: Counter,
    /// Blocks on their way to the writer now.
    pub ring_depth: Gauge,
    /// Commits that are durable in the log.
    pub commits: Counter,
    /// Tries to make a commit durable that failed.
    pub commits_failed: Counter,
    /// 1 while sealed blocks find room on their way to the log; at 0 the core takes no more rows.
    pub has_room: Gauge,
    /// Why the log takes nothing now, as [`crate::wal::log::LogError::code`] in 32 bits; 0 while it does.
    pub log_error: Gauge,
    /// Requests that wait for their ack level now.
    pub acks_waiting: Gauge,
    /// Unix time in milliseconds of the core's last tick.
    pub heartbeat_ms: Gauge,
}

impl IngestMetrics {
    /// Why the core takes no rows, when its log cannot be written.
    pub fn log_error(&self) -> Option<LogError> {
        LogError::from_code(self.log_error.get() as u32 as i32)
    }

    /// Counts one answered request.
    pub fn request(&self, status: u16) {
        let at = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or(STATUSES.len() - 1);
        self.requests[at].add(1);
    }

    /// Counts `rows` rejected for the reason of this label.
    pub fn reject(&self, label: &str, rows: u64) {
        let at = REASONS
            .iter()
            .position(|known| *known == label)
            .unwrap_or(REASONS.len() - 1);
        self.rejected[at].add(rows);
    }

    /// Counts one request that was refused for who sent it.
    pub fn refuse(&self, refusal: &Refusal) {
        self.access_refused[refusal.index()].add(1);
    }

    /// Requests refused for who sent them, by reason.
    pub fn access_refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = Refusal::LABELS.iter().zip(&self.access_refused);
        counts.map(|(reason, count)| (*reason, count.get()))
    }

    /// Requests answered, by status, only those that occurred.
    pub fn requests(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        STATUSES
            .iter()
            .zip(&self.requests)
            .map(|(status, count)| (*status, count.get()))
            .filter(|(_, n)| *n > 0)
    }

    /// Rows rejected, by reason.
    pub fn rejected(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        REASONS
            .iter()
            .zip(&self.rejected)
            .map(|(reason, count)| (*reason, count.get()))
    }
}

/// State of a table's breaker, as its gauge shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// INSERTs go out.
    Closed = 0,
    /// One INSERT probes whether ClickHouse takes rows again.
    HalfOpen = 1,
    /// INSERTs wait for their pause to end.
    Open = 2,
}

impl BreakerState {
    /// Name in `/status`.
    pub fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half_open",
            BreakerState::Open => "open",
        }
    }
}

/// What the writer counts for one table.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct TableMetrics {
    /// INSERTs confirmed.
    pub inserts: Counter,
    /// Rows confirmed.
    pub rows: Counter,
    /// Blocks confirmed.
    pub blocks: Counter,
    /// Bytes confirmed, in wire form before compression.
    pub bytes_raw: Counter,
    /// Bytes confirmed, as they went over the socket.
    pub bytes_compressed: Counter,
    /// INSERTs sent again.
    pub retries: Counter,
    /// New parts the confirmed INSERTs made, estimated from their partitions and blocks.
    pub parts_estimated: Counter,
    /// INSERTs in flight now.
    pub in_flight: Gauge,
    /// Blocks the writer holds and has not sent.
    pub blocks_waiting: Gauge,
    /// Rows that went to the dead-letter store.
    pub dead_lettered: Counter,
    /// Rows that could not be read back from the log.
    pub lost: Counter,
    /// Rows of a backlog: left by a former process, or more than one INSERT's worth.
    pub backlog_rows: Gauge,
    /// The same, in compressed bytes.
    pub backlog_bytes: Gauge,
    /// Estimated time until the backlog is inserted, in milliseconds; 0 without one, or while there is no telling.
    pub backlog_left_ms: Gauge,
    /// Active parts of the table's fullest partition, as ClickHouse last told. Set by the control thread.
    pub parts_max: Gauge,
    /// Unix time in milliseconds of the last confirmed INSERT, 0 before the first.
    pub last_insert_ms: Gauge,
    /// Tries of the INSERT under way that have failed; 0 when the last try of any succeeded.
    pub failing: Gauge,
    breaker: Gauge,
    failed: Mutex<BTreeMap<(&'static str, i32), u64>>,
}

impl TableMetrics {
    /// Counts an INSERT that failed: by the verdict on it and ClickHouse's code (0: no exception, the connection broke).
    pub fn fail(&self, verdict: &'static str, code: i32) {
        *self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((verdict, code))
            .or_default() += 1;
    }

    /// Failed INSERTs by verdict and code.
    pub fn failed(&self) -> BTreeMap<(&'static str, i32), u64> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows the breaker's state.
    pub fn set_breaker(&self, state: BreakerState) {
        self.breaker.set(state as u64);
    }

    /// The breaker's state last shown.
    pub fn breaker(&self) -> BreakerState {
        match self.breaker.get() {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }
}

/// What the writer core counts.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WriterMetrics {
    /// Unix time in milliseconds of the writer's last tick.
    pub heartbeat_ms: Gauge,
    /// Connections made to ClickHouse.
    pub connects: Counter,
    /// Tries to connect that failed.
    pub connects_failed: Counter,
    endpoints: Vec<EndpointMetrics>,
    tables: Mutex<BTreeMap<String, Arc<TableMetrics>>>,
}

impl WriterMetrics {
    /// Counters for a writer that inserts into these servers, named by their addresses without passwords.
    pub fn of(endpoints: impl Iterator<Item = String>) -> WriterMetrics {
        WriterMetrics {
            endpoints: endpoints.map(EndpointMetrics::of).collect(),
            ..WriterMetrics::default()
        }
    }

    /// Each server's counters, in the order they were written.
    pub fn endpoints(&self) -> &[EndpointMetrics] {
        &self.endpoints
    }

    /// The counters of a table (`database.table`), made on first use. Takes a lock: ask once and keep the handle.
    pub fn table(&self, name: &str) -> Arc<TableMetrics> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.entry(name.to_owned()).or_default().clone()
    }

    /// Every table's counters.
    pub fn tables(&self) -> BTreeMap<String, Arc<TableMetrics>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One table's ledger at one moment: `received = inserted + rejected + dead_lettered + lost + waiting`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LedgerEntry {
    /// `database.table`.
    pub table: String,
    /// Its rows by where they are.
    #[serde(flatten)]
    pub totals: crate::ledger::Totals,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_while_others_read() {
        let metrics = IngestMetrics::default();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut before = 0;
                while before < 100_000 {
                    let now = metrics.rows_received.get();
                    assert!(now >= before, "a counter never falls");
                    before = now;
                }
            });
            (0..100_000).for_each(|_| metrics.rows_received.add(1));
            reader.join().unwrap();
        });
        assert_eq!(metrics.rows_received.get(), 100_000);
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        for reason in crate::json::RejectReason::ALL {
            assert!(REASONS.contains(&reason.label()), "{reason:?}");
        }
    }

    #[test]
    fn keeps_one_handle_for_each_table() {
        let writer = WriterMetrics::default();
        writer.table("a").rows.add(1);
        writer.table("a").rows.add(1);
        writer.table("b").rows.add(5);
        let rows: Vec<(String, u64)> = writer
            .tables()
            .into_iter()
            .map(|(name, t)| (name, t.rows.get()))
            .collect();
        assert_eq!(rows, [("a".to_owned(), 2), ("b".to_owned(), 5)]);
    }

    #[test]
    fn stands_alone_on_its_cache_lines() {
        assert_eq!(align_of::<IngestMetrics>(), 128);
        assert_eq!(size_of::<IngestMetrics>() % 128, 0);
        assert_eq!(align_of::<TableMetrics>(), 128);
    }
}
