//! What tests of messages share: encoding them, and reading the rows they become back from their blocks.

use std::sync::Arc;

use crate::batch::RowInput;
use crate::batch::taken;
pub(crate) use crate::batch::taken::Taken;
use crate::limits::Limits;
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

/// Takes all records of a message.
pub(crate) fn take_all(schema: &Schema, limits: &Limits, message: &impl RowInput) -> Taken {
    let taken = taken::take_all(schema, limits, message, NOW_NS);
    assert_eq!(taken.count, message.end() as u64, "each record is a row");
    taken
}
