//! Every bound of the program: its default, its unit, its sane range and its reason, in one place.

use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// Receive buffer of a connection between requests and for small requests.
    receive_buffer_bytes: usize = 8 * 1024, 1024..=MIB;
    /// Receive buffer of a connection that is taking a body larger than the small buffer.
    body_buffer_bytes: usize = 128 * 1024, 4096..=64 * MIB;
    /// Memory one ingest core lends for body buffers, inflate windows and long lines.
    body_buffers_bytes_per_core: usize = 32 * 1024 * 1024, 64 * KIB..=64 * GIB;
    /// Request line and headers together. nginx and Apache take 8 KiB a line; shippers stay far below.
    head_bytes_max: usize = 8 * 1024, 512..=MIB;
    /// Headers in one request.
    headers_max: usize = 64, 8..=512;
    /// One row of input text: an NDJSON line, an array element, an object.
    line_bytes_max: usize = 1024 * 1024, 1024..=256 * MIB;
    /// One request body after de-chunking and inflating. Memory does not grow with it.
    body_bytes_max: u64 = 4 * 1024 * 1024 * 1024, 1024..=1024 * GIB;
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
    /// Sealed blocks one core may have outstanding: this pool is the back-pressure.
    blocks_per_core: usize = 24, 2..=65_536;
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
            "body_buffers_bytes_per_core",
            self.body_buffers_bytes_per_core as u64,
            "line_bytes_max plus body_buffer_bytes",
            (self.line_bytes_max + self.body_buffer_bytes) as u64,
            "one request with a row of the longest size must be able to finish",
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
            "blocks_per_core",
            self.blocks_per_core as u64,
            "batches_per_table",
            self.batches_per_table as u64,
            "every open batch of a table must be able to seal while the writer holds nothing yet",
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
        Ok(())
    }

    /// The most memory the server takes by its own bounds, on `ingest_cores` cores.
    ///
    /// A worst case: every connection open, every batch full, every block waiting for ClickHouse. Memory is
    /// touched on first use, so a quiet server stays far below.
    pub fn memory(&self, ingest_cores: usize) -> Memory {
        let chunk_bytes_max = self.chunk_bytes + self.line_bytes_max;
        Memory {
            ingest_cores,
            connections_bytes: self.connections_per_core
                * (self.receive_buffer_bytes + CONNECTION_STATE_BYTES),
            body_buffers_bytes: self.body_buffers_bytes_per_core,
            parser_bytes: chunk_bytes_max * PARSER_BYTES_PER_BYTE,
            batches_bytes: self.tables_per_core * self.batches_per_table * self.batch_memory_bytes(),
            blocks_bytes: self.blocks_per_core * frames_bytes_max(self.batch_wire_bytes()),
            acks_bytes: self.acks_per_core * ACK_BYTES,
            histograms_bytes: crate::histogram::RECORDER_BYTES,
            writer_bytes: WRITER_BYTES + crate::histogram::RECORDER_BYTES,
        }
    }

    /// Wire bytes a batch can reach: it is sealed at the first chunk that fills it.
    fn batch_wire_bytes(&self) -> usize {
        self.batch_bytes_max + self.chunk_bytes + self.line_bytes_max
    }

    /// Columns grow by doubling, so up to twice their contents is allocated.
    fn batch_memory_bytes(&self) -> usize {
        2 * self.batch_wire_bytes()
    }
}

/// Head, parser and reply state of one connection besides its receive buffer: three small buffers and the task.
const CONNECTION_STATE_BYTES: usize = 4 * 1024;

/// Per byte of JSON text: 1 for the padded copy, 4 for its structural index (u32), and 12 for the tape, because
/// `1,1,1,` yields one 24-byte node every two bytes.
const PARSER_BYTES_PER_BYTE: usize = 1 + 4 + 12;

/// A waiting request: its block, its waker and its row counts.
const ACK_BYTES: usize = 128;

/// The writer sends blocks from where they lie; its own are the socket and decode buffers and the group lists.
const WRITER_BYTES: usize = 4 * 1024 * 1024;

/// LZ4's worst case (1/255 growth and 16 bytes) and a 25-byte header for each 64 KiB piece at least.
fn frames_bytes_max(wire_bytes: usize) -> usize {
    wire_bytes + wire_bytes / 255 + (wire_bytes / (64 * 1024) + 1) * (16 + 25)
}

/// The worst case of [`Limits::memory`], by what takes it. Bytes; all but the last are per ingest core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Ingest cores the total counts.
    pub ingest_cores: usize,
    /// `connections_per_core` receive buffers with their state.
    pub connections_bytes: usize,
    /// Body buffers, inflate windows and long lines.
    pub body_buffers_bytes: usize,
    /// The longest chunk with its index and tape.
    pub parser_bytes: usize,
    /// All open batches of all tables.
    pub batches_bytes: usize,
    /// The pool of sealed blocks.
    pub blocks_bytes: usize,
    /// Requests that wait for their ack level.
    pub acks_bytes: usize,
    /// Latency histograms and their published copies.
    pub histograms_bytes: usize,
    /// The writer core, once.
    pub writer_bytes: usize,
}

impl Memory {
    /// Bytes of one ingest core.
    pub fn per_core_bytes(&self) -> usize {
        self.connections_bytes
            + self.body_buffers_bytes
            + self.parser_bytes
            + self.batches_bytes
            + self.blocks_bytes
            + self.acks_bytes
            + self.histograms_bytes
    }

    /// Bytes of the whole process.
    pub fn total_bytes(&self) -> usize {
        self.ingest_cores * self.per_core_bytes() + self.writer_bytes
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes.div_ceil(1024 * 1024);
        write!(
            f,
            "at most {} MiB = {} ingest core(s) x {} MiB (connections {}, body buffers {}, parser {}, open batches {}, \
             sealed blocks {}, acks {}, histograms {}) + writer {} MiB",
            mib(self.total_bytes()),
            self.ingest_cores,
            mib(self.per_core_bytes()),
            mib(self.connections_bytes),
            mib(self.body_buffers_bytes),
            mib(self.parser_bytes),
            mib(self.batches_bytes),
            mib(self.blocks_bytes),
            mib(self.acks_bytes),
            mib(self.histograms_bytes),
            mib(self.writer_bytes),
        )
    }
}

/// Why a limit is refused. Always the operator's to fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// No limit has this key.
    Unknown {
        /// Key as written.
        key: String,
        /// Known key most like it.
        nearest: Option<&'static str>,
    },
    /// The value is not a whole number that fits.
    NotANumber {
        /// Key.
        key: &'static str,
        /// Value as written.
        text: String,
    },
    /// The value is outside what is sane.
    OutOfRange {
        /// Key.
        key: &'static str,
        /// Value as written.
        value: u64,
        /// Least allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
    /// Two limits contradict each other.
    Contradiction {
        /// Key that must be larger.
        key: &'static str,
        /// Its value.
        value: u64,
        /// What it is held against.
        other: &'static str,
        /// That one's value.
        bound: u64,
        /// Reason for the rule.
        why: &'static str,
    },
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitError::Unknown {
                key,
                nearest: Some(nearest),
            } => {
                write!(f, "unknown limit `{key}`; did you mean `{nearest}`?")
            }
            LimitError::Unknown { key, nearest: None } => {
                write!(f, "unknown limit `{key}`; `ringhouse check` lists them all")
            }
            LimitError::NotANumber { key, text } => {
                write!(f, "limits.{key} = `{text}` is not a whole number that fits")
            }
            LimitError::OutOfRange { key, value, min, max } => {
                write!(
                    f,
                    "limits.{key} = {value} is out of range: it must be between {min} and {max}"
                )
            }
            LimitError::Contradiction {
                key,
                value,
                other,
                bound,
                why,
            } => {
                write!(
                    f,
                    "limits.{key} = {value} must be at least {other} ({bound}): {why}"
                )
            }
        }
    }
}

impl std::error::Error for LimitError {}

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
mod tests {
    use super::*;

    #[test]
    fn accepts_its_own_defaults() {
        assert_eq!(Limits::default().validate(), Ok(()));
        assert_eq!(LimitsWritten::default().resolve(), Ok(Limits::default()));
    }

    #[test]
    fn sets_every_limit_by_its_key() {
        let defaults = serde_json::to_value(Limits::default()).unwrap();
        for key in Limits::KEYS {
            let value = defaults[key].as_u64().unwrap();
            let mut written = LimitsWritten::default();
            written.set(key, &value.to_string()).unwrap();
            let set = serde_json::to_value(&written).unwrap();
            let named: Vec<&String> = set
                .as_object()
                .unwrap()
                .iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, _)| k)
                .collect();
            assert_eq!(named, [key]);
            assert_eq!(set[key].as_u64(), Some(value));
        }
        assert_eq!(defaults.as_object().unwrap().len(), Limits::KEYS.len());
    }

    #[test]
    fn rejects_an_unknown_key_with_the_nearest_one() {
        let unknown = |key: &str| match LimitsWritten::default().set(key, "1") {
            Err(LimitError::Unknown { nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!(unknown("batch_age"), Some("batch_age_ms"));
        assert_eq!(unknown("lines_bytes_max"), Some("line_bytes_max"));
        assert_eq!(unknown("insert_interval"), Some("insert_interval_ms"));
        assert_eq!(unknown("qqqqqqqqqqqqqqqq"), None);
    }

    #[test]
    fn rejects_what_is_no_number_of_its_type() {
        for (key, text) in [
            ("depth_max", "x"),
            ("depth_max", "-1"),
            ("retry_after_s", "4294967296"),
            ("depth_max", ""),
        ] {
            let refused = LimitsWritten::default().set(key, text).unwrap_err().to_string();
            assert_eq!(
                refused,
                format!("limits.{key} = `{text}` is not a whole number that fits")
            );
        }
    }

    #[test]
    fn rejects_every_limit_outside_its_range_by_name() {
        for key in Limits::KEYS {
            let mut written = LimitsWritten::default();
            // No limit allows its type's whole range.
            let text = if *key == "retry_after_s" {
                u32::MAX.to_string()
            } else {
                u64::MAX.to_string()
            };
            written.set(key, &text).unwrap();
            match written.resolve() {
                Err(LimitError::OutOfRange {
                    key: named, min, max, ..
                }) => {
                    assert_eq!(named, *key);
                    assert!(min < max, "{key}");
                }
                other => panic!("{key}: {other:?}"),
            }
        }
    }

    #[test]
    fn rejects_pairs_that_contradict() {
        for (assignments, key) in [
            (vec![("body_buffer_bytes", 4096)], "body_buffer_bytes"),
            (vec![("head_bytes_max", 9000)], "receive_buffer_bytes"),
            (vec![("line_bytes_max", 64 << 20)], "body_buffers_bytes_per_core"),
            (vec![("body_bytes_max", 1 << 19)], "body_bytes_max"),
            (vec![("insert_rows_max", 1)], "insert_rows_max"),
            (vec![("insert_bytes_max", 1 << 20)], "insert_bytes_max"),
            (vec![("blocks_per_core", 2)], "blocks_per_core"),
            (vec![("retry_pause_min_ms", 9000)], "retry_pause_max_ms"),
            (vec![("ack_deadline_ms", 900)], "ack_deadline_ms"),
        ] {
            let mut written = LimitsWritten::default();
            for (key, value) in &assignments {
                written.set(key, &value.to_string()).unwrap();
            }
            match written.resolve() {
                Err(LimitError::Contradiction {
                    key: named,
                    value,
                    bound,
                    ..
                }) => {
                    assert_eq!(named, key);
                    assert!(value < bound, "{key}");
                }
                other => panic!("{assignments:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn adds_up_the_memory_by_hand() {
        let limits = Limits {
            connections_per_core: 10,
            receive_buffer_bytes: 1000,
            body_buffers_bytes_per_core: 5_000_000,
            chunk_bytes: 1000,
            line_bytes_max: 2000,
            batch_bytes_max: 97_000,
            tables_per_core: 2,
            batches_per_table: 3,
            blocks_per_core: 4,
            acks_per_core: 7,
            ..Limits::default()
        };
        let memory = limits.memory(3);
        assert_eq!(memory.connections_bytes, 10 * (1000 + 4096));
        assert_eq!(memory.parser_bytes, 3000 * 17);
        // 97,000 + 1,000 + 2,000 = 100,000 wire bytes a batch, doubled by growth.
        assert_eq!(memory.batches_bytes, 2 * 3 * 200_000);
        // 100,000 + 392 of LZ4's worst case + 2 frames' 41 bytes.
        assert_eq!(memory.blocks_bytes, 4 * 100_474);
        assert_eq!(memory.acks_bytes, 7 * 128);
        let per_core = 50_960 + 5_000_000 + 51_000 + 1_200_000 + 401_896 + 896 + memory.histograms_bytes;
        assert_eq!(memory.per_core_bytes(), per_core);
        assert_eq!(memory.total_bytes(), 3 * per_core + memory.writer_bytes);
    }

    #[test]
    fn counts_tape_nodes_at_no_less_than_their_size() {
        assert!(size_of::<simd_json::Node<'_>>() <= 24);
    }

    #[test]
    fn prints_the_memory_in_mebibytes() {
        let printed = Limits::default().memory(2).to_string();
        assert!(printed.starts_with("at most "), "{printed}");
        assert!(printed.contains(" = 2 ingest core(s) x "), "{printed}");
    }
}
