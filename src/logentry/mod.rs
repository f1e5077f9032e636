//! The LogEntry API: log entries of applications, in JSON or protobuf, over HTTP or gRPC.
//!
//! | field | column | rule |
//! |---|---|---|
//! | `timestamp` | Timestamp | optional: the receive time; protobuf's are milliseconds since 1970 |
//! | `level` | SeverityText in upper case, SeverityNumber | DEBUG, INFO, WARN, ERROR or FATAL in any case |
//! | `message` | Body | 1 to 4096 characters |
//! | `source` | ServiceName | 1 to 32 characters |
//! | `app_id` | LogAttributes | 1 to 64 characters |
//! | `environment` | LogAttributes | 1 to 32 characters |
//! | `user_id`, `id` | LogAttributes | optional |
//! | `trace_id` | TraceId when it is 32 hexadecimal digits, else LogAttributes | optional |
//! | `metadata` | its members are LogAttributes: texts as they are, all else as JSON | an object of at most 16,384 bytes of JSON |
//!
//! Other members of a JSON entry are kept as attributes too. A field of the entry goes before a member of its metadata of the
//! same name.

mod entry;
mod json;
mod protobuf;

pub use json::JsonMessage;
pub use protobuf::Message;

#[cfg(test)]
mod tests;
