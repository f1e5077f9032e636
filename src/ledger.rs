//! Where every received row is: `received = inserted + rejected + waiting`, per table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::schema::TableName;

/// The rows of one table on one ingest core. Written by that core only.
#[derive(Debug, Default)]
#[repr(align(64))] // One core writes it, so it shares its cache line with nobody.
pub struct Account {
    received: AtomicU64,
    inserted: AtomicU64,
    rejected: AtomicU64,
    waiting: AtomicU64,
}

impl Account {
    /// Rows were read from a request: `accepted` are in a batch now, `rejected` never will be.
    pub fn receive(&self, accepted: u64, rejected: u64) {
        add(&self.received, accepted + rejected);
        add(&self.rejected, rejected);
        add(&self.waiting, accepted);
    }

    /// ClickHouse confirmed the INSERT of waiting rows.
    pub fn insert(&self, rows: u64) {
        self.leave(rows);
        add(&self.inserted, rows);
    }

    /// ClickHouse refused waiting rows for their content.
    pub fn refuse(&self, rows: u64) {
        self.leave(rows);
        add(&self.rejected, rows);
    }

    fn leave(&self, rows: u64) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let left = waiting
            .checked_sub(rows)
            .expect("rows leave a batch once, after they entered it");
        self.waiting.store(left, Ordering::Relaxed);
    }
}

/// One writer a counter, so a plain load and store: no locked instruction on the ingest path.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

/// The sum of a table's accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows read from requests.
    pub received: u64,
    /// Rows ClickHouse confirmed.
    pub inserted: u64,
    /// Rows refused: to their client, or by ClickHouse for their content.
    pub rejected: u64,
    /// Rows in batches and blocks.
    pub waiting: u64,
}

impl Totals {
    /// Every row is somewhere. Exact while no core is between two of its counters, so at shutdown.
    pub fn balances(&self) -> bool {
        self.received == self.inserted + self.rejected + self.waiting
    }

    fn add(&mut self, account: &Account) {
        self.received += account.received.load(Ordering::Relaxed);
        self.inserted += account.inserted.load(Ordering::Relaxed);
        self.rejected += account.rejected.load(Ordering::Relaxed);
        self.waiting += account.waiting.load(Ordering::Relaxed);
    }
}

/// All accounts.
#[derive(Debug, Default)]
pub struct Ledger {
    tables: Mutex<BTreeMap<TableName, Vec<Arc<Account>>>>,
}

impl Ledger {
    /// One more core's account of a table. The core keeps it for as long as it runs: once per table and core.
    pub fn open(&self, table: &TableName) -> Arc<Account> {
        let account = Arc::new(Account::default());
        self.lock()
            .entry(table.clone())
            .or_default()
            .push(Arc::clone(&account));
        account
    }

    /// Totals per table.
    pub fn totals(&self) -> Vec<(TableName, Totals)> {
        let sum = |accounts: &Vec<Arc<Account>>| {
            let mut totals = Totals::default();
            accounts.iter().for_each(|account| totals.add(account));
            totals
        };
        self.lock()
            .iter()
            .map(|(table, accounts)| (table.clone(), sum(accounts)))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TableName, Vec<Arc<Account>>>> {
        self.tables.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_through_every_way_a_row_can_go() {
        let ledger = Ledger::default();
        let table = TableName {
            database: "d".into(),
            table: "t".into(),
        };
        let (one, two) = (ledger.open(&table), ledger.open(&table));
        one.receive(10, 2);
        two.receive(5, 0);
        one.insert(4);
        two.refuse(1);
        let totals = ledger.totals();
        assert_eq!(totals.len(), 1);
        assert_eq!(
            totals[0].1,
            Totals {
                received: 17,
                inserted: 4,
                rejected: 3,
                waiting: 10
            }
        );
        assert!(totals[0].1.balances());
    }

    #[test]
    #[should_panic(expected = "rows leave a batch once")]
    fn refuses_to_insert_more_than_waits() {
        let account = Account::default();
        account.receive(1, 0);
        account.insert(2);
    }
}
