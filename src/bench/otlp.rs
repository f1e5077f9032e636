//! Writes rows as an OTLP request, as an SDK or a collector batches them: a resource for each service.

use serde_json::Value;

use super::dialect::Body;
use super::id::{IdForm, RunId};
use super::rows::Row;
use crate::protobuf::{put_bytes_field, put_fixed64_field, put_varint_field};
use crate::severity;

/// In place of a row's number until its body is whole, so that it is found there; no number is written like it.
const MARK: [u8; 8] = [0xee; 8];

/// What a log record says.
pub(super) struct Record {
    pub unix_ns: u64,
    pub level: String,
    pub service: String,
    pub message: String,
    pub trace_id: Vec<u8>,
    pub attributes: Vec<(String, Value)>,
}

/// A request of `rows` with places for their ids, in the order of their services.
pub(super) fn body(rows: &[Row], run: &RunId) -> Body {
    let record = |row: &Row| Record {
        unix_ns: row.unix_ms * 1_000_000,
        level: row.level.to_owned(),
        service: row.service.clone(),
        message: row.message.clone(),
        trace_id: [run.packed_prefix(), MARK].concat(),
        attributes: (row.attributes.iter())
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    };
    let mut bytes = request(&rows.iter().map(record).collect::<Vec<_>>());
    let ids: Vec<usize> = memchr::memmem::find_iter(&bytes, &MARK).collect();
    assert_eq!(ids.len(), rows.len(), "no text holds bytes that UTF-8 does not");
    for at in &ids {
        bytes[*at..*at + MARK.len()].fill(0);
    }
    Body {
        bytes,
        ids,
        form: IdForm::Packed,
    }
}

/// An `ExportLogsServiceRequest`: a resource for each service.
pub(super) fn request(records: &[Record]) -> Vec<u8> {
    let mut records: Vec<&Record> = records.iter().collect();
    records.sort_by(|one, other| one.service.cmp(&other.service));
    let mut bytes = Vec::new();
    for of_service in records.chunk_by(|one, other| one.service == other.service) {
        let mut resource = Vec::new();
        let service = Value::from(of_service[0].service.as_str());
        put_attribute(1, "service.name", &service, &mut resource);
        let mut scope_logs = Vec::new();
        let mut scope = Vec::new();
        put_bytes_field(1, b"bench", &mut scope);
        put_bytes_field(1, &scope, &mut scope_logs);
        for record in of_service {
            put_bytes_field(2, &log_record(record), &mut scope_logs);
        }
        let mut resource_logs = Vec::new();
        put_bytes_field(1, &resource, &mut resource_logs);
        put_bytes_field(2, &scope_logs, &mut resource_logs);
        put_bytes_field(1, &resource_logs, &mut bytes);
    }
    bytes
}

fn log_record(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    put_fixed64_field(1, record.unix_ns, &mut out);
    if let Some(number) = severity::number_of_word(record.level.as_bytes()) {
        put_varint_field(2, u64::from(number), &mut out);
    }
    put_bytes_field(3, record.level.as_bytes(), &mut out);
    let mut message = Vec::new();
    put_bytes_field(1, record.message.as_bytes(), &mut message);
    put_bytes_field(5, &message, &mut out);
    for (name, value) in &record.attributes {
        put_attribute(6, name, value, &mut out);
    }
    put_bytes_field(9, &record.trace_id, &mut out);
    out
}

/// A `KeyValue` as field `number`.
fn put_attribute(number: u32, key: &str, value: &Value, out: &mut Vec<u8>) {
    let mut any = Vec::new();
    match value {
        Value::Bool(truth) => put_varint_field(2, u64::from(*truth), &mut any),
        Value::Number(number) => match number.as_i64() {
            Some(number) => put_varint_field(3, number as u64, &mut any),
            None => put_fixed64_field(4, number.as_f64().unwrap_or_default().to_bits(), &mut any),
        },
        Value::String(text) => put_bytes_field(1, text.as_bytes(), &mut any),
        other => put_bytes_field(1, other.to_string().as_bytes(), &mut any),
    }
    let mut attribute = Vec::new();
    put_bytes_field(1, key.as_bytes(), &mut attribute);
    put_bytes_field(2, &any, &mut attribute);
    put_bytes_field(number, &attribute, out);
}

#[cfg(test)]
mod tests {
    use super::super::id::write_ids;
    use super::super::rows::Rows;
    use super::*;
    use crate::otlp::Message;

    #[test]
    fn writes_a_record_for_every_row_with_its_id() {
        let run = RunId::random();
        let mut source = Rows::generated(3, 1_700_000_000_000);
        let rows: Vec<Row> = (0..20).map(|_| source.next_row()).collect();
        let mut body = body(&rows, &run);
        write_ids(&mut body.bytes, &body.ids, 95, body.form);
        assert_eq!(Message::parse(&body.bytes).unwrap().records(), 20);
        for (at, id) in body.ids.iter().enumerate() {
            let packed = &body.bytes[id - 8..id + 8];
            let id: String = packed.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(id, run.id(95 + at as u64));
        }
    }
}
