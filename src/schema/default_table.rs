//! The default table: OpenTelemetry logs as ClickStack, Grafana and their like read them.

use super::{ColumnSpec, DataType, RawColumn, Role, TableName, TableSchema};
use std::fmt::Write;

/// Name, type and codec of each column, in the order of the OpenTelemetry collector's ClickHouse exporter.
const COLUMNS: [(&str, &str, &str); 16] = [
    ("Timestamp", "DateTime64(9)", "Delta(8), ZSTD(1)"),
    ("TraceId", "String", "ZSTD(1)"),
    ("SpanId", "String", "ZSTD(1)"),
    ("TraceFlags", "UInt8", "ZSTD(1)"),
    ("SeverityText", "LowCardinality(String)", "ZSTD(1)"),
    ("SeverityNumber", "UInt8", "ZSTD(1)"),
    ("ServiceName", "LowCardinality(String)", "ZSTD(1)"),
    ("Body", "String", "ZSTD(1)"),
    ("ResourceSchemaUrl", "LowCardinality(String)", "ZSTD(1)"),
    (
        "ResourceAttributes",
        "Map(LowCardinality(String), String)",
        "ZSTD(1)",
    ),
    ("ScopeSchemaUrl", "LowCardinality(String)", "ZSTD(1)"),
    ("ScopeName", "String", "ZSTD(1)"),
    ("ScopeVersion", "LowCardinality(String)", "ZSTD(1)"),
    (
        "ScopeAttributes",
        "Map(LowCardinality(String), String)",
        "ZSTD(1)",
    ),
    ("LogAttributes", "Map(LowCardinality(String), String)", "ZSTD(1)"),
    ("EventName", "String", "ZSTD(1)"),
];

impl TableSchema {
    /// The schema of the table that [`TableSchema::default_table_ddl`] creates.
    pub fn default_table(name: TableName) -> TableSchema {
        let raw = COLUMNS.map(|(name, type_name, _)| RawColumn {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            ..RawColumn::default()
        });
        TableSchema::from_columns(name, &raw, "toDate(Timestamp)").expect("every type above is supported")
    }

    /// The statement that creates the default table when it is missing; rows are kept `ttl_days` days, or for ever.
    ///
    /// `non_replicated_deduplication_window` lets a retried INSERT be dropped by its token: 1000 INSERTs are several
    /// minutes even at the fastest pace the writer keeps. The index on Body is a bloom filter of its words: it
    /// serves `hasToken` and costs an insert far less than an inverted index.
    pub fn default_table_ddl(name: &TableName, ttl_days: Option<u32>) -> String {
        let mut ddl = format!("CREATE TABLE IF NOT EXISTS {name}\n(\n");
        for (column, type_name, codec) in COLUMNS {
            // Writing into a String cannot fail.
            let _ = writeln!(ddl, "    `{column}` {type_name} CODEC({codec}),");
        }
        ddl.push_str(
            "    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,\n    \
             INDEX idx_body Body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8\n)\n\
             ENGINE = MergeTree\n\
             PARTITION BY toDate(Timestamp)\n\
             ORDER BY (toStartOfFiveMinutes(Timestamp), ServiceName, Timestamp)\n",
        );
        if let Some(days) = ttl_days {
            let _ = writeln!(ddl, "TTL toDateTime(Timestamp) + toIntervalDay({days})");
        }
        ddl.push_str(
            "SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, \
             non_replicated_deduplication_window = 1000",
        );
        ddl
    }
}

/// Sets the roles of an OpenTelemetry-shaped table; leaves every other table alone.
pub(super) fn set_roles(columns: &mut [ColumnSpec]) {
    let find = |wanted: &str, fits: fn(&DataType) -> bool| {
        columns
            .iter()
            .position(|column| column.name == wanted && fits(&column.data_type))
    };
    let is_text = |data_type: &DataType| match data_type {
        DataType::String => true,
        DataType::LowCardinality(inner) => **inner == DataType::String,
        _ => false,
    };
    let is_number = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::UInt8
                | DataType::UInt16
                | DataType::UInt32
                | DataType::Int8
                | DataType::Int16
                | DataType::Int32
        )
    };
    let (Some(time), Some(text), Some(number), Some(_), Some(_)) = (
        find("Timestamp", DataType::is_time),
        find("SeverityText", is_text),
        find("SeverityNumber", is_number),
        find("Body", is_text),
        find("LogAttributes", DataType::takes_overflow),
    ) else {
        return;
    };
    columns[time].role = Role::Time;
    columns[text].role = Role::SeverityText;
    columns[number].role = Role::SeverityNumber;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{PartitionKey, PartitionUnit};

    fn name() -> TableName {
        TableName {
            database: "ringhouse".into(),
            table: "logs".into(),
        }
    }

    #[test]
    fn the_default_table_has_its_roles_and_its_overflow() {
        let schema = TableSchema::default_table(name());
        let role_of = |name: &str| schema.columns.iter().find(|c| c.name == name).unwrap().role;
        assert_eq!(role_of("Timestamp"), Role::Time);
        assert_eq!(role_of("SeverityText"), Role::SeverityText);
        assert_eq!(role_of("SeverityNumber"), Role::SeverityNumber);
        assert_eq!(role_of("Body"), Role::Plain);
        assert_eq!(schema.columns[schema.overflow.unwrap()].name, "LogAttributes");
        assert_eq!(
            schema.partition,
            PartitionKey::Time {
                column: 0,
                unit: PartitionUnit::Day
            }
        );
        assert!(schema.columns.iter().all(|column| !column.has_default));
    }

    #[test]
    fn a_table_without_all_of_its_columns_gets_no_roles() {
        let raw: Vec<_> = ["Timestamp", "SeverityText", "Body"]
            .map(|name| RawColumn {
                name: name.into(),
                type_name: if name == "Timestamp" {
                    "DateTime64(9)"
                } else {
                    "String"
                }
                .into(),
                ..RawColumn::default()
            })
            .to_vec();
        let schema = TableSchema::from_columns(name(), &raw, "").unwrap();
        assert!(schema.columns.iter().all(|column| column.role == Role::Plain));
    }

    #[test]
    fn the_statement_names_every_column_once_and_the_ttl_by_choice() {
        let forever = TableSchema::default_table_ddl(&name(), None);
        assert!(forever.starts_with("CREATE TABLE IF NOT EXISTS `ringhouse`.`logs`\n("));
        assert!(!forever.contains("TTL "));
        for (column, type_name, _) in COLUMNS {
            assert_eq!(
                forever.matches(&format!("`{column}` {type_name} CODEC")).count(),
                1
            );
        }
        assert!(TableSchema::default_table_ddl(&name(), Some(30)).contains("toIntervalDay(30)"));
    }
}
