//! The most memory the server takes, as the sum of its bounds.

use super::Limits;
use serde::Serialize;
use std::fmt;

impl Limits {
    /// The most memory the server takes by its own bounds, on `ingest_cores` cores.
    ///
    /// A worst case: every connection open, every batch full, every block waiting for ClickHouse. Memory is
    /// touched on first use, so a quiet server stays far below. Only a chunk of short numbers for wide columns can
    /// take a batch beyond its share (see [`crate::batch::overshoot_bytes`]).
    pub fn memory(&self, ingest_cores: usize) -> Memory {
        let chunk_bytes_max = self.chunk_bytes + self.line_bytes_max;
        Memory {
            ingest_cores,
            connections_bytes: self.connections_per_core
                * (self.receive_buffer_bytes + CONNECTION_STATE_BYTES),
            tls_sessions_bytes: self.tls_connections_per_core * TLS_SESSION_BYTES,
            streams_bytes: self.http2_connections_per_core
                * (self.http2_window_bytes + self.http2_frames_bytes() + HTTP2_STATE_BYTES)
                + self.streams_per_core
                    * (self.receive_buffer_bytes + self.head_bytes_max + CONNECTION_STATE_BYTES),
            body_buffers_bytes: self.body_buffers_bytes_per_core,
            parser_bytes: (chunk_bytes_max + self.message_bytes_max) * PARSER_BYTES_PER_BYTE,
            batches_bytes: self.tables_per_core * self.batches_per_table * self.batch_memory_bytes(),
            // One is being filled while the other is written.
            commits_bytes: 2 * self.commit_bytes_max(),
            acks_bytes: self.acks_per_core * ACK_BYTES,
            histograms_bytes: crate::histogram::RECORDER_BYTES,
            writer_bytes: WRITER_BYTES
                + crate::histogram::RECORDER_BYTES
                + usize::try_from(self.wal_blocks_max).unwrap_or(usize::MAX) * WAITING_BLOCK_BYTES,
            idempotency_bytes: self.idempotency_bytes_max,
        }
    }

    /// What the frames of bodies that are not taken yet may cost of one connection, beyond their payload: 256 bytes less the
    /// payload each, as h2 counts.
    ///
    /// A body that waits for the log, or a call whose replies are due, may fill its window with frames of 52 bytes: 204 more for
    /// each. What is smaller than a row in a message is an attack.
    pub fn http2_frames_bytes(&self) -> usize {
        4 * self.http2_stream_window_bytes
    }

    /// Wire bytes a batch can reach: it is sealed at the first chunk that fills it.
    fn batch_wire_bytes(&self) -> usize {
        self.batch_bytes_max + crate::batch::overshoot_bytes(self)
    }

    /// Columns grow by doubling, so up to twice their contents is allocated.
    fn batch_memory_bytes(&self) -> usize {
        2 * self.batch_wire_bytes()
    }
}

/// Head, parser and reply state of one connection besides its receive buffer: three small buffers and the task.
const CONNECTION_STATE_BYTES: usize = 4 * 1024;

/// A connection of HTTP/2 besides what it has received: two tables of header fields of 4 KiB, a frame of 16 KiB in each direction.
const HTTP2_STATE_BYTES: usize = 2 * 4 * 1024 + 2 * 16 * 1024;

/// A piece of ciphertext (16 KiB), a handshake message being put together (64 KiB) or later a record with its plaintext, and
/// the session's keys and state. A session that is idle holds a tenth of it.
const TLS_SESSION_BYTES: usize = 96 * 1024;

/// Per byte of JSON text: 1 for the padded copy and 1 for unescaped strings, 4 for its structural index (u32), 12 for
/// the tape, because `1,1,1,` yields one 24-byte node every two bytes, and 3 for what is kept of each row, because a
/// row takes at least three bytes (`{}` and a newline) and leaves two u32.
const PARSER_BYTES_PER_BYTE: usize = 1 + 1 + 4 + 12 + 3;

/// A waiting request: its block, its waker and its row counts.
const ACK_BYTES: usize = 128;

/// The writer reads blocks from the log by the piece; its own are that, socket and decode buffers and the group lists.
const WRITER_BYTES: usize = 4 * 1024 * 1024;

/// A block that waits in the log: what the writer knows of it, and room the queue has doubled into.
const WAITING_BLOCK_BYTES: usize = 200;

/// The worst case of [`Limits::memory`], by what takes it. Bytes; all but the last two are per ingest core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Ingest cores the total counts.
    pub ingest_cores: usize,
    /// `connections_per_core` receive buffers with their state.
    pub connections_bytes: usize,
    /// `tls_connections_per_core` sessions.
    pub tls_sessions_bytes: usize,
    /// Connections of HTTP/2 with what they have received, and their streams with theirs.
    pub streams_bytes: usize,
    /// Body buffers, inflate windows and long lines.
    pub body_buffers_bytes: usize,
    /// The longest chunk with its index and tape, and the longest message in JSON with its own.
    pub parser_bytes: usize,
    /// All open batches of all tables.
    pub batches_bytes: usize,
    /// Sealed blocks on their way to the log.
    pub commits_bytes: usize,
    /// Requests that wait for their ack level.
    pub acks_bytes: usize,
    /// Latency histograms and their published copies.
    pub histograms_bytes: usize,
    /// The writer core, once.
    pub writer_bytes: usize,
    /// Idempotency keys with their replies, once.
    pub idempotency_bytes: usize,
}

impl Memory {
    /// Bytes of one ingest core.
    pub fn per_core_bytes(&self) -> usize {
        self.connections_bytes
            + self.tls_sessions_bytes
            + self.streams_bytes
            + self.body_buffers_bytes
            + self.parser_bytes
            + self.batches_bytes
            + self.commits_bytes
            + self.acks_bytes
            + self.histograms_bytes
    }

    /// Bytes of the whole process.
    pub fn total_bytes(&self) -> usize {
        self.ingest_cores * self.per_core_bytes() + self.writer_bytes + self.idempotency_bytes
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes.div_ceil(1024 * 1024);
        write!(
            f,
            "at most {} MiB = {} ingest core(s) x {} MiB (connections {}, TLS sessions {}, HTTP/2 {}, body buffers {}, parser {}, open batches {}, \
             commits {}, acks {}, histograms {}) + writer {} MiB + idempotency keys {} MiB",
            mib(self.total_bytes()),
            self.ingest_cores,
            mib(self.per_core_bytes()),
            mib(self.connections_bytes),
            mib(self.tls_sessions_bytes),
            mib(self.streams_bytes),
            mib(self.body_buffers_bytes),
            mib(self.parser_bytes),
            mib(self.batches_bytes),
            mib(self.commits_bytes),
            mib(self.acks_bytes),
            mib(self.histograms_bytes),
            mib(self.writer_bytes),
            mib(self.idempotency_bytes),
        )
    }
}
