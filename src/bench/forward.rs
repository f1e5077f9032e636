//! Writes rows as one message of Fluent Forward's packed mode, whose chunk is to be acknowledged.

use serde_json::{Map, Value};

use super::dialect::Body;
use super::id::RunId;
use super::rows::Row;
use crate::forward::msgpack::put_text;

/// What all messages are tagged with.
const TAG: &[u8] = b"bench";

/// A message of `rows` with places for their ids, and behind them for one more, its chunk.
pub(super) fn body(rows: &[Row], run: &RunId) -> Body {
    let id = run.id(0);
    let mut entries = Vec::new();
    for row in rows {
        let mut record = Map::new();
        for (name, text) in [
            ("level", row.level),
            ("service", &row.service),
            ("message", &row.message),
            ("trace_id", &id),
        ] {
            record.insert(name.to_owned(), text.into());
        }
        for (name, value) in &row.attributes {
            record.insert((*name).to_owned(), value.clone());
        }
        let (seconds, milliseconds) = (row.unix_ms / 1000, row.unix_ms % 1000);
        put_entry(
            seconds as u32,
            milliseconds as u32 * 1_000_000,
            record,
            &mut entries,
        );
    }
    // An array of tag, entries as `bin 32`, and a map of one option.
    let mut message = vec![0x93];
    put_text(TAG, &mut message);
    message.push(0xc6);
    let len = u32::try_from(entries.len()).expect("a body is far below 4 GiB");
    message.extend(len.to_be_bytes());
    message.append(&mut entries);
    message.push(0x81);
    put_text(b"chunk", &mut message);
    put_text(id.as_bytes(), &mut message);
    Body::with_ids_of(run, message)
}

/// Appends an entry: an EventTime and a record.
pub(super) fn put_entry(seconds: u32, nanos: u32, record: Map<String, Value>, out: &mut Vec<u8>) {
    out.extend([0x92, 0xd7, 0x00]);
    out.extend(seconds.to_be_bytes());
    out.extend(nanos.to_be_bytes());
    put_value(&Value::Object(record), out);
}

fn put_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(truth) => out.push(0xc2 + u8::from(*truth)),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(small @ ..128), _) => out.push(small as u8),
            (_, Some(number)) => {
                out.push(0xd3);
                out.extend(number.to_be_bytes());
            }
            _ => {
                out.push(0xcb);
                out.extend(number.as_f64().unwrap_or_default().to_be_bytes());
            }
        },
        Value::String(text) => put_text(text.as_bytes(), out),
        Value::Array(values) => {
            out.push(0xdd);
            out.extend((values.len() as u32).to_be_bytes());
            values.iter().for_each(|value| put_value(value, out));
        }
        Value::Object(members) => {
            out.push(0xdf);
            out.extend((members.len() as u32).to_be_bytes());
            for (key, value) in members {
                put_text(key.as_bytes(), out);
                put_value(value, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::write_ids;
    use super::super::rows::Rows;
    use super::*;
    use crate::forward::msgpack::Extent;
    use crate::forward::{Compression, Entries, Rows as EntryRows, parse};
    use crate::limits::Limits;

    #[test]
    fn writes_an_entry_for_every_row_and_a_chunk_behind_their_ids() {
        let run = RunId::random();
        let mut source = Rows::generated(3, 1_700_000_000_000);
        let rows: Vec<Row> = (0..20).map(|_| source.next_row()).collect();
        let mut body = body(&rows, &run);
        write_ids(&mut body.bytes, &body.ids, 95, body.form);
        let event = parse(&body.bytes).unwrap().expect("it is an event");
        assert_eq!(
            event.chunk.map(|chunk| chunk.of(&body.bytes)),
            Some(run.id(115).as_bytes())
        );
        let Entries::Packed(packed, Compression::None) = event.entries else {
            panic!("{:?}", event.entries);
        };
        let (packed, mut spans) = (packed.of(&body.bytes), Vec::new());
        EntryRows::list(packed, &Limits::default(), &mut Extent::new(), &mut spans, 100).unwrap();
        assert_eq!(spans.len(), 20);
        for (at, span) in spans.iter().enumerate() {
            let entry = span.of(packed);
            let id = run.id(95 + at as u64);
            assert!(memchr::memmem::find(entry, id.as_bytes()).is_some(), "{at}");
        }
    }
}
