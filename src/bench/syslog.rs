//! Writes rows as counted messages of RFC 5424 on end, ids and attributes as structured data.

use std::fmt::Write;

use serde_json::Value;

use super::dialect::Body;
use super::id::RunId;
use super::rows::Row;
use crate::severity;

/// What a message says; `-` for a part that it has not.
pub(super) struct Message<'m> {
    pub time: &'m str,
    pub level: &'m str,
    pub service: &'m str,
    /// Parameters of its one element of structured data, each by [`put_parameter`].
    pub data: &'m str,
    pub text: &'m str,
}

/// As many messages as `rows`, with places for their ids.
pub(super) fn body(rows: &[Row], run: &RunId) -> Body {
    let (mut stream, mut data) = (String::new(), String::new());
    for row in rows {
        data.clear();
        put_parameter("trace_id", &run.id(0).into(), &mut data);
        for (name, value) in &row.attributes {
            put_parameter(name, value, &mut data);
        }
        let message = Message {
            time: &row.timestamp(),
            level: row.level,
            service: &row.service,
            data: &data,
            text: &row.message,
        };
        put_message(&message, &mut stream);
    }
    Body::with_ids_of(run, stream.into_bytes())
}

/// Appends a message behind its length (RFC 6587 section 3.4.1).
pub(super) fn put_message(message: &Message<'_>, stream: &mut String) {
    // Of the levels that logs have, those of syslog's numbers that the server makes the same severity of.
    let severity = match severity::number_of_word(message.level.as_bytes()) {
        Some(21..) => 0,
        Some(17..) => 3,
        Some(13..) => 4,
        Some(9..) => 6,
        _ => 7,
    };
    let data = match message.data {
        "" => "-".to_owned(),
        data => format!("[a{data}]"),
    };
    let Message {
        time, service, text, ..
    } = message;
    let text = format!("<{}>1 {time} host {service} 42 - {data} {text}", 128 + severity);
    // Writing into a String cannot fail.
    let _ = write!(stream, "{} {text}", text.len());
}

/// Appends a parameter of structured data, escaped as RFC 5424 section 6.3.3 says.
pub(super) fn put_parameter(name: &str, value: &Value, data: &mut String) {
    let value = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace(']', "\\]");
    // Writing into a String cannot fail.
    let _ = write!(data, " {name}=\"{value}\"");
}

#[cfg(test)]
mod tests {
    use super::super::id::write_ids;
    use super::super::rows::Rows;
    use super::*;
    use crate::limits::Limits;
    use crate::syslog::Framer;

    #[test]
    fn writes_a_message_for_every_row_with_its_id() {
        let run = RunId::random();
        let mut source = Rows::generated(3, 1_700_000_000_000);
        let rows: Vec<Row> = (0..20).map(|_| source.next_row()).collect();
        let mut body = body(&rows, &run);
        write_ids(&mut body.bytes, &body.ids, 95, body.form);
        let mut spans = Vec::new();
        let listed = Framer::new(&Limits::default()).list(&body.bytes, true, &mut spans, 100);
        assert_eq!((listed.consumed, spans.len()), (body.bytes.len(), 20));
        for (at, span) in spans.iter().enumerate() {
            let message = std::str::from_utf8(span.of(&body.bytes)).unwrap();
            let id = format!("[a trace_id=\"{}\"", run.id(95 + at as u64));
            assert!(message.contains(&id), "{message}");
            assert!(message.ends_with(&rows[at].message), "{message}");
        }
    }
}
