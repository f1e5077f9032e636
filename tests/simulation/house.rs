//! ClickHouse as far as an INSERT can tell: tables of rows, and the tokens it remembers.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ringhouse::schema::TableName;

/// INSERTs a table remembers, each partition for itself: `non_replicated_deduplication_window` of the default table.
const WINDOW: usize = 1000;

/// One INSERT as it arrives.
#[derive(Debug, Clone)]
pub struct Insert {
    pub table: TableName,
    pub token: String,
    pub ids: Vec<u64>,
}

/// What the server holds. Rows are only ever added.
#[derive(Debug, Default)]
pub struct House {
    tables: BTreeMap<TableName, Table>,
    /// INSERTs whose client is gone and that the server still works at.
    pub ghosts: Vec<Insert>,
}

#[derive(Debug, Default)]
struct Table {
    /// How often each row is there.
    rows: HashMap<u64, u32>,
    /// Token and partition of the last INSERTs. An INSERT of this size is one block, so that its ordinal is always 0.
    remembered: VecDeque<(String, i64)>,
}

/// The partition a row lies in: of two ranges, so that not all blocks may share an INSERT.
pub fn partition(id: u64) -> i64 {
    [0, 1, 5, 64][(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62) as usize]
}

impl House {
    /// Stores the first `partitions` of an INSERT's partitions: with fewer than all of them the server died on the way.
    pub fn store(&mut self, insert: &Insert, partitions: usize) {
        let table = self.tables.entry(insert.table.clone()).or_default();
        for (partition, ids) in parts(&insert.ids).into_iter().take(partitions) {
            let key = (insert.token.clone(), partition);
            if table.remembered.contains(&key) {
                continue;
            }
            if table.remembered.len() == WINDOW {
                table.remembered.pop_front();
            }
            table.remembered.push_back(key);
            for id in ids {
                *table.rows.entry(id).or_default() += 1;
            }
        }
    }

    /// How often a row is in a table.
    pub fn count(&self, table: &TableName, id: u64) -> u32 {
        let rows = self.tables.get(table).map(|table| &table.rows);
        rows.and_then(|rows| rows.get(&id)).copied().unwrap_or(0)
    }

    /// Rows of a table.
    pub fn rows(&self, table: &TableName) -> impl Iterator<Item = (u64, u32)> {
        let rows = self.tables.get(table).map(|table| &table.rows);
        rows.into_iter().flatten().map(|(id, count)| (*id, *count))
    }
}

/// The rows of an INSERT by partition.
pub fn parts(ids: &[u64]) -> BTreeMap<i64, Vec<u64>> {
    let mut parts: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    for &id in ids {
        parts.entry(partition(id)).or_default().push(id);
    }
    parts
}
