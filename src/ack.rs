//! The promise a 2xx makes, by name.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What must have happened to a request's rows before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AckLevel {
    /// Parsed and typed, in a batch; lost when the process dies. Answered 202.
    Memory,
    /// ClickHouse has confirmed the INSERT. Answered 200.
    #[default]
    Inserted,
}

impl AckLevel {
    /// The level's name in `?ack=`, in `--ack`, in replies and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            AckLevel::Memory => "memory",
            AckLevel::Inserted => "inserted",
        }
    }
}

impl fmt::Display for AckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownAckLevel;

impl fmt::Display for UnknownAckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ack level must be `memory` or `inserted`")
    }
}

impl std::error::Error for UnknownAckLevel {}

impl FromStr for AckLevel {
    type Err = UnknownAckLevel;

    fn from_str(text: &str) -> Result<Self, UnknownAckLevel> {
        match text {
            "memory" => Ok(AckLevel::Memory),
            "inserted" => Ok(AckLevel::Inserted),
            _ => Err(UnknownAckLevel),
        }
    }
}
