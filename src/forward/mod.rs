//! Fluent Forward: events of Fluentd and Fluent Bit in MessagePack, decoded straight into columns.
//!
//! A connection carries messages: one event, an array of them, or entries packed into one piece of bytes, plain or compressed. A message
//! is received whole, because what it says of itself (`compressed`, the `chunk` that is to be acknowledged) stands
//! behind its entries. Where it ends is found as it arrives, each byte looked at once.
//!
//! A record's keys are those of a row in JSON; its tag becomes the attribute `fluent.tag`, its time the Timestamp.
//!
//! Source: Fluentd's "Forward Protocol Specification v1"; the MessagePack specification.

pub mod handshake;
mod message;
pub mod msgpack;
mod rows;

pub use message::{Compression, Entries, Event, WrongMessage, parse, put_ack};
pub use rows::{Rows, Shape};

#[cfg(test)]
mod tests;
