//! The tables rows can go to: published by the control thread, looked up by every core.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::schema::{Schema, TableName};

/// What a table name means right now.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// Rows can be built for it. The same table keeps the same pointer until its columns change.
    Found(Schema),
    /// ClickHouse has been asked and has no such insertable table (or the configuration does not serve it): 404.
    NotServed,
    /// ClickHouse has not answered yet, or the configuration names the table and ClickHouse has never had it: 503, the
    /// client should try again.
    NotYetKnown,
}

/// The served tables of one ClickHouse. Shared by all threads; reading takes a short shared lock and allocates nothing.
///
/// A core asks once per table and keeps the [`Schema`]; it compares [`Catalog::generation`] to learn when to ask again.
///
/// The configured tables (the default one and those the configuration lists) keep their last known columns while
/// ClickHouse does not have them: a table that is dropped and created again is a failure of ClickHouse's, on which
/// rows are held and not refused.
pub struct Catalog {
    default_table: TableName,
    /// Ascending; the default one among them.
    configured: Vec<TableName>,
    served: RwLock<Served>,
    generation: AtomicU64,
    refresh: Notify,
}

/// One reading of ClickHouse.
#[derive(Default)]
struct Served {
    /// Ascending by name.
    tables: Vec<Schema>,
    /// Configured tables that are among `tables` although ClickHouse did not have them when it was last read.
    absent: Vec<TableName>,
    /// ClickHouse has answered at least once, so a missing table is really missing.
    complete: bool,
}

impl Catalog {
    /// A catalog that knows only `assumed`: tables that will exist by the time rows are inserted, because this
    /// process creates them. `default_table` is what a request without a table name means; `listed` are the other
    /// tables the configuration names.
    pub fn new(default_table: TableName, listed: &[TableName], assumed: Vec<Schema>) -> Catalog {
        let mut configured = listed.to_vec();
        configured.push(default_table.clone());
        configured.sort();
        configured.dedup();
        Catalog {
            default_table,
            configured,
            served: RwLock::new(Served {
                tables: sorted(assumed),
                absent: Vec::new(),
                complete: false,
            }),
            generation: AtomicU64::new(1),
            refresh: Notify::new(),
        }
    }

    /// Grows by one whenever any table appeared, changed or went. One relaxed-cost load: ask once per request.
    pub fn generation(&self) -> u64 {
        // Acquire pairs with the Release in `publish`: who sees the new number finds the new tables.
        self.generation.load(Ordering::Acquire)
    }

    /// Finds `database.table`; a missing part means the default table's.
    pub fn lookup(&self, database: Option<&str>, table: Option<&str>) -> Lookup {
        let database = database.unwrap_or(&self.default_table.database);
        let table = table.unwrap_or(&self.default_table.table);
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        let found = served.tables.binary_search_by(|schema| {
            (schema.name.database.as_str(), schema.name.table.as_str()).cmp(&(database, table))
        });
        match found {
            Ok(index) => Lookup::Found(Arc::clone(&served.tables[index])),
            Err(_) if served.complete && !self.is_configured(database, table) => Lookup::NotServed,
            Err(_) => Lookup::NotYetKnown,
        }
    }

    /// ClickHouse had the default table when it was last read; until then: this process will create it.
    pub fn has_default_table(&self) -> bool {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served
            .tables
            .iter()
            .any(|schema| schema.name == self.default_table)
            && !served.absent.contains(&self.default_table)
    }

    fn is_configured(&self, database: &str, table: &str) -> bool {
        let compare =
            |name: &TableName| (name.database.as_str(), name.table.as_str()).cmp(&(database, table));
        self.configured.binary_search_by(compare).is_ok()
    }

    /// Asks for a new reading soon: after ClickHouse refused a block because the table changed, or a request named
    /// an unknown table. Cheap, callable from any thread; the control thread limits how often it really asks.
    pub fn request_refresh(&self) {
        self.refresh.notify_one();
    }

    /// The table a request without a table name goes to.
    pub fn default_table(&self) -> &TableName {
        &self.default_table
    }

    /// All served tables, ascending by name.
    pub fn tables(&self) -> Vec<Schema> {
        self.served
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .tables
            .clone()
    }

    /// Resolves when somebody has called [`Catalog::request_refresh`] since the last time this resolved.
    pub async fn refresh_requested(&self) {
        self.refresh.notified().await;
    }

    /// Replaces the served tables by a complete reading. A table whose fingerprint is unchanged keeps its pointer, a
    /// configured table that went stays served. Returns the names of tables that are new or different, and of tables
    /// that went.
    pub fn publish(&self, read: Vec<Schema>) -> Changes {
        let mut read = sorted(read);
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Changes::default();
        for schema in &mut read {
            match served
                .tables
                .binary_search_by(|known| known.name.cmp(&schema.name))
            {
                Ok(index) if *served.tables[index] == **schema => *schema = Arc::clone(&served.tables[index]),
                Ok(_) => changes.changed.push(schema.name.clone()),
                Err(_) => changes.appeared.push(schema.name.clone()),
            }
            if served.absent.contains(&schema.name) && !changes.changed.contains(&schema.name) {
                changes.appeared.push(schema.name.clone());
            }
        }
        let mut kept = Vec::new();
        for known in &served.tables {
            let name = &known.name;
            if read.binary_search_by(|schema| schema.name.cmp(name)).is_ok() {
                continue;
            }
            if self.configured.binary_search(name).is_ok() {
                kept.push(Arc::clone(known));
            }
            // Said once, not at every reading.
            if !served.absent.contains(name) {
                changes.gone.push(name.clone());
            }
        }
        let news = !changes.is_empty() || !served.complete;
        *served = Served {
            absent: kept.iter().map(|schema| schema.name.clone()).collect(),
            tables: sorted([read, kept].concat()),
            complete: true,
        };
        if news {
            // Still under the write lock: nobody can pair the new number with the old tables.
            self.generation.fetch_add(1, Ordering::Release);
        }
        changes
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Catalog")
            .field("generation", &self.generation())
            .field("tables", &served.tables.len())
            .field("complete", &served.complete)
            .finish()
    }
}

/// What one reading of ClickHouse changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tables ClickHouse did not have before.
    pub appeared: Vec<TableName>,
    /// Tables whose columns, types or partition key are different now.
    pub changed: Vec<TableName>,
    /// Tables ClickHouse no longer has.
    pub gone: Vec<TableName>,
}

impl Changes {
    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        self.appeared.is_empty() && self.changed.is_empty() && self.gone.is_empty()
    }
}

fn sorted(mut tables: Vec<Schema>) -> Vec<Schema> {
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables.dedup_by(|a, b| a.name == b.name);
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{PartitionKey, TableSchema};

    fn name(table: &str) -> TableName {
        TableName {
            database: "logs".to_owned(),
            table: table.to_owned(),
        }
    }

    fn schema(table: &str, fingerprint: u64) -> Schema {
        Arc::new(TableSchema {
            name: name(table),
            columns: Vec::new(),
            overflow: None,
            partition: PartitionKey::None,
            left_out: Vec::new(),
            fingerprint,
            shares_deduplication: false,
        })
    }

    fn found(lookup: Lookup) -> Schema {
        match lookup {
            Lookup::Found(schema) => schema,
            other => panic!("expected a table, got {other:?}"),
        }
    }

    #[test]
    fn a_table_is_not_yet_known_until_clickhouse_has_answered() {
        let catalog = Catalog::new(name("events"), &[], Vec::new());
        assert!(matches!(catalog.lookup(None, None), Lookup::NotYetKnown));
        assert!(matches!(catalog.lookup(None, Some("other")), Lookup::NotYetKnown));
        catalog.publish(Vec::new());
        assert!(matches!(catalog.lookup(None, Some("other")), Lookup::NotServed));
        assert!(
            matches!(catalog.lookup(None, None), Lookup::NotYetKnown),
            "a table the configuration names is never unknown to it"
        );
        assert!(!catalog.has_default_table());
    }

    #[test]
    fn a_configured_table_that_went_keeps_its_columns_and_another_does_not() {
        let catalog = Catalog::new(name("events"), &[name("audit")], Vec::new());
        catalog.publish(vec![schema("events", 1), schema("audit", 2), schema("other", 3)]);
        let before = found(catalog.lookup(None, None));
        assert!(catalog.has_default_table());

        let changes = catalog.publish(Vec::new());
        assert_eq!(changes.gone, vec![name("audit"), name("events"), name("other")]);
        assert!(Arc::ptr_eq(&before, &found(catalog.lookup(None, None))));
        assert_eq!(found(catalog.lookup(None, Some("audit"))).name, name("audit"));
        assert!(matches!(catalog.lookup(None, Some("other")), Lookup::NotServed));
        assert!(!catalog.has_default_table());
        assert!(catalog.publish(Vec::new()).is_empty(), "its absence is news once");

        let changes = catalog.publish(vec![schema("events", 1), schema("audit", 4)]);
        assert_eq!(
            (changes.appeared, changes.changed),
            (vec![name("events")], vec![name("audit")])
        );
        assert!(Arc::ptr_eq(&before, &found(catalog.lookup(None, None))));
        assert!(catalog.has_default_table());
    }

    #[test]
    fn an_assumed_table_is_served_before_clickhouse_has_answered() {
        let catalog = Catalog::new(name("events"), &[], vec![schema("events", 1)]);
        assert_eq!(found(catalog.lookup(None, None)).name, name("events"));
        assert!(matches!(catalog.lookup(None, Some("other")), Lookup::NotYetKnown));
    }

    #[test]
    fn a_missing_part_of_a_name_is_the_default_tables() {
        let catalog = Catalog::new(name("events"), &[], Vec::new());
        catalog.publish(vec![schema("events", 1), schema("audit", 2)]);
        assert_eq!(found(catalog.lookup(None, Some("audit"))).name, name("audit"));
        assert_eq!(found(catalog.lookup(Some("logs"), None)).name, name("events"));
        assert!(matches!(catalog.lookup(Some("other"), None), Lookup::NotServed));
    }

    #[test]
    fn an_unchanged_table_keeps_its_pointer_and_the_generation() {
        let catalog = Catalog::new(name("events"), &[], Vec::new());
        catalog.publish(vec![schema("events", 1), schema("audit", 2)]);
        let (before, generation) = (found(catalog.lookup(None, None)), catalog.generation());
        let changes = catalog.publish(vec![schema("audit", 2), schema("events", 1)]);
        assert!(changes.is_empty());
        assert!(Arc::ptr_eq(&before, &found(catalog.lookup(None, None))));
        assert_eq!(catalog.generation(), generation);
    }

    #[test]
    fn changes_are_told_apart_and_raise_the_generation() {
        let catalog = Catalog::new(name("events"), &[], Vec::new());
        catalog.publish(vec![schema("events", 1), schema("audit", 2), schema("other", 5)]);
        let (audit, generation) = (found(catalog.lookup(None, Some("audit"))), catalog.generation());
        let changes = catalog.publish(vec![
            schema("events", 1),
            schema("audit", 3),
            schema("metrics", 4),
        ]);
        assert_eq!(
            changes,
            Changes {
                appeared: vec![name("metrics")],
                changed: vec![name("audit")],
                gone: vec![name("other")]
            }
        );
        assert!(!Arc::ptr_eq(&audit, &found(catalog.lookup(None, Some("audit")))));
        assert_eq!(catalog.generation(), generation + 1);
    }
}
