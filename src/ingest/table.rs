//! One table on one ingest core: its open batches, who waits for them, and what is at the writer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::ack::{AckId, AckLevel, AckTable, Waiter};
use crate::batch::{Pushed, RowInput, TableSink};
use crate::block::BlockId;
use crate::clickhouse::frame::FrameEncoder;
use crate::json::{Parser, RowErrors};
use crate::ledger::Account;
use crate::limits::Limits;
use crate::mapping::{MappingConfig, Reading};
use crate::schema::Schema;
use crate::wal::Commit;

use super::awaiting::{Awaiting, WAITERS_PREALLOCATED};

/// A table and its columns as they were when it was opened. When the columns change the table is retired, and
/// another takes the new rows.
pub(super) struct Table {
    schema: Schema,
    account: Arc<Account>,
    inner: RefCell<Inner>,
    outstanding: Cell<u32>,
    sealed_ms: Cell<u64>,
    touched_ms: Cell<u64>,
    retired: Cell<bool>,
}

struct Inner {
    sink: TableSink,
    /// Per open batch.
    batches: Vec<BatchState>,
}

/// What the core knows of an open batch beside its rows.
#[derive(Default)]
struct BatchState {
    /// Requests that wait to see it in the log.
    log_waiters: Vec<Waiter>,
    /// Requests that wait for its INSERT.
    insert_waiters: Vec<Waiter>,
    /// The next commit must hold it.
    commits: bool,
    /// Rows it had after the last push.
    rows: u32,
}

impl BatchState {
    fn is_log_awaited(&self) -> bool {
        self.commits || !self.log_waiters.is_empty()
    }
}

/// What a push means for the batches that take its rows.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub waiter: Option<Claimant<'a>>,
    /// The next commit must hold the rows.
    pub commits: bool,
}

/// A request that waits, and for what.
#[derive(Clone, Copy)]
pub(super) struct Claimant<'a> {
    pub ack: AckId,
    pub level: AckLevel,
    pub acks: &'a AckTable,
}

/// What the core decides on when it looks for batches to seal.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchInfo {
    pub opened_at_ns: i64,
    pub log_awaited: bool,
    pub insert_awaited: bool,
}

impl Table {
    pub(super) fn new(
        schema: Schema,
        mapping: &MappingConfig,
        account: Arc<Account>,
        limits: &Limits,
    ) -> Self {
        Table {
            account,
            inner: RefCell::new(Inner {
                sink: TableSink::new(Arc::clone(&schema), mapping, limits),
                batches: (0..limits.batches_per_table)
                    .map(|_| BatchState {
                        log_waiters: Vec::with_capacity(WAITERS_PREALLOCATED),
                        insert_waiters: Vec::with_capacity(WAITERS_PREALLOCATED),
                        commits: false,
                        rows: 0,
                    })
                    .collect(),
            }),
            schema,
            outstanding: Cell::new(0),
            sealed_ms: Cell::new(0),
            touched_ms: Cell::new(0),
            retired: Cell::new(false),
        }
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Pushes rows of `input` from `at` on, on behalf of the request `waiter`, if it waits: each batch that takes some holds a
    /// claim on it.
    #[expect(
        clippy::too_many_arguments,
        reason = "those of the sink, how they are read, and the claim"
    )]
    pub(super) fn push(
        &self,
        input: &impl RowInput,
        at: usize,
        parser: &mut Parser,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
        claim: Claim<'_>,
        reading: Reading,
    ) -> Pushed {
        let mut inner = self.inner.borrow_mut();
        let Inner { sink, batches } = &mut *inner;
        sink.read_as(reading);
        let pushed = input.push(at, sink, parser, first_row, now_ns, errors);
        let mut touched = pushed.touched;
        while touched != 0 {
            let batch = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            let state = &mut batches[batch];
            let before = std::mem::replace(&mut state.rows, sink.rows(batch) as u32);
            state.commits |= claim.commits;
            let Some(Claimant { ack, level, acks }) = claim.waiter else {
                continue;
            };
            let waiters = match level {
                AckLevel::Inserted => &mut state.insert_waiters,
                AckLevel::Memory | AckLevel::Wal => &mut state.log_waiters,
            };
            match waiters.last_mut() {
                // Nobody else's rows came in between.
                Some(last) if last.ack == ack && last.rows.end == before => last.rows.end = state.rows,
                _ => {
                    waiters.push(Waiter {
                        ack,
                        rows: before..state.rows,
                    });
                    acks.claim(ack);
                }
            }
        }
        pushed
    }

    /// A batch that is full and must be sealed before it takes more.
    pub(super) fn full_batch(&self) -> Option<usize> {
        let inner = self.inner.borrow();
        inner
            .sink
            .open()
            .map(|(batch, _)| batch)
            .find(|&batch| inner.sink.is_full(batch))
    }

    /// Seals a batch into `commit`, waiters included; returns its rows.
    pub(super) fn seal(
        self: &Rc<Self>,
        batch: usize,
        id: BlockId,
        encoder: &mut FrameEncoder,
        commit: &mut Commit,
        awaiting: &RefCell<Awaiting>,
        now_ms: u64,
    ) -> u64 {
        let mut inner = self.inner.borrow_mut();
        let Inner { sink, batches } = &mut *inner;
        let info = commit.put_block(id, |frames| sink.seal(batch, encoder, frames));
        let rows = u64::from(info.rows);
        let state = &mut batches[batch];
        (state.rows, state.commits) = (0, false);
        commit.waiters.append(&mut state.log_waiters);
        if !state.insert_waiters.is_empty() {
            let awaited = awaiting.borrow_mut().put(self, &mut state.insert_waiters);
            commit.await_last_block(awaited);
            self.outstanding.set(self.outstanding.get() + 1);
        }
        self.sealed_ms.set(now_ms);
        rows
    }

    /// Calls `visit` for every batch that has rows; `visit` may seal it.
    pub(super) fn for_each_batch(&self, mut visit: impl FnMut(usize, BatchInfo)) {
        for batch in 0..self.batches_max() {
            let info = {
                let inner = self.inner.borrow();
                inner
                    .sink
                    .open()
                    .find(|(index, _)| *index == batch)
                    .map(|(_, open)| BatchInfo {
                        opened_at_ns: open.opened_at_ns,
                        log_awaited: inner.batches[batch].is_log_awaited(),
                        insert_awaited: !inner.batches[batch].insert_waiters.is_empty(),
                    })
            };
            if let Some(info) = info {
                visit(batch, info);
            }
        }
    }

    fn batches_max(&self) -> usize {
        self.inner.borrow().batches.len()
    }

    /// Batches with rows.
    pub(super) fn open_batches(&self) -> usize {
        self.inner.borrow().sink.open().count()
    }

    /// Some request waits to see a batch in the log that is not sealed.
    pub(super) fn has_log_awaited(&self) -> bool {
        let inner = self.inner.borrow();
        inner.batches.iter().any(BatchState::is_log_awaited)
    }

    /// Some request waits for the INSERT of a batch that is not sealed.
    pub(super) fn has_insert_awaited(&self) -> bool {
        let inner = self.inner.borrow();
        inner.batches.iter().any(|batch| !batch.insert_waiters.is_empty())
    }

    /// Awaited blocks that are on their way.
    pub(super) fn outstanding(&self) -> u32 {
        self.outstanding.get()
    }

    pub(super) fn block_returned(&self) {
        let outstanding = self.outstanding.get();
        assert!(outstanding > 0, "a block comes back once");
        self.outstanding.set(outstanding - 1);
    }

    /// Monotonic milliseconds of the last seal.
    pub(super) fn sealed_ms(&self) -> u64 {
        self.sealed_ms.get()
    }

    pub(super) fn touch(&self, now_ms: u64) {
        self.touched_ms.set(now_ms);
    }

    pub(super) fn touched_ms(&self) -> u64 {
        self.touched_ms.get()
    }

    pub(super) fn retire(&self) {
        self.retired.set(true);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Nothing of the table is in a batch, and no request waits for a block of it.
    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.get() == 0 && self.open_batches() == 0
    }
}
