//! Inserts rows with `clickhouse-rs`, as a program would that reads lines of JSON and has them in memory.
//!
//! The client knows neither LowCardinality nor Map(LowCardinality(String), String). Its rows go into a Null table of plain
//! texts and two arrays, and by a view into the same table as all others: ClickHouse builds the dictionaries and maps. Its
//! blocks are compressed with LZ4, like this program's. What it costs to receive the lines is counted for nobody.

use std::io;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use clickhouse_rs::{Options, Pool};

use super::super::clickhouse::{AskError, ClickHouse};
use super::super::kernel::default_block;
use super::super::process::thread_cpu;
use super::send::{Load, REPLY_PATIENCE};
use crate::topology::pin_current_thread;

/// The table that the client can insert into.
const PLAIN_TABLE: &str = "bench_plain";

/// Creates the table, and the view that takes its rows to `table`.
///
/// # Errors
/// ClickHouse refuses.
pub fn create_table(clickhouse: &ClickHouse, table: &str) -> Result<(), AskError> {
    clickhouse.run(&format!(
        "CREATE TABLE {PLAIN_TABLE} (Timestamp DateTime64(9), TraceId String, SeverityText String, SeverityNumber UInt8, \
         ServiceName String, Body String, `LogAttributes.keys` Array(String), `LogAttributes.values` Array(String)) ENGINE = Null"
    ))?;
    clickhouse.run(&format!(
        "CREATE MATERIALIZED VIEW {PLAIN_TABLE}_view TO {table} AS SELECT Timestamp, TraceId, SeverityText, SeverityNumber, \
         ServiceName, Body, mapFromArrays(`LogAttributes.keys`, `LogAttributes.values`)::Map(LowCardinality(String), String) \
         AS LogAttributes FROM {PLAIN_TABLE}"
    ))
}

/// Lines of JSON, those of an INSERT together.
pub struct Lines {
    inserts: Vec<Vec<u8>>,
    rows: u64,
}

impl Lines {
    /// Of all rows of the load.
    pub fn make(load: &Load) -> Lines {
        Lines {
            inserts: load.inserts().collect(),
            rows: load.rows,
        }
    }

    /// Parses and inserts them from this thread, an INSERT after the other; how many were acknowledged, and the thread's
    /// CPU time.
    ///
    /// # Errors
    /// The connection breaks, or ClickHouse refuses.
    pub fn insert(&self, load: &Load, port: u16) -> io::Result<(u64, Duration)> {
        pin_current_thread(load.cpu).map_err(io::Error::other)?;
        let started = thread_cpu();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let inserted = runtime.block_on(self.insert_all(port));
        inserted.map_err(|error| io::Error::other(error.to_string()))?;
        Ok((self.rows, thread_cpu() - started))
    }

    async fn insert_all(&self, port: u16) -> Result<(), clickhouse_rs::errors::Error> {
        let options = Options::from_str(&format!("tcp://{}:{port}", Ipv4Addr::LOCALHOST))?
            .with_compression()
            .pool_min(1)
            .pool_max(1)
            .ping_before_query(false)
            .send_retries(0)
            .insert_timeout(Some(REPLY_PATIENCE));
        let mut handle = Pool::new(options).get_handle().await?;
        for lines in &self.inserts {
            let lines: Vec<&[u8]> = lines.trim_ascii_end().split(|byte| *byte == b'\n').collect();
            handle.insert(PLAIN_TABLE, default_block(&lines)).await?;
        }
        Ok(())
    }
}
