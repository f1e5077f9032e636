//! ClickHouse as this program meets it: native protocol, endpoints, schema reading, the embedded engine.
//!
//! `wire`, `frame`, `packet` and `session` are the insert path: sans-IO, built here, driven by the
//! writer core. `endpoint`, `control`, `relay` and `embedded` are the control plane; `endpoints` serves
//! both.

pub mod error;
pub mod frame;
pub mod known_tables;
pub mod packet;
pub mod session;
pub mod wire;

pub mod control;
pub mod embedded;
pub mod endpoint;
pub mod endpoints;
mod relay;
