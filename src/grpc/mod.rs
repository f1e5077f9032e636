//! gRPC without a framework: message framing, status codes, metadata.
//!
//! What a call does with rows is in [`ingest`](crate::ingest); here is what does no I/O.
//!
//! Source: grpc.io, "gRPC over HTTP2" (PROTOCOL-HTTP2.md), "Status codes", "Compression".

pub mod frame;
pub mod health;
pub mod ingest;
pub mod logs;
pub mod metadata;
pub mod reflection;
pub mod reply;
pub mod status;
