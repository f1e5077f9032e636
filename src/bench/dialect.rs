//! Writes rows as one request's worth of each dialect that can be measured, with places for their ids.

use clap::ValueEnum;
use serde_json::Value;

use super::args::ID_SQL;
use super::id::{ID_BYTES, IdForm, RunId};
use super::reply::{Expected, ExpectedBody};
use super::rows::Row;
use super::wire::Wire;
use super::{forward, loki, otlp, syslog};
use crate::ack::AckLevel;
use crate::config::Protocol;
use crate::grpc::frame::put_message;

/// A way to post rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// A JSON object per line.
    Ndjson,
    /// The same with what an OTLP record of the row brings as well: its resource's attributes and its scope's name.
    NdjsonResource,
    /// One JSON array.
    Json,
    /// A JSON object per line under the default table's own column names, as ClickHouse's JSONEachRow takes them too.
    #[value(skip)]
    Columns,
    /// OpenTelemetry's protobuf over HTTP; ids are trace ids.
    Otlp,
    /// Loki's protobuf in Snappy; ids are trace ids in the structured metadata.
    Loki,
    /// Elasticsearch's bulk API, each document behind `create`.
    Elasticsearch,
    /// Events of Splunk's HEC, back to back.
    Splunk,
    /// Datadog's log intake, an array.
    Datadog,
    /// Cribl's bulk endpoint, a line each.
    Cribl,
    /// The LogEntry API, a JSON array.
    #[value(name = "logentry")]
    LogEntry,
    /// Logger, one log a request.
    Logger,
    /// LogTide, up to 1,000 logs a request.
    #[value(name = "logtide")]
    LogTide,
    /// OpenTelemetry's protobuf over gRPC; ids are trace ids.
    OtlpGrpc,
    /// Counted messages of RFC 5424 over TCP, which nobody answers.
    Syslog,
    /// Fluent Forward's packed mode; the chunk of each message is acknowledged.
    Forward,
    /// A JSON object per line over TCP, which nobody answers.
    JsonLines,
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
    /// Bytes in which the ids of `run` stand as text, all numbered 0 and some perhaps no row's.
    pub(super) fn with_ids_of(run: &RunId, bytes: Vec<u8>) -> Body {
        let found = memchr::memmem::find_iter(&bytes, run.prefix());
        Body {
            ids: found.map(|at| at + run.prefix().len()).collect(),
            bytes,
            form: IdForm::Text,
        }
    }

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
            Dialect::NdjsonResource => "ndjson-resource",
            Dialect::Json => "json",
            Dialect::Columns => "columns",
            Dialect::Otlp => "otlp",
            Dialect::Loki => "loki",
            Dialect::Elasticsearch => "elasticsearch",
            Dialect::Splunk => "splunk",
            Dialect::Datadog => "datadog",
            Dialect::Cribl => "cribl",
            Dialect::LogEntry => "logentry",
            Dialect::Logger => "logger",
            Dialect::LogTide => "logtide",
            Dialect::OtlpGrpc => "otlp-grpc",
            Dialect::Syslog => "syslog",
            Dialect::Forward => "forward",
            Dialect::JsonLines => "json-lines",
        }
    }

    /// What is spoken on its connections, where there is no choice.
    pub fn wire(self) -> Wire {
        match self {
            Dialect::OtlpGrpc => Wire::Grpc,
            Dialect::Forward => Wire::Forward,
            Dialect::Syslog | Dialect::JsonLines => Wire::OneWay,
            _ => Wire::Http1,
        }
    }

    /// The protocol of its listener, where that is not HTTP's.
    pub fn protocol(self) -> Option<Protocol> {
        match self {
            Dialect::Syslog => Some(Protocol::Syslog),
            Dialect::Forward => Some(Protocol::Forward),
            Dialect::JsonLines => Some(Protocol::Json),
            _ => None,
        }
    }

    /// Rows of one request at most.
    pub fn rows_max(self) -> u32 {
        match self {
            Dialect::Logger => 1,
            Dialect::LogTide => 1_000,
            _ => u32::MAX,
        }
    }

    /// SQL of a row's id in the default table, also of one in lines of JSON.
    pub fn id_sql(self) -> &'static str {
        match self {
            Dialect::Logger => "if(TraceId = '', LogAttributes['trace_id'], TraceId)",
            Dialect::Syslog => "if(TraceId = '', LogAttributes['a.trace_id'], TraceId)",
            _ => ID_SQL,
        }
    }

    /// Path and query that take rows for `table`; of nothing but HTTP.
    pub fn target(self, table: &str, ack: AckLevel) -> String {
        match self {
            Dialect::Ndjson | Dialect::NdjsonResource | Dialect::Json | Dialect::Columns => {
                format!("/ingest/{table}?ack={ack}")
            }
            Dialect::Otlp => format!("/v1/logs?table={table}&ack={ack}"),
            Dialect::Loki => format!("/loki/api/v1/push?table={table}&ack={ack}"),
            // Of the reply only whether all is well, as shippers ask it.
            Dialect::Elasticsearch => format!("/_bulk?filter_path=errors&table={table}&ack={ack}"),
            Dialect::Splunk => format!("/services/collector/event?table={table}&ack={ack}"),
            Dialect::Datadog => format!("/api/v2/logs?table={table}&ack={ack}"),
            Dialect::Cribl => format!("/cribl/_bulk?table={table}&ack={ack}"),
            Dialect::LogEntry => format!("/api/logs?table={table}&ack={ack}"),
            Dialect::Logger => format!("/log?table={table}&ack={ack}"),
            Dialect::LogTide => format!("/api/v1/ingest?table={table}&ack={ack}"),
            Dialect::OtlpGrpc => "/opentelemetry.proto.collector.logs.v1.LogsService/Export".to_owned(),
            Dialect::Syslog | Dialect::Forward | Dialect::JsonLines => "/".to_owned(),
        }
    }

    /// Fields of a request besides its media type.
    pub fn fields(self, table: &str, ack: AckLevel) -> Vec<(&'static str, String)> {
        match self {
            Dialect::OtlpGrpc => vec![
                ("te", "trailers".to_owned()),
                ("x-ringhouse-table", table.to_owned()),
                ("x-ringhouse-ack", ack.to_string()),
            ],
            _ => Vec::new(),
        }
    }

    /// Media type of the body.
    pub fn content_type(self) -> &'static str {
        match self {
            Dialect::Ndjson
            | Dialect::NdjsonResource
            | Dialect::Columns
            | Dialect::Elasticsearch
            | Dialect::Cribl
            | Dialect::JsonLines => "application/x-ndjson",
            Dialect::Json
            | Dialect::Splunk
            | Dialect::Datadog
            | Dialect::LogEntry
            | Dialect::Logger
            | Dialect::LogTide => "application/json",
            Dialect::Otlp | Dialect::Loki => "application/x-protobuf",
            Dialect::OtlpGrpc => "application/grpc",
            Dialect::Syslog => "text/plain",
            Dialect::Forward => "application/msgpack",
        }
    }

    /// The reply of success when all of `rows` rows were taken.
    pub fn success(self, rows: usize, ack: AckLevel) -> Expected {
        match self {
            Dialect::Ndjson | Dialect::NdjsonResource | Dialect::Json | Dialect::Columns => Expected {
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
            Dialect::Elasticsearch => Expected::beginning(200, "{\"errors\":false"),
            Dialect::Splunk => Expected::beginning(200, "{\"text\":\"Success\",\"code\":0"),
            Dialect::Datadog => Expected::beginning(202, "{}"),
            Dialect::Cribl => Expected::beginning(200, &format!("{{\"success\":true,\"items\":{rows}}}")),
            Dialect::LogEntry => {
                let logs = match rows {
                    1 => "1 log was".to_owned(),
                    _ => format!("{rows} logs were"),
                };
                Expected::beginning(
                    202,
                    &format!(
                        "{{\"success\":true,\"message\":\"{logs} accepted\",\"stats\":{{\"accepted\":{rows},\"rejected\":0,"
                    ),
                )
            }
            Dialect::Logger => Expected {
                status: 200,
                body: ExpectedBody::EmptyOrText,
            },
            Dialect::LogTide => Expected::beginning(200, &format!("{{\"received\":{rows},\"rejected\":[],")),
            // A message of no bytes.
            Dialect::OtlpGrpc => Expected::beginning(200, "\0\0\0\0\0"),
            // No reply of HTTP's is one of theirs.
            Dialect::Syslog | Dialect::Forward | Dialect::JsonLines => Expected {
                status: 0,
                body: ExpectedBody::Empty,
            },
        }
    }

    /// The body of `rows`, whose ids stand under `key`, or in the default table's column of theirs.
    pub fn body(self, rows: &[Row], key: &str, run: &RunId) -> Body {
        let mut body = Body::default();
        let (opening, separator, closing) = match self {
            Dialect::Ndjson | Dialect::NdjsonResource | Dialect::Cribl | Dialect::JsonLines => {
                ("", "\n", "\n")
            }
            Dialect::Json | Dialect::Datadog | Dialect::LogEntry => ("[", ",", "]"),
            Dialect::Elasticsearch => ("{\"create\":{}}\n", "\n{\"create\":{}}\n", "\n"),
            Dialect::Splunk => ("{\"event\":", "}{\"event\":", "}"),
            Dialect::Logger => ("", "", ""),
            Dialect::LogTide => ("{\"logs\":[", ",", "]}"),
            Dialect::Columns => {
                rows.iter().for_each(|row| write_columns(&mut body, row, run));
                return body;
            }
            Dialect::Otlp => return otlp::body(rows, run),
            Dialect::OtlpGrpc => return call(&otlp::body(rows, run)),
            Dialect::Loki => return loki::body(rows, run),
            Dialect::Syslog => return syslog::body(rows, run),
            Dialect::Forward => return forward::body(rows, run),
        };
        let names = self.names(key);
        for (at, row) in rows.iter().enumerate() {
            let before = if at == 0 { opening } else { separator };
            body.bytes.extend_from_slice(before.as_bytes());
            write_object(&mut body, row, &names, run);
        }
        body.bytes.extend_from_slice(closing.as_bytes());
        body
    }

    /// What it calls the parts of a row, whose id is under `key` where the dialect leaves that open.
    fn names(self, key: &str) -> Names {
        let usual = Names {
            time: "timestamp",
            service: "service",
            id: Value::from(key).to_string(),
            constant: "",
            resource: false,
            attributes: Attributes::Beside,
        };
        let trace_id = Value::from("trace_id").to_string();
        match self {
            Dialect::NdjsonResource => Names {
                resource: true,
                ..usual
            },
            Dialect::LogEntry => Names {
                service: "source",
                id: trace_id,
                constant: ",\"app_id\":\"bench\",\"environment\":\"test\"",
                attributes: Attributes::InMetadata,
                ..usual
            },
            Dialect::Logger => Names {
                service: "resourceID",
                id: trace_id,
                ..usual
            },
            Dialect::LogTide => Names {
                time: "time",
                id: trace_id,
                attributes: Attributes::InMetadata,
                ..usual
            },
            _ => usual,
        }
    }
}

/// A message as a call of gRPC has it: behind five bytes of its own.
fn call(message: &Body) -> Body {
    let mut bytes = Vec::with_capacity(message.bytes.len() + 5);
    put_message(&mut bytes, |out| out.extend_from_slice(&message.bytes));
    let before = bytes.len() - message.bytes.len();
    Body {
        bytes,
        ids: message.ids.iter().map(|at| at + before).collect(),
        form: message.form,
    }
}

/// What an object calls the parts of a row.
struct Names {
    time: &'static str,
    service: &'static str,
    /// In quotes.
    id: String,
    /// Members that all rows have, each behind a comma.
    constant: &'static str,
    /// What an OTLP record has around it follows, under the default table's own names.
    resource: bool,
    attributes: Attributes,
}

/// Where a row's attributes are.
enum Attributes {
    Beside,
    InMetadata,
}

fn write_object(body: &mut Body, row: &Row, names: &Names, run: &RunId) {
    let text = format!(
        "{{\"{}\":\"{}\",\"level\":\"{}\",\"{}\":{},\"message\":{}{},{}:\"{}",
        names.time,
        row.timestamp(),
        row.level,
        names.service,
        Value::from(row.service.as_str()),
        Value::from(row.message.as_str()),
        names.constant,
        names.id,
        run.prefix(),
    );
    body.bytes.extend_from_slice(text.as_bytes());
    body.put_number();
    body.bytes.push(b'"');
    if names.resource {
        let resource = format!(
            ",\"ResourceAttributes\":{{\"service.name\":{}}},\"ScopeName\":\"bench\"",
            Value::from(row.service.as_str()),
        );
        body.bytes.extend_from_slice(resource.as_bytes());
    }
    let (mut separator, end) = match names.attributes {
        Attributes::Beside => (",", "}"),
        Attributes::InMetadata => (",\"metadata\":{", "}}"),
    };
    for (name, value) in &row.attributes {
        body.bytes
            .extend_from_slice(format!("{separator}\"{name}\":{value}").as_bytes());
        separator = ",";
    }
    // A row of a corpus has none.
    let end = if separator == "," { end } else { "}" };
    body.bytes.extend_from_slice(end.as_bytes());
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
    use super::super::id::write_ids;
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
    fn writes_other_protocols_around_the_same_objects() {
        let (run, rows) = (RunId::random(), rows(3));
        let text = |dialect: Dialect| String::from_utf8(dialect.body(&rows, "trace_id", &run).bytes).unwrap();
        let lines = text(Dialect::Ndjson);
        assert_eq!(text(Dialect::Cribl), lines);
        assert_eq!(text(Dialect::JsonLines), lines);
        assert_eq!(text(Dialect::Datadog), text(Dialect::Json));
        let bulk = text(Dialect::Elasticsearch);
        let documents: Vec<&str> = bulk.lines().skip(1).step_by(2).collect();
        assert_eq!(documents, lines.lines().collect::<Vec<_>>());
        assert!(bulk.lines().step_by(2).all(|action| action == "{\"create\":{}}"));
        let events = serde_json::Deserializer::from_str(&text(Dialect::Splunk))
            .into_iter::<Value>()
            .map(|event| event.unwrap()["event"].clone())
            .collect::<Vec<_>>();
        let objects: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events, objects);
        let with_resource = text(Dialect::NdjsonResource);
        for (line, object) in with_resource.lines().zip(objects) {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let members = line.as_object_mut().unwrap();
            let resource = members.remove("ResourceAttributes").unwrap();
            assert_eq!(resource["service.name"], object["service"]);
            assert_eq!(members.remove("ScopeName"), Some("bench".into()));
            assert_eq!(line, object);
        }
    }

    #[test]
    fn puts_ids_and_attributes_where_each_protocol_has_them() {
        let (run, rows) = (RunId::random(), rows(3));
        for (dialect, logs, attributes) in [
            (Dialect::LogEntry, "", "/metadata"),
            (Dialect::LogTide, "/logs", "/metadata"),
            (Dialect::Json, "", ""),
        ] {
            // Whatever the key is where the protocol has one.
            let mut body = dialect.body(&rows, "trace_id", &run);
            write_ids(&mut body.bytes, &body.ids, 95, body.form);
            let body: Value = serde_json::from_slice(&body.bytes).unwrap();
            let logs = body.pointer(logs).and_then(Value::as_array).unwrap();
            assert_eq!(logs.len(), 3, "{dialect:?}");
            for (at, (log, row)) in logs.iter().zip(&rows).enumerate() {
                assert_eq!(log["trace_id"], run.id(95 + at as u64), "{dialect:?}");
                assert_eq!(log["message"], row.message, "{dialect:?}");
                let pid = log.pointer(&format!("{attributes}/pid"));
                assert_eq!(pid, Some(&row.attributes[0].1), "{dialect:?}");
            }
        }
        let logger = Dialect::Logger.body(&rows[..1], "any", &run);
        let logger: Value = serde_json::from_slice(&logger.bytes).unwrap();
        assert_eq!(logger["trace_id"], run.id(0));
        assert_eq!(logger["resourceID"], rows[0].service);
    }

    #[test]
    fn a_call_is_the_message_behind_its_prefix() {
        let (run, rows) = (RunId::random(), rows(3));
        let (message, call) = (
            Dialect::Otlp.body(&rows, "", &run),
            Dialect::OtlpGrpc.body(&rows, "", &run),
        );
        let prefix = (message.bytes.len() as u32).to_be_bytes();
        assert_eq!(call.bytes[..5], [&[0], &prefix[..]].concat());
        assert_eq!(call.bytes[5..], message.bytes);
        let ids: Vec<usize> = message.ids.iter().map(|at| at + 5).collect();
        assert_eq!((call.ids, call.form), (ids, message.form));
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
