//! The lines of an input as syslog and Fluent Forward send them.

use serde_json::{Map, Value};

use super::super::forward::put_entry;
use super::super::syslog::{Message, put_message, put_parameter};
use crate::batch::Span;
use crate::forward::msgpack::Extent;
use crate::forward::{Rows, Shape};
use crate::limits::Limits;
use crate::syslog::{Framer, Messages};
use crate::timestamp::{self, DateCache};

/// Messages that were framed, or entries that were listed.
pub struct Framed {
    bytes: Vec<u8>,
    /// Found once more in every pass, as they would be on a connection.
    spans: Vec<Span>,
}

/// Each line as a message of RFC 5424 in a stream of counted ones: its service, time and level in the header, its message as the
/// text, the rest as structured data.
///
/// # Panics
/// When a line is no object.
pub fn syslog_stream(text: &[u8]) -> Framed {
    let mut stream = String::new();
    for mut row in rows(text) {
        let mut take = |key: &str| match row.remove(key) {
            Some(Value::String(text)) if !text.is_empty() => text,
            _ => "-".to_owned(),
        };
        let (time, level, service) = (take("timestamp"), take("level"), take("service"));
        let body = take("message");
        let mut data = String::new();
        for (name, value) in &row {
            put_parameter(name, value, &mut data);
        }
        let message = Message {
            time: &time,
            level: &level,
            service: &service,
            data: &data,
            text: &body,
        };
        put_message(&message, &mut stream);
    }
    Framed {
        bytes: stream.into_bytes(),
        spans: Vec::new(),
    }
}

impl Framed {
    /// Frames the stream again and shows its messages to `take`, up to `count` at once.
    pub fn each_syslog(&mut self, limits: &Limits, count: usize, mut take: impl FnMut(Messages<'_>)) {
        let mut framer = Framer::new(limits);
        let mut at = 0;
        while at < self.bytes.len() {
            self.spans.clear();
            let bytes = &self.bytes[at..];
            at += framer.list(bytes, true, &mut self.spans, count).consumed;
            take(Messages {
                bytes,
                spans: &self.spans,
            });
        }
    }

    /// Lists the entries again and shows them to `take`, up to `count` at once.
    ///
    /// # Panics
    /// When they are no entries.
    pub fn each_forward(&mut self, limits: &Limits, count: usize, mut take: impl FnMut(Rows<'_>)) {
        let (mut at, mut extent) = (0, Extent::new());
        while at < self.bytes.len() {
            self.spans.clear();
            let bytes = &self.bytes[at..];
            at += Rows::list(bytes, limits, &mut extent, &mut self.spans, count)
                .expect("the entries were made here");
            take(Rows {
                bytes,
                spans: &self.spans,
                shape: Shape::Entry,
                tag: b"bench",
            });
        }
    }
}

/// Each line as an entry of Forward's packed mode: its time as an EventTime, all else as the record.
///
/// # Panics
/// When a line is no object.
pub fn forward_entries(text: &[u8]) -> Framed {
    let mut bytes = Vec::new();
    let mut dates = DateCache::default();
    for mut row in rows(text) {
        let time = match row.remove("timestamp") {
            Some(Value::String(time)) => timestamp::parse(time.as_bytes(), &mut dates),
            _ => None,
        };
        let (seconds, nanos) = time.map_or((0, 0), |time| (time.seconds as u32, time.nanos));
        put_entry(seconds, nanos, row, &mut bytes);
    }
    Framed {
        bytes,
        spans: Vec::new(),
    }
}

fn rows(text: &[u8]) -> impl Iterator<Item = Map<String, Value>> + '_ {
    let lines = text.trim_ascii_end().split(|byte| *byte == b'\n');
    lines.map(|line| match serde_json::from_slice(line) {
        Ok(Value::Object(row)) => row,
        _ => panic!("a line is an object"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::RowInput;

    #[test]
    fn each_line_is_a_message_and_an_entry() {
        let text = b"{\"timestamp\":\"2023-11-14T22:13:20Z\",\"level\":\"warn\",\"message\":\"a\\\"b\",\"n\":1}\n{\"x\":\"]\"}\n";
        let limits = Limits::default();
        let mut count = 0;
        syslog_stream(text).each_syslog(&limits, 1, |messages| {
            let message = messages.spans[0].of(messages.bytes);
            assert!(message.starts_with(b"<1"), "{message:?}");
            count += messages.end();
        });
        forward_entries(text).each_forward(&limits, 9, |rows| count += rows.end());
        assert_eq!(count, 4);
    }
}
