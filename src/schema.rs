//! A destination table as ClickHouse describes it: names, columns, types, partition key.

use std::sync::Arc;

/// `database.table`, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Database the table lives in.
    pub database: String,
    /// Table name without its database.
    pub table: String,
}

/// A column's ClickHouse type, parsed from its `system.columns.type` text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `String`.
    String,
    // the other types of shared/design.md
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
}

/// Shared handle; cores compare it by pointer.
pub type Schema = Arc<TableSchema>;
