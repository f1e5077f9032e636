//! Syslog: messages of RFC 5424 and RFC 3164, told apart one by one, decoded straight into columns.
//!
//! A TCP stream is cut into messages as RFC 6587 defines it, with counted bytes or at newlines; a datagram is one message (RFC
//! 5426). Nothing is thrown away: what is in neither form is a row with all of its text as the body.
//!
//! | message | column |
//! |---|---|
//! | TIMESTAMP, else the receive time | Timestamp |
//! | severity | SeverityText (`emerg` to `debug`), SeverityNumber as the OpenTelemetry data model places it |
//! | HOSTNAME | ResourceAttributes `host.name` |
//! | APP-NAME, TAG | ServiceName |
//! | facility, PROCID, MSGID | LogAttributes `syslog.facility`, `syslog.procid`, `syslog.msgid` |
//! | parameter `p` of the structured data element `e` | LogAttributes `e.p` |
//! | MSG, CONTENT | Body |
//!
//! These are the names that are looked up in a table of other columns as well.

mod framing;
mod message;
mod rows;
mod structured;
mod time;

pub use framing::{Frame, Framer, Listed, trimmed};
pub use message::{Message, Priority, parse};
pub use rows::Messages;
pub use structured::{Param, StructuredData};

#[cfg(test)]
mod tests;
