//! Bodies with the same rows for this program and for ClickHouse's own JSON format.

use std::net::SocketAddr;

use super::super::dialect::{Body, Dialect};
use super::super::id::RunId;
use super::super::rows::Row;
use crate::ack::AckLevel;

/// Who takes the bodies over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// This program, at `ack=wal`.
    Ringhouse,
    /// ClickHouse, with these settings of its URL.
    ClickHouse(&'static str),
}

impl Taker {
    /// A body of rows.
    pub fn body(self, rows: &[Row], run: &RunId) -> Body {
        match self {
            Taker::Ringhouse => Dialect::Ndjson.body(rows, "trace_id", run),
            Taker::ClickHouse(_) => Dialect::Columns.body(rows, "TraceId", run),
        }
    }

    /// Everything of a request before its body.
    pub fn head(self, address: SocketAddr, table: &str, body_bytes: usize) -> String {
        let target = match self {
            Taker::Ringhouse => Dialect::Ndjson.target(table, AckLevel::Wal),
            Taker::ClickHouse(settings) => format!(
                "/?database=default&query=INSERT+INTO+{table}+FORMAT+JSONEachRow&date_time_input_format=best_effort{settings}"
            ),
        };
        format!(
            "POST {target} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {}\r\nContent-Length: {body_bytes}\r\n\r\n",
            Dialect::Ndjson.content_type()
        )
    }
}
