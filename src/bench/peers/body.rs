//! Bodies with the same rows for this program and for ClickHouse's own JSON format.

use std::net::SocketAddr;

use serde_json::Value;

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
            Taker::ClickHouse(_) => json_each_row(rows, run),
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

/// Rows under the names of the default table's columns, as someone writes them who knows the table.
fn json_each_row(rows: &[Row], run: &RunId) -> Body {
    let mut body = Body::default();
    for row in rows {
        let text = format!(
            "{{\"Timestamp\":\"{}\",\"SeverityText\":\"{}\",\"SeverityNumber\":{},\"ServiceName\":{},\"Body\":{},\"TraceId\":\"{}",
            row.timestamp(),
            row.level,
            crate::severity::number_of_word(row.level.as_bytes()).unwrap_or(0),
            Value::from(row.service.as_str()),
            Value::from(row.message.as_str()),
            run.prefix(),
        );
        body.bytes.extend_from_slice(text.as_bytes());
        body.put_number();
        body.bytes.extend_from_slice(b"\",\"LogAttributes\":{");
        for (at, (name, value)) in row.attributes.iter().enumerate() {
            let text = match value {
                Value::String(text) => Value::from(text.as_str()),
                other => Value::from(other.to_string()),
            };
            let separator = if at == 0 { "" } else { "," };
            body.bytes
                .extend_from_slice(format!("{separator}\"{name}\":{text}").as_bytes());
        }
        body.bytes.extend_from_slice(b"}}\n");
    }
    body
}

#[cfg(test)]
mod tests {
    use super::super::super::rows::Rows;
    use super::*;

    #[test]
    fn both_say_the_same() {
        let mut rows = Rows::generated(1, 1_700_000_000_000);
        let rows: Vec<Row> = (0..20).map(|_| rows.next_row()).collect();
        let run = RunId::random();
        let ours = Taker::Ringhouse.body(&rows, &run);
        let theirs = Taker::ClickHouse("").body(&rows, &run);
        assert_eq!((ours.ids.len(), theirs.ids.len()), (20, 20));
        let objects = |body: &Body| -> Vec<Value> {
            let lines = body
                .bytes
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty());
            lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
        };
        for (ours, theirs) in objects(&ours).iter().zip(objects(&theirs)) {
            assert_eq!(ours["timestamp"], theirs["Timestamp"]);
            assert_eq!(ours["trace_id"], theirs["TraceId"]);
            assert_eq!(ours["message"], theirs["Body"]);
            assert_eq!(
                ours["pid"].to_string(),
                theirs["LogAttributes"]["pid"].as_str().unwrap()
            );
        }
    }
}
