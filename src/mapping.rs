//! Resolves the name of a row's key to the column its value goes to.

mod reading;
mod vocabulary;

use std::collections::{BTreeMap, HashMap};

pub use self::reading::{Constants, Reading};
use self::vocabulary::Meaning;
pub use self::vocabulary::Vocabulary;
pub use crate::config::TableConfig as MappingConfig;
use crate::schema::{DataType, Role, Schema, TableName};

/// The mapping sections of the configuration, by table.
#[derive(Debug, Default)]
pub struct Mappings {
    tables: BTreeMap<TableName, MappingConfig>,
    none: MappingConfig,
}

impl Mappings {
    /// Takes the configured mappings; a table without one has only its own column names.
    pub fn new(tables: impl IntoIterator<Item = (TableName, MappingConfig)>) -> Self {
        Mappings {
            tables: tables.into_iter().collect(),
            none: MappingConfig::default(),
        }
    }

    /// The mapping of one table.
    pub fn of(&self, table: &TableName) -> &MappingConfig {
        self.tables.get(table).unwrap_or(&self.none)
    }
}

/// Where the value of a key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Into one column. Of several keys for one column the lowest rank wins; the others become attributes.
    Column {
        /// Index into `TableSchema::columns`.
        column: u16,
        /// Precedence among the keys of one column, 0 is its own name.
        rank: u16,
    },
    /// The level: its text into one column, its number into another.
    Level {
        /// `Role::SeverityText`.
        text: u16,
        /// `Role::SeverityNumber`.
        number: u16,
        /// Precedence of the text.
        rank: u16,
    },
    /// An object of attributes: its keys go to the overflow column under their own names. Another value is an
    /// attribute itself.
    Attributes,
    /// An attribute: the overflow column, or nowhere when there is none.
    Unknown,
}

/// Ranks of a number taken from a level start here, behind every name of the number itself.
pub const LEVEL_RANK_BASE: u16 = 0x4000;
/// Ranks of names from the configuration: behind the column's own, before the usual ones.
const CONFIGURED_RANK_BASE: u16 = 1;
/// Ranks of the usual names.
const USUAL_RANK_BASE: u16 = 0x2000;

/// The usual names of the OpenTelemetry table's columns, best first. A nested object's keys are joined by dots
/// before they are looked up, so `log.level` is ECS's `{"log":{"level":...}}` too.
const USUAL: [(&str, &[&str]); 9] = [
    ("Timestamp", &["timestamp", "time", "ts", "@timestamp", "_time"]),
    (
        "SeverityText",
        &[
            "level",
            "severity",
            "severity_text",
            "severityText",
            "lvl",
            "log.level",
        ],
    ),
    ("SeverityNumber", &["severity_number", "severityNumber"]),
    ("Body", &["message", "msg", "body", "log"]),
    (
        "ServiceName",
        &[
            "service",
            "service.name",
            "service_name",
            "source",
            "app",
            "app_id",
        ],
    ),
    (
        "TraceId",
        &["trace_id", "traceId", "traceid", "trace.id", "traceID"],
    ),
    ("SpanId", &["span_id", "spanId", "spanid", "span.id", "spanID"]),
    ("TraceFlags", &["trace_flags", "traceFlags"]),
    ("EventName", &["event_name", "event.name", "eventName"]),
];

/// Keys whose object's members are attributes under their own names, besides the overflow column's own name.
const ATTRIBUTES: &str = "attributes";

/// What a key under one of the roots means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Where its value goes.
    pub target: Target,
    /// The members of an object stand in its place.
    pub inline: bool,
}

/// The names one table knows.
#[derive(Debug)]
pub struct Resolver {
    targets: HashMap<Box<[u8]>, Target>,
    /// Columns of the usual names, with the target each has by its own name.
    columns: HashMap<String, Target>,
    /// Columns that take an object as it is, under their own name.
    takes_objects: Vec<bool>,
    overflow: Option<usize>,
}

impl Resolver {
    /// Collects the names of a table's columns, of its mapping, and the usual ones for an OpenTelemetry table.
    ///
    /// A configured name of a column the table does not have, or has left out, resolves to nothing: `check` tells.
    ///
    /// # Panics
    /// When the table has 65,535 columns or more; ClickHouse's own advice is to stay below a thousand.
    pub fn new(schema: &Schema, mapping: &MappingConfig) -> Self {
        assert!(
            schema.columns.len() < usize::from(u16::MAX),
            "more columns than a table can have"
        );
        let position = |name: &str| schema.columns.iter().position(|column| column.name == name);
        let overflow = match &mapping.overflow {
            Some(name) => position(name).filter(|column| schema.columns[*column].data_type.takes_overflow()),
            None => None,
        }
        .or(schema.overflow);
        let role = |wanted: Role| schema.columns.iter().position(|column| column.role == wanted);
        let level = (role(Role::SeverityText), role(Role::SeverityNumber));

        let mut targets = HashMap::new();
        let mut add = |name: &str, column: usize, rank: u16| {
            let target = match level {
                (Some(text), Some(number)) if text == column => Target::Level {
                    text: text as u16,
                    number: number as u16,
                    rank,
                },
                _ if Some(column) == overflow => Target::Attributes,
                _ => Target::Column {
                    column: column as u16,
                    rank,
                },
            };
            targets.entry(name.as_bytes().into()).or_insert(target);
        };
        for (column, spec) in schema.columns.iter().enumerate() {
            add(&spec.name, column, 0);
        }
        for (rank, (name, column)) in mapping.columns.iter().enumerate() {
            if let Some(column) = position(column) {
                add(name, column, CONFIGURED_RANK_BASE + rank.min(0x1000) as u16);
            }
        }
        if schema.columns.iter().any(|column| column.role != Role::Plain) {
            for (column, names) in USUAL {
                let Some(column) = position(column) else { continue };
                for (rank, name) in names.iter().enumerate() {
                    add(name, column, USUAL_RANK_BASE + rank as u16);
                }
            }
        }
        if let Some(overflow) = overflow {
            add(ATTRIBUTES, overflow, 0);
        }
        let columns = schema
            .columns
            .iter()
            .filter_map(|spec| Some((spec.name.clone(), *targets.get(spec.name.as_bytes())?)))
            .collect();
        Resolver {
            targets,
            columns,
            takes_objects: schema
                .columns
                .iter()
                .map(|column| takes_object(&column.data_type))
                .collect(),
            overflow,
        }
    }

    /// The target of a name; nested names joined by dots.
    pub fn resolve(&self, name: &[u8]) -> Target {
        self.targets.get(name).copied().unwrap_or(Target::Unknown)
    }

    /// The target of a key of the row itself, in a vocabulary.
    pub fn resolve_in(&self, vocabulary: Vocabulary, key: &[u8]) -> Resolved {
        let own = self.resolve(key);
        let as_it_is = Resolved {
            target: own,
            inline: false,
        };
        // The column is called so, or the operator says it.
        if let Target::Column { rank, .. } | Target::Level { rank, .. } = own
            && rank < USUAL_RANK_BASE
        {
            return as_it_is;
        }
        let mut meanings = vocabulary.meanings().iter().enumerate();
        let Some((at, (_, meaning))) = meanings.find(|(_, (name, _))| name.as_bytes() == key) else {
            return as_it_is;
        };
        let rank = USUAL_RANK_BASE + at as u16;
        let of_column = |name: &str| match self.columns.get(name) {
            Some(Target::Column { column, .. }) => Target::Column {
                column: *column,
                rank,
            },
            Some(Target::Level { text, number, .. }) => Target::Level {
                text: *text,
                number: *number,
                rank,
            },
            Some(Target::Attributes | Target::Unknown) | None => own,
        };
        match *meaning {
            Meaning::Column(name) => Resolved {
                target: of_column(name),
                inline: false,
            },
            Meaning::Inline(name) => Resolved {
                target: of_column(name),
                inline: true,
            },
            Meaning::Attributes => Resolved {
                target: Target::Attributes,
                inline: false,
            },
            Meaning::Attribute => Resolved {
                target: Target::Unknown,
                inline: false,
            },
        }
    }

    /// An object under a name with this target is the column's value, and not a group of keys.
    ///
    /// That holds for a column's own name only: `{"log":{"level":"info"}}` has a level, and no message.
    pub fn takes_object(&self, target: Target) -> bool {
        match target {
            Target::Column { column, rank } => {
                rank < USUAL_RANK_BASE && self.takes_objects[usize::from(column)]
            }
            _ => false,
        }
    }

    /// The column unknown keys go to.
    pub fn overflow(&self) -> Option<usize> {
        self.overflow
    }
}

/// Text takes an object as its JSON, as ClickHouse's own JSONEachRow does.
fn takes_object(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) | DataType::Json | DataType::Tuple(_) | DataType::String => true,
        DataType::Nullable(inner) | DataType::LowCardinality(inner) => takes_object(inner),
        _ => false,
    }
}
