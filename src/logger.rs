//! Logger: one log a request, `{timestamp, level, message, resourceID}` in JSON or a `LogRequest` in protobuf.
//!
//! | field | column |
//! |---|---|
//! | `timestamp` | Timestamp; optional: the receive time |
//! | `level` | SeverityText, SeverityNumber |
//! | `message` | Body |
//! | `resourceID`, `resource_id` | LogAttributes `resourceID` |
//!
//! Names are taken in any case, as Go does; other members are attributes. Nothing is required: a missing text is empty.

use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::Node;
use crate::message::objects::{ObjectMessage, Objects, put_attribute, text_at};
use crate::message::tape::{Elements, Members, put_text};
use crate::message::{self, Places, Records, Room, WrongStructure, text_of};
use crate::protobuf::{Fields, Value};

/// A log in JSON.
pub type JsonMessage<'b> = ObjectMessage<'b, JsonLog>;

/// A log in protobuf.
pub type Message<'b> = message::Message<'b, LogRequest<'b>>;

/// How a log is written in JSON.
#[derive(Debug, Clone, Copy)]
pub struct JsonLog;

impl Objects for JsonLog {
    fn records(nodes: &[Node<'_>]) -> Result<Elements, WrongStructure> {
        Elements::one(nodes).ok_or(WrongStructure::Type {
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
        for (name, value) in Members::of(nodes, record).ok_or(RowRefusal::Field)? {
            let is = |field: &str| name.eq_ignore_ascii_case(field);
            let text = |rule| text_at(nodes, value, rule);
            if is("timestamp") {
                match text("timestamp must be a text")? {
                    "" => {}
                    time => row.put_node(places.timestamp, Node::String(time))?,
                }
            } else if is("level") {
                row.put_node(places.severity_text, Node::String(text("level must be a text")?))?;
            } else if is("message") {
                row.put_node(places.body, Node::String(text("message must be a text")?))?;
            } else {
                let name = if is("resourceID") || is("resource_id") {
                    text("resourceID must be a text")?;
                    "resourceID"
                } else {
                    name
                };
                put_attribute(nodes, (name, value), places, room, row)?;
            }
        }
        Ok(())
    }
}

/// One log, while it is still to come.
#[derive(Debug, Clone, Copy)]
pub struct LogRequest<'b>(Option<&'b [u8]>);

impl<'b> Message<'b> {
    /// Takes the bytes of a `LogRequest`: 1 timestamp, 2 level, 3 message, 4 resource_id, all texts.
    pub fn log_request(bytes: &'b [u8]) -> Message<'b> {
        Message::new(1, LogRequest(Some(bytes)))
    }
}

impl<'b> Records<'b> for LogRequest<'b> {
    const PASS_BY_PASS: bool = true;

    type Record = &'b [u8];
    type Shared = ();

    fn next(&mut self) -> Option<&'b [u8]> {
        self.0.take()
    }

    fn put_back(&mut self, log: &&'b [u8]) {
        self.0 = Some(*log);
    }

    fn bytes(&self, log: &&'b [u8], (): &()) -> usize {
        log.len()
    }

    fn put<'t>(
        &self,
        log: &&'b [u8],
        (): &mut (),
        places: &Places,
        _: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't,
    {
        for field in Fields::new(log) {
            let (number, Value::Bytes(bytes)) = field.map_err(|_| RowRefusal::Protobuf)? else {
                continue;
            };
            let index = put_text(text_of(bytes)?, row);
            match number {
                _ if index == 0 => {}
                1 => row.put(places.timestamp, index)?,
                2 => row.put(places.severity_text, index)?,
                3 => row.put(places.body, index)?,
                4 => row.put_member(places.log_attributes, "resourceID", index)?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::json::{MessageParser, RejectReason};
    use crate::limits::Limits;
    use crate::message::testing::{Taken, default_table, proto, take_all};

    fn take(text: &str) -> Result<Taken, String> {
        let limits = Limits::default();
        let taken = MessageParser::new(&limits).parse(text.as_bytes(), |nodes| {
            let message = JsonMessage::parse(nodes).map_err(|wrong| wrong.to_string())?;
            Ok(take_all(&default_table(), &limits, &message))
        });
        taken.map_err(|fault| fault.to_string())?
    }

    fn parts(taken: Taken) -> Json {
        assert_eq!(taken.errors.count, 0, "{:?}", taken.errors.first);
        let row = &taken.rows[0];
        json!([
            row["Timestamp"],
            row["SeverityText"],
            row["SeverityNumber"],
            row["Body"],
            row["LogAttributes"]
        ])
    }

    #[test]
    fn a_log_is_a_row_in_both_encodings() {
        let expected =
            json!(["2023-09-15 08:00:00.000000000", "error", 17, "it broke", {"resourceID": "server-1"}]);
        for text in [
            r#"{"timestamp":"2023-09-15T08:00:00Z","level":"error","message":"it broke","resourceID":"server-1"}"#,
            r#"{"Timestamp":"2023-09-15T10:00:00+02:00","LEVEL":"error","Message":"it broke","ResourceID":"server-1"}"#,
        ] {
            assert_eq!(parts(take(text).unwrap()), expected);
        }
        let bytes = proto()
            .bytes(1, "2023-09-15T08:00:00Z")
            .bytes(2, "error")
            .bytes(3, "it broke")
            .bytes(4, "server-1")
            .0;
        let message = Message::log_request(&bytes);
        assert_eq!(
            parts(take_all(&default_table(), &Limits::default(), &message)),
            expected
        );
    }

    #[test]
    fn what_is_missing_is_empty_and_what_is_unknown_an_attribute() {
        let received = "2023-11-14 22:13:20.123456789";
        assert_eq!(parts(take("{}").unwrap()), json!([received, "", 0, "", {}]));
        let row = parts(take(r#"{"message":"m","extra":{"n":1}}"#).unwrap());
        assert_eq!(row, json!([received, "", 0, "m", {"extra": r#"{"n":1}"#}]));
    }

    #[test]
    fn what_is_no_log_is_refused() {
        assert_eq!(
            take("[]").err().unwrap(),
            "not a log: the body is of the wrong type"
        );
        for (bad, reason) in [
            (r#"{"level":3}"#, RejectReason::Rule),
            (r#"{"timestamp":"now"}"#, RejectReason::Time),
        ] {
            assert_eq!(take(bad).unwrap().errors.first[0].reason, reason, "{bad}");
        }
        let damaged = Message::log_request(b"\x0a\x05four");
        let taken = take_all(&default_table(), &Limits::default(), &damaged);
        assert_eq!(taken.errors.first[0].reason, RejectReason::Protobuf);
    }
}
