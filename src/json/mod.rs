//! JSON text to rows: where they end in the bytes received, and what simd-json makes of them.

mod outline;
mod parser;
mod splitter;

pub use parser::{Parsed, Parser, RowFault, RowFaultKind};
pub use splitter::{BodyFault, RowForm, Rows, RowsText, Split, Splitter};
