//! OTLP logs: the messages of OpenTelemetry's exporters, decoded straight into columns.
//!
//! A request is one message (`ExportLogsServiceRequest`). It is received whole, because what its records have in common may
//! stand behind them: the schema URLs always do. Then its records are read where they lie, each as one row.
//!
//! Source: opentelemetry-proto 1.x, `collector/logs/v1/logs_service.proto`, `logs/v1/logs.proto`, `common/v1/common.proto`; the
//! OTLP specification 1.x, "OTLP/HTTP".

mod message;
mod record;
pub mod reply;
mod rows;
pub mod wire;

pub use message::Message;

#[cfg(test)]
mod tests;
