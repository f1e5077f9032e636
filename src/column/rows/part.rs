//! Where the values of a column, or of a part of one, lie in a block.

use crate::clickhouse::wire::Reader;
use crate::schema::DataType;
use std::ops::Range;

/// A column, or a part of one, by positions in the block's bytes. All of them were checked when it was read.
#[derive(Debug)]
pub(super) enum Part {
    /// Values of one width, one after another.
    Fixed {
        start: usize,
        width: usize,
        data_type: DataType,
    },
    /// String and JSON: a length and as many bytes for each row.
    Texts {
        /// Where each row starts, and where the last one ends.
        bounds: Vec<u32>,
        is_json: bool,
    },
    /// LowCardinality; without rows it has no bytes at all.
    Dictionary {
        /// Flags, size and values of the dictionary.
        head: Range<usize>,
        values: Box<Part>,
        /// Key 0 is NULL.
        nullable: bool,
        keys: usize,
        key_width: usize,
    },
    /// A byte for each row, 1 for NULL, before the values.
    Nullable { nulls: usize, values: Box<Part> },
    /// The ends of all rows before their elements.
    Array { ends: Ends, elements: Box<Part> },
    /// The same with two kinds of elements.
    Map {
        ends: Ends,
        keys: Box<Part>,
        values: Box<Part>,
    },
    /// The elements' columns one after another.
    Tuple(Vec<(Option<String>, Part)>),
}

/// LowCardinality and JSON both stand under this number.
const VERSION: u64 = 1;

/// Flags of a dictionary that the block brings itself; the lowest bits are the logarithm of the keys' width.
const OWN_DICTIONARY: u64 = 0x600;
/// Keys are UInt8, UInt16 or UInt32.
const KEY_WIDTH_LOG_MAX: u64 = 2;

/// Reads the version numbers that go before the data of a whole column; `None` for any but ours.
pub(super) fn read_prefix(data_type: &DataType, reader: &mut Reader<'_>) -> Option<()> {
    match data_type {
        DataType::LowCardinality(_) | DataType::Json => (read_u64(reader)? == VERSION).then_some(()),
        DataType::Nullable(inner) | DataType::Array(inner) => read_prefix(inner, reader),
        DataType::Map(key, value) => {
            read_prefix(key, reader)?;
            read_prefix(value, reader)
        }
        DataType::Tuple(elements) => elements
            .iter()
            .try_for_each(|(_, element)| read_prefix(element, reader)),
        _ => Some(()),
    }
}

impl Part {
    /// Reads over the values of `rows` rows; `None` when the bytes are none.
    ///
    /// Recursion is as deep as the type, which its parser bounds.
    pub(super) fn read(data_type: DataType, rows: usize, reader: &mut Reader<'_>) -> Option<Part> {
        // Every type takes a byte for each row at least: what is allocated below is bounded by the bytes that are there.
        if rows > reader.rest().len() {
            return None;
        }
        Some(match data_type {
            DataType::String | DataType::Json => Part::Texts {
                bounds: read_texts(rows, reader)?,
                is_json: data_type == DataType::Json,
            },
            DataType::LowCardinality(inner) => read_dictionary(*inner, rows, reader)?,
            DataType::Nullable(inner) => {
                let nulls = reader.consumed();
                reader.take(rows).ok()?;
                Part::Nullable {
                    nulls,
                    values: read_boxed(*inner, rows, reader)?,
                }
            }
            DataType::Array(element) => {
                let (ends, elements) = Ends::read(rows, reader)?;
                Part::Array {
                    ends,
                    elements: read_boxed(*element, elements, reader)?,
                }
            }
            DataType::Map(key, value) => {
                let (ends, elements) = Ends::read(rows, reader)?;
                Part::Map {
                    ends,
                    keys: read_boxed(*key, elements, reader)?,
                    values: read_boxed(*value, elements, reader)?,
                }
            }
            DataType::Tuple(elements) => {
                let elements = elements
                    .into_iter()
                    .map(|(name, element)| Some((name, Part::read(element, rows, reader)?)));
                Part::Tuple(elements.collect::<Option<_>>()?)
            }
            data_type => {
                let (start, width) = (reader.consumed(), width_of(&data_type));
                reader.take(rows.checked_mul(width)?).ok()?;
                Part::Fixed {
                    start,
                    width,
                    data_type,
                }
            }
        })
    }

    /// Hands out the values of the rows `range` as they stand in a block of these rows only.
    pub(super) fn cut(&self, bytes: &[u8], range: Range<usize>, emit: &mut dyn FnMut(&[u8])) {
        match self {
            Part::Fixed { start, width, .. } => {
                emit(&bytes[start + range.start * width..][..range.len() * width]);
            }
            Part::Texts { bounds, .. } => {
                emit(&bytes[bounds[range.start] as usize..bounds[range.end] as usize]);
            }
            Part::Dictionary {
                head,
                keys,
                key_width,
                ..
            } => {
                if !range.is_empty() {
                    emit(&bytes[head.clone()]);
                    emit(&(range.len() as u64).to_le_bytes());
                    emit(&bytes[keys + range.start * key_width..][..range.len() * key_width]);
                }
            }
            Part::Nullable { nulls, values } => {
                emit(&bytes[nulls + range.start..][..range.len()]);
                values.cut(bytes, range, emit);
            }
            Part::Array { ends, elements } => {
                let inner = ends.cut(bytes, range, emit);
                elements.cut(bytes, inner, emit);
            }
            Part::Map { ends, keys, values } => {
                let inner = ends.cut(bytes, range, emit);
                keys.cut(bytes, inner.clone(), emit);
                values.cut(bytes, inner, emit);
            }
            Part::Tuple(elements) => {
                for (_, element) in elements {
                    element.cut(bytes, range.clone(), emit);
                }
            }
        }
    }
}

fn read_boxed(data_type: DataType, rows: usize, reader: &mut Reader<'_>) -> Option<Box<Part>> {
    Part::read(data_type, rows, reader).map(Box::new)
}

fn read_texts(rows: usize, reader: &mut Reader<'_>) -> Option<Vec<u32>> {
    // Positions in a block are far below 4 Gi: see `BLOCK_BYTES_MAX`.
    let mut bounds = Vec::with_capacity(rows + 1);
    bounds.push(reader.consumed() as u32);
    for _ in 0..rows {
        let length = usize::try_from(reader.varint().ok()?).ok()?;
        reader.take(length).ok()?;
        bounds.push(reader.consumed() as u32);
    }
    Some(bounds)
}

fn read_dictionary(inner: DataType, rows: usize, reader: &mut Reader<'_>) -> Option<Part> {
    let (value_type, nullable) = match inner {
        DataType::Nullable(value_type) => (*value_type, true),
        value_type => (value_type, false),
    };
    let start = reader.consumed();
    if rows == 0 {
        return Some(Part::Dictionary {
            head: start..start,
            values: read_boxed(value_type, 0, reader)?,
            nullable,
            keys: start,
            key_width: 1,
        });
    }
    let flags = read_u64(reader)?;
    let size = read_u64(reader)?;
    let width_log = flags ^ OWN_DICTIONARY;
    if width_log > KEY_WIDTH_LOG_MAX {
        return None;
    }
    let key_width = 1 << width_log;
    let values = read_boxed(value_type, usize::try_from(size).ok()?, reader)?;
    let head = start..reader.consumed();
    if read_u64(reader)? != rows as u64 {
        return None;
    }
    let keys = reader.consumed();
    let all_keys = reader.take(rows.checked_mul(key_width)?).ok()?;
    let known = all_keys
        .chunks_exact(key_width)
        .all(|key| (unsigned(key) as u64) < size);
    known.then_some(Part::Dictionary {
        head,
        values,
        nullable,
        keys,
        key_width,
    })
}

/// The end of each row's elements among all elements, as UInt64; the position of the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends(usize);

const END_BYTES: usize = 8;

impl Ends {
    /// The ends of `rows` rows, which never go back, and the number of elements.
    fn read(rows: usize, reader: &mut Reader<'_>) -> Option<(Ends, usize)> {
        let start = reader.consumed();
        let mut last = 0;
        for _ in 0..rows {
            let end = read_u64(reader)?;
            if end < last {
                return None;
            }
            last = end;
        }
        Some((Ends(start), usize::try_from(last).ok()?))
    }

    /// Elements of the rows before `row`.
    fn before(self, bytes: &[u8], row: usize) -> usize {
        match row {
            0 => 0,
            _ => unsigned(&bytes[self.0 + (row - 1) * END_BYTES..][..END_BYTES]) as usize,
        }
    }

    /// The elements of the rows `range`.
    pub(super) fn elements_of(self, bytes: &[u8], range: Range<usize>) -> Range<usize> {
        self.before(bytes, range.start)..self.before(bytes, range.end)
    }

    /// Hands out the ends of the rows `range`, counted from their first element; returns their elements.
    fn cut(self, bytes: &[u8], range: Range<usize>, emit: &mut dyn FnMut(&[u8])) -> Range<usize> {
        let elements = self.elements_of(bytes, range.clone());
        let ends: Vec<u8> = range
            .flat_map(|row| ((self.before(bytes, row + 1) - elements.start) as u64).to_le_bytes())
            .collect();
        emit(&ends);
        elements
    }
}

/// Bytes of a value.
///
/// # Panics
/// When the type's values are made of parts or have no width.
fn width_of(data_type: &DataType) -> usize {
    match data_type {
        DataType::Bool | DataType::Int8 | DataType::UInt8 | DataType::Enum8(_) => 1,
        DataType::Int16 | DataType::UInt16 | DataType::Enum16(_) | DataType::Date => 2,
        DataType::Int32
        | DataType::UInt32
        | DataType::Float32
        | DataType::Date32
        | DataType::DateTime
        | DataType::Ipv4 => 4,
        DataType::Int64 | DataType::UInt64 | DataType::Float64 | DataType::DateTime64 { .. } => 8,
        DataType::Int128 | DataType::UInt128 | DataType::Uuid | DataType::Ipv6 => 16,
        DataType::Decimal { precision, .. } => match precision {
            0..=9 => 4,
            10..=18 => 8,
            _ => 16,
        },
        DataType::FixedString(width) => *width,
        DataType::String
        | DataType::Json
        | DataType::LowCardinality(_)
        | DataType::Nullable(_)
        | DataType::Array(_)
        | DataType::Map(..)
        | DataType::Tuple(_) => panic!("{data_type:?} has no width"),
    }
}

fn read_u64(reader: &mut Reader<'_>) -> Option<u64> {
    reader.take(8).ok().map(|bytes| unsigned(bytes) as u64)
}

/// Up to 16 bytes as a little-endian number.
pub(super) fn unsigned(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, &byte| number << 8 | u128::from(byte))
}

/// The same in two's complement.
pub(super) fn signed(bytes: &[u8]) -> i128 {
    let unused_bits = 128 - 8 * bytes.len() as u32;
    ((unsigned(bytes) << unused_bits) as i128) >> unused_bits
}
