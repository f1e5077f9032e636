//! Loki's push API: entries in streams, a stream being what has the same labels.
//!
//! | part | column |
//! |---|---|
//! | the stream's labels | ResourceAttributes |
//! | the best of [`SERVICE_NAMES`](labels::SERVICE_NAMES) among them | ServiceName, and it stays a label |
//! | timestamp | Timestamp; 0 or none is the receive time |
//! | line | Body, as it is |
//! | structured metadata | LogAttributes: texts as they are, all else as JSON |
//! | `level`, `severity`, `lvl` or `detected_level` in the metadata, else among the labels | SeverityText, SeverityNumber |
//! | `trace_id`, `span_id` likewise, when they are 32 or 16 hexadecimal digits | TraceId, SpanId |
//!
//! Metadata that has a column of its own is no attribute. Source: Loki's HTTP API, "Ingest logs"; `logproto.PushRequest`.

mod json;
mod labels;
mod protobuf;
mod rows;

pub use json::JsonMessage;
pub use protobuf::Message;

#[cfg(test)]
mod tests;
