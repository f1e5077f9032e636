//! What the tables looked like when ClickHouse was last asked: for a start while it is away.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::schema::{RawColumn, Schema, TableName, TableSchema};
use crate::wal::disk::sync_directory_of;

/// One table, as `system.tables` and `system.columns` described it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTable {
    /// Its name.
    pub name: TableName,
    /// Its engine.
    pub engine: String,
    /// Its partition key.
    pub partition_key: String,
    /// Its columns, in their order.
    pub columns: Vec<RawColumn>,
}

/// The file they are kept in.
#[derive(Debug, Clone)]
pub struct KnownTables {
    path: PathBuf,
    /// What the file holds.
    saved: Vec<KnownTable>,
}

impl KnownTables {
    /// Reads the file; one that is not there, or is none, holds nothing.
    pub fn open(path: &Path) -> KnownTables {
        let saved = fs::read(path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        KnownTables {
            path: path.to_owned(),
            saved,
        }
    }

    /// The tables rows could go into.
    pub fn schemas(&self) -> Vec<Schema> {
        let schema = |table: &KnownTable| {
            let schema = TableSchema::from_columns(table.name.clone(), &table.columns, &table.partition_key);
            Some(Arc::new(schema.ok()?.with_engine(&table.engine)))
        };
        self.saved.iter().filter_map(schema).collect()
    }

    /// Keeps what was read, if it is news.
    ///
    /// # Errors
    /// The disk refuses; the file is as it was.
    pub fn save(&mut self, tables: Vec<KnownTable>) -> io::Result<()> {
        if tables == self.saved {
            return Ok(());
        }
        let text = serde_json::to_vec(&tables).expect("texts have a JSON form");
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        sync_directory_of(&self.path)?;
        self.saved = tables;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_known_after_a_restart_as_it_was_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tables.json");
        let mut known = KnownTables::open(&path);
        assert!(known.schemas().is_empty());
        let table = KnownTable {
            name: TableName {
                database: "d".into(),
                table: "t".into(),
            },
            engine: "ReplicatedMergeTree".into(),
            partition_key: "toDate(ts)".into(),
            columns: [("ts", "DateTime"), ("n", "UInt32")]
                .map(|(name, type_name)| RawColumn {
                    name: name.into(),
                    type_name: type_name.into(),
                    ..RawColumn::default()
                })
                .to_vec(),
        };
        known.save(vec![table.clone()]).unwrap();
        let read = TableSchema::from_columns(table.name, &table.columns, &table.partition_key).unwrap();
        let schemas = KnownTables::open(&path).schemas();
        assert_eq!(*schemas[0], read.with_engine("ReplicatedMergeTree"));
        fs::write(&path, "[{").unwrap();
        assert!(KnownTables::open(&path).schemas().is_empty());
    }
}
