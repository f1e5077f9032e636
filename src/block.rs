//! A sealed batch: the very bytes that go onto the ClickHouse socket, and what the writer must know of them.

use std::sync::Arc;

use crate::ack::AckId;
use crate::schema::Schema;

/// One sealed block. Lives in a fixed pool of its ingest core; crosses cores as one `Box` pointer.
///
/// The ingest core fills it, the writer reads it and sets `outcome`, the ingest core takes it back. Nobody
/// changes `frames` after it was sealed, so a retry sends the same bytes.
#[derive(Debug)]
pub struct Block {
    /// Compressed frames (checksum, header, LZ4 data), exactly what follows a Data packet's table name.
    pub frames: Vec<u8>,
    /// Schema the columns were built for.
    pub schema: Option<Schema>,
    /// Bit i set: the i-th column of the schema that has a default is not in the block.
    pub omitted: u64,
    /// Rows.
    pub rows: u32,
    /// Bytes before compression.
    pub wire_bytes: u32,
    /// Ingest core that built it (index, not CPU number).
    pub core: u16,
    /// Counts the blocks of its core.
    pub sequence: u64,
    /// Range of partitions the rows lie in; equal ranges may share an INSERT.
    pub partition_bucket: i64,
    /// Distinct partitions, ascending, at most `Limits::partitions_per_insert_max`.
    pub partitions: Vec<i64>,
    /// Unix time in nanoseconds at which the first row arrived.
    pub opened_at_ns: i64,
    /// Requests of the block's core that wait for its INSERT; meaningless on any other core.
    pub waiters: Vec<AckId>,
    /// How it ended; set by the writer before the block goes back.
    pub outcome: Option<Outcome>,
}

/// How a block ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// ClickHouse confirmed the INSERT.
    Inserted,
    /// ClickHouse refused the INSERT for its content: code and first line of its message.
    Refused(Arc<str>),
}

/// Partitions a block can name without growing its list: the limit plus room to look one too far.
const PARTITIONS_PREALLOCATED: usize = 128;

/// Requests that share a block without growing its list: 4 KiB. More make it grow, once.
pub const WAITERS_PREALLOCATED: usize = 1024;

impl Block {
    /// An empty block of ingest core `core` with room for `frames_bytes` of frames.
    ///
    /// The memory is reserved, not touched: a page of it becomes resident with the first block that reaches it.
    pub fn with_capacity(frames_bytes: usize, core: u16) -> Self {
        Block {
            frames: Vec::with_capacity(frames_bytes),
            schema: None,
            omitted: 0,
            rows: 0,
            wire_bytes: 0,
            core,
            sequence: 0,
            partition_bucket: 0,
            partitions: Vec::with_capacity(PARTITIONS_PREALLOCATED),
            opened_at_ns: 0,
            waiters: Vec::with_capacity(WAITERS_PREALLOCATED),
            outcome: None,
        }
    }

    /// Forgets the contents and keeps the memory.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.schema = None;
        self.omitted = 0;
        self.rows = 0;
        self.wire_bytes = 0;
        self.partition_bucket = 0;
        self.partitions.clear();
        self.waiters.clear();
        self.outcome = None;
    }

    /// The schema of a sealed block.
    ///
    /// # Panics
    /// When the block is not sealed.
    pub fn sealed_schema(&self) -> &Schema {
        self.schema.as_ref().expect("a sealed block has a schema")
    }
}
