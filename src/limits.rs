//! Every bound of the program: its default, its unit, its sane range and its reason, in one place.

mod error;
mod memory;

pub use error::LimitError;
pub use memory::Memory;

use serde::{Deserialize, Serialize};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const HOUR_MS: u64 = 3_600_000;

/// One line per bound, `name: type = default, range;`, so that the field, its default, its key under `[limits]`
/// and its validation cannot drift apart.
macro_rules! limits {
    ($( $(#[doc = $doc:literal])+ $name:ident : $type:ty = $default:expr, $range:expr; )+) => {
        /// Bounds the running server keeps. One value is built at start and copied to every core.
        ///
        /// Sizes are bytes, times are milliseconds, everything else is a count. The names end in their unit.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub struct Limits { $( $(#[doc = $doc])+ pub $name: $type, )+ }

        impl Default for Limits {
            fn default() -> Self {
                Limits { $( $name: $default, )+ }
            }
        }

        /// The `[limits]` section as written: what is absent keeps its default.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(default)]
        pub struct LimitsWritten { $( $(#[doc = $doc])+ pub $name: Option<$type>, )+ }

        impl From<&Limits> for LimitsWritten {
            fn from(limits: &Limits) -> LimitsWritten {
                LimitsWritten { $( $name: Some(limits.$name), )+ }
            }
        }

        impl LimitsWritten {
            /// Fills what this layer leaves open from the `lower` one.
            pub fn or(self, lower: LimitsWritten) -> LimitsWritten {
                LimitsWritten { $( $name: self.$name.or(lower.$name), )+ }
            }

            /// Sets one limit by its key, as `--limit KEY=VALUE` does.
            ///
            /// # Errors
            /// [`LimitError::Unknown`] names the nearest key, [`LimitError::NotANumber`] the offending text.
            pub fn set(&mut self, key: &str, text: &str) -> Result<(), LimitError> {
                let digits = text.replace('_', "");
                match key {
                    $( stringify!($name) => {
                        let value = digits.parse().map_err(|_| LimitError::NotANumber {
                            key: stringify!($name),
                            text: text.to_owned(),
                        })?;
                        self.$name = Some(value);
                    } )+
                    _ => return Err(LimitError::Unknown {
                        key: key.to_owned(),
                        nearest: nearest(key, Limits::KEYS.iter().copied()),
                    }),
                }
                Ok(())
            }

            /// What is run with: the written values over the defaults.
            ///
            /// # Errors
            /// The first value outside its range, or the first pair that contradicts itself.
            pub fn resolve(&self) -> Result<Limits, LimitError> {
                let default = Limits::default();
                let limits = Limits { $( $name: self.$name.unwrap_or(default.$name), )+ };
                limits.validate()?;
                Ok(limits)
            }
        }

        impl Limits {
            /// Every key of `[limits]`, in the order they are documented.
            pub const KEYS: &'static [&'static str] = &[$( stringify!($name), )+];

            fn check_ranges(&self) -> Result<(), LimitError> {
                $( check_range(stringify!($name), self.$name as u64, $range)?; )+
                Ok(())
            }
        }
    };
}

limits! {
    /// Connections one ingest core holds at once; one more is answered 503 and closed.
    connections_per_core: usize = 4096, 1..=1_000_000;
    /// TLS connections among them; one more is closed. Each may take 96 KiB for what is on its way through the session.
    tls_connections_per_core: usize = 1024, 0..=1_000_000;
    /// Connections of those that may speak HTTP/2 on one ingest core; one more is told to go away. Each may have received
    /// `http2_window_bytes` that are not taken yet.
    http2_connections_per_core: usize = 512, 1..=1_000_000;
    /// Bytes of all bodies that a client of HTTP/2 may have sent ahead on one connection: 256 KiB in flight fill 1 Gbit/s over 2 ms.
    http2_window_bytes: usize = 256 * 1024, 65_535..=GIB;
    /// Bytes of one body that a client of HTTP/2 may have sent ahead.
    http2_stream_window_bytes: usize = 128 * 1024, 1024..=GIB;
    /// Requests under way at once on one connection of HTTP/2; a client holds back what is beyond.
    streams_per_connection_max: usize = 128, 1..=65_536;
    /// Requests of HTTP/2 under way at once on one core; one more is refused unseen, and may be sent again (RFC 9113 section 8.7).
    streams_per_core: usize = 4096, 1..=1_000_000;
    /// Receive buffer of a connection between requests and for small requests.
    receive_buffer_bytes: usize = 8 * 1024, 1024..=MIB;
    /// Receive buffer of a connection that is taking a body larger than the small buffer.
    body_buffer_bytes: usize = 128 * 1024, 4096..=64 * MIB;
    /// Memory one ingest core lends for body buffers, inflate windows, long lines, and the items and replies of bulk requests.
    body_buffers_bytes_per_core: usize = 128 * 1024 * 1024, 64 * KIB..=64 * GIB;
    /// Request line and headers together. nginx and Apache take 8 KiB a line; shippers stay far below.
    head_bytes_max: usize = 8 * 1024, 512..=MIB;
    /// Headers in one request.
    headers_max: usize = 64, 8..=512;
    /// One row of input text: an NDJSON line, an array element, an object.
    line_bytes_max: usize = 1024 * 1024, 1024..=256 * MIB;
    /// One request body after de-chunking and inflating. Memory does not grow with it.
    body_bytes_max: u64 = 4 * 1024 * 1024 * 1024, 1024..=1024 * GIB;
    /// A body that is one message (OTLP, Loki, LogEntry, LogTide), after de-chunking and inflating: it is received whole, into a buffer lent for it.
    message_bytes_max: usize = 10 * 1024 * 1024, 4096..=GIB;
    /// Labels of one stream of a Loki push, which every entry of it is stored with. Loki's own bounds come to 45 KiB.
    labels_bytes_max: usize = 64 * 1024, 1024..=MIB;
    /// Actions of one Elasticsearch bulk request: its reply has an item for each, of some 200 bytes.
    bulk_items_max: usize = 50_000, 1..=100_000;
    /// Inflated bytes allowed for each compressed byte, beyond the first `inflate_free_bytes`.
    inflate_ratio_max: u64 = 200, 2..=1_000_000;
    /// Inflated bytes every request may have before the ratio is looked at.
    inflate_free_bytes: u64 = 1024 * 1024, 0..=GIB;
    /// Nesting of objects and arrays in one row.
    depth_max: usize = 64, 2..=512;
    /// Text parsed as one piece: fits L2 beside the tape and the columns it becomes.
    chunk_bytes: usize = 64 * 1024, 4096..=16 * MIB;
    /// Attributes (keys of the overflow column) of one row.
    attributes_per_row_max: usize = 1024, 1..=65_536;
    /// One flattened attribute name.
    attribute_name_bytes_max: usize = 256, 1..=64 * KIB;
    /// Row errors spelled out in one reply; the count stays exact.
    errors_in_reply_max: usize = 20, 0..=1000;
    /// Time for a complete head, from its first byte.
    head_deadline_ms: u64 = 10_000, 100..=HOUR_MS;
    /// Time a body may go without `body_rate_min_bytes` more of it.
    body_deadline_ms: u64 = 30_000, 100..=HOUR_MS;
    /// Bytes a body must bring within each `body_deadline_ms`.
    body_rate_min_bytes: u64 = 1024, 1..=GIB;
    /// Time a kept-alive connection may stay silent.
    idle_deadline_ms: u64 = 75_000, 100..=HOUR_MS;
    /// Time a connection without requests (syslog, JSON lines, Forward) may stay silent. Those without replies lose what they send
    /// into a closed one; a client that is gone is noticed by keep-alive probes before.
    stream_idle_deadline_ms: u64 = 24 * HOUR_MS, 100..=30 * 24 * HOUR_MS;
    /// Datagrams that are taken at once, of each UDP listener and core; one of the greatest length always fits.
    datagram_buffer_bytes: usize = 256 * 1024, 64 * KIB..=64 * MIB;
    /// Kernel buffer of a UDP socket (SO_RCVBUF), where datagrams wait while the log is behind. Above net.core.rmem_max it needs
    /// CAP_NET_ADMIN; without, the kernel gives what it allows.
    datagram_kernel_buffer_bytes: usize = 8 * 1024 * 1024, 4096..=GIB;
    /// Time a peer may take to read a reply.
    reply_deadline_ms: u64 = 30_000, 100..=HOUR_MS;
    /// Time a request waits for its promised ack level before it is answered 503.
    ack_deadline_ms: u64 = 30_000, 100..=HOUR_MS;
    /// Rows in one batch.
    batch_rows_max: usize = 16_384, 1..=1_048_449;
    /// Bytes of one batch in wire form; a batch is sealed at the first chunk that reaches it.
    batch_bytes_max: usize = 2 * 1024 * 1024, 4096..=256 * MIB;
    /// Age at which a batch with rows is sealed.
    batch_age_ms: u64 = 800, 1..=HOUR_MS;
    /// Open batches of one table on one core (partition ranges, sets of omitted columns).
    batches_per_table: usize = 4, 1..=64;
    /// Tables one core holds open batches for.
    tables_per_core: usize = 16, 1..=4096;
    /// Blocks of one core whose INSERT requests wait for.
    awaited_blocks_per_core: usize = 256, 1..=65_536;
    /// Blocks on their way from one core to the writer.
    ring_blocks: usize = 1024, 1..=1_000_000;
    /// Sealed bytes one core holds on their way to the log: when the log falls behind by this, the core reads no more.
    wal_buffer_bytes: usize = 4 * 1024 * 1024, 4096..=GIB;
    /// Time between two commits of one core, as long as they are smaller than `wal_commit_bytes`; the first comes at once.
    wal_commit_interval_ms: u64 = 1, 0..=HOUR_MS;
    /// Sealed bytes that are committed without waiting for the interval.
    wal_commit_bytes: usize = 1024 * 1024, 1..=GIB;
    /// Size of a file of the write-ahead log, preallocated.
    wal_segment_bytes: u64 = 64 * 1024 * 1024, 64 * KIB..=64 * GIB;
    /// Bytes of all files of the write-ahead log; 0 is half of what is free at start. Then 503.
    wal_bytes_max: u64 = 0, 0..=u64::MAX;
    /// Blocks in the write-ahead log that wait for ClickHouse: each takes 200 bytes of memory. Then 503.
    wal_blocks_max: u64 = 500_000, 16..=100_000_000;
    /// Requests of one core that wait for an ack level.
    acks_per_core: usize = 16_384, 1..=10_000_000;
    /// Requests of one connection whose reply is not written yet.
    pipeline_max: usize = 64, 1..=65_536;
    /// Partitions one block or INSERT may touch; ClickHouse refuses more than 100 (code 252).
    partitions_per_insert_max: usize = 100, 1..=100_000;
    /// New parts a second the writer aims not to exceed for one table.
    parts_per_second: usize = 100, 1..=100_000;
    /// Rows in one INSERT.
    insert_rows_max: usize = 1_048_449, 1..=1_048_449;
    /// Compressed bytes in one INSERT.
    insert_bytes_max: usize = 64 * 1024 * 1024, 4096..=GIB;
    /// Blocks in one INSERT: small ones, when many small requests wait to see their rows in the log.
    insert_blocks_max: usize = 4096, 1..=1_000_000;
    /// Compressed bytes a second of a backlog that are inserted beside the live rows of a table.
    backlog_bytes_per_second: u64 = 128 * 1024 * 1024, 1024..=64 * GIB;
    /// INSERTs in flight for one table.
    inserts_in_flight_per_table: usize = 1, 1..=64;
    /// Least time between the starts of two INSERTs of one table while requests wait for them.
    insert_interval_ms: u64 = 200, 0..=HOUR_MS;
    /// Time ClickHouse may take to accept a connection and answer the handshake.
    connect_deadline_ms: u64 = 5_000, 10..=HOUR_MS;
    /// Time ClickHouse may stay silent during an INSERT before its outcome counts as unknown.
    insert_deadline_ms: u64 = 120_000, 100..=24 * HOUR_MS;
    /// First pause after a failed INSERT; doubles with jitter up to `retry_pause_max_ms`.
    retry_pause_min_ms: u64 = 50, 1..=HOUR_MS;
    /// Longest pause between two tries.
    retry_pause_max_ms: u64 = 5_000, 1..=HOUR_MS;
    /// Time from SIGTERM until what is not inserted counts as lost.
    drain_deadline_ms: u64 = 30_000, 0..=24 * HOUR_MS;
    /// Seconds of `Retry-After` in a 503.
    retry_after_s: u32 = 1, 1..=3600;
    /// Time between two readings of the tables' columns.
    schema_refresh_ms: u64 = 5_000, 100..=24 * HOUR_MS;
    /// Idempotency keys remembered, in flight and answered.
    idempotency_keys_max: usize = 100_000, 1..=100_000_000;
    /// Memory of all idempotency keys with their replies; some 340 bytes each when the key is a UUID.
    idempotency_bytes_max: usize = 32 * 1024 * 1024, 64 * KIB..=64 * GIB;
    /// Time a reply is kept for the duplicates of its request.
    idempotency_ttl_ms: u64 = 24 * HOUR_MS, 1000..=30 * 24 * HOUR_MS;
    /// Body, after de-chunking and inflating, of a request with an idempotency key: it is taken as a whole or not at all, so
    /// it is received into the buffer for the longest row and is no longer than `line_bytes_max` either.
    idempotent_body_bytes_max: usize = 1024 * 1024, 1024..=GIB;
    /// Dead letters kept on disk; beyond it the oldest file is deleted, loudly.
    dead_letter_bytes_max: u64 = GIB, MIB..=1024 * GIB;
    /// One file of dead letters: what is deleted at once, and what a command rewrites while an append waits.
    dead_letter_file_bytes_max: u64 = 16 * MIB, 64 * KIB..=GIB;
    /// Keys in the key file. Each core has a copy, and 64 bytes of counters for each.
    keys_max: usize = 1_000, 1..=100_000;
    /// The key file; a key with everything it can have takes some hundred bytes, its fields apart.
    keys_file_bytes_max: u64 = MIB, 1024..=64 * MIB;
}

fn check_range(
    key: &'static str,
    value: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<(), LimitError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(LimitError::OutOfRange {
        key,
        value,
        min: *range.start(),
        max: *range.end(),
    })
}

impl Limits {
    /// Whether every value is sane by itself and beside the others.
    ///
    /// # Errors
    /// The first offender, by key.
    pub fn validate(&self) -> Result<(), LimitError> {
        self.check_ranges()?;
        let at_least = |key, value: u64, other, bound: u64, why| {
            if value >= bound {
                Ok(())
            } else {
                Err(LimitError::Contradiction {
                    key,
                    value,
                    other,
                    bound,
                    why,
                })
            }
        };
        at_least(
            "body_buffer_bytes",
            self.body_buffer_bytes as u64,
            "receive_buffer_bytes",
            self.receive_buffer_bytes as u64,
            "a body moves into the larger buffer when the small one does not hold it",
        )?;
        at_least(
            "receive_buffer_bytes",
            self.receive_buffer_bytes as u64,
            "head_bytes_max",
            self.head_bytes_max as u64,
            "a head must fit the buffer it is read into",
        )?;
        at_least(
            "http2_window_bytes",
            self.http2_window_bytes as u64,
            "http2_stream_window_bytes",
            self.http2_stream_window_bytes as u64,
            "the bodies of a connection share its window",
        )?;
        at_least(
            "body_buffers_bytes_per_core",
            self.body_buffers_bytes_per_core as u64,
            "line_bytes_max plus body_buffer_bytes",
            (self.line_bytes_max + self.body_buffer_bytes) as u64,
            "one request with a row of the longest size must be able to finish",
        )?;
        at_least(
            "body_buffers_bytes_per_core",
            self.body_buffers_bytes_per_core as u64,
            "twice message_bytes_max plus line_bytes_max plus chunk_bytes",
            2 * (self.message_bytes_max + self.line_bytes_max + self.chunk_bytes) as u64,
            "half of it is for receiving, and one message of the longest size must be able to finish",
        )?;
        at_least(
            "body_bytes_max",
            self.body_bytes_max,
            "line_bytes_max",
            self.line_bytes_max as u64,
            "a row comes inside a body",
        )?;
        at_least(
            "insert_rows_max",
            self.insert_rows_max as u64,
            "batch_rows_max",
            self.batch_rows_max as u64,
            "an INSERT carries whole blocks",
        )?;
        at_least(
            "insert_bytes_max",
            self.insert_bytes_max as u64,
            "batch_bytes_max",
            self.batch_bytes_max as u64,
            "an INSERT carries whole blocks",
        )?;
        at_least(
            "retry_pause_max_ms",
            self.retry_pause_max_ms,
            "retry_pause_min_ms",
            self.retry_pause_min_ms,
            "the pause grows from the one to the other",
        )?;
        at_least(
            "ack_deadline_ms",
            self.ack_deadline_ms,
            "batch_age_ms plus insert_interval_ms",
            self.batch_age_ms + self.insert_interval_ms,
            "a request that waits for its INSERT must outlast the batch it waits in",
        )?;
        at_least(
            "dead_letter_bytes_max",
            self.dead_letter_bytes_max,
            "dead_letter_file_bytes_max",
            self.dead_letter_file_bytes_max,
            "a full file must fit the store",
        )?;
        Ok(())
    }
}

impl Limits {
    /// Bytes one commit can reach: the block that fills it comes on top.
    pub fn commit_bytes_max(&self) -> usize {
        self.wal_buffer_bytes
            + crate::clickhouse::frame::FrameEncoder::bound(
                self.batch_bytes_max + crate::batch::overshoot_bytes(self),
            )
    }
}

/// The known name most like `name`, if one is like it at all: closer than a third of its letters apart, or
/// the beginning of one.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= candidate.len().max(name.len()).div_ceil(3)
                || (name.len() > 2 && candidate.starts_with(name))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests;
