//! Reads the rows of a sealed block back: cuts a range of them into a new block, prints one as JSON.
//!
//! Nothing but the block is needed, for names and types stand in it. Its bytes may come from a disk: every length is compared
//! with what is left before anything is allocated, so that memory stays within a small multiple of the block.
//!
//! # What a printed row becomes when it is posted again
//!
//! The same row: columns that the block leaves to their DEFAULT are not printed and get it again. The exceptions:
//!
//! * a String that is not UTF-8 comes back with U+FFFD in place of the wrong bytes, and a FixedString with them may then
//!   be too long; ingestion itself builds neither;
//! * values that ingestion cannot build are printed for people: an enum's number that has no name, a time outside of its type's
//!   range, a map's key that is no scalar, a JSON column's text that is no object (as a text);
//! * the printed row names every column, so that one close to `line_bytes_max` may be longer than that, and attributes
//!   lie one level deeper than they may have been sent, which counts against `depth_max`.

mod part;
mod print;
#[cfg(test)]
mod tests;

use self::part::{Part, read_prefix};
use super::text::put_json_string;
use crate::clickhouse::error::ProtocolError;
use crate::clickhouse::frame::{FrameEncoder, NEXT_BLOCK, decode_frame};
use crate::clickhouse::wire::{Decoded, Reader, put_varint};
use crate::schema::{DataType, TypeError};
use std::fmt;
use std::ops::Range;

/// Most decompressed bytes of a block. The largest limits let a batch grow to 800 MiB (`batch_bytes_max` and
/// `batch::overshoot_bytes`).
const BLOCK_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Most rows of a block without columns: all were left to their DEFAULT. Twice the largest `batch_rows_max`, which a batch may
/// exceed by what one chunk brings.
const ROWS_WITHOUT_COLUMNS_MAX: usize = 2 * 1_048_449;

/// What a block starts with: field 1 `is_overflows` 0, field 2 `bucket_num` -1, end.
const BLOCK_INFO: [u8; 8] = [1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0];

/// A decompressed block and where its columns lie.
#[derive(Debug)]
pub struct Rows {
    bytes: Vec<u8>,
    len: usize,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// Name, type and version numbers in the block.
    header: Range<usize>,
    values: Part,
}

/// Why bytes are no block of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsError {
    /// A frame is damaged.
    Frame(ProtocolError),
    /// The bytes end within a frame.
    FrameCut,
    /// More than a gibibyte of data, which no batch grows to.
    TooLarge,
    /// Not a block as this program writes it; the byte of the decompressed data at which that was seen.
    Malformed(usize),
    /// A column has a type this program does not write.
    Type {
        /// The column.
        column: String,
        /// What is wrong with its type.
        error: TypeError,
    },
}

impl fmt::Display for RowsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowsError::Frame(error) => write!(f, "damaged frame: {error}"),
            RowsError::FrameCut => write!(f, "the last frame is cut off"),
            RowsError::TooLarge => write!(f, "the block has more than {BLOCK_BYTES_MAX} bytes"),
            RowsError::Malformed(at) => write!(f, "the block is not understood at byte {at}"),
            RowsError::Type { column, error } => write!(f, "column `{column}`: {error}"),
        }
    }
}

impl std::error::Error for RowsError {}

impl From<ProtocolError> for RowsError {
    fn from(error: ProtocolError) -> Self {
        RowsError::Frame(error)
    }
}

impl Rows {
    /// Reads the frames of one sealed block.
    ///
    /// # Errors
    /// [`RowsError`], whatever the bytes are.
    pub fn read(frames: &[u8]) -> Result<Rows, RowsError> {
        let bytes = decompress(frames)?;
        let mut reader = Reader::new(&bytes);
        let (count, len) = read_head(&mut reader).ok_or(RowsError::Malformed(reader.consumed()))?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(read_column(&mut reader, len)?);
        }
        // A block that an earlier version has sealed ends with its rows.
        if ![&NEXT_BLOCK[..], &[]].contains(&reader.rest()) {
            return Err(RowsError::Malformed(reader.consumed()));
        }
        Ok(Rows { bytes, len, columns })
    }

    /// Rows in the block.
    pub fn len(&self) -> usize {
        self.len
    }

    /// A block without rows: none that was sealed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the rows `range` to `out` as the frames of a block of their own, and returns its bytes before compression.
    ///
    /// All rows give the block they were read from, but for where its data are parted into frames, and the same range gives the
    /// same bytes again. Dictionaries stay whole, so that the parts of a block together are larger than it. `encoder` has
    /// nothing gathered, as after every block.
    ///
    /// # Panics
    /// When the range is empty or goes beyond the last row.
    pub fn cut(&self, range: Range<usize>, encoder: &mut FrameEncoder, out: &mut Vec<u8>) -> usize {
        assert!(
            range.start < range.end && range.end <= self.len,
            "{range:?} is no range of {} rows",
            self.len
        );
        let mut wire_bytes = 0;
        let mut emit = |piece: &[u8]| {
            wire_bytes += piece.len();
            encoder.put(piece, out);
        };
        let mut head = BLOCK_INFO.to_vec();
        put_varint(&mut head, self.columns.len() as u64);
        put_varint(&mut head, range.len() as u64);
        emit(&head);
        for column in &self.columns {
            emit(&self.bytes[column.header.clone()]);
            column.values.cut(&self.bytes, range.clone(), &mut emit);
        }
        encoder.finish(out);
        wire_bytes
    }

    /// Appends a row as one JSON object on one line, which posted to the table again builds the same row.
    ///
    /// Columns stand in the order of the block; times in UTC; 128-bit integers, decimals and the floats JSON has no number for
    /// as text. See the module for what does not come back.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn put_json(&self, row: usize, out: &mut Vec<u8>) {
        assert!(row < self.len, "row {row} of {}", self.len);
        out.push(b'{');
        for (position, column) in self.columns.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            put_json_string(column.name.as_bytes(), out);
            out.push(b':');
            column.values.put_json(&self.bytes, row, out);
        }
        out.push(b'}');
    }
}

fn decompress(mut frames: &[u8]) -> Result<Vec<u8>, RowsError> {
    let mut bytes = Vec::new();
    while !frames.is_empty() {
        match decode_frame(frames, &mut bytes)? {
            Decoded::Complete((), frame_bytes) => frames = &frames[frame_bytes..],
            Decoded::Partial => return Err(RowsError::FrameCut),
        }
        if bytes.len() > BLOCK_BYTES_MAX {
            return Err(RowsError::TooLarge);
        }
    }
    Ok(bytes)
}

/// Columns and rows of the block; `None` when it starts as no block with rows does.
fn read_head(reader: &mut Reader<'_>) -> Option<(u64, usize)> {
    let info = reader.clone().take(BLOCK_INFO.len()).ok()?;
    if info != BLOCK_INFO {
        return None;
    }
    reader.take(BLOCK_INFO.len()).ok()?;
    let count = reader.varint().ok()?;
    let len = usize::try_from(reader.varint().ok()?).ok()?;
    // Without a column nothing else bounds the number of rows.
    (count > 0 || len <= ROWS_WITHOUT_COLUMNS_MAX).then_some((count, len))
}

fn read_column(reader: &mut Reader<'_>, len: usize) -> Result<Column, RowsError> {
    fn malformed(reader: &Reader<'_>) -> RowsError {
        RowsError::Malformed(reader.consumed())
    }
    let start = reader.consumed();
    let name = reader.text().map_err(|_| malformed(reader))?;
    let type_name = reader.string().map_err(|_| malformed(reader))?;
    let data_type = std::str::from_utf8(type_name)
        .map_err(|error| TypeError::Malformed(error.valid_up_to()))
        .and_then(DataType::parse)
        .map_err(|error| RowsError::Type {
            column: name.clone(),
            error,
        })?;
    read_prefix(&data_type, reader).ok_or_else(|| malformed(reader))?;
    let header = start..reader.consumed();
    let values = Part::read(data_type, len, reader).ok_or_else(|| malformed(reader))?;
    Ok(Column { name, header, values })
}
