//! The one interface of all column builders, and which builder serves which type.

use super::dictionary::Dictionary;
use super::levels::Levels;
use super::low_cardinality::{ScalarDictionary, TextDictionary};
use super::nested::{Arrays, Maps, Nullables, Tuples};
use super::scalar::{Address4, Address6, Boolean, Decimal, Enumeration, Fixed, Float, Integer, Scalar, Uuid};
use super::text_columns::{FixedStrings, Objects, Strings};
use super::time::Times;
use super::{Node, ValueError};
use crate::limits::Limits;
use crate::schema::{DataType, Role};
use crate::timestamp::TimeUnit;
use std::fmt::Debug;

/// A column, or a part of one, in wire form.
///
/// A call handles the values of many rows, so that what a type decides it decides once per call.
pub(super) trait Builder: Debug {
    /// Appends one value per tape index; 0 and null give the type's default. A value that does not fit gives it too, after
    /// `on_error` got its position in `values`.
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError));
    /// Appends `rows` defaults.
    fn append_defaults(&mut self, rows: usize);
    fn rows(&self) -> usize;
    /// Where the next value begins, in a measure of the builder's own, if it can repeat values.
    fn end(&self) -> Option<usize> {
        None
    }
    /// Appends the last `rows` values `times` more times; they begin at `start`, which `end` gave before them.
    fn repeat(&mut self, _start: usize, _rows: usize, _times: usize) {
        unreachable!("a builder without an end is not asked to repeat")
    }
    /// Bytes that `for_each_piece` will emit.
    fn wire_bytes(&self) -> usize;
    /// Remembers the present rows for `rollback`.
    fn mark(&mut self);
    /// Takes back the rows appended since the last `mark`.
    fn rollback(&mut self);
    /// Empties and keeps the memory.
    fn clear(&mut self);
    /// Appends what goes before the data of the whole column: version numbers of the types that have one, outer types
    /// first.
    fn put_prefix(&self, _prefix: &mut Vec<u8>) {}
    /// Hands out the data in order.
    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8]));
}

/// The builder of a column or of a part of one.
pub(super) fn builder_for(data_type: &DataType, role: Role, limits: &Limits) -> Box<dyn Builder> {
    let rows = limits.batch_rows_max;
    let inner = |data_type: &DataType| builder_for(data_type, Role::Plain, limits);
    if role == Role::SeverityNumber
        && let Some(levels) = Levels::of(data_type)
    {
        return Box::new(levels);
    }
    match data_type {
        DataType::String => Box::new(Strings::new(role == Role::SeverityText)),
        DataType::FixedString(width) => Box::new(FixedStrings::new(*width)),
        DataType::Json => Box::new(Objects::default()),
        DataType::Bool => fixed(Boolean, rows),
        DataType::Int8 => fixed(Integer::<i8>::new(), rows),
        DataType::Int16 => fixed(Integer::<i16>::new(), rows),
        DataType::Int32 => fixed(Integer::<i32>::new(), rows),
        DataType::Int64 => fixed(Integer::<i64>::new(), rows),
        DataType::Int128 => fixed(Integer::<i128>::new(), rows),
        DataType::UInt8 => fixed(Integer::<u8>::new(), rows),
        DataType::UInt16 => fixed(Integer::<u16>::new(), rows),
        DataType::UInt32 => fixed(Integer::<u32>::new(), rows),
        DataType::UInt64 => fixed(Integer::<u64>::new(), rows),
        DataType::UInt128 => fixed(Integer::<u128>::new(), rows),
        DataType::Float32 => fixed::<4, _>(Float, rows),
        DataType::Float64 => fixed::<8, _>(Float, rows),
        DataType::Date | DataType::Date32 | DataType::DateTime | DataType::DateTime64 { .. } => {
            let unit = TimeUnit::of(data_type).expect("the types of this arm are times");
            Box::new(Times::new(unit, rows))
        }
        DataType::Enum8(values) => fixed::<1, _>(Enumeration::new(values), rows),
        DataType::Enum16(values) => fixed::<2, _>(Enumeration::new(values), rows),
        DataType::Uuid => fixed(Uuid, rows),
        DataType::Ipv4 => fixed(Address4, rows),
        DataType::Ipv6 => fixed(Address6, rows),
        DataType::Decimal { precision, scale } => match precision {
            0..=9 => fixed::<4, _>(Decimal::new(*precision, *scale), rows),
            10..=18 => fixed::<8, _>(Decimal::new(*precision, *scale), rows),
            _ => fixed::<16, _>(Decimal::new(*precision, *scale), rows),
        },
        DataType::LowCardinality(dictionary_type) => {
            let (value_type, nullable) = match &**dictionary_type {
                DataType::Nullable(value_type) => (&**value_type, true),
                value_type => (value_type, false),
            };
            match value_type {
                DataType::String => {
                    let dictionary = Dictionary::new(None, nullable, rows);
                    Box::new(TextDictionary::new(dictionary, role == Role::SeverityText))
                }
                _ => Box::new(ScalarDictionary::new(inner(value_type), nullable, rows)),
            }
        }
        DataType::Nullable(value_type) => {
            Box::new(Nullables::new(builder_for(value_type, role, limits), rows))
        }
        DataType::Array(element) => Box::new(Arrays::new(inner(element))),
        DataType::Map(key, value) => Box::new(Maps::new(inner(key), inner(value))),
        DataType::Tuple(elements) => Box::new(Tuples::new(
            elements
                .iter()
                .map(|(name, element)| (name.clone(), inner(element)))
                .collect(),
        )),
    }
}

fn fixed<const WIDTH: usize, S: Scalar<WIDTH> + 'static>(scalar: S, rows_max: usize) -> Box<dyn Builder> {
    Box::new(Fixed::new(scalar, rows_max))
}
