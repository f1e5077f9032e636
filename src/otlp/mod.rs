//! OTLP logs: the messages of OpenTelemetry's exporters, decoded straight into columns.
//!
//! A request is one message (`ExportLogsServiceRequest`). It is received whole, because what its records have in common may
//! stand behind them: the schema URLs always do. Then its records are read where they lie, each as one row: in protobuf from the
//! bytes received, in JSON from simd-json's tape.
//!
//! Source: opentelemetry-proto 1.x, `collector/logs/v1/logs_service.proto`, `logs/v1/logs.proto`, `common/v1/common.proto`; the
//! OTLP specification 1.x, "OTLP/HTTP".

mod json;
mod message;
mod record;
pub mod reply;
mod rows;

pub use json::JsonMessage;
pub use message::Message;

#[cfg(test)]
mod tests;
