//! Ringhouse takes logs in over the network at the full speed of each CPU core and puts them into
//! ClickHouse, without losing or doubling one.
//!
//! The modules below stand in the order the bytes travel; reading them top down is reading the way
//! of a log line. docs/ARCHITECTURE.md argues the decisions and lists the invariants.

// Unit tests draw values from a file of tests/, which names this crate from outside.
#[cfg(test)]
extern crate self as ringhouse;

// What is run with.
pub mod bench;
pub mod check;
pub mod cli;
pub mod config;
pub mod limits;
pub mod telemetry;
pub mod topology;

// The only module that names glommio, and what crosses cores.
pub mod clock;
pub mod doorbell;
pub mod offload;
pub mod ring;
pub mod runtime;
pub mod tls;

// Socket to rows.
pub mod access;
pub mod elasticsearch;
pub mod forward;
pub mod grpc;
pub mod http;
pub mod ingest;
pub mod json;
pub mod logentry;
pub mod logger;
pub mod logtide;
pub mod loki;
pub mod message;
pub mod otlp;
pub mod protobuf;
pub mod routing;
pub mod syslog;
pub mod utf8;

// Rows to columns in wire form.
pub mod batch;
pub mod column;
pub mod digits;
pub mod mapping;
pub mod schema;
pub mod severity;
pub mod timestamp;

// Columns to blocks, blocks to the log and to ClickHouse.
pub mod block;
pub mod clickhouse;
pub mod wal;
pub mod writer;
pub mod zone;

// What was promised and what was kept.
pub mod ack;
pub mod dead_letter;
pub mod idempotency;
pub mod ledger;

// Control plane: schemas, the embedded engine, admin pages, shutdown.
pub mod admin;
pub mod catalog;
pub mod histogram;
pub mod metrics;
pub mod server;
pub mod start;
