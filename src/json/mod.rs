//! JSON text to rows: where they end in the bytes received, and what is in them.
//!
//! [`Reader`] reads rows as nearly all producers write them, [`Parser`] all others, with simd-json.

mod errors;
mod message;
mod outline;
mod parser;
mod reader;
mod splitter;

pub use errors::{RejectCounts, RejectReason, RowError, RowErrors};
pub use message::MessageParser;
pub use outline::object_end;
pub use parser::{Parsed, Parser, RowFault, RowFaultKind};
pub use reader::{After, Irregular, Reader};
pub use splitter::{BodyFault, RowForm, Rows, RowsText, Shape, Split, Splitter};

#[cfg(test)]
mod tests;
