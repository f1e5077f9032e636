//! The blocks of one core whose INSERT requests wait for.

use std::rc::Rc;

use crate::ack::Waiter;
use crate::block::AwaitedBlock;

use super::table::Table;

/// Requests that wait for a block before its list grows: 16 KiB. More make it grow, once.
pub(super) const WAITERS_PREALLOCATED: usize = 1024;

/// A fixed number of entries, reused.
pub(super) struct Awaiting {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

struct Entry {
    table: Option<Rc<Table>>,
    waiters: Vec<Waiter>,
}

impl Awaiting {
    pub(super) fn new(capacity: usize) -> Awaiting {
        let capacity = u32::try_from(capacity).expect("limits keep the number of awaited blocks below 2^32");
        Awaiting {
            entries: (0..capacity)
                .map(|_| Entry {
                    table: None,
                    waiters: Vec::with_capacity(WAITERS_PREALLOCATED),
                })
                .collect(),
            free: (0..capacity).rev().collect(),
        }
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// One more block is awaited. `waiters` is swapped for an empty list. Who looks at [`Awaiting::has_free`] before takes no
    /// more entries than there are; a commit that must hold what it began with may take a few beyond.
    pub(super) fn put(&mut self, table: &Rc<Table>, waiters: &mut Vec<Waiter>) -> AwaitedBlock {
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                table: None,
                waiters: Vec::new(),
            });
            self.entries.len() as u32 - 1
        });
        let entry = &mut self.entries[id as usize];
        debug_assert!(
            entry.table.is_none() && entry.waiters.is_empty(),
            "a free entry is empty"
        );
        entry.table = Some(Rc::clone(table));
        std::mem::swap(&mut entry.waiters, waiters);
        AwaitedBlock(id)
    }

    /// The block ended: its table and who waited. The list comes back by [`Awaiting::give_back`].
    ///
    /// # Panics
    /// When it ended before.
    pub(super) fn take(&mut self, block: AwaitedBlock) -> (Rc<Table>, Vec<Waiter>) {
        let entry = &mut self.entries[block.0 as usize];
        let table = entry.table.take().expect("a block ends once");
        (table, std::mem::take(&mut entry.waiters))
    }

    /// The entry is free; its list keeps its memory.
    pub(super) fn give_back(&mut self, block: AwaitedBlock, waiters: Vec<Waiter>) {
        debug_assert!(waiters.is_empty(), "everybody was told");
        self.entries[block.0 as usize].waiters = waiters;
        self.free.push(block.0);
    }
}
