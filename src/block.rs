//! A sealed batch: the very bytes that go onto the ClickHouse socket, and what the writer must know of them.

use crate::schema::Schema;

/// One sealed block. Lives in a fixed pool of its ingest core; crosses cores as one `Box` pointer.
#[derive(Debug)]
pub struct Block {
    /// Compressed frames (checksum, header, LZ4 data), exactly what follows a Data packet's table name.
    pub frames: Vec<u8>,
    /// Schema the columns were built for.
    pub schema: Option<Schema>,
    /// Bit i set: column i of the schema (counting only columns with a default, in order) is not in the block.
    pub omitted: u64,
    /// Rows.
    pub rows: u32,
    /// Bytes before compression.
    pub wire_bytes: u32,
    /// Ingest core that built it (index, not CPU number).
    pub core: u16,
    /// Per-core sequence number; with `core` and the process's boot id it names the block for deduplication.
    pub sequence: u64,
    /// Range of partitions the rows lie in; equal ranges may share an INSERT.
    pub partition_bucket: i64,
    /// Distinct partitions, ascending, at most `Limits::partitions_per_insert_max`.
    pub partitions: Vec<i64>,
    /// Unix time in nanoseconds at which the first row arrived.
    pub opened_at_ns: i64,
    /// Requests wait for this block's INSERT.
    pub awaited: bool,
}

impl Block {
    /// An empty block with room for `frames_bytes` of frames; the memory is touched on first use only.
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
            partitions: Vec::with_capacity(128),
            opened_at_ns: 0,
            awaited: false,
        }
    }

    /// Forgets the contents and keeps the memory.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.schema = None;
        self.omitted = 0;
        self.rows = 0;
        self.wire_bytes = 0;
        self.partitions.clear();
        self.awaited = false;
    }
}
