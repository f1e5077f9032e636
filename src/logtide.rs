//! LogTide's ingestion: batches of logs, and single ones as Fluent Bit writes them.
//!
//! | field | column | rule |
//! |---|---|---|
//! | `time` | Timestamp | optional: the receive time |
//! | `service` | ServiceName | 1 to 100 characters |
//! | `level` | SeverityText, SeverityNumber | debug, info, warn, error or critical; or a number: from 60 critical, from 50 error, from 40 warn, from 30 info, else debug |
//! | `message` | Body | 1 character at least |
//! | `trace_id` | TraceId when it is 32 hexadecimal digits, else LogAttributes | optional |
//! | `span_id` | SpanId | optional, 16 hexadecimal digits |
//! | `session_id` | LogAttributes | optional |
//! | `metadata` | its members are LogAttributes: texts as they are, all else as JSON | optional, an object |
//!
//! Other members are attributes. A single log may be what Fluent Bit made: `date` (seconds) for `time`, `log` for `message`,
//! `container_name` for `service` or else `unknown`, and a level of any usual name, or else info.

use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::{Node, StaticNode};
use crate::message::objects::{ObjectMessage, Objects, put_attribute, put_metadata, text_at, time_at};
use crate::message::tape::{Elements, Members, put_text};
use crate::message::{Places, Room, WrongStructure};

/// Logs of a batch: `{"logs": [...]}`, a bare array, or an array of such objects.
pub type JsonMessage<'b> = ObjectMessage<'b, Batch>;

/// A single log, or an array of them.
pub type SingleMessage<'b> = ObjectMessage<'b, Single>;

/// How a batch is written.
#[derive(Debug, Clone, Copy)]
pub struct Batch;

/// How a single log is written.
#[derive(Debug, Clone, Copy)]
pub struct Single;

/// Logs of one batch.
const BATCH_LOGS_MAX: usize = 1000;

const LOGS: WrongStructure = WrongStructure::Type {
    message: "a batch of logs",
    part: "logs",
};

impl Objects for Batch {
    const RECORDS_MAX: usize = BATCH_LOGS_MAX;

    fn records(nodes: &[Node<'_>]) -> Result<Elements, WrongStructure> {
        match nodes[0] {
            Node::Object { .. } => match logs_of(nodes, 0) {
                Some(logs) => match nodes[logs] {
                    Node::Array { len, .. } => Ok(Elements::first_of(logs, len)),
                    _ => Err(LOGS),
                },
                None => Err(LOGS),
            },
            Node::Array { len, .. } => Ok(Elements::first_of(0, len)),
            _ => Err(WrongStructure::Type {
                message: "a batch of logs",
                part: "the body",
            }),
        }
    }

    fn inside(nodes: &[Node<'_>], record: usize) -> Option<Elements> {
        match nodes[logs_of(nodes, record)?] {
            Node::Array { .. } => Elements::of(nodes, logs_of(nodes, record)?),
            _ => None,
        }
    }

    fn put<'t>(
        nodes: &[Node<'t>],
        record: usize,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        let mut log = Log::read(nodes, record, false, places, room, row)?;
        log.level = match log.level_node {
            Some(Node::String(level)) => LEVELS
                .into_iter()
                .find(|name| name.eq_ignore_ascii_case(level))
                .unwrap_or_default(),
            Some(node) => level_of_number(node).unwrap_or_default(),
            None => "",
        };
        log.put(places, room, row)
    }
}

impl Objects for Single {
    fn records(nodes: &[Node<'_>]) -> Result<Elements, WrongStructure> {
        Elements::one_or_all(nodes).ok_or(WrongStructure::Type {
            message: "a log",
            part: "the body",
        })
    }

    fn put<'t>(
        nodes: &[Node<'t>],
        record: usize,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        let mut log = Log::read(nodes, record, true, places, room, row)?;
        if log.service.is_empty() {
            log.service = match log.container {
                "" => "unknown",
                container => container,
            };
        }
        log.level = match log.level_node {
            Some(Node::String(level)) => level_of_word(level),
            Some(node) => level_of_number(node).unwrap_or("info"),
            None => "info",
        };
        log.put(places, room, row)
    }
}

const LEVELS: [&str; 5] = ["debug", "info", "warn", "error", "critical"];

fn level_of_number(node: Node<'_>) -> Option<&'static str> {
    let number = match node {
        Node::Static(StaticNode::U64(number)) => number as f64,
        Node::Static(StaticNode::I64(number)) => number as f64,
        Node::Static(StaticNode::F64(number)) => number,
        _ => return None,
    };
    Some(match number {
        60.0.. => "critical",
        50.0.. => "error",
        40.0.. => "warn",
        30.0.. => "info",
        _ => "debug",
    })
}

/// The level that a usual name or a number as text stands for.
fn level_of_word(word: &str) -> &'static str {
    let word = word.trim();
    if let Ok(number) = word.parse::<u32>() {
        return level_of_number(Node::Static(StaticNode::U64(u64::from(number)))).unwrap_or("info");
    }
    let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(word));
    match word {
        _ if is(&[
            "emergency",
            "emerg",
            "alert",
            "crit",
            "critical",
            "fatal",
            "panic",
        ]) =>
        {
            "critical"
        }
        _ if is(&["error", "err"]) => "error",
        _ if is(&["warning", "warn"]) => "warn",
        _ if is(&["debug", "trace", "verbose"]) => "debug",
        _ => "info",
    }
}

/// Where the `logs` of an object are.
fn logs_of(nodes: &[Node<'_>], object: usize) -> Option<usize> {
    let mut members = Members::of_object(nodes, object)?;
    members.find(|(name, _)| *name == "logs").map(|(_, value)| value)
}

/// A log whose time, metadata and unknown members were put.
#[derive(Default)]
struct Log<'t> {
    service: &'t str,
    container: &'t str,
    message: &'t str,
    level: &'static str,
    level_node: Option<Node<'t>>,
    trace_id: &'t str,
    span_id: &'t str,
}

impl<'t> Log<'t> {
    fn read(
        nodes: &[Node<'t>],
        record: usize,
        is_single: bool,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<Log<'t>, RowStop> {
        let members = Members::of_object(nodes, record);
        let text = |value, rule| text_at(nodes, value, rule);
        let mut log = Log::default();
        let mut is_timed = false;
        for (name, value) in members.ok_or(RowRefusal::Rule("a log must be an object"))? {
            match name {
                "time" => {
                    let time = time_at(nodes, value, "time must be a text or a number")?;
                    row.put_node(places.timestamp, time)?;
                    is_timed = true;
                }
                "date" if is_single && time_at(nodes, value, "").is_ok() => {
                    if !is_timed {
                        row.put_node(places.timestamp, nodes[value])?;
                    }
                }
                "service" => log.service = text(value, "service must be a text")?,
                "container_name" if is_single => {
                    log.container = text(value, "container_name must be a text")?
                }
                "message" => log.message = text(value, "message must be a text")?,
                "log" if is_single => {
                    if log.message.is_empty() {
                        log.message = text(value, "log must be a text")?;
                    }
                }
                "level" => log.level_node = Some(nodes[value]),
                "trace_id" => log.trace_id = text(value, "trace_id must be a text")?,
                "span_id" => log.span_id = text(value, "span_id must be a text")?,
                "metadata" => put_metadata(nodes, value, places, room, row)?,
                _ => put_attribute(nodes, (name, value), places, room, row)?,
            }
        }
        Ok(log)
    }

    fn put(&self, places: &Places, room: &mut Room<'t>, row: &mut RowWriter<'_, 't>) -> Result<(), RowStop> {
        let wrong = |rule| Err(RowRefusal::Rule(rule).into());
        if self.service.is_empty() || self.service.chars().count() > 100 {
            return wrong("service must have 1 to 100 characters");
        }
        if self.message.is_empty() {
            return wrong("message must have 1 character at least");
        }
        if self.level.is_empty() {
            return wrong("level must be debug, info, warn, error or critical, or a number");
        }
        row.put_node(places.service_name, Node::String(self.service))?;
        row.put_node(places.body, Node::String(self.message))?;
        row.put_node(places.severity_text, Node::String(self.level))?;
        match room.hex_id(self.trace_id, 32)? {
            Some(id) => row.put_node(places.trace_id, Node::String(id))?,
            None => match put_text(self.trace_id, row) {
                0 => {}
                index => row.put_member(places.log_attributes, "trace_id", index)?,
            },
        }
        match room.hex_id(self.span_id, 16)? {
            Some(id) => row.put_node(places.span_id, Node::String(id)),
            None if self.span_id.is_empty() => Ok(()),
            None => wrong("span_id must have 16 hexadecimal digits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::json::{MessageParser, RejectReason};
    use crate::limits::Limits;
    use crate::message::testing::{Taken, default_table, take_all};

    fn take(body: &Json) -> Result<Taken, String> {
        let limits = Limits::default();
        let taken = MessageParser::new(&limits).parse(body.to_string().as_bytes(), |nodes| {
            let message = JsonMessage::parse(nodes).map_err(|wrong| wrong.to_string())?;
            Ok(take_all(&default_table(), &limits, &message))
        });
        taken.map_err(|fault| fault.to_string())?
    }

    fn take_single(body: &Json) -> Taken {
        let limits = Limits::default();
        let taken = MessageParser::new(&limits).parse(body.to_string().as_bytes(), |nodes| {
            take_all(&default_table(), &limits, &SingleMessage::parse(nodes).unwrap())
        });
        taken.unwrap()
    }

    fn parts(row: &Json) -> Json {
        json!([
            row["Timestamp"],
            row["ServiceName"],
            row["SeverityText"],
            row["SeverityNumber"],
            row["Body"],
            row["TraceId"],
            row["SpanId"],
            row["LogAttributes"],
        ])
    }

    fn log(message: &str) -> Json {
        json!({"service": "api", "level": "warn", "message": message})
    }

    #[test]
    fn every_field_has_its_column() {
        let log = json!({
            "time": "2023-11-14T22:13:21.5Z", "service": "api", "level": "critical", "message": "m",
            "metadata": {"k": "v", "n": [1]}, "trace_id": "00112233445566778899AABBCCDDEEFF", "span_id": "0123456789abcdef",
            "session_id": "s1", "more": 7,
        });
        let taken = take(&json!({"logs": [log]})).unwrap();
        assert_eq!(
            parts(&taken.rows[0]),
            json!([
                "2023-11-14 22:13:21.500000000", "api", "critical", 21, "m", "00112233445566778899aabbccddeeff",
                "0123456789abcdef", {"k": "v", "n": "[1]", "session_id": "s1", "more": "7"},
            ])
        );
    }

    #[test]
    fn batches_come_in_three_forms() {
        let bodies =
            |taken: Taken| -> Vec<Json> { taken.rows.iter().map(|row| row["Body"].clone()).collect() };
        for body in [
            json!({"logs": [log("a"), log("b"), log("c")]}),
            json!([log("a"), log("b"), log("c")]),
            json!([{"logs": [log("a"), log("b")]}, {"logs": []}, {"logs": [log("c")]}]),
            json!([{"logs": [log("a")]}, log("b"), {"logs": [log("c")]}]),
        ] {
            assert_eq!(bodies(take(&body).unwrap()), ["a", "b", "c"], "{body}");
        }
        let logs = |count: usize| json!({"logs": vec![log("m"); count]});
        assert_eq!(take(&logs(1000)).unwrap().accepted, 1000);
        let refused = take(&logs(1001)).err().unwrap();
        assert!(refused.starts_with("longer than 1000 records"), "{refused}");
        for body in [json!(7), json!({}), json!({"logs": {}})] {
            assert!(take(&body).is_err(), "{body}");
        }
    }

    #[test]
    fn levels_are_names_or_numbers() {
        for (level, expected) in [
            (json!("debug"), "debug"),
            (json!("ERROR"), "error"),
            (json!(60), "critical"),
            (json!(59.5), "error"),
            (json!(50), "error"),
            (json!(40), "warn"),
            (json!(30), "info"),
            (json!(-1), "debug"),
        ] {
            let mut log = log("m");
            log["level"] = level;
            assert_eq!(take(&json!([log])).unwrap().rows[0]["SeverityText"], expected);
        }
    }

    #[test]
    fn a_log_that_breaks_a_rule_is_rejected_alone() {
        for (name, wrong) in [
            ("service", json!("")),
            ("service", json!("x".repeat(101))),
            ("level", json!("notice")),
            ("level", json!(null)),
            ("message", json!("")),
            ("message", json!(1)),
            ("metadata", json!([])),
            ("span_id", json!("0123")),
            ("trace_id", json!(1)),
            ("time", json!(true)),
        ] {
            let mut bad = log("bad");
            bad[name] = wrong;
            let taken = take(&json!([log("a"), bad, log("c")])).unwrap();
            assert_eq!((taken.accepted, taken.errors.count), (2, 1), "{name}");
            let error = &taken.errors.first[0];
            assert_eq!((error.row, error.reason), (1, RejectReason::Rule));
            assert!(error.text.starts_with(name), "{error:?}");
        }
    }

    #[test]
    fn a_single_log_is_taken_as_fluent_bit_writes_it() {
        let sent = json!({
            "date": 1_700_000_001.5, "log": "line", "container_name": "web", "level": "WARNING", "container_id": "c1",
        });
        assert_eq!(
            parts(&take_single(&sent).rows[0]),
            json!(["2023-11-14 22:13:21.500000000", "web", "warn", 13, "line", "", "", {"container_id": "c1"}])
        );
        let bare = take_single(&json!({"message": "m", "level": "40"}));
        assert_eq!(
            parts(&bare.rows[0]),
            json!([
                "2023-11-14 22:13:20.123456789",
                "unknown",
                "warn",
                13,
                "m",
                "",
                "",
                {}
            ])
        );
        assert_eq!(take_single(&json!({"log": ""})).errors.count, 1);
    }
}
