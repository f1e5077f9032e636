//! Elasticsearch's bulk API: actions and documents in, a status for each of them out.

mod action;
mod bulk;
pub mod filter;
mod items;
pub mod probes;
pub mod reply;

pub use action::{Action, ActionError};
pub use bulk::{Bulk, BulkReader};
pub use items::{INDEXES_MAX, Items, Kind, Outcome};

#[cfg(test)]
mod tests;
