//! Who takes rows over HTTP: what its requests look like, and how it says that it has taken them.

use super::dialect::{Body, Dialect};
use super::id::RunId;
use super::reply::{Expected, ExpectedBody};
use super::rows::Row;
use crate::ack::AckLevel;

/// Who takes the bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// This program.
    Ringhouse {
        /// How rows are written.
        dialect: Dialect,
        /// What the replies are to promise.
        ack: AckLevel,
    },
    /// ClickHouse's own HTTP interface.
    ClickHouse {
        /// Settings of its URL, each with its `&`.
        settings: &'static str,
    },
    /// Whoever answers 200, given what this program would be given at `ack=memory`.
    Anyone,
}

/// What [`Taker::Anyone`] is sent.
const ANYONE: Taker = Taker::Ringhouse {
    dialect: Dialect::Ndjson,
    ack: AckLevel::Memory,
};

/// ClickHouse's way to take few rows at a time: it gathers them, and answers when they are stored.
pub const ASYNC_WAITING: Taker = Taker::ClickHouse {
    settings: "&async_insert=1&wait_for_async_insert=1",
};

impl Taker {
    /// A body of rows, whose ids stand under `id_key`; ClickHouse's rows have the default table's columns.
    pub fn body(self, rows: &[Row], id_key: &str, run: &RunId) -> Body {
        match self {
            Taker::Ringhouse { dialect, .. } => dialect.body(rows, id_key, run),
            Taker::ClickHouse { .. } => Dialect::Columns.body(rows, id_key, run),
            Taker::Anyone => ANYONE.body(rows, id_key, run),
        }
    }

    /// The head of a request up to the length of its body, which comes with the headers that follow.
    pub fn head(self, host: &str, table: &str) -> String {
        format!(
            "POST {} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {}\r\n",
            self.target(table),
            self.content_type()
        )
    }

    /// Path and query of a request.
    pub fn target(self, table: &str) -> String {
        match self {
            Taker::Ringhouse { dialect, ack } => dialect.target(table, ack),
            Taker::ClickHouse { settings } => format!(
                "/?database=default&query=INSERT+INTO+{table}+FORMAT+JSONEachRow\
                 &date_time_input_format=best_effort{settings}"
            ),
            Taker::Anyone => ANYONE.target(table),
        }
    }

    /// Media type of its body.
    pub fn content_type(self) -> &'static str {
        match self {
            Taker::Ringhouse { dialect, .. } => dialect.content_type(),
            Taker::ClickHouse { .. } => Dialect::Columns.content_type(),
            Taker::Anyone => ANYONE.content_type(),
        }
    }

    /// Fields that a request has besides.
    pub fn fields(self, table: &str) -> Vec<(&'static str, String)> {
        match self {
            Taker::Ringhouse { dialect, ack } => dialect.fields(table, ack),
            Taker::ClickHouse { .. } | Taker::Anyone => Vec::new(),
        }
    }

    /// What a reply says that has taken `rows` rows.
    pub fn expected(self, rows: usize) -> Expected {
        match self {
            Taker::Ringhouse { dialect, ack } => dialect.success(rows, ack),
            Taker::ClickHouse { .. } | Taker::Anyone => Expected {
                status: 200,
                body: ExpectedBody::Begins(String::new()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::rows::Rows;
    use super::*;

    #[test]
    fn both_say_the_same() {
        let mut rows = Rows::generated(1, 1_700_000_000_000);
        let rows: Vec<Row> = (0..20).map(|_| rows.next_row()).collect();
        let run = RunId::random();
        let ours = Taker::Anyone.body(&rows, "trace_id", &run);
        let theirs = Taker::ClickHouse { settings: "" }.body(&rows, "trace_id", &run);
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
