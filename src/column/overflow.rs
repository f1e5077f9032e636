//! The overflow column: what a row says beyond the table's columns, as a map of text to text or as JSON.

use super::builder::Builder;
use super::dictionary::Dictionary;
use super::key_table::KeyTable;
use super::low_cardinality::TextDictionary;
use super::nested::Offsets;
use super::text::{put_json, put_json_string};
use super::text_columns::{Objects, Strings};
use super::{Node, column_header};
use crate::limits::Limits;
use crate::schema::{ColumnSpec, DataType};

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

/// The overflow column of an open batch.
///
/// In a map, scalars become text, arrays and objects JSON text and null the empty string. In a JSON column, values keep their
/// types, and ClickHouse splits keys at their dots.
#[derive(Debug)]
pub struct Overflow {
    header: Vec<u8>,
    data: Data,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each open batch, and it stays where it is"
)]
enum Data {
    Map {
        offsets: Offsets,
        keys: Keys,
        values: Texts,
    },
    Json {
        objects: Objects,
        scratch: Vec<u8>,
    },
}

/// A part of the map that is text.
#[derive(Debug)]
enum Texts {
    Plain(Strings),
    Dictionary(TextDictionary),
}

/// The map's keys.
#[derive(Debug)]
enum Keys {
    Plain(Strings),
    Dictionary {
        column: TextDictionary,
        /// Dictionary key of each id of the key table, `UNKNOWN` where the batch has not met it.
        of_id: Vec<u32>,
        /// Generation of the key table that `of_id` speaks of.
        generation: u32,
    },
}

const UNKNOWN: u32 = u32::MAX;

impl Overflow {
    /// An empty column.
    ///
    /// # Panics
    /// When the type is none that [`DataType::takes_overflow`].
    pub fn new(spec: &ColumnSpec, limits: &Limits) -> Overflow {
        assert!(
            spec.data_type.takes_overflow(),
            "overflow needs a map of text or JSON"
        );
        let rows = limits.batch_rows_max;
        let dictionary = || TextDictionary::new(Dictionary::new(None, false, rows), false);
        let is_dictionary = |data_type: &DataType| matches!(data_type, DataType::LowCardinality(_));
        let data = match &spec.data_type {
            DataType::Map(key, value) => Data::Map {
                offsets: Offsets::default(),
                keys: match is_dictionary(key) {
                    true => Keys::Dictionary {
                        column: dictionary(),
                        of_id: Vec::new(),
                        generation: 0,
                    },
                    false => Keys::Plain(Strings::new(false)),
                },
                values: match is_dictionary(value) {
                    true => Texts::Dictionary(dictionary()),
                    false => Texts::Plain(Strings::new(false)),
                },
            },
            _ => Data::Json {
                objects: Objects::default(),
                scratch: Vec::new(),
            },
        };
        let mut overflow = Overflow {
            header: column_header(spec),
            data,
        };
        let mut prefix = Vec::new();
        overflow.for_each_part(&mut |part| part.put_prefix(&mut prefix));
        overflow.header.extend_from_slice(&prefix);
        overflow
    }

    /// Appends one row per range. `keys` is the table's only one, as ids are remembered between calls. A row's keys differ from
    /// each other.
    pub fn append(&mut self, tape: &[Node<'_>], keys: &KeyTable, entries: &[Entry], rows: &[EntryRange]) {
        match &mut self.data {
            Data::Map {
                offsets,
                keys: key_column,
                values,
            } => {
                let mut end = key_column.as_builder().rows();
                match key_column {
                    Keys::Plain(column) => {
                        for row in rows {
                            for entry in &entries[row.start as usize..row.end as usize] {
                                column.push(keys.name(entry.key));
                            }
                        }
                    }
                    Keys::Dictionary {
                        column,
                        of_id,
                        generation,
                    } => {
                        if *generation != keys.generation() {
                            *generation = keys.generation();
                            of_id.clear();
                        }
                        if of_id.len() < keys.len() {
                            of_id.resize(keys.len(), UNKNOWN);
                        }
                        for row in rows {
                            for entry in &entries[row.start as usize..row.end as usize] {
                                let known = &mut of_id[entry.key as usize];
                                if *known == UNKNOWN {
                                    *known = column.key_of(keys.name(entry.key));
                                }
                                column.push(*known);
                            }
                        }
                    }
                }
                for row in rows {
                    let row_entries = &entries[row.start as usize..row.end as usize];
                    match values {
                        Texts::Plain(column) => {
                            row_entries
                                .iter()
                                .for_each(|entry| column.push_value(tape, entry.value));
                        }
                        Texts::Dictionary(column) => {
                            row_entries
                                .iter()
                                .for_each(|entry| column.push_value(tape, entry.value));
                        }
                    }
                    end += row_entries.len();
                    offsets.push(end);
                }
            }
            Data::Json { objects, scratch } => {
                for row in rows {
                    scratch.clear();
                    scratch.push(b'{');
                    for (position, entry) in entries[row.start as usize..row.end as usize].iter().enumerate()
                    {
                        if position > 0 {
                            scratch.push(b',');
                        }
                        put_json_string(keys.name(entry.key), scratch);
                        scratch.push(b':');
                        put_json(tape, entry.value as usize, scratch);
                    }
                    scratch.push(b'}');
                    objects.push(scratch);
                }
            }
        }
    }

    /// Appends `rows` empty maps or objects.
    pub fn append_defaults(&mut self, rows: usize) {
        match &mut self.data {
            Data::Map { offsets, keys, .. } => offsets.push_many(keys.as_builder().rows(), rows),
            Data::Json { objects, .. } => objects.append_defaults(rows),
        }
    }

    /// Rows in the column.
    pub fn rows(&self) -> usize {
        match &self.data {
            Data::Map { offsets, .. } => offsets.rows(),
            Data::Json { objects, .. } => objects.rows(),
        }
    }

    /// Bytes that [`Overflow::for_each_piece`] will emit.
    pub fn wire_bytes(&self) -> usize {
        let data = match &self.data {
            Data::Map {
                offsets,
                keys,
                values,
            } => {
                let keys = match keys {
                    Keys::Plain(column) => column.wire_bytes(),
                    Keys::Dictionary { column, .. } => column.wire_bytes(),
                };
                let values = match values {
                    Texts::Plain(column) => column.wire_bytes(),
                    Texts::Dictionary(column) => column.wire_bytes(),
                };
                offsets.as_slice().len() + keys + values
            }
            Data::Json { objects, .. } => objects.wire_bytes(),
        };
        self.header.len() + data
    }

    /// Remembers the present rows for [`Overflow::rollback`].
    pub fn mark(&mut self) {
        if let Data::Map { offsets, .. } = &mut self.data {
            offsets.mark();
        }
        self.for_each_part(&mut |part| part.mark());
    }

    /// Takes back the rows appended since the mark.
    pub fn rollback(&mut self) {
        if let Data::Map { offsets, .. } = &mut self.data {
            offsets.rollback();
        }
        self.for_each_part(&mut |part| part.rollback());
    }

    /// Empties the column and keeps its memory.
    pub fn clear(&mut self) {
        if let Data::Map { offsets, keys, .. } = &mut self.data {
            offsets.clear();
            if let Keys::Dictionary { of_id, .. } = keys {
                of_id.clear();
            }
        }
        self.for_each_part(&mut |part| part.clear());
    }

    /// Hands out the column as it goes into a block: name, type, version numbers, data.
    pub fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        emit(&self.header);
        if let Data::Map { offsets, .. } = &self.data {
            emit(offsets.as_slice());
        }
        self.for_each_part(&mut |part| part.for_each_piece(emit));
    }

    /// The columns within, in wire order.
    fn for_each_part(&mut self, visit: &mut dyn FnMut(&mut dyn Builder)) {
        match &mut self.data {
            Data::Map { keys, values, .. } => {
                visit(keys.as_builder());
                match values {
                    Texts::Plain(column) => visit(column),
                    Texts::Dictionary(column) => visit(column),
                }
            }
            Data::Json { objects, .. } => visit(objects),
        }
    }
}

impl Keys {
    fn as_builder(&mut self) -> &mut dyn Builder {
        match self {
            Keys::Plain(column) => column,
            Keys::Dictionary { column, .. } => column,
        }
    }
}
