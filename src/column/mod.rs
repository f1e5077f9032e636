//! Columns of an open batch, built straight in ClickHouse's native wire form.

pub use simd_json::{Node, StaticNode};

use crate::limits::Limits;
use crate::schema::{ColumnSpec, PartitionUnit};

/// Why one value does not fit its column. `label` names it in metrics, `Display` in replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueError {
    /// The JSON value has a type the column cannot take.
    WrongType {
        /// What the column takes.
        expected: &'static str,
    },
    /// A time that is not in any known form.
    BadTime,
}

impl ValueError {
    /// Short name for metrics.
    pub fn label(&self) -> &'static str {
        "type"
    }
}

/// The values of one column for a run of rows.
#[derive(Debug, Clone, Copy)]
pub struct Append<'a> {
    /// Parsed text; index 0 is the root and never a value.
    pub tape: &'a [Node<'a>],
    /// Tape index of each row's value, 0 = the row has none.
    pub values: &'a [u32],
    /// Receive time in nanoseconds since 1970: what `Role::Time` puts where the row has no time.
    pub now_ns: i64,
}

/// One column of an open batch.
#[derive(Debug)]
pub struct Column {}

#[allow(unused_variables, missing_docs)]
impl Column {
    pub fn new(spec: &ColumnSpec, limits: &Limits) -> Column {
        todo!()
    }
    pub fn rows(&self) -> usize {
        todo!()
    }
    pub fn wire_bytes(&self) -> usize {
        todo!()
    }
    pub fn append(&mut self, append: &Append<'_>, on_error: &mut dyn FnMut(usize, ValueError)) {
        todo!()
    }
    pub fn append_defaults(&mut self, rows: usize) {
        todo!()
    }
    pub fn parse_ticks(
        spec: &ColumnSpec,
        append: &Append<'_>,
        ticks: &mut Vec<i64>,
        on_error: &mut dyn FnMut(usize, ValueError),
    ) {
        todo!()
    }
    pub fn append_ticks(&mut self, ticks: &[i64]) {
        todo!()
    }
    pub fn mark(&mut self) {
        todo!()
    }
    pub fn rollback(&mut self) {
        todo!()
    }
    pub fn clear(&mut self) {
        todo!()
    }
    pub fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        todo!()
    }
}

/// One attribute of one row: a key of the `KeyTable` and the tape index of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Id in the `KeyTable`.
    pub key: u32,
    /// Tape index of the value.
    pub value: u32,
}

/// The attributes of one row: `entries[start..end]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRange {
    /// First entry.
    pub start: u32,
    /// One past the last entry.
    pub end: u32,
}

/// Attribute names seen by one table on one core: bytes to id and back.
#[derive(Debug)]
pub struct KeyTable {}

#[allow(unused_variables, missing_docs)]
impl KeyTable {
    /// At most `keys_max` names are kept.
    pub fn new(keys_max: usize) -> KeyTable {
        todo!()
    }
    /// The id of `name`, taking a new one if there is none; `None` when the table is full.
    pub fn intern(&mut self, name: &[u8]) -> Option<u32> {
        todo!()
    }
    pub fn find(&self, name: &[u8]) -> Option<u32> {
        todo!()
    }
    pub fn name(&self, id: u32) -> &[u8] {
        todo!()
    }
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// Forgets all names; ids start again at 0 under the next generation.
    pub fn clear(&mut self) {
        todo!()
    }
    pub fn generation(&self) -> u32 {
        todo!()
    }
}

/// The overflow column: `Map` of text to text, or `JSON`.
#[derive(Debug)]
pub struct Overflow {}

#[allow(unused_variables, missing_docs)]
impl Overflow {
    pub fn new(spec: &ColumnSpec, limits: &Limits) -> Overflow {
        todo!()
    }
    pub fn append(&mut self, tape: &[Node<'_>], keys: &KeyTable, entries: &[Entry], rows: &[EntryRange]) {
        todo!()
    }
    pub fn append_defaults(&mut self, rows: usize) {
        todo!()
    }
    pub fn rows(&self) -> usize {
        todo!()
    }
    pub fn wire_bytes(&self) -> usize {
        todo!()
    }
    pub fn mark(&mut self) {
        todo!()
    }
    pub fn rollback(&mut self) {
        todo!()
    }
    pub fn clear(&mut self) {
        todo!()
    }
    pub fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        todo!()
    }
}

/// The ordinal of the partition a time falls into.
#[allow(unused_variables)]
pub fn partition_of(unit: PartitionUnit, spec: &ColumnSpec, ticks: i64) -> i64 {
    todo!()
}
