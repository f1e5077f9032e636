//! Writes rows as a Loki push request, as an agent batches them: a stream for each service.
//!
//! Its block of Snappy is one literal, so that ids can be written into it: inflating it is a copy, and it is as long on the wire as
//! it is inside.

use serde_json::Value;

use super::dialect::Body;
use super::id::{ID_BYTES, RunId};
use super::rows::Row;
use crate::protobuf::{put_bytes_field, put_varint_field};

/// In place of a row's number until its body is whole, so that it is found there; no text is written like it.
const MARK: [u8; ID_BYTES] = [0xee; ID_BYTES];

/// A request of `rows` with places for their ids, in the order of their services.
pub(super) fn body(rows: &[Row], run: &RunId) -> Body {
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|one, other| one.service.cmp(&other.service));
    let mut request = Vec::new();
    for of_service in rows.chunk_by(|one, other| one.service == other.service) {
        let mut stream = Vec::new();
        let labels = format!(
            "{{service_name={}, job=\"bench\"}}",
            Value::from(of_service[0].service.as_str())
        );
        put_bytes_field(1, labels.as_bytes(), &mut stream);
        for row in of_service {
            put_bytes_field(2, &entry(row, run), &mut stream);
        }
        put_bytes_field(1, &stream, &mut request);
    }
    let mut bytes = literal(&request);
    let ids: Vec<usize> = memchr::memmem::find_iter(&bytes, &MARK).collect();
    assert_eq!(ids.len(), rows.len(), "no text holds bytes that UTF-8 does not");
    for at in &ids {
        bytes[*at..*at + ID_BYTES].fill(b'0');
    }
    Body {
        bytes,
        ids,
        ..Body::default()
    }
}

fn entry(row: &Row, run: &RunId) -> Vec<u8> {
    let (mut time, mut entry) = (Vec::new(), Vec::new());
    put_varint_field(1, row.unix_ms / 1000, &mut time);
    put_varint_field(2, row.unix_ms % 1000 * 1_000_000, &mut time);
    put_bytes_field(1, &time, &mut entry);
    put_bytes_field(2, row.message.as_bytes(), &mut entry);
    let mut put = |name: &str, value: &[u8]| {
        let mut pair = Vec::new();
        put_bytes_field(1, name.as_bytes(), &mut pair);
        put_bytes_field(2, value, &mut pair);
        put_bytes_field(3, &pair, &mut entry);
    };
    put("level", row.level.as_bytes());
    put("trace_id", &[run.prefix().as_bytes(), &MARK].concat());
    for (name, value) in &row.attributes {
        match value {
            Value::String(text) => put(name, text.as_bytes()),
            other => put(name, other.to_string().as_bytes()),
        }
    }
    entry
}

/// A block of Snappy that is one literal: its length as a varint, a tag with as many bytes of length less one, the bytes.
fn literal(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(bytes.len() + 10);
    let mut len = bytes.len();
    while len >= 0x80 {
        block.push(len as u8 | 0x80);
        len >>= 7;
    }
    block.push(len as u8);
    if let Some(last) = bytes.len().checked_sub(1) {
        block.push(63 << 2);
        block.extend_from_slice(
            &u32::try_from(last)
                .expect("a body is far below 4 GiB")
                .to_le_bytes(),
        );
        block.extend_from_slice(bytes);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::super::id::write_ids;
    use super::super::rows::Rows;
    use super::*;
    use crate::loki::Message;

    #[test]
    fn writes_an_entry_for_every_row_with_its_id() {
        let run = RunId::random();
        let mut source = Rows::generated(3, 1_700_000_000_000);
        let rows: Vec<Row> = (0..20).map(|_| source.next_row()).collect();
        let mut body = body(&rows, &run);
        write_ids(&mut body.bytes, &body.ids, 95, body.form);
        let request = snap::raw::Decoder::new().decompress_vec(&body.bytes).unwrap();
        assert_eq!(Message::parse(&request).unwrap().records(), 20);
        for (at, id) in body.ids.iter().enumerate() {
            let id = &body.bytes[id - run.prefix().len()..id + ID_BYTES];
            assert_eq!(std::str::from_utf8(id).unwrap(), run.id(95 + at as u64));
        }
    }
}
