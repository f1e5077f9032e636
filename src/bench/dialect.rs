//! Writes rows as the body of one request, in each dialect that can be measured, with places for their ids.

use clap::ValueEnum;
use serde_json::Value;

use super::id::{ID_BYTES, IdForm, RunId};
use super::reply::{Expected, ExpectedBody};
use super::rows::Row;
use super::{loki, otlp};
use crate::ack::AckLevel;

/// A way to post rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// A JSON object per line.
    Ndjson,
    /// One JSON array.
    Json,
    /// A JSON object per line under the default table's own column names, as ClickHouse's JSONEachRow takes them too.
    #[value(skip)]
    Columns,
    /// OpenTelemetry's protobuf over HTTP; ids are trace ids.
    Otlp,
    /// Loki's protobuf in Snappy; ids are trace ids in the structured metadata.
    Loki,
}

/// A body, and where in it the ids stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// The body, each id numbered 0.
    pub bytes: Vec<u8>,
    /// Offset of the first digit of each row's number, ascending.
    pub ids: Vec<usize>,
    /// How the numbers stand there.
    pub form: IdForm,
}

impl Body {
    /// Appends the number of the next row, 0 for now, and notes where it stands.
    fn put_number(&mut self) {
        self.ids.push(self.bytes.len());
        self.bytes.extend_from_slice(&[b'0'; ID_BYTES]);
    }
}

impl Dialect {
    /// Name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Ndjson => "ndjson",
            Dialect::Json => "json",
            Dialect::Columns => "columns",
            Dialect::Otlp => "otlp",
            Dialect::Loki => "loki",
        }
    }

    /// Path and query that take rows for `table`.
    pub fn target(self, table: &str, ack: AckLevel) -> String {
        match self {
            Dialect::Ndjson | Dialect::Json | Dialect::Columns => format!("/ingest/{table}?ack={ack}"),
            Dialect::Otlp => format!("/v1/logs?table={table}&ack={ack}"),
            Dialect::Loki => format!("/loki/api/v1/push?table={table}&ack={ack}"),
        }
    }

    /// Media type of the body.
    pub fn content_type(self) -> &'static str {
        match self {
            Dialect::Ndjson | Dialect::Columns => "application/x-ndjson",
            Dialect::Json => "application/json",
            Dialect::Otlp | Dialect::Loki => "application/x-protobuf",
        }
    }

    /// The reply of success when all of `rows` rows were taken.
    pub fn success(self, rows: usize, ack: AckLevel) -> Expected {
        match self {
            Dialect::Ndjson | Dialect::Json | Dialect::Columns => Expected {
                status: ack.status(),
                body: ExpectedBody::Begins(format!("{{\"accepted\":{rows},\"rejected\":0,\"ack\":\"{ack}\"")),
            },
            Dialect::Otlp => Expected {
                status: 200,
                body: ExpectedBody::Empty,
            },
            Dialect::Loki => Expected {
                status: 204,
                body: ExpectedBody::EmptyOrText,
            },
        }
    }

    /// The body of `rows`, whose ids stand under `key`, or in the default table's column of theirs.
    pub fn body(self, rows: &[Row], key: &str, run: &RunId) -> Body {
        let mut body = Body::default();
        let (opening, separator, closing) = match self {
            Dialect::Ndjson => ("", "\n", "\n"),
            Dialect::Json => ("[", ",", "]"),
            Dialect::Columns => {
                rows.iter().for_each(|row| write_columns(&mut body, row, run));
                return body;
            }
            Dialect::Otlp => return otlp::body(rows, run),
            Dialect::Loki => return loki::body(rows, run),
        };
        let key = Value::from(key).to_string();
        for (at, row) in rows.iter().enumerate() {
            let before = if at == 0 { opening } else { separator };
            body.bytes.extend_from_slice(before.as_bytes());
            write_object(&mut body, row, &key, run);
        }
        body.bytes.extend_from_slice(closing.as_bytes());
        body
    }
}

fn write_object(body: &mut Body, row: &Row, key: &str, run: &RunId) {
    let text = format!(
        "{{\"timestamp\":\"{}\",\"level\":\"{}\",\"service\":{},\"message\":{},{key}:\"{}",
        row.timestamp(),
        row.level,
        Value::from(row.service.as_str()),
        Value::from(row.message.as_str()),
        run.prefix(),
    );
    body.bytes.extend_from_slice(text.as_bytes());
    body.put_number();
    body.bytes.push(b'"');
    for (name, value) in &row.attributes {
        body.bytes
            .extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    }
    body.bytes.push(b'}');
}

/// A line as someone writes it who knows the default table.
fn write_columns(body: &mut Body, row: &Row, run: &RunId) {
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

#[cfg(test)]
mod tests {
    use super::super::rows::Rows;
    use super::*;

    fn rows(count: usize) -> Vec<Row> {
        let mut rows = Rows::generated(3, 1_700_000_000_000);
        (0..count).map(|_| rows.next_row()).collect()
    }

    #[test]
    fn writes_json_whose_ids_stand_where_it_says() {
        let (run, rows) = (RunId::random(), rows(3));
        let lines = Dialect::Ndjson.body(&rows, "trace_id", &run);
        let array = Dialect::Json.body(&rows, "trace_id", &run);
        let parsed: Vec<Value> = std::str::from_utf8(&lines.bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            serde_json::from_slice::<Vec<Value>>(&array.bytes).unwrap(),
            parsed
        );
        for body in [lines, array] {
            assert_eq!(body.ids.len(), 3);
            for at in body.ids {
                assert_eq!(&body.bytes[at - run.prefix().len()..at], run.prefix().as_bytes());
                assert_eq!(body.bytes[at..at + ID_BYTES], [b'0'; ID_BYTES]);
            }
        }
        assert_eq!(parsed[0]["message"], rows[0].message);
        assert_eq!(parsed[0]["trace_id"], format!("{}{:0ID_BYTES$}", run.prefix(), 0));
    }

    #[test]
    fn says_the_same_under_the_columns_names() {
        let (run, rows) = (RunId::random(), rows(20));
        let usual = Dialect::Ndjson.body(&rows, "trace_id", &run);
        let columns = Dialect::Columns.body(&rows, "TraceId", &run);
        assert_eq!((usual.ids.len(), columns.ids.len()), (20, 20));
        let objects = |body: &Body| -> Vec<Value> {
            let text = std::str::from_utf8(&body.bytes).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        for (usual, columns) in objects(&usual).iter().zip(objects(&columns)) {
            assert_eq!(usual["timestamp"], columns["Timestamp"]);
            assert_eq!(usual["trace_id"], columns["TraceId"]);
            assert_eq!(usual["message"], columns["Body"]);
            assert_eq!(
                usual["pid"].to_string(),
                columns["LogAttributes"]["pid"].as_str().unwrap()
            );
        }
    }
}
