//! A real ClickHouse as a child process, for `--embedded`.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;

use crate::clickhouse::endpoint::Endpoint;

/// How to run the embedded engine.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Directory for the engine's tables, logs and configuration; created when missing.
    pub data_dir: PathBuf,
    /// Native-protocol port on 127.0.0.1; `None` = a free one.
    pub tcp_port: Option<u16>,
    /// HTTP port on 127.0.0.1; 0 = none.
    pub http_port: u16,
    /// Memory the engine may use, in bytes; `None` = half of the machine's.
    pub memory_bytes_max: Option<u64>,
}

/// A running, supervised engine. Dropping it ends the child.
#[derive(Debug)]
pub struct Embedded {
    tcp_port: u16,
}

/// Why the engine could not be provided or started.
#[derive(Debug)]
pub enum EmbeddedError {}

impl Embedded {
    /// Provides the engine (fetching it when needed), starts it and waits until it answers.
    pub fn start(config: EmbeddedConfig) -> Result<Embedded, EmbeddedError> {
        let _ = config;
        todo!()
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::local(self.tcp_port)
    }

    /// Ends the child: closes its pipe, and kills it when that does not help within a few seconds.
    pub fn stop(self) {}
}

/// Body of the hidden subcommand `ringhouse embedded-engine`: `LIBRARY ENGINE-ARGUMENTS...`.
pub fn run_engine_child(arguments: &[OsString]) -> ! {
    let _ = arguments;
    todo!()
}
