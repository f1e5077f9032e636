//! The control thread: asks ClickHouse which tables there are and publishes them.

use std::sync::{Arc, Mutex};

use crate::catalog::Catalog;
use crate::clickhouse::endpoint::Endpoint;
use crate::limits::Limits;
use crate::schema::TableName;

/// What the control thread is started with.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Where ClickHouse is.
    pub endpoint: Endpoint,
    /// Table of requests that name none; created when `create_tables`.
    pub default_table: TableName,
    /// Tables of other databases to serve too, or with `only_listed` the only tables to serve.
    pub tables: Vec<TableName>,
    /// Serve `default_table` and `tables` and nothing else.
    pub only_listed: bool,
    /// Create the endpoint's database and the default table when they are missing.
    pub create_tables: bool,
    /// Days rows of a created default table are kept; `None` = for ever.
    pub ttl_days: Option<u32>,
    /// Deadlines and intervals.
    pub limits: Limits,
}

/// Whether ClickHouse answers, for `/readyz` and `/status`.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// The last reading succeeded.
    pub connected: bool,
    /// Version text of the server that answered last, such as `26.7.2.1`.
    pub server_version: Option<String>,
    /// Why the last reading failed, when it did.
    pub last_error: Option<ControlError>,
    /// Readings that failed since one succeeded.
    pub failures: u32,
}

/// Why ClickHouse could not be asked. Texts hold no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlError {
    /// ClickHouse answered with an exception.
    Server {
        /// ClickHouse's error code, such as 516 for a wrong password.
        code: u32,
        /// Its message, first line.
        message: String,
    },
    /// No connection, a broken one, or no answer in time.
    Connection(String),
}

/// Handle of the running control thread.
#[derive(Debug, Clone)]
pub struct Control {
    catalog: Arc<Catalog>,
    readiness: Arc<Mutex<Readiness>>,
}

impl Control {
    /// The tables, as last read.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// State of the connection, as last seen.
    pub fn readiness(&self) -> Readiness {
        self.readiness
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

/// Starts the control thread. It ends with the process; ClickHouse being away never ends it.
///
/// # Errors
///
/// Only when the operating system gives no thread or no event loop.
pub fn start_control(config: ControlConfig) -> std::io::Result<Control> {
    let _ = config;
    todo!()
}
