//! Everything outside of the process: clients and what they were told, ClickHouse, the clock, the ledger's file.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use ringhouse::ack::AckLevel;
use ringhouse::ledger;
use ringhouse::schema::{Schema, TableName};

use crate::blocks;
use crate::house::{House, Insert, parts};

thread_local! {
    /// The steps of a seed, when they are wanted.
    pub static TRACE: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    static SCHEMAS: [Schema; 4] = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(t, v)| blocks::schema(t, v));
}

/// Notes a step.
macro_rules! note {
    ($($what:tt)*) => {
        crate::world::TRACE.with_borrow_mut(|trace| {
            if let Some(trace) = trace {
                trace.push(format!($($what)*));
            }
        })
    };
}
pub(crate) use note;

pub const TABLES: usize = 2;

/// Only ClickHouse knows the partitions of this table's rows.
pub const OPAQUE_TABLE: usize = 1;

pub fn schema(table: usize, version: usize) -> Schema {
    SCHEMAS.with(|schemas| Schema::clone(&schemas[2 * table + version]))
}

pub fn table_name(table: usize) -> TableName {
    schema(table, 0).name.clone()
}

/// Why an INSERT was not confirmed.
#[derive(Debug, Clone, Copy)]
pub enum Failure {
    Unreachable,
    TooManyParts,
    /// A row of it is poisoned.
    Refused,
}

/// How often, of a thousand INSERTs, each goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct HouseFaults {
    /// No connection.
    pub refused: u32,
    /// The connection is cut before all data are there: nothing is stored.
    pub cut: u32,
    /// The server dies between two partitions.
    pub died: u32,
    /// Stored, and the answer is lost.
    pub answer_lost: u32,
    /// The client hears nothing, and the server works at it all the same.
    pub ghost: u32,
    pub too_many_parts: u32,
}

pub struct Request {
    pub table: usize,
    pub ids: Vec<u64>,
    pub level: AckLevel,
    pub is_acknowledged: bool,
    /// Processes before the one it was sent to.
    pub era: u32,
}

pub struct World {
    pub rng: fastrand::Rng,
    pub now_ms: u64,
    pub era: u32,
    pub house: House,
    pub house_faults: HouseFaults,
    pub ledger: LedgerFile,
    pub requests: Vec<Request>,
    /// Request of each row; row `id` is the `id - 1`st.
    pub rows: Vec<usize>,
    pub poisoned_per_thousand: u32,
    poisoned: Vec<bool>,
    versions: [usize; TABLES],
}

impl World {
    pub fn new(rng: fastrand::Rng) -> World {
        World {
            rng,
            now_ms: 1000,
            era: 0,
            house: House::default(),
            house_faults: HouseFaults::default(),
            ledger: LedgerFile::default(),
            requests: Vec::new(),
            rows: Vec::new(),
            poisoned_per_thousand: 0,
            poisoned: Vec::new(),
            versions: [0; TABLES],
        }
    }

    fn chance(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.u32(..1000) < per_thousand
    }

    pub fn new_request(&mut self, level: AckLevel) -> usize {
        let request = self.requests.len();
        let count = self.rng.usize(1..=6);
        let table = self.rng.usize(..TABLES);
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            self.rows.push(request);
            let poisoned = self.chance(self.poisoned_per_thousand);
            self.poisoned.push(poisoned);
            ids.push(self.rows.len() as u64);
        }
        self.ledger.receive(table, count as u64);
        self.requests.push(Request {
            table,
            ids,
            level,
            is_acknowledged: false,
            era: self.era,
        });
        request
    }

    /// Version of a table's columns that the catalog knows now.
    pub fn version(&mut self, table: usize) -> usize {
        if self.rng.u32(..40) == 0 {
            self.versions[table] = 1;
        }
        self.versions[table]
    }

    pub fn is_poisoned(&self, id: u64) -> bool {
        self.poisoned[id as usize - 1]
    }

    /// A client is told that its rows are as safe as it asked for.
    pub fn acknowledge(&mut self, request: usize, refused: u64) {
        note!("request {request} is acknowledged, {refused} rows refused");
        let poisoned = self.requests[request].ids.iter();
        let poisoned = poisoned.filter(|id| self.is_poisoned(**id)).count() as u64;
        let request = &mut self.requests[request];
        assert!(!request.is_acknowledged, "a request is answered once");
        request.is_acknowledged = true;
        if request.level == AckLevel::Inserted {
            assert_eq!(
                refused, poisoned,
                "a client is told how many of its rows were refused"
            );
            let name = table_name(request.table);
            for &id in &request.ids {
                let expected = u32::from(!self.poisoned[id as usize - 1]);
                assert_eq!(
                    self.house.count(&name, id),
                    expected,
                    "row {id} was acknowledged at `inserted`"
                );
            }
        }
    }

    /// Rows are given up for lost.
    pub fn lose(&mut self, table: TableName, rows: u64) {
        let table = (0..TABLES).find(|index| table_name(*index) == table);
        self.ledger.lose(table.expect("there are no other tables"), rows);
    }

    /// Sends an INSERT; the answer is what its client hears.
    pub fn insert(&mut self, insert: Insert) -> Result<(), Failure> {
        let faults = self.house_faults;
        let partitions = parts(&insert.ids).len();
        let what = format!("INSERT {} of {:?}", insert.token, insert.ids);
        if self.chance(faults.refused) || self.chance(faults.cut) {
            note!("{what}: no connection");
            return Err(Failure::Unreachable);
        }
        if insert.ids.iter().any(|id| self.is_poisoned(*id)) {
            note!("{what}: refused for its content");
            return Err(Failure::Refused);
        }
        if self.chance(faults.too_many_parts) {
            note!("{what}: too many parts");
            return Err(Failure::TooManyParts);
        }
        if self.chance(faults.ghost) {
            note!("{what}: no answer, and the server works at it");
            self.house.ghosts.push(insert);
            return Err(Failure::Unreachable);
        }
        if self.chance(faults.died) {
            let stored = self.rng.usize(..=partitions);
            note!("{what}: the server dies with {stored} of {partitions} partitions stored");
            self.house.store(&insert, stored);
            return Err(Failure::Unreachable);
        }
        self.house.store(&insert, partitions);
        if self.chance(faults.answer_lost) {
            note!("{what}: stored, the answer is lost");
            return Err(Failure::Unreachable);
        }
        note!("{what}: stored");
        Ok(())
    }

    /// The server comes to the end of an INSERT whose client is gone, or dies of it.
    pub fn finish_ghost(&mut self) {
        if self.house.ghosts.is_empty() {
            return;
        }
        let index = self.rng.usize(..self.house.ghosts.len());
        let ghost = self.house.ghosts.swap_remove(index);
        let partitions = self.rng.usize(..=parts(&ghost.ids).len());
        note!(
            "INSERT {} of {:?}: the server has worked at it: {partitions} partitions",
            ghost.token,
            ghost.ids
        );
        self.house.store(&ghost, partitions);
    }

    /// Letters in the store by row.
    pub fn letters(directory: &std::path::Path) -> HashMap<u64, u32> {
        let mut letters = HashMap::new();
        let Ok(files) = std::fs::read_dir(directory.join("dead-letters")) else {
            return letters;
        };
        for file in files.map(|file| file.expect("the directory can be read").path()) {
            if file.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let text = std::fs::read_to_string(file).expect("it can be read");
            for line in text.lines() {
                let letter: serde_json::Value = serde_json::from_str(line).expect("a letter is JSON");
                let id = letter["row"]["id"].as_u64().expect("the row has a number");
                *letters.entry(id).or_default() += 1;
            }
        }
        letters
    }
}

/// The ledger's counters as their file has them. A process that was killed leaves them as they are; when the power goes,
/// the file has what it had some time before.
#[derive(Debug, Default)]
pub struct LedgerFile {
    /// Of each table, the newest last.
    counts: [Vec<ledger::Left>; TABLES],
}

impl LedgerFile {
    fn change(&mut self, table: usize, change: impl FnOnce(&mut ledger::Left)) {
        let mut counts = self.last(table);
        change(&mut counts);
        self.counts[table].push(counts);
    }

    pub fn last(&self, table: usize) -> ledger::Left {
        self.counts[table].last().copied().unwrap_or_default()
    }

    fn receive(&mut self, table: usize, rows: u64) {
        self.change(table, |counts| counts.received += rows);
    }

    pub fn log(&mut self, table: usize, rows: u64) {
        self.change(table, |counts| counts.logged += rows);
    }

    fn lose(&mut self, table: usize, rows: u64) {
        self.change(table, |counts| {
            counts.logged -= rows;
            counts.lost += rows;
        });
    }

    /// A new file takes the old one's place, durable.
    pub fn begin(&mut self, carried: &BTreeMap<usize, ledger::Totals>) {
        for (table, totals) in carried {
            self.counts[*table] = vec![ledger::Left {
                received: totals.received,
                rejected: totals.rejected,
                logged: totals.inserted + totals.dead_lettered + totals.waiting,
                lost: totals.lost,
            }];
        }
    }

    pub fn lose_power(&mut self, rng: &mut fastrand::Rng) {
        for counts in &mut self.counts {
            if !counts.is_empty() {
                counts.truncate(rng.usize(1..=counts.len()));
            }
        }
    }
}
