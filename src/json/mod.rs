//! JSON text to rows: where they end in the bytes received, and what simd-json makes of them.

mod errors;
mod outline;
mod parser;
mod splitter;

pub use errors::{RejectCounts, RejectReason, RowError, RowErrors};
pub use parser::{Parsed, Parser, RowFault, RowFaultKind};
pub use splitter::{BodyFault, RowForm, Rows, RowsText, Split, Splitter};
