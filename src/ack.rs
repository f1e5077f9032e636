//! Ack levels: what a 2xx promises, and which requests still wait for theirs.
//!
//! This module alone decides when a promise is kept. A request that waits holds an entry of its core's
//! [`AckTable`]; every batch that took rows of it holds one claim on the entry, and the entry is settled when the last
//! claim is.

use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::task::{Context, Poll, Waker};

/// How safe a row is when its request is answered with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AckLevel {
    /// 202: parsed and typed, in a batch. Lost when the process dies.
    Memory,
    /// 200: in the write-ahead log, fdatasync'ed. Lost when the disk dies.
    #[default]
    Wal,
    /// 200: ClickHouse has confirmed the INSERT.
    Inserted,
}

impl AckLevel {
    /// Every level, the weakest first.
    pub const ALL: [AckLevel; 3] = [AckLevel::Memory, AckLevel::Wal, AckLevel::Inserted];

    /// The level's name in replies, headers and configuration.
    pub fn name(self) -> &'static str {
        match self {
            AckLevel::Memory => "memory",
            AckLevel::Wal => "wal",
            AckLevel::Inserted => "inserted",
        }
    }

    /// Status of a reply that promises this level.
    pub fn status(self) -> u16 {
        match self {
            AckLevel::Memory => 202,
            AckLevel::Wal | AckLevel::Inserted => 200,
        }
    }
}

impl fmt::Display for AckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is no ack level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAckLevel;

impl fmt::Display for UnknownAckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ack level is `memory`, `wal` or `inserted`")
    }
}

impl std::error::Error for UnknownAckLevel {}

impl FromStr for AckLevel {
    type Err = UnknownAckLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "memory" => Ok(AckLevel::Memory),
            "wal" => Ok(AckLevel::Wal),
            "inserted" => Ok(AckLevel::Inserted),
            _ => Err(UnknownAckLevel),
        }
    }
}

/// Names a waiting request; valid until it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AckId(u32);

/// A request's rows in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// The request.
    pub ack: AckId,
    /// Its rows, by their position in the batch.
    pub rows: Range<u32>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Batches and blocks that hold rows of the request, plus one while its body is still being read.
    claims: u32,
    /// Rows that ClickHouse refused for their content.
    refused: u64,
    /// The connection went away or gave up: the last claim frees the entry.
    abandoned: bool,
    in_use: bool,
    waker: Option<Waker>,
}

/// The waiting requests of one core; a fixed number of entries, reused.
#[derive(Debug)]
pub struct AckTable {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl AckTable {
    /// A table for `capacity` waiting requests.
    pub fn new(capacity: usize) -> Self {
        let capacity =
            u32::try_from(capacity).expect("limits keep the number of waiting requests below 2^32");
        AckTable {
            inner: RefCell::new(Inner {
                entries: (0..capacity).map(|_| Entry::default()).collect(),
                free: (0..capacity).rev().collect(),
            }),
        }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        let inner = self.inner.borrow();
        inner.entries.len() - inner.free.len()
    }

    /// Opens an entry with one claim, the caller's own; `None` when all are taken.
    pub fn open(&self) -> Option<AckId> {
        let mut inner = self.inner.borrow_mut();
        let id = inner.free.pop()?;
        let entry = &mut inner.entries[id as usize];
        debug_assert!(!entry.in_use, "a free entry is not in use");
        entry.claims = 1;
        entry.refused = 0;
        entry.abandoned = false;
        entry.in_use = true;
        Some(AckId(id))
    }

    /// One more batch holds rows of the request.
    pub fn claim(&self, id: AckId) {
        let mut inner = self.inner.borrow_mut();
        let entry = &mut inner.entries[id.0 as usize];
        debug_assert!(
            entry.in_use && entry.claims > 0,
            "only an unsettled request takes claims"
        );
        entry.claims += 1;
    }

    /// One claim is settled: a block reached the level, but for `refused` rows, or the request's body ended.
    pub fn settle(&self, id: AckId, refused: u64) {
        let mut inner = self.inner.borrow_mut();
        let entry = &mut inner.entries[id.0 as usize];
        assert!(entry.in_use && entry.claims > 0, "a claim is settled once");
        entry.claims -= 1;
        entry.refused += refused;
        if entry.claims == 0 {
            if entry.abandoned {
                inner.release(id);
            } else if let Some(waker) = &entry.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Ready when the last claim is settled, with the rows that ClickHouse refused.
    pub fn poll_settled(&self, id: AckId, cx: &Context<'_>) -> Poll<u64> {
        if let Poll::Ready(settled) = self.state(id) {
            return Poll::Ready(settled);
        }
        let mut inner = self.inner.borrow_mut();
        let entry = &mut inner.entries[id.0 as usize];
        debug_assert!(entry.in_use, "the caller holds the entry");
        if !entry
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            entry.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// How the request stands now, without waiting.
    pub fn state(&self, id: AckId) -> Poll<u64> {
        let inner = self.inner.borrow();
        let entry = &inner.entries[id.0 as usize];
        match entry.claims {
            0 => Poll::Ready(entry.refused),
            _ => Poll::Pending,
        }
    }

    /// The request is answered or gone; its entry is reused once no batch holds a claim.
    pub fn close(&self, id: AckId) {
        let mut inner = self.inner.borrow_mut();
        let entry = &mut inner.entries[id.0 as usize];
        entry.waker = None;
        if entry.claims == 0 {
            inner.release(id);
        } else {
            entry.abandoned = true;
        }
    }
}

impl Inner {
    fn release(&mut self, id: AckId) {
        let entry = &mut self.entries[id.0 as usize];
        debug_assert!(entry.in_use, "an entry is released once");
        entry.in_use = false;
        entry.waker = None;
        self.free.push(id.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(table: &AckTable, id: AckId) -> Poll<u64> {
        table.poll_settled(id, &Context::from_waker(Waker::noop()))
    }

    #[test]
    fn settles_with_the_last_claim() {
        let table = AckTable::new(2);
        let id = table.open().expect("two entries are free");
        table.claim(id);
        table.settle(id, 0);
        assert_eq!(poll(&table, id), Poll::Pending);
        table.settle(id, 0);
        assert_eq!(poll(&table, id), Poll::Ready(0));
        table.close(id);
        assert_eq!(table.waiting(), 0);
    }

    #[test]
    fn refused_rows_of_all_blocks_are_added_up() {
        let table = AckTable::new(1);
        let id = table.open().expect("one entry is free");
        table.claim(id);
        table.claim(id);
        table.settle(id, 3);
        table.settle(id, 0);
        table.settle(id, 2);
        assert_eq!(poll(&table, id), Poll::Ready(5));
    }

    #[test]
    fn an_abandoned_request_frees_its_entry_with_its_last_claim() {
        let table = AckTable::new(1);
        let id = table.open().expect("one entry is free");
        table.claim(id);
        table.settle(id, 0);
        table.close(id);
        assert!(table.open().is_none());
        table.settle(id, 0);
        assert!(table.open().is_some());
    }

    #[test]
    fn refuses_one_more_than_it_holds() {
        let table = AckTable::new(1);
        assert!(table.open().is_some());
        assert!(table.open().is_none());
    }
}
