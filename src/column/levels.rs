//! Severity numbers of the OpenTelemetry table, and the names of numeric levels.

use super::arena::Arena;
use super::builder::Builder;
use super::{Node, StaticNode, ValueError};
use crate::schema::DataType;
use crate::severity;

/// Set in a tape index of a `Role::SeverityNumber` column: the value came under a name of the level, so that a number is one
/// of syslog's or pino's. Without it a number from 0, "unspecified", to 24 is OpenTelemetry's already.
pub const FOREIGN_LEVEL: u32 = 1 << 31;

/// A column of severity numbers in an integer type of up to 32 bits.
#[derive(Debug)]
pub(super) struct Levels {
    arena: Arena,
    width: usize,
    marked: usize,
}

impl Levels {
    /// The builder for a column of this type, if it holds every level.
    pub(super) fn of(data_type: &DataType) -> Option<Levels> {
        let width = match data_type {
            DataType::UInt8 | DataType::Int8 => 1,
            DataType::UInt16 | DataType::Int16 => 2,
            DataType::UInt32 | DataType::Int32 => 4,
            _ => return None,
        };
        Some(Levels {
            arena: Arena::default(),
            width,
            marked: 0,
        })
    }
}

/// An unknown word is level 0, "not specified", and no error: the word itself is kept in the text column.
#[inline]
fn read_level(value: &Node<'_>, is_foreign: bool) -> Result<u8, ValueError> {
    let number = match *value {
        Node::String(word) => match word.parse() {
            Ok(number) => number,
            Err(_) => return Ok(severity::number_of_word(word.as_bytes()).unwrap_or(0)),
        },
        Node::Static(StaticNode::Null) => return Ok(0),
        _ => number_of(value).ok_or(ValueError::WrongType {
            expected: "a level as a word or an integer",
        })?,
    };
    match number {
        0..=24 if !is_foreign => Ok(number as u8),
        _ => Ok(severity::number_of_int(number)),
    }
}

/// What a numeric level is called; `None` for a value that is no number.
#[inline]
pub(super) fn level_name(value: &Node<'_>) -> Option<&'static str> {
    let number = match value {
        Node::String(text) if text.as_bytes().first().is_some_and(u8::is_ascii_digit) => text.parse().ok()?,
        _ => number_of(value)?,
    };
    Some(severity::name_of_int(number)).filter(|name| !name.is_empty())
}

fn number_of(value: &Node<'_>) -> Option<i64> {
    match *value {
        Node::Static(StaticNode::I64(number)) => Some(number),
        Node::Static(StaticNode::U64(number)) => Some(i64::try_from(number).unwrap_or(i64::MAX)),
        Node::Static(StaticNode::F64(number)) if number.fract() == 0.0 => Some(number as i64),
        _ => None,
    }
}

impl Builder for Levels {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        for (position, &value) in values.iter().enumerate() {
            let index = (value & !FOREIGN_LEVEL) as usize;
            let level = match index {
                0 => Ok(0),
                _ => read_level(&tape[index], value & FOREIGN_LEVEL != 0),
            };
            let level = level.unwrap_or_else(|error| {
                on_error(position, error);
                0
            });
            self.arena.put(&u32::from(level).to_le_bytes()[..self.width]);
        }
    }

    fn append_defaults(&mut self, rows: usize) {
        self.arena.put_zeros(rows * self.width);
    }

    fn rows(&self) -> usize {
        self.arena.len() / self.width
    }

    fn wire_bytes(&self) -> usize {
        self.arena.len()
    }

    fn mark(&mut self) {
        self.marked = self.arena.len();
    }

    fn rollback(&mut self) {
        self.arena.truncate(self.marked);
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.marked = 0;
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        emit(self.arena.as_slice());
    }
}
