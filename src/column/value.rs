//! Why a value does not fit its column.

use std::fmt;

/// Why one value does not fit its column. `label` names it in metrics, `Display` in replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueError {
    /// The JSON value has a type the column cannot take.
    WrongType {
        /// What the column takes.
        expected: &'static str,
    },
    /// A number, or a number written as text, beyond what the column holds.
    OutOfRange,
    /// A number with a fraction for a column of integers.
    NotIntegral,
    /// An integer of more than 64 bits, or one with an exponent beyond 2^53, that is not written as text.
    Inexact,
    /// Text that is not exactly a number.
    BadNumber,
    /// Text or a number in none of the known forms of a time.
    BadTime,
    /// A time outside of what the column's type holds.
    TimeOutOfRange,
    /// Text that is not a UUID.
    BadUuid,
    /// Text that is not an IP address of the column's family.
    BadAddress,
    /// A name or number the enum does not have.
    NotInEnum,
    /// More bytes than the column's `FixedString(N)`.
    TooLongForFixedString,
    /// An array whose length is not the tuple's.
    WrongTupleLength,
    /// An array whose length is not that of the others in its Nested.
    WrongNestedLength,
}

impl ValueError {
    /// Name for metrics: `type`, `range` or `time`.
    pub fn label(&self) -> &'static str {
        match self {
            ValueError::WrongType { .. }
            | ValueError::BadNumber
            | ValueError::BadUuid
            | ValueError::BadAddress
            | ValueError::NotInEnum
            | ValueError::WrongTupleLength
            | ValueError::WrongNestedLength => "type",
            ValueError::OutOfRange
            | ValueError::NotIntegral
            | ValueError::Inexact
            | ValueError::TooLongForFixedString => "range",
            ValueError::BadTime | ValueError::TimeOutOfRange => "time",
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueError::WrongType { expected } => return write!(f, "expected {expected}"),
            ValueError::OutOfRange => "the number is out of the column's range",
            ValueError::NotIntegral => "the number has a fraction, the column takes integers",
            ValueError::Inexact => "the number has more digits than are kept of one; write it as text",
            ValueError::BadNumber => "the text is not a number",
            ValueError::BadTime => "not a time in any known form",
            ValueError::TimeOutOfRange => "the time is out of the column's range",
            ValueError::BadUuid => "the text is not a UUID",
            ValueError::BadAddress => "the text is not an IP address of the column's family",
            ValueError::NotInEnum => "the column's enum has no such value",
            ValueError::TooLongForFixedString => "the text is longer than the column's FixedString",
            ValueError::WrongNestedLength => "the array's length is not that of the others of its Nested",
            ValueError::WrongTupleLength => "the array's length is not the tuple's",
        })
    }
}

impl std::error::Error for ValueError {}
