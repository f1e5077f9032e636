//! Where every received row is: `received = inserted + rejected + dead-lettered + lost + waiting`, per table.
//!
//! Ingest cores count in memory that is mapped from a file, so that a process that was killed leaves its counts behind. The
//! next one compares them with what the log and the journal hold ([`reconcile`]): a row that was received and is nowhere was
//! in memory only and is *lost*; a row that was logged and is not found is a mismatch, and loud.
//!
//! The file: [`SLOTS`] times eight counters (u64), then as many names of [`NAME_BYTES`] (length, then `database.table` in
//! JSON).

mod shared;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::schema::TableName;
use shared::Counters;

/// Accounts one process may open: one for each table and core. What goes beyond is not kept across a crash.
const SLOTS: usize = 4096;

/// Bytes of a name: its length as u16, then the text.
const NAME_BYTES: usize = 192;

const RECEIVED: usize = 0;
const REJECTED: usize = 1;
const LOGGED: usize = 2;
const INSERTED: usize = 3;
const DEAD_LETTERED: usize = 4;
const LOST: usize = 5;
/// May wrap below zero in one account: rows enter in a core's account and leave in the writer's.
const WAITING: usize = 6;

/// The rows of one table on one core. Written by that core only.
#[derive(Debug)]
pub struct Account {
    counters: &'static Counters,
}

impl Account {
    fn in_memory() -> Account {
        // Accounts are few and live as long as the process.
        let counters: &'static Counters = Box::leak(Box::default());
        Account { counters }
    }

    /// Rows were read from a request: `accepted` are in a batch now, `rejected` never will be.
    pub fn receive(&self, accepted: u64, rejected: u64) {
        self.add(RECEIVED, accepted + rejected);
        self.add(REJECTED, rejected);
        self.add(WAITING, accepted);
    }

    /// Waiting rows are durable in the log.
    pub fn log(&self, rows: u64) {
        self.add(LOGGED, rows);
    }

    /// ClickHouse confirmed the INSERT of waiting rows.
    pub fn insert(&self, rows: u64) {
        self.add(WAITING, rows.wrapping_neg());
        self.add(INSERTED, rows);
    }

    /// Waiting rows went to the dead-letter store.
    pub fn dead_letter(&self, rows: u64) {
        self.add(WAITING, rows.wrapping_neg());
        self.add(DEAD_LETTERED, rows);
    }

    /// Waiting rows cannot be read from the log any more.
    pub fn lose(&self, rows: u64) {
        self.add(WAITING, rows.wrapping_neg());
        self.add(LOGGED, rows.wrapping_neg());
        self.add(LOST, rows);
    }

    /// One writer a counter, so a plain load and store: no locked instruction on the ingest path.
    fn add(&self, counter: usize, amount: u64) {
        let counter = &self.counters[counter];
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }

    fn get(&self, counter: usize) -> u64 {
        self.counters[counter].load(Ordering::Relaxed)
    }
}

/// The sum of a table's accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Rows read from requests.
    pub received: u64,
    /// Rows ClickHouse confirmed.
    pub inserted: u64,
    /// Rows refused to their client.
    pub rejected: u64,
    /// Rows ClickHouse refused for their content; they are in the dead-letter store.
    pub dead_lettered: u64,
    /// Rows in batches and in the log.
    pub waiting: u64,
    /// Rows that were in memory only when a process died, or that the log held and cannot be read any more.
    pub lost: u64,
}

impl Totals {
    /// Every row is somewhere. Exact while no core is between two of its counters, so at shutdown.
    pub fn balances(&self) -> bool {
        self.mismatch() == 0 && self.waiting <= self.received
    }

    /// Rows too many or too few.
    pub fn mismatch(&self) -> u64 {
        let known = [self.inserted, self.rejected, self.dead_lettered, self.lost];
        let sum = known
            .iter()
            .fold(self.waiting, |sum, rows| sum.wrapping_add(*rows));
        (sum.wrapping_sub(self.received) as i64).unsigned_abs()
    }
}

/// Counters of former processes, as their file has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Rows read from requests.
    pub received: u64,
    /// Rows refused to their client.
    pub rejected: u64,
    /// Rows that were durable in the log.
    pub logged: u64,
    /// Lost by former processes, as far as was told before.
    pub lost: u64,
}

/// What the log and the journal know of a table's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Rows of unsettled blocks.
    pub waiting: u64,
    /// Rows that ClickHouse has confirmed.
    pub inserted: u64,
    /// Rows that are in the dead-letter store.
    pub dead_lettered: u64,
}

/// Brings together what the counters say and what was found: the totals to go on with, and the rows that should have been
/// found and were not.
pub fn reconcile(left: Left, found: Found) -> (Totals, u64) {
    let durable = found.waiting + found.inserted + found.dead_lettered;
    // A commit that was written, but not counted before the process died, makes more than were logged.
    let missing = left.logged.saturating_sub(durable);
    let known = left.rejected + left.lost + durable;
    // Counters that lag behind the log: a machine that lost its power.
    let received = left.received.max(known);
    let totals = Totals {
        received,
        inserted: found.inserted,
        rejected: left.rejected,
        dead_lettered: found.dead_lettered,
        waiting: found.waiting,
        lost: left.lost + (received - known),
    };
    (totals, missing)
}

/// All accounts.
#[derive(Debug)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tables: BTreeMap<TableName, Vec<Arc<Account>>>,
    file: Option<Mapped>,
}

#[derive(Debug)]
struct Mapped {
    file: File,
    slots: &'static [Counters],
    used: usize,
}

impl Default for Ledger {
    /// A ledger without a file.
    fn default() -> Ledger {
        Ledger {
            inner: Mutex::new(Inner {
                tables: BTreeMap::new(),
                file: None,
            }),
        }
    }
}

impl Ledger {
    /// What former processes left in the file, by table.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(path: &Path) -> io::Result<BTreeMap<TableName, Left>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let mut tables: BTreeMap<TableName, Left> = BTreeMap::new();
        let names = &bytes[bytes.len().min(SLOTS * size_of::<Counters>())..];
        for (slot, name) in names.chunks_exact(NAME_BYTES).enumerate() {
            let length = usize::from(u16::from_le_bytes([name[0], name[1]]));
            let Some(table) = name
                .get(2..2 + length)
                .and_then(|text| serde_json::from_slice(text).ok())
            else {
                continue;
            };
            let counter = |counter: usize| {
                let at = slot * size_of::<Counters>() + counter * size_of::<u64>();
                u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
            };
            let left = tables.entry(table).or_default();
            for (sum, of) in [
                (&mut left.received, RECEIVED),
                (&mut left.rejected, REJECTED),
                (&mut left.logged, LOGGED),
                (&mut left.lost, LOST),
            ] {
                *sum = sum.wrapping_add(counter(of));
            }
        }
        Ok(tables)
    }

    /// A ledger that begins with `carried` and counts in a new file in place of the old one. On a full disk it counts in
    /// memory only, and the old file stays.
    pub fn create(path: &Path, carried: &BTreeMap<TableName, Totals>) -> Ledger {
        let ledger = Ledger::try_create(path, carried);
        ledger.unwrap_or_else(|error| {
            tracing::warn!(%error, "the ledger's file cannot be made: counts of this process do not outlive a crash");
            let ledger = Ledger::default();
            ledger.carry(carried);
            ledger
        })
    }

    fn try_create(path: &Path, carried: &BTreeMap<TableName, Totals>) -> io::Result<Ledger> {
        let new = path.with_extension("new");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)?;
        let bytes = (SLOTS * (size_of::<Counters>() + NAME_BYTES)) as u64;
        // A hole in a mapped file would end the process when the disk has no room to fill it.
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        let slots = shared::map(&file, SLOTS)?;
        let mapped = Mapped { file, slots, used: 0 };
        let ledger = Ledger {
            inner: Mutex::new(Inner {
                tables: BTreeMap::new(),
                file: Some(mapped),
            }),
        };
        ledger.carry(carried);
        ledger.sync()?;
        std::fs::rename(&new, path)?;
        crate::wal::disk::sync_directory_of(path)?;
        Ok(ledger)
    }

    fn carry(&self, carried: &BTreeMap<TableName, Totals>) {
        for (table, totals) in carried {
            let account = self.open(table);
            account.add(RECEIVED, totals.received);
            account.add(REJECTED, totals.rejected);
            account.add(LOGGED, totals.inserted + totals.dead_lettered + totals.waiting);
            account.add(INSERTED, totals.inserted);
            account.add(DEAD_LETTERED, totals.dead_lettered);
            account.add(LOST, totals.lost);
            account.add(WAITING, totals.waiting);
        }
    }

    /// Makes the counts durable, for a machine that is about to stop.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> io::Result<()> {
        match &self.lock().file {
            Some(mapped) => mapped.file.sync_all(),
            None => Ok(()),
        }
    }

    /// One more core's account of a table. The core keeps it for as long as it runs: once per table and core.
    pub fn open(&self, table: &TableName) -> Arc<Account> {
        let mut inner = self.lock();
        let counters = inner.file.as_mut().and_then(|mapped| mapped.take_slot(table));
        let account = Arc::new(match counters {
            Some(counters) => Account { counters },
            None => Account::in_memory(),
        });
        inner
            .tables
            .entry(table.clone())
            .or_default()
            .push(Arc::clone(&account));
        account
    }

    /// Totals per table.
    pub fn totals(&self) -> Vec<(TableName, Totals)> {
        let sum = |accounts: &Vec<Arc<Account>>| {
            let of = |counter| {
                accounts
                    .iter()
                    .fold(0_u64, |sum, account| sum.wrapping_add(account.get(counter)))
            };
            // What leaves is read before what enters, so that a row on its way counts as waiting and not twice.
            let (inserted, dead_lettered, lost) = (of(INSERTED), of(DEAD_LETTERED), of(LOST));
            Totals {
                waiting: of(WAITING),
                rejected: of(REJECTED),
                received: of(RECEIVED),
                inserted,
                dead_lettered,
                lost,
            }
        };
        self.lock()
            .tables
            .iter()
            .map(|(table, accounts)| (table.clone(), sum(accounts)))
            .collect()
    }

    /// Rows that are in batches and not in the log. Exact while no core is between two of its counters.
    pub fn unlogged(&self) -> u64 {
        let inner = self.lock();
        let of = |counter| {
            inner
                .tables
                .values()
                .flatten()
                .fold(0_u64, |sum, account| sum.wrapping_add(account.get(counter)))
        };
        let (logged, lost) = (of(LOGGED), of(LOST));
        of(RECEIVED).saturating_sub(of(REJECTED) + logged + lost)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

impl Mapped {
    /// The next free counters, under the table's name; `None` when there are no more, or the name is too long.
    fn take_slot(&mut self, table: &TableName) -> Option<&'static Counters> {
        let text = serde_json::to_vec(table).expect("texts have a JSON form");
        let counters = self.slots.get(self.used)?;
        let mut name = u16::try_from(text.len()).ok()?.to_le_bytes().to_vec();
        name.extend_from_slice(&text);
        if name.len() > NAME_BYTES {
            return None;
        }
        let at = SLOTS * size_of::<Counters>() + self.used * NAME_BYTES;
        if let Err(error) = self.file.write_all_at(&name, at as u64) {
            tracing::warn!(%error, "the ledger's file takes no more tables; their counts do not outlive a crash");
            return None;
        }
        self.used += 1;
        Some(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableName {
        TableName {
            database: "d".into(),
            table: "t".into(),
        }
    }

    #[test]
    fn balances_through_every_way_a_row_can_go() {
        let ledger = Ledger::default();
        let (one, two, writer) = (
            ledger.open(&table()),
            ledger.open(&table()),
            ledger.open(&table()),
        );
        one.receive(10, 2);
        two.receive(5, 0);
        one.log(10);
        writer.insert(4);
        writer.dead_letter(1);
        writer.lose(2);
        let totals = ledger.totals();
        assert_eq!(totals.len(), 1);
        let expected = Totals {
            received: 17,
            inserted: 4,
            rejected: 2,
            dead_lettered: 1,
            waiting: 8,
            lost: 2,
        };
        assert_eq!(totals[0].1, expected);
        assert!(expected.balances());
        writer.insert(9);
        assert!(!ledger.totals()[0].1.balances(), "more rows left than entered");
    }

    #[test]
    fn counts_outlive_the_ledger() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        assert!(Ledger::read(&path).unwrap().is_empty());
        let ledger = Ledger::create(&path, &BTreeMap::new());
        let (core, other) = (ledger.open(&table()), ledger.open(&table()));
        core.receive(100, 1);
        core.log(60);
        other.receive(7, 0);
        let left = Ledger::read(&path).unwrap();
        assert_eq!(
            left[&table()],
            Left {
                received: 108,
                rejected: 1,
                logged: 60,
                lost: 0
            }
        );
        let (totals, missing) = reconcile(
            left[&table()],
            Found {
                waiting: 20,
                inserted: 40,
                dead_lettered: 0,
            },
        );
        assert_eq!(missing, 0);
        assert_eq!(
            totals.lost, 47,
            "40 of the one core and 7 of the other were in memory"
        );
        assert!(totals.balances());
        let carried = BTreeMap::from([(table(), totals)]);
        let again = Ledger::create(&path, &carried);
        assert_eq!(again.totals()[0].1, totals);
        let left = Ledger::read(&path).unwrap()[&table()];
        assert_eq!((left.received, left.logged, left.lost), (108, 60, 47));
    }

    #[test]
    fn tells_rows_that_were_logged_and_are_not_found() {
        let left = Left {
            received: 100,
            rejected: 0,
            logged: 100,
            lost: 0,
        };
        let found = Found {
            waiting: 10,
            inserted: 80,
            dead_lettered: 5,
        };
        let (totals, missing) = reconcile(left, found);
        assert_eq!((missing, totals.lost), (5, 5));
        assert!(totals.balances());
        // More than was counted: the process died between its write and its count.
        let (totals, missing) = reconcile(Left::default(), found);
        assert_eq!((missing, totals.lost, totals.received), (0, 0, 95));
        assert!(totals.balances());
    }
}
