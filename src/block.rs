//! A sealed batch: what is known of it beside its bytes, and where in the log these lie.

use std::sync::Arc;

use crate::schema::Schema;
use crate::wal::segment::Segment;

/// Names a block for ever: no other block of any process on this data directory has the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId {
    /// Drawn at random by the process that sealed it.
    pub boot: u64,
    /// Ingest core of that process (index, not CPU number).
    pub core: u16,
    /// Counts the blocks of that core.
    pub sequence: u64,
}

impl std::fmt::Display for BlockId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{}-{}", self.boot, self.core, self.sequence)
    }
}

/// What is known of a block beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Schema the columns were built for.
    pub schema: Schema,
    /// Bit i set: the i-th column of the schema that has a default is not in the block.
    pub omitted: u64,
    /// Rows.
    pub rows: u32,
    /// Bytes before compression.
    pub wire_bytes: u32,
    /// Partitions the rows lie in.
    pub partitions: Partitions,
    /// Unix time in nanoseconds at which the first row arrived.
    pub opened_at_ns: i64,
}

/// The partitions of a block's rows: up to 64 on end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Partitions {
    /// The first of the aligned range they lie in; blocks of one range may share an INSERT.
    pub first: i64,
    /// Bit i set: rows lie in partition `first + i`.
    pub bits: u64,
}

impl Partitions {
    /// Only ClickHouse knows them.
    pub const UNKNOWN: Partitions = Partitions {
        first: i64::MIN,
        bits: 0,
    };

    /// How many there are; 0 when only ClickHouse knows.
    pub fn count(self) -> usize {
        self.bits.count_ones() as usize
    }

    /// Both, when they are of one range.
    pub fn union(self, other: Partitions) -> Option<Partitions> {
        (self.first == other.first).then_some(Partitions {
            first: self.first,
            bits: self.bits | other.bits,
        })
    }

    /// Their numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = i64> {
        (0..64)
            .filter(move |bit| self.bits >> bit & 1 == 1)
            .map(move |bit| self.first + bit)
    }
}

/// A sealed block in the log. It crosses cores by value; its bytes stay where they are until they are sent.
#[derive(Debug, Clone)]
pub struct Block {
    /// Its name.
    pub id: BlockId,
    /// What is known of its rows.
    pub info: BlockInfo,
    /// The file that holds it.
    pub segment: Arc<Segment>,
    /// Where in the file its record begins.
    pub record_at: u64,
    /// Bytes of its frames: checksum, header, LZ4 data; exactly what follows a Data packet's table name.
    pub frames_bytes: u32,
    /// Names the requests that wait for its INSERT; meaningless on any core but the one that sealed it.
    pub awaited: Option<AwaitedBlock>,
}

/// A block of this core's that requests wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwaitedBlock(pub u32);

/// How an awaited block ended, told to the core that sealed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which one.
    pub block: AwaitedBlock,
    /// Its rows that ClickHouse refused for their content and that went to the dead letters, by their position.
    pub dead_rows: Vec<u32>,
}
