//! One table on one ingest core: its open batches, who waits for them, and what is at the writer.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::ack::{AckId, AckTable};
use crate::batch::{Pushed, TableSink};
use crate::block::{Block, WAITERS_PREALLOCATED};
use crate::clickhouse::frame::FrameEncoder;
use crate::json::{Parser, RowErrors, RowsText};
use crate::ledger::Account;
use crate::limits::Limits;
use crate::mapping::MappingConfig;
use crate::schema::Schema;

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
    /// Per open batch: requests that hold a claim on it.
    waiters: Vec<Vec<AckId>>,
}

/// What the core decides on when it looks for batches to seal.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchInfo {
    pub opened_at_ns: i64,
    pub awaited: bool,
}

/// Bytes a batch may grow beyond `batch_bytes_max`: the chunk that reached it.
pub(super) fn batch_overshoot_bytes(limits: &Limits) -> usize {
    crate::batch::overshoot_bytes(limits)
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
                waiters: (0..limits.batches_per_table)
                    .map(|_| Vec::with_capacity(WAITERS_PREALLOCATED))
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

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Pushes rows on behalf of the request `waiter`, if it waits: each batch that takes some holds a claim on it.
    pub(super) fn push(
        &self,
        parser: &mut Parser,
        rows: RowsText<'_>,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
        waiter: Option<(AckId, &AckTable)>,
    ) -> Pushed {
        let mut inner = self.inner.borrow_mut();
        let pushed = inner.sink.push(parser, rows, first_row, now_ns, errors);
        if let Some((waiter, acks)) = waiter {
            let mut touched = pushed.touched;
            while touched != 0 {
                let batch = touched.trailing_zeros() as usize;
                touched &= touched - 1;
                let waiters = &mut inner.waiters[batch];
                if waiters.last() != Some(&waiter) {
                    waiters.push(waiter);
                    acks.claim(waiter);
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

    /// Seals a batch into `block`, waiters included.
    pub(super) fn seal(&self, batch: usize, encoder: &mut FrameEncoder, block: &mut Block, now_ms: u64) {
        let mut inner = self.inner.borrow_mut();
        debug_assert!(
            block.frames.is_empty() && block.waiters.is_empty(),
            "a pooled block is empty"
        );
        inner.sink.seal(batch, encoder, block);
        std::mem::swap(&mut inner.waiters[batch], &mut block.waiters);
        self.outstanding.set(self.outstanding.get() + 1);
        self.sealed_ms.set(now_ms);
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
                        awaited: !inner.waiters[batch].is_empty(),
                    })
            };
            if let Some(info) = info {
                visit(batch, info);
            }
        }
    }

    fn batches_max(&self) -> usize {
        self.inner.borrow().waiters.len()
    }

    /// Batches with rows.
    pub(super) fn open_batches(&self) -> usize {
        self.inner.borrow().sink.open().count()
    }

    /// Some request waits for a batch that is not sealed.
    pub(super) fn has_awaited(&self) -> bool {
        self.inner
            .borrow()
            .waiters
            .iter()
            .any(|waiters| !waiters.is_empty())
    }

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

    /// Nothing of the table is in a batch or at the writer.
    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.get() == 0 && self.open_batches() == 0
    }
}
