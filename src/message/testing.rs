//! What tests of messages share: encoding them, and reading the rows they become back from their blocks.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::batch::{RowInput, TableSink, overshoot_bytes};
use crate::clickhouse::frame::FrameEncoder;
use crate::column::rows::Rows;
use crate::json::{Parser, RowErrors};
use crate::limits::Limits;
use crate::mapping::MappingConfig;
use crate::protobuf::{put_bytes_field, put_fixed64_field, put_varint_field};
use crate::schema::{Schema, TableName, TableSchema};

/// The time of receipt.
pub(crate) const NOW_NS: i64 = 1_700_000_000_123_456_789;

/// A table's name.
pub(crate) fn name() -> TableName {
    TableName {
        database: "d".into(),
        table: "t".into(),
    }
}

/// OpenTelemetry's.
pub(crate) fn default_table() -> Schema {
    Arc::new(TableSchema::default_table(name()))
}

/// A message of nested messages, field by field.
#[derive(Default, Clone)]
pub(crate) struct Proto(pub(crate) Vec<u8>);

impl Proto {
    pub(crate) fn bytes(mut self, number: u32, bytes: impl AsRef<[u8]>) -> Proto {
        put_bytes_field(number, bytes.as_ref(), &mut self.0);
        self
    }

    pub(crate) fn varint(mut self, number: u32, value: u64) -> Proto {
        put_varint_field(number, value, &mut self.0);
        self
    }

    pub(crate) fn fixed64(mut self, number: u32, value: u64) -> Proto {
        put_fixed64_field(number, value, &mut self.0);
        self
    }

    pub(crate) fn fixed32(mut self, number: u8, value: u32) -> Proto {
        self.0.push(number << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn message(self, number: u32, message: Proto) -> Proto {
        self.bytes(number, message.0)
    }
}

/// A message without fields yet.
pub(crate) fn proto() -> Proto {
    Proto::default()
}

/// What became of a message.
pub(crate) struct Taken {
    pub(crate) rows: Vec<Json>,
    pub(crate) errors: RowErrors,
    pub(crate) accepted: u64,
}

/// Takes all records of a message, no batch of which grows beyond its bound.
pub(crate) fn take_all(schema: &Schema, limits: &Limits, message: &impl RowInput) -> Taken {
    let mut sink = TableSink::new(Schema::clone(schema), &MappingConfig::default(), limits);
    let (mut parser, mut errors) = (Parser::new(limits), RowErrors::new(limits));
    let mut encoder = FrameEncoder::new();
    let mut rows = Vec::new();
    let mut seal = |sink: &mut TableSink, batch: usize| {
        let mut frames = Vec::new();
        sink.seal(batch, &mut encoder, &mut frames);
        let block = Rows::read(&frames).unwrap();
        for row in 0..block.len() {
            let mut json = Vec::new();
            block.put_json(row, &mut json);
            rows.push(serde_json::from_slice(&json).unwrap());
        }
    };
    let (mut at, mut accepted) = (0, 0);
    while at < message.end() {
        let pushed = message.push(at, &mut sink, &mut parser, at as u64, NOW_NS, &mut errors);
        assert!(pushed.rows > 0 || pushed.blocked_on.is_some(), "no end in sight");
        assert_eq!(pushed.consumed as u64, pushed.rows);
        at += pushed.consumed;
        accepted += pushed.accepted;
        let batch_bytes = sink.open().map(|(_, batch)| batch.wire_bytes).max().unwrap_or(0);
        assert!(
            batch_bytes <= limits.batch_bytes_max + overshoot_bytes(limits),
            "a batch of {batch_bytes} bytes"
        );
        if let Some(batch) = pushed.blocked_on {
            seal(&mut sink, batch);
        }
    }
    assert_eq!(accepted + errors.count, message.end() as u64);
    for batch in sink.open().map(|(batch, _)| batch).collect::<Vec<_>>() {
        seal(&mut sink, batch);
    }
    assert_eq!(accepted, rows.len() as u64);
    Taken {
        rows,
        errors,
        accepted,
    }
}
