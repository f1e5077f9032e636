//! An ingest core, step by step as src/ingest does it: rows to batches, batches to a commit, the commit to the log.

use std::collections::VecDeque;
use std::task::Poll;

use ringhouse::ack::{AckId, AckLevel, AckTable, Waiter};
use ringhouse::block::{AwaitedBlock, Block, BlockId, BlockInfo, Partitions, Settlement};
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::wal::Commit;
use ringhouse::wal::log::{Log, LogConfig};

use crate::blocks::put_frames;
use crate::house::partition;
use crate::world::{OPAQUE_TABLE, World, note};

/// How soon a commit that failed is tried again.
const LOG_RETRY_PAUSE_MS: u64 = 100;

/// Rows after which a batch takes no more.
const BATCH_ROWS_MAX: usize = 12;

/// Rows that wait for the log after which a core takes no requests.
const BUFFERED_ROWS_MAX: usize = 60;

pub struct Core {
    boot: u64,
    index: u16,
    sequence: u64,
    acks: AckTable,
    /// Requests that are not answered.
    requests: Vec<(AckId, usize)>,
    batches: Vec<Batch>,
    filling: Filling,
    spare: Option<Filling>,
    at_log: Option<Filling>,
    log_due_ms: u64,
    /// Durable, and nobody has heard of it.
    durable: Option<Filling>,
    log: Log,
    /// To the writer.
    pub ring: VecDeque<Block>,
    /// From the writer.
    pub settlements: VecDeque<Settlement>,
    awaited: Vec<Option<Vec<Waiter>>>,
    encoder: FrameEncoder,
}

/// Rows of one table, one version of its columns and one range of partitions.
struct Batch {
    table: usize,
    version: usize,
    range: i64,
    ids: Vec<u64>,
    log_waiters: Vec<Waiter>,
    insert_waiters: Vec<Waiter>,
    opened_at_ns: i64,
}

struct Filling {
    commit: Box<Commit>,
    /// Rows by table.
    rows: Vec<(usize, u64)>,
}

impl Filling {
    fn new() -> Filling {
        Filling {
            commit: Box::new(Commit::with_capacity(4096)),
            rows: Vec::new(),
        }
    }
}

impl Core {
    pub fn new(config: LogConfig) -> Core {
        Core {
            boot: config.boot,
            index: config.core,
            sequence: 0,
            acks: AckTable::new(64),
            requests: Vec::new(),
            batches: Vec::new(),
            filling: Filling::new(),
            spare: Some(Filling::new()),
            at_log: None,
            log_due_ms: 0,
            durable: None,
            log: Log::new(config),
            ring: VecDeque::new(),
            settlements: VecDeque::new(),
            awaited: Vec::new(),
            encoder: FrameEncoder::new(),
        }
    }

    /// Nothing is under way but what the writer has.
    pub fn is_drained(&self) -> bool {
        self.batches.is_empty()
            && self.filling.commit.is_empty()
            && self.at_log.is_none()
            && self.durable.is_none()
            && self.ring.is_empty()
            && self.settlements.is_empty()
    }

    /// A request arrives, as far as there is room for it.
    pub fn take_request(&mut self, world: &mut World) {
        let rows: u64 = self.filling.rows.iter().map(|(_, rows)| rows).sum();
        let open: usize = self.batches.iter().map(|batch| batch.ids.len()).sum();
        if rows as usize + open > BUFFERED_ROWS_MAX {
            return;
        }
        let ack = self.acks.open();
        let level = match ack {
            None => AckLevel::Memory,
            Some(_) => AckLevel::ALL[world.rng.usize(..3)],
        };
        let request = world.new_request(level);
        let (table, ids) = (world.requests[request].table, world.requests[request].ids.clone());
        let version = world.version(table);
        note!(
            "core {}: request {request} at {} for t{table} version {version}: {ids:?}",
            self.index,
            level.name()
        );
        for id in ids {
            self.push(id, (table, version), level, ack, world.now_ms);
        }
        let Some(ack) = ack else { return };
        self.acks.settle(ack, 0);
        match level {
            AckLevel::Memory => self.acks.close(ack),
            AckLevel::Wal | AckLevel::Inserted => self.requests.push((ack, request)),
        }
    }

    fn push(
        &mut self,
        id: u64,
        (table, version): (usize, usize),
        level: AckLevel,
        ack: Option<AckId>,
        now_ms: u64,
    ) {
        let range = partition(id) & !63;
        let fits = |batch: &Batch| {
            (batch.table, batch.version, batch.range) == (table, version, range)
                && batch.ids.len() < BATCH_ROWS_MAX
        };
        let index = self.batches.iter().position(fits).unwrap_or_else(|| {
            self.batches.push(Batch {
                table,
                version,
                range,
                ids: Vec::new(),
                log_waiters: Vec::new(),
                insert_waiters: Vec::new(),
                opened_at_ns: now_ms as i64 * 1_000_000,
            });
            self.batches.len() - 1
        });
        let batch = &mut self.batches[index];
        let row = batch.ids.len() as u32;
        batch.ids.push(id);
        let waiters = match level {
            AckLevel::Memory => return,
            AckLevel::Wal => &mut batch.log_waiters,
            AckLevel::Inserted => &mut batch.insert_waiters,
        };
        let ack = ack.expect("who waits has an entry");
        match waiters.last_mut() {
            Some(last) if last.ack == ack && last.rows.end == row => last.rows.end = row + 1,
            _ => {
                waiters.push(Waiter {
                    ack,
                    rows: row..row + 1,
                });
                self.acks.claim(ack);
            }
        }
    }

    /// Does one thing, if there is one to do.
    pub fn step(&mut self, world: &mut World) {
        match world.rng.u8(..6) {
            0 if !self.batches.is_empty() => {
                let batch = world.rng.usize(..self.batches.len());
                self.seal(batch);
            }
            1 => self.commit(),
            2 | 3 => self.append(world),
            4 => self.take_commit(world),
            _ => self.take_settlement(world),
        }
    }

    fn seal(&mut self, batch: usize) {
        let batch = self.batches.swap_remove(batch);
        let id = BlockId {
            boot: self.boot,
            core: self.index,
            sequence: self.sequence,
        };
        self.sequence += 1;
        let partitions = match batch.table == OPAQUE_TABLE {
            true => Partitions::UNKNOWN,
            false => Partitions {
                first: batch.range,
                bits: batch
                    .ids
                    .iter()
                    .fold(0, |bits, id| bits | 1 << (partition(*id) - batch.range)),
            },
        };
        note!("core {}: seals {id}: {:?}", self.index, batch.ids);
        let Filling { commit, rows } = &mut self.filling;
        commit.put_block(id, |out| {
            put_frames(&batch.ids, &mut self.encoder, out);
            BlockInfo {
                schema: crate::world::schema(batch.table, batch.version),
                omitted: batch.version as u64,
                rows: batch.ids.len() as u32,
                wire_bytes: 8 * batch.ids.len() as u32,
                partitions,
                opened_at_ns: batch.opened_at_ns,
            }
        });
        rows.push((batch.table, batch.ids.len() as u64));
        commit.waiters.extend(batch.log_waiters);
        if !batch.insert_waiters.is_empty() {
            commit.await_last_block(AwaitedBlock(self.awaited.len() as u32));
            self.awaited.push(Some(batch.insert_waiters));
        }
    }

    fn commit(&mut self) {
        let Some(spare) = self.spare.take() else { return };
        while let Some(batch) = self
            .batches
            .iter()
            .position(|batch| !batch.log_waiters.is_empty())
        {
            self.seal(batch);
        }
        if self.filling.commit.is_empty() {
            self.spare = Some(spare);
            return;
        }
        self.at_log = Some(std::mem::replace(&mut self.filling, spare));
        self.log_due_ms = 0;
    }

    fn append(&mut self, world: &World) {
        if self.log_due_ms > world.now_ms {
            return;
        }
        let Some(mut filling) = self.at_log.take() else {
            return;
        };
        match self.log.append(&mut filling.commit) {
            Ok(()) => {
                note!("core {}: commit of {:?} is durable", self.index, filling.rows);
                self.durable = Some(filling);
            }
            Err(error) => {
                note!("core {}: commit of {:?}: {error}", self.index, filling.rows);
                self.at_log = Some(filling);
                self.log_due_ms = world.now_ms + LOG_RETRY_PAUSE_MS;
            }
        }
    }

    /// A commit is durable: its requests are answered, its blocks the writer's.
    fn take_commit(&mut self, world: &mut World) {
        let Some(mut filling) = self.durable.take() else {
            return;
        };
        for (table, rows) in filling.rows.drain(..) {
            world.ledger.log(table, rows);
        }
        for waiter in filling.commit.waiters.drain(..) {
            self.acks.settle(waiter.ack, 0);
        }
        self.answer(world);
        self.ring.extend(filling.commit.durable.drain(..));
        self.spare = Some(filling);
    }

    fn take_settlement(&mut self, world: &mut World) {
        let Some(Settlement { block, dead_rows }) = self.settlements.pop_front() else {
            return;
        };
        let waiters = self.awaited[block.0 as usize].take();
        for waiter in waiters.expect("a block ends once") {
            let refused = dead_rows.iter().filter(|row| waiter.rows.contains(row));
            self.acks.settle(waiter.ack, refused.count() as u64);
        }
        self.answer(world);
    }

    fn answer(&mut self, world: &mut World) {
        let Core { acks, requests, .. } = self;
        requests.retain(|(ack, request)| match acks.state(*ack) {
            Poll::Pending => true,
            Poll::Ready(refused) => {
                world.acknowledge(*request, refused);
                acks.close(*ack);
                false
            }
        });
    }
}
