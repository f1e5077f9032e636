//! A destination table as ClickHouse describes it: names, columns, types, partition key.

mod data_type;
mod default_table;
mod partition_key;

pub use data_type::{DataType, TypeError};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// `database.table`, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// Database the table lives in.
    pub database: String,
    /// Table name without its database.
    pub table: String,
}

/// What a column of the default table means beyond its type; `Plain` for every other table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The value is coerced to the column's type and nothing else.
    Plain,
    /// Event time: receive time when the row has none.
    Time,
    /// Level as text: words stay as written, numbers become their name.
    SeverityText,
    /// Level as OpenTelemetry number.
    SeverityNumber,
}

/// One insertable column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ColumnSpec {
    /// Column name, unquoted.
    pub name: String,
    /// The type's text exactly as ClickHouse prints it: it goes into the block.
    pub type_name: String,
    /// The type, parsed.
    pub data_type: DataType,
    /// A DEFAULT expression exists: rows without the key leave the column out of their block.
    pub has_default: bool,
    /// Meaning in the default table's mapping.
    pub role: Role,
}

/// How rows spread over partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionKey {
    /// No partition key: one partition.
    None,
    /// A calendar unit of one time column.
    Time {
        /// Index into `TableSchema::columns`.
        column: usize,
        /// Calendar unit of one partition.
        unit: PartitionUnit,
    },
    /// An expression this program does not compute; ClickHouse is asked to accept any number.
    Opaque,
}

/// Calendar unit of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionUnit {
    /// `toStartOfHour`, `toYYYYMMDDhh`-like keys.
    Hour,
    /// `toDate`, `toYYYYMMDD`, the bare Date column.
    Day,
    /// `toMonday`, `toStartOfWeek`.
    Week,
    /// `toYYYYMM`, `toStartOfMonth`.
    Month,
    /// `toYear`, `toStartOfYear`.
    Year,
}

/// A table rows can go into. Immutable: a changed table is a new value with a new fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    /// Where it lives.
    pub name: TableName,
    /// Insertable columns, in table order (MATERIALIZED, ALIAS and EPHEMERAL are left out).
    pub columns: Vec<ColumnSpec>,
    /// The column unknown keys go to, if the table has one (index into `columns`).
    pub overflow: Option<usize>,
    /// Partition key.
    pub partition: PartitionKey,
    /// Columns left out and why (unsupported type with a default, and so on), for `ringhouse check`.
    pub left_out: Vec<(String, String)>,
    /// Hash of everything above: blocks carry it.
    pub fingerprint: u64,
    /// An INSERT repeated on another replica is recognised there: the tokens are in Keeper and not on one server. No
    /// part of the fingerprint, because no byte of a block depends on it.
    pub shares_deduplication: bool,
}

/// Shared handle; cores compare it by pointer.
pub type Schema = Arc<TableSchema>;

/// A row of `system.columns`, in table order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RawColumn {
    /// `name`.
    pub name: String,
    /// `type`.
    pub type_name: String,
    /// `default_kind`: empty, `DEFAULT`, `MATERIALIZED`, `ALIAS` or `EPHEMERAL`.
    pub default_kind: String,
    /// `default_expression`.
    pub default_expression: String,
}

/// Why rows cannot go into a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaError {
    /// A column without a default has a type that cannot be written.
    Column {
        /// The column.
        column: String,
        /// What is wrong with its type.
        error: TypeError,
    },
    /// No column can be inserted into.
    NoColumns,
    /// More columns with a DEFAULT than a block can name as left out.
    TooManyDefaults(usize),
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaError::Column { column, error } => {
                write!(
                    f,
                    "column `{column}`: {error}; give it a DEFAULT or change its type"
                )
            }
            SchemaError::NoColumns => write!(f, "the table has no column that can be inserted into"),
            SchemaError::TooManyDefaults(count) => {
                write!(
                    f,
                    "{count} columns have a DEFAULT, at most {DEFAULT_COLUMNS_MAX} are supported"
                )
            }
        }
    }
}

impl std::error::Error for SchemaError {}

/// Columns with a DEFAULT in one table: `Block::omitted` has one bit for each.
pub const DEFAULT_COLUMNS_MAX: usize = 64;

/// Names, compared in lower case, of a column that unknown keys go to when no configuration names one.
/// The first that exists and has a fitting type is taken.
const OVERFLOW_NAMES: [&str; 6] = [
    "logattributes",
    "log_attributes",
    "attributes",
    "extra",
    "overflow",
    "_overflow",
];

impl TableSchema {
    /// Builds the schema from the rows of `system.columns` and the text of `system.tables.partition_key`.
    ///
    /// MATERIALIZED, ALIAS and EPHEMERAL columns are skipped without a word; a column with a DEFAULT and a type
    /// that is not supported is left out and listed. A table with the columns of the OpenTelemetry table
    /// (`Timestamp`, `SeverityText`, `SeverityNumber`, `Body`, `LogAttributes` in fitting types) gets their roles.
    ///
    /// # Errors
    /// [`SchemaError`] names the column that cannot be written.
    pub fn from_columns(
        name: TableName,
        raw: &[RawColumn],
        partition_key: &str,
    ) -> Result<TableSchema, SchemaError> {
        let mut columns = Vec::new();
        let mut left_out = Vec::new();
        for column in raw {
            let has_default = match column.default_kind.as_str() {
                "" => false,
                "DEFAULT" => true,
                _ => continue,
            };
            match DataType::parse(&column.type_name) {
                Ok(data_type) => columns.push(ColumnSpec {
                    name: column.name.clone(),
                    type_name: column.type_name.clone(),
                    data_type,
                    has_default,
                    role: Role::Plain,
                }),
                Err(error) if has_default => left_out.push((column.name.clone(), error.to_string())),
                Err(error) => {
                    return Err(SchemaError::Column {
                        column: column.name.clone(),
                        error,
                    });
                }
            }
        }
        if columns.is_empty() {
            return Err(SchemaError::NoColumns);
        }
        let defaults = columns.iter().filter(|column| column.has_default).count();
        if defaults > DEFAULT_COLUMNS_MAX {
            return Err(SchemaError::TooManyDefaults(defaults));
        }
        default_table::set_roles(&mut columns);
        let overflow = OVERFLOW_NAMES.iter().find_map(|wanted| {
            columns.iter().position(|column| {
                column.data_type.takes_overflow() && column.name.eq_ignore_ascii_case(wanted)
            })
        });
        let partition = PartitionKey::parse(partition_key, &columns);
        let mut schema = TableSchema {
            name,
            columns,
            overflow,
            partition,
            left_out,
            fingerprint: 0,
            shares_deduplication: false,
        };
        schema.fingerprint = schema.hash();
        Ok(schema)
    }

    /// The same table with its engine known, as `system.tables` names it.
    pub fn with_engine(mut self, engine: &str) -> TableSchema {
        self.shares_deduplication = shares_deduplication(engine);
        self
    }

    /// The same table with unknown keys going to the column at `overflow`, as a configuration may ask.
    ///
    /// # Panics
    /// When the column's type does not take them ([`DataType::takes_overflow`]).
    pub fn with_overflow(mut self, overflow: Option<usize>) -> TableSchema {
        if let Some(index) = overflow {
            assert!(
                self.columns[index].data_type.takes_overflow(),
                "overflow needs a map of text or JSON"
            );
        }
        self.overflow = overflow;
        self.fingerprint = self.hash();
        self
    }

    /// FNV-1a (64 bits) over everything a block's bytes depend on. Stable across versions and machines, as a
    /// block may outlive the process that built it.
    fn hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut put = |bytes: &[u8]| {
            // The length first, so that ("ab", "c") and ("a", "bc") differ.
            for &byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        put(self.name.database.as_bytes());
        put(self.name.table.as_bytes());
        for column in &self.columns {
            put(column.name.as_bytes());
            put(column.type_name.as_bytes());
            put(&[u8::from(column.has_default), column.role as u8]);
        }
        put(&self.overflow.map_or(u64::MAX, |index| index as u64).to_le_bytes());
        match self.partition {
            PartitionKey::None => put(&[0]),
            PartitionKey::Opaque => put(&[1]),
            PartitionKey::Time { column, unit } => {
                put(&[2, unit as u8]);
                put(&(column as u64).to_le_bytes());
            }
        }
        for (column, reason) in &self.left_out {
            put(column.as_bytes());
            put(reason.as_bytes());
        }
        hash
    }
}

/// Whether the replicas of a table with this engine know each other's INSERTs. Shared engines are ClickHouse Cloud's.
pub fn shares_deduplication(engine: &str) -> bool {
    engine.starts_with("Replicated") || engine.starts_with("Shared")
}

/// A schema as the write-ahead log keeps it: what is needed to insert a block and to read its rows back.
#[derive(Serialize, Deserialize)]
struct Kept {
    database: String,
    table: String,
    columns: Vec<KeptColumn>,
    opaque_partitions: bool,
    #[serde(default)]
    shares_deduplication: bool,
    fingerprint: u64,
}

#[derive(Serialize, Deserialize)]
struct KeptColumn {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    has_default: bool,
}

impl TableSchema {
    /// The schema as text for the write-ahead log.
    pub fn to_json(&self) -> String {
        let column = |spec: &ColumnSpec| KeptColumn {
            name: spec.name.clone(),
            type_name: spec.type_name.clone(),
            has_default: spec.has_default,
        };
        let kept = Kept {
            database: self.name.database.clone(),
            table: self.name.table.clone(),
            columns: self.columns.iter().map(column).collect(),
            opaque_partitions: self.partition == PartitionKey::Opaque,
            shares_deduplication: self.shares_deduplication,
            fingerprint: self.fingerprint,
        };
        serde_json::to_string(&kept).expect("texts and numbers have a JSON form")
    }

    /// Reads [`TableSchema::to_json`]. Good for inserting blocks that are built, not for building new ones: roles,
    /// the overflow column and the partition key are not kept.
    pub fn from_json(text: &[u8]) -> Option<TableSchema> {
        let kept: Kept = serde_json::from_slice(text).ok()?;
        let column = |kept: KeptColumn| {
            Some(ColumnSpec {
                data_type: DataType::parse(&kept.type_name).ok()?,
                name: kept.name,
                type_name: kept.type_name,
                has_default: kept.has_default,
                role: Role::Plain,
            })
        };
        Some(TableSchema {
            name: TableName {
                database: kept.database,
                table: kept.table,
            },
            columns: kept.columns.into_iter().map(column).collect::<Option<_>>()?,
            overflow: None,
            partition: match kept.opaque_partitions {
                true => PartitionKey::Opaque,
                false => PartitionKey::None,
            },
            left_out: Vec::new(),
            shares_deduplication: kept.shares_deduplication,
            fingerprint: kept.fingerprint,
        })
    }
}

impl TableName {
    /// `database.table`, for people and metrics; [`Display`](fmt::Display) is for SQL.
    pub fn plain(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }
}

impl fmt::Display for TableName {
    /// `` `database`.`table` ``, quoted for ClickHouse.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", QuotedName(&self.database), QuotedName(&self.table))
    }
}

/// Prints an identifier in ClickHouse's backticks.
#[derive(Debug, Clone, Copy)]
pub struct QuotedName<'a>(pub &'a str);

impl fmt::Display for QuotedName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0.replace('\\', "\\\\").replace('`', "\\`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> TableName {
        TableName {
            database: "logs".into(),
            table: "events".into(),
        }
    }

    fn raw(name: &str, type_name: &str, default_kind: &str) -> RawColumn {
        RawColumn {
            name: name.into(),
            type_name: type_name.into(),
            default_kind: default_kind.into(),
            default_expression: String::new(),
        }
    }

    #[test]
    fn skips_computed_columns_and_keeps_defaults() {
        let columns = [
            raw("ts", "DateTime", ""),
            raw("day", "Date", "MATERIALIZED"),
            raw("alias", "Point", "ALIAS"),
            raw("raw", "String", "EPHEMERAL"),
            raw("level", "String", "DEFAULT"),
            raw("where", "Point", "DEFAULT"),
        ];
        let schema = TableSchema::from_columns(name(), &columns, "toYYYYMM(ts)").unwrap();
        let kept: Vec<_> = schema
            .columns
            .iter()
            .map(|c| (c.name.as_str(), c.has_default))
            .collect();
        assert_eq!(kept, [("ts", false), ("level", true)]);
        assert_eq!(schema.left_out.len(), 1);
        assert_eq!(schema.left_out[0].0, "where");
        assert_eq!(
            schema.partition,
            PartitionKey::Time {
                column: 0,
                unit: PartitionUnit::Month
            }
        );
        assert!(schema.columns.iter().all(|column| column.role == Role::Plain));
    }

    #[test]
    fn names_the_column_it_cannot_write() {
        let error = TableSchema::from_columns(name(), &[raw("where", "Point", "")], "").unwrap_err();
        assert!(
            error.to_string().contains("`where`") && error.to_string().contains("Point"),
            "{error}"
        );
        assert_eq!(
            TableSchema::from_columns(name(), &[], ""),
            Err(SchemaError::NoColumns)
        );
        let many: Vec<_> = (0..65)
            .map(|i| raw(&format!("c{i}"), "UInt8", "DEFAULT"))
            .collect();
        assert_eq!(
            TableSchema::from_columns(name(), &many, ""),
            Err(SchemaError::TooManyDefaults(65))
        );
        assert!(TableSchema::from_columns(name(), &many[1..], "").is_ok());
    }

    #[test]
    fn finds_the_overflow_column_by_name_and_type() {
        let of = |columns: &[RawColumn]| TableSchema::from_columns(name(), columns, "").unwrap().overflow;
        assert_eq!(
            of(&[
                raw("a", "String", ""),
                raw("Attributes", "Map(String, String)", "")
            ]),
            Some(1)
        );
        assert_eq!(of(&[raw("extra", "JSON", "")]), Some(0));
        assert_eq!(of(&[raw("attributes", "Map(String, UInt8)", "")]), None);
        assert_eq!(of(&[raw("labels", "Map(String, String)", "")]), None);
    }

    #[test]
    fn a_changed_column_changes_the_fingerprint() {
        let of = |columns: &[RawColumn], key| {
            TableSchema::from_columns(name(), columns, key)
                .unwrap()
                .fingerprint
        };
        let base = of(&[raw("a", "Date", ""), raw("b", "String", "")], "");
        assert_eq!(base, of(&[raw("a", "Date", ""), raw("b", "String", "")], ""));
        for (columns, key) in [
            (vec![raw("a", "Date", ""), raw("b", "String", "DEFAULT")], ""),
            (vec![raw("a", "Date32", ""), raw("b", "String", "")], ""),
            (vec![raw("b", "String", ""), raw("a", "Date", "")], ""),
            (vec![raw("a", "Date", ""), raw("b", "String", "")], "a"),
        ] {
            assert_ne!(base, of(&columns, key), "{columns:?} {key}");
        }
    }

    #[test]
    fn the_engine_says_whether_replicas_share_tokens_and_changes_no_fingerprint() {
        let of = |engine: &str| {
            TableSchema::from_columns(name(), &[raw("a", "String", "")], "")
                .unwrap()
                .with_engine(engine)
        };
        for (engine, shares) in [
            ("MergeTree", false),
            ("Distributed", false),
            ("ReplicatedMergeTree", true),
            ("ReplicatedReplacingMergeTree", true),
            ("SharedMergeTree", true),
        ] {
            assert_eq!(of(engine).shares_deduplication, shares, "{engine}");
            assert_eq!(of(engine).fingerprint, of("Null").fingerprint, "{engine}");
        }
    }

    #[test]
    fn quotes_names_for_clickhouse() {
        let name = TableName {
            database: "a`b".into(),
            table: "c\\d".into(),
        };
        assert_eq!(name.to_string(), "`a\\`b`.`c\\\\d`");
    }
}
