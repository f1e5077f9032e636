//! Why a limit is refused. Always the operator's to fix.

use std::fmt;

/// Why a limit is refused. Always the operator's to fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// No limit has this key.
    Unknown {
        /// Key as written.
        key: String,
        /// Known key most like it.
        nearest: Option<&'static str>,
    },
    /// The value is not a whole number that fits.
    NotANumber {
        /// Key.
        key: &'static str,
        /// Value as written.
        text: String,
    },
    /// The value is outside what is sane.
    OutOfRange {
        /// Key.
        key: &'static str,
        /// Value as written.
        value: u64,
        /// Least allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
    /// Two limits contradict each other.
    Contradiction {
        /// Key that must be larger.
        key: &'static str,
        /// Its value.
        value: u64,
        /// What it is held against.
        other: &'static str,
        /// That one's value.
        bound: u64,
        /// Reason for the rule.
        why: &'static str,
    },
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitError::Unknown {
                key,
                nearest: Some(nearest),
            } => {
                write!(f, "unknown limit `{key}`; did you mean `{nearest}`?")
            }
            LimitError::Unknown { key, nearest: None } => {
                write!(f, "unknown limit `{key}`; `ringhouse check` lists them all")
            }
            LimitError::NotANumber { key, text } => {
                write!(f, "limits.{key} = `{text}` is not a whole number that fits")
            }
            LimitError::OutOfRange { key, value, min, max } => {
                write!(
                    f,
                    "limits.{key} = {value} is out of range: it must be between {min} and {max}"
                )
            }
            LimitError::Contradiction {
                key,
                value,
                other,
                bound,
                why,
            } => {
                write!(
                    f,
                    "limits.{key} = {value} must be at least {other} ({bound}): {why}"
                )
            }
        }
    }
}

impl std::error::Error for LimitError {}
