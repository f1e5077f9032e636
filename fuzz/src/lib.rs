//! What the targets share.

use std::sync::Arc;

use ringhouse::batch::{RowInput, TableSink};
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::json::{Parser, RowErrors};
use ringhouse::limits::Limits;
use ringhouse::mapping::MappingConfig;
use ringhouse::schema::{TableName, TableSchema};

/// Limits that short inputs reach.
pub fn small_limits() -> Limits {
    Limits {
        line_bytes_max: 4096,
        chunk_bytes: 4096,
        depth_max: 8,
        ..Limits::default()
    }
}

/// A default table on one core.
pub struct Table {
    sink: TableSink,
    parser: Parser,
    pub errors: RowErrors,
    accepted: u64,
    taken: u64,
}

impl Table {
    pub fn new(limits: &Limits) -> Table {
        let name = TableName {
            database: "d".into(),
            table: "t".into(),
        };
        let schema = Arc::new(TableSchema::default_table(name));
        Table {
            sink: TableSink::new(schema, &MappingConfig::default(), limits),
            parser: Parser::new(limits),
            errors: RowErrors::new(limits),
            accepted: 0,
            taken: 0,
        }
    }

    /// Takes all rows of an input, each of which is accepted or rejected once.
    pub fn take(&mut self, input: &impl RowInput) {
        const NOW_NS: i64 = 1_700_000_000_000_000_000;
        let mut at = 0;
        while at < input.end() {
            let pushed = input.push(at, &mut self.sink, &mut self.parser, self.taken, NOW_NS, &mut self.errors);
            assert!(
                pushed.rows > 0 || pushed.blocked_on.is_some(),
                "no end in sight"
            );
            at += pushed.consumed;
            self.taken += pushed.rows;
            self.accepted += pushed.accepted;
            if let Some(batch) = pushed.blocked_on {
                self.sink
                    .seal(batch, &mut FrameEncoder::new(), &mut Vec::new());
            }
        }
        assert_eq!(self.accepted + self.errors.count, self.taken);
    }
}

/// [`Table::take`] in a table of its own, where each record of the input is a row.
pub fn take(input: &impl RowInput, limits: &Limits) {
    let mut table = Table::new(limits);
    table.take(input);
    assert_eq!(table.taken, input.end() as u64);
}
