//! What one fdatasync makes durable: the blocks an ingest core sealed since the last one, and the keys of their requests.
//!
//! The payload of a block's record:
//!
//! ```text
//!  0  u64  boot        8  u64  sequence     16  u64  fingerprint of the schema
//! 24  u64  omitted    32  i64  partitions: first     40  u64  partitions: bits
//! 48  i64  opened_at_ns
//! 56  u32  rows       60  u32  wire bytes   64  u16  core     66  6 bytes of 0
//! 72       frames
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::log::LogError;
use super::record::{self, Kind};
use crate::ack::Waiter;
use crate::block::{AwaitedBlock, Block, BlockId, BlockInfo, Partitions};
use crate::ingest::KeyedRequest;
use crate::ledger::Account;
use crate::schema::Schema;

/// Bytes before the frames in a block's payload.
pub const BLOCK_HEAD_BYTES: usize = 72;

/// Blocks a commit takes before its lists grow.
const BLOCKS_PREALLOCATED: usize = 64;

/// Requests a commit answers before its list grows.
const WAITERS_PREALLOCATED: usize = 4096;

/// Blocks on their way to the log. Reused: it keeps its memory.
#[derive(Debug)]
pub struct Commit {
    /// Records whose headers are still empty.
    bytes: Vec<u8>,
    records: Vec<Start>,
    blocks: Vec<Pending>,
    /// Requests that are answered when this is durable.
    pub waiters: Vec<Waiter>,
    /// Requests whose idempotency keys it holds.
    pub keyed: Vec<KeyedRequest>,
    /// The blocks, once they are durable.
    pub durable: Vec<Block>,
    /// Rows of each table that wait for this, by the account they are counted in.
    pub rows: Vec<(Arc<Account>, u64)>,
    /// How the last try ended.
    pub result: Result<(), LogError>,
    /// Time the last try took.
    pub took: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Start {
    at: usize,
    payload_bytes: usize,
    kind: Kind,
}

#[derive(Debug)]
struct Pending {
    id: BlockId,
    info: BlockInfo,
    at: usize,
    frames_bytes: u32,
    awaited: Option<AwaitedBlock>,
}

impl Commit {
    /// An empty commit with room for `bytes` of records.
    pub fn with_capacity(bytes: usize) -> Commit {
        Commit {
            bytes: Vec::with_capacity(bytes),
            records: Vec::with_capacity(BLOCKS_PREALLOCATED),
            blocks: Vec::with_capacity(BLOCKS_PREALLOCATED),
            waiters: Vec::with_capacity(WAITERS_PREALLOCATED),
            keyed: Vec::new(),
            durable: Vec::with_capacity(BLOCKS_PREALLOCATED),
            rows: Vec::with_capacity(BLOCKS_PREALLOCATED),
            result: Ok(()),
            took: Duration::ZERO,
        }
    }

    /// Appends a block whose frames `seal` appends to what it is given.
    pub fn put_block(&mut self, id: BlockId, seal: impl FnOnce(&mut Vec<u8>) -> BlockInfo) -> &BlockInfo {
        let at = record::begin(&mut self.bytes);
        let head_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; BLOCK_HEAD_BYTES]);
        let frames_at = self.bytes.len();
        let info = seal(&mut self.bytes);
        let frames_bytes = u32::try_from(self.bytes.len() - frames_at).expect("a block is far below 4 GiB");
        write_block_head(&mut self.bytes[head_at..frames_at], id, &info);
        self.end_record(at, Kind::Block);
        self.blocks.push(Pending {
            id,
            info,
            at,
            frames_bytes,
            awaited: None,
        });
        &self.blocks.last().expect("it was just pushed").info
    }

    /// Requests wait for the INSERT of the block put last.
    ///
    /// # Panics
    /// When none was put.
    pub fn await_last_block(&mut self, awaited: AwaitedBlock) {
        self.blocks.last_mut().expect("a block was put").awaited = Some(awaited);
    }

    /// Appends what [`crate::idempotency`] wants to know after a restart.
    pub fn put_key(&mut self, payload: &[u8], request: KeyedRequest) {
        self.keyed.push(request);
        let at = record::begin(&mut self.bytes);
        self.bytes.extend_from_slice(payload);
        self.end_record(at, Kind::Key);
    }

    fn end_record(&mut self, at: usize, kind: Kind) {
        let payload_bytes = record::end(&mut self.bytes, at);
        self.records.push(Start {
            at,
            payload_bytes,
            kind,
        });
    }

    /// Bytes of its records.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing was put.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The schemas of its blocks, in their order.
    pub(super) fn schemas(&self) -> impl Iterator<Item = &Schema> {
        self.blocks.iter().map(|block| &block.info.schema)
    }

    /// The finished records, for a file of this salt.
    pub(super) fn finish(&mut self, salt: u64) -> &[u8] {
        let mut left = self.records.len() as u32;
        for start in &self.records {
            left -= 1;
            record::finish(
                &mut self.bytes[start.at..],
                start.payload_bytes,
                start.kind,
                left,
                salt,
            );
        }
        &self.bytes
    }

    /// The records lie at `at` in `segment`, durable: makes blocks of them, each with a claim.
    pub(super) fn settle(&mut self, segment: &Arc<super::Segment>, at: u64) {
        for pending in self.blocks.drain(..) {
            segment.claim(pending.id.sequence);
            self.durable.push(Block {
                id: pending.id,
                info: pending.info,
                segment: Arc::clone(segment),
                record_at: at + pending.at as u64,
                frames_bytes: pending.frames_bytes,
                awaited: pending.awaited,
            });
        }
        self.bytes.clear();
        self.records.clear();
    }
}

fn write_block_head(head: &mut [u8], id: BlockId, info: &BlockInfo) {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        head[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&id.boot.to_le_bytes());
    put(&id.sequence.to_le_bytes());
    put(&info.schema.fingerprint.to_le_bytes());
    put(&info.omitted.to_le_bytes());
    put(&info.partitions.first.to_le_bytes());
    put(&info.partitions.bits.to_le_bytes());
    put(&info.opened_at_ns.to_le_bytes());
    put(&info.rows.to_le_bytes());
    put(&info.wire_bytes.to_le_bytes());
    put(&id.core.to_le_bytes());
}

/// What a block's payload says of it, but for the schema, of which it has the fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHead {
    /// Its name.
    pub id: BlockId,
    /// Of the schema it was built for.
    pub fingerprint: u64,
    /// See [`BlockInfo::omitted`].
    pub omitted: u64,
    /// See [`BlockInfo::partitions`].
    pub partitions: Partitions,
    /// See [`BlockInfo::opened_at_ns`].
    pub opened_at_ns: i64,
    /// Rows.
    pub rows: u32,
    /// Bytes before compression.
    pub wire_bytes: u32,
    /// Bytes of the frames.
    pub frames_bytes: u32,
}

impl BlockHead {
    /// Reads a block's payload; `None` when it is too short to be one.
    pub fn read(payload: &[u8]) -> Option<BlockHead> {
        let head = payload.get(..BLOCK_HEAD_BYTES)?;
        let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        Some(BlockHead {
            id: BlockId {
                boot: u64_at(0),
                core: u16::from_le_bytes([head[64], head[65]]),
                sequence: u64_at(8),
            },
            fingerprint: u64_at(16),
            omitted: u64_at(24),
            partitions: Partitions {
                first: u64_at(32) as i64,
                bits: u64_at(40),
            },
            opened_at_ns: u64_at(48) as i64,
            rows: u32_at(56),
            wire_bytes: u32_at(60),
            frames_bytes: u32::try_from(payload.len() - BLOCK_HEAD_BYTES).ok()?,
        })
    }

    /// The block's info, once its schema is known.
    pub fn info(&self, schema: Schema) -> BlockInfo {
        BlockInfo {
            schema,
            omitted: self.omitted,
            rows: self.rows,
            wire_bytes: self.wire_bytes,
            partitions: self.partitions,
            opened_at_ns: self.opened_at_ns,
        }
    }
}
