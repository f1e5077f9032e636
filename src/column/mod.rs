//! Columns of an open batch, built straight in ClickHouse's native wire form.
//!
//! A column is what stands in a block: name, type, then the data (`for_each_piece`). The wire form is the one of protocol revisions
//! below 54454, without the byte that announces custom serializations.
//!
//! # What a value may be
//!
//! `null` and a missing value give NULL in a Nullable column and the type's default elsewhere. Where ClickHouse's own
//! `JSONEachRow` differs:
//!
//! | column | taken here | `JSONEachRow` of 26.7 |
//! |---|---|---|
//! | integers | `5`, `"5"`, `true`, and `5.0`, `1e2`, `-0` as they are integral; out of range and `""` are errors | `5.0`, `1e2` and an unsigned `-0` are errors; out of range wraps around; `""` is 0 |
//! | floats | numbers, `"1.5"`, `"nan"`, `"inf"`; beyond Float32 is an error; `-0` is 0 | beyond Float32 is infinity; `-0` has a sign |
//! | Bool | `true`, `0`, `1`, and `"true"`, `"0"` in any case | texts are errors |
//! | String | numbers as the shortest text that reads back the same; arrays and objects as JSON without spaces | the text as it was sent |
//! | FixedString(N) | up to N bytes, also of numbers as text | texts only |
//! | Enum | a name, or a number it has, also as text; null is the lowest number | null is 0, in the enum or not |
//! | Decimal | numbers and texts; digits beyond the scale are cut off; too many before the point are an error, and so are texts without a digit | digits are counted before the exponent; `"."` is 0 |
//! | DateTime, DateTime64 | every form of [`crate::timestamp`]: numbers by magnitude, without offset UTC; out of range is an error | whole numbers are ticks; without offset the column's time zone; out of range is clamped |
//! | Date, Date32 | every form of a time: its UTC day; whole numbers up to 65535 are days | dates only; all whole numbers are days; days that do not exist and `true` become others |
//! | UUID, IPv4, IPv6 | UUIDs with dashes or without; IPv4 addresses in IPv6 columns, mapped; no leading zeros | leading zeros |
//! | Tuple | an array of its length; an object when its elements have names: unknown ones are ignored, missing ones default | named ones from objects only |
//! | Nested | arrays of one length in all its columns, else the row is an error | else the INSERT is an error |
//! | Map | an object; a repeated key is kept twice | the same |
//! | JSON | an object; null is `{}` | the same; an integer beyond 64 bits is an error |
//!
//! An object under the name of a column that takes none is a group of keys, not an error. The differential tests pin each of
//! these.
//!
//! A path that occurs twice in the object of a JSON column makes ClickHouse refuse the INSERT unless it has the setting
//! `type_json_skip_duplicated_paths = 1`, with which the first one stays. In the overflow column the last one stays.
//!
//! A number in the text keeps its value but not its spelling: the parser has made it an i64, a u64 or an f64 before a column
//! sees it. Digits an f64 does not hold are lost to a Decimal; written as text they are kept. An integer beyond 64 bits is a
//! text by then, also in a JSON column.

mod arena;
mod builder;
mod dictionary;
mod ends;
mod key_table;
mod levels;
mod low_cardinality;
mod nested;
mod overflow;
pub mod rows;
mod scalar;
#[cfg(test)]
mod tests;
mod text;
mod text_columns;
mod time;
mod value;

pub(crate) use ends::ends_of;
pub use key_table::KeyTable;
pub use levels::FOREIGN_LEVEL;
pub use overflow::{Entry, EntryRange, Overflow};
pub use simd_json::{Node, StaticNode};
pub use value::ValueError;

use crate::limits::Limits;
use crate::schema::{ColumnSpec, PartitionUnit, Role};
use crate::timestamp::{TimeUnit, UnixTime, year_and_month};
use arena::Arena;
use builder::{Builder, builder_for};
use time::Times;

/// The values of one column for a run of rows.
#[derive(Debug, Clone, Copy)]
pub struct Append<'a> {
    /// Parsed text, never empty; index 0 is the root and never a value.
    pub tape: &'a [Node<'a>],
    /// Tape index of each row's value, 0 = the row has none. Those of a `Role::SeverityNumber` column may carry
    /// [`FOREIGN_LEVEL`].
    pub values: &'a [u32],
    /// Receive time in nanoseconds since 1970: what `Role::Time` puts where the row has no time.
    pub now_ns: i64,
}

/// One column of an open batch.
#[derive(Debug)]
pub struct Column {
    /// Name, type and version numbers, as they stand before the data.
    header: Vec<u8>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Times {
        times: Times,
        unit: TimeUnit,
        role: Role,
    },
    Other(Box<dyn Builder>),
}

impl Column {
    /// An empty column of `spec`'s type.
    pub fn new(spec: &ColumnSpec, limits: &Limits) -> Column {
        let mut header = column_header(spec);
        let data = match TimeUnit::of(&spec.data_type) {
            Some(unit) => Data::Times {
                times: Times::new(unit, limits.batch_rows_max),
                unit,
                role: spec.role,
            },
            None => {
                let builder = builder_for(&spec.data_type, spec.role, limits);
                builder.put_prefix(&mut header);
                Data::Other(builder)
            }
        };
        Column { header, data }
    }

    /// Rows in the column.
    pub fn rows(&self) -> usize {
        match &self.data {
            Data::Times { times, .. } => times.rows(),
            Data::Other(builder) => builder.rows(),
        }
    }

    /// Bytes that [`Column::for_each_piece`] will emit.
    pub fn wire_bytes(&self) -> usize {
        self.header.len()
            + match &self.data {
                Data::Times { times, .. } => times.wire_bytes(),
                Data::Other(builder) => builder.wire_bytes(),
            }
    }

    /// Appends one row per value. A value that does not fit is told to `on_error` with its position in `values`, and its row gets
    /// the default, so that columns stay of one length; the caller rolls such rows back.
    pub fn append(&mut self, append: &Append<'_>, on_error: &mut dyn FnMut(usize, ValueError)) {
        match &mut self.data {
            Data::Times { times, unit, role } => {
                times.append_or(
                    absent_tick(*unit, *role, append.now_ns),
                    append.tape,
                    append.values,
                    on_error,
                );
            }
            Data::Other(builder) => builder.append(append.tape, append.values, on_error),
        }
    }

    /// Appends `rows` defaults of the type (of `Role::Time` too: its receive times come by `append` or `append_ticks`).
    pub fn append_defaults(&mut self, rows: usize) {
        self.builder().append_defaults(rows);
    }

    /// Reads the values of a time column without appending them: pushes one tick per value, in the column's own unit.
    ///
    /// # Panics
    /// When the column's type is no time ([`crate::schema::DataType::is_time`]).
    pub fn parse_ticks(
        spec: &ColumnSpec,
        append: &Append<'_>,
        ticks: &mut Vec<i64>,
        on_error: &mut dyn FnMut(usize, ValueError),
    ) {
        let unit = TimeUnit::of(&spec.data_type).expect("only time columns have ticks");
        let absent = absent_tick(unit, spec.role, append.now_ns);
        time::parse_ticks(unit, absent, append.tape, append.values, ticks, on_error);
    }

    /// Appends what `parse_ticks` has read.
    ///
    /// # Panics
    /// When the column's type is no time.
    pub fn append_ticks(&mut self, ticks: &[i64]) {
        match &mut self.data {
            Data::Times { times, .. } => times.append_ticks(ticks),
            Data::Other(_) => panic!("only time columns have ticks"),
        }
    }

    /// Remembers the present rows for [`Column::rollback`], in place of an earlier mark.
    pub fn mark(&mut self) {
        self.builder().mark();
    }

    /// Takes back the rows appended since the mark. Values they brought stay in a dictionary.
    pub fn rollback(&mut self) {
        self.builder().rollback();
    }

    /// Empties the column and keeps its memory.
    pub fn clear(&mut self) {
        self.builder().clear();
    }

    /// Hands out the column as it goes into a block: name, type, version numbers, data. Large parts are emitted in place.
    pub fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        emit(&self.header);
        self.builder().for_each_piece(emit);
    }

    fn builder(&mut self) -> &mut dyn Builder {
        match &mut self.data {
            Data::Times { times, .. } => times,
            Data::Other(builder) => builder.as_mut(),
        }
    }
}

/// The tick of a row without a time: the receive time for the event time of the default table, else 1970.
fn absent_tick(unit: TimeUnit, role: Role, now_ns: i64) -> i64 {
    match role {
        Role::Time => UnixTime::from_nanos(now_ns).ticks(unit).unwrap_or(0),
        _ => 0,
    }
}

/// Name and type of a column as they stand in a block.
fn column_header(spec: &ColumnSpec) -> Vec<u8> {
    let mut header = Arena::default();
    header.put_string(spec.name.as_bytes());
    header.put_string(spec.type_name.as_bytes());
    header.as_slice().to_vec()
}

/// The ordinal of the partition that `ticks` of the time column `spec` falls into, counted in `unit` from 1970 in UTC.
///
/// ClickHouse counts in the column's or the server's time zone, whose borders lie elsewhere: the rows of n UTC days may lie in
/// up to 2 n days of another zone, those of n days on end in n + 2.
///
/// # Panics
/// When the column's type is no time.
pub fn partition_of(unit: PartitionUnit, spec: &ColumnSpec, ticks: i64) -> i64 {
    let time_unit = TimeUnit::of(&spec.data_type).expect("only time columns have ticks");
    let (day, second) = time_unit.day_and_second(ticks);
    match unit {
        PartitionUnit::Hour => day * 24 + second / 3600,
        PartitionUnit::Day => day,
        // 1970-01-01 was a Thursday, the fourth day of a week that begins on Monday.
        PartitionUnit::Week => (day + 3).div_euclid(7),
        PartitionUnit::Month => {
            let (year, month) = year_and_month(day);
            (year - 1970) * 12 + month - 1
        }
        PartitionUnit::Year => year_and_month(day).0 - 1970,
    }
}
