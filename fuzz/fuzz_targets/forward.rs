//! Whatever a message holds, its end is found once, and each of its entries is accepted or rejected once.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringhouse::batch::{RowInput, TableSink};
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::forward::msgpack::Extent;
use ringhouse::forward::{Compression, Entries, Rows, Shape, parse};
use ringhouse::json::{Parser, RowErrors};
use ringhouse::limits::Limits;
use ringhouse::mapping::MappingConfig;
use ringhouse::schema::{TableName, TableSchema};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { line_bytes_max: 4096, chunk_bytes: 4096, depth_max: 8, ..Limits::default() };
    let whole = Extent::new().find(bytes, Rows::depth_max(&limits));
    let mut growing = Extent::new();
    let mut found = Ok(None);
    for len in 0..=bytes.len() {
        found = growing.find(&bytes[..len], Rows::depth_max(&limits));
        if found != Ok(None) {
            break;
        }
    }
    assert_eq!(found, whole);
    let Ok(Some(len)) = whole else { return };
    let message = &bytes[..len];
    let Ok(Some(event)) = parse(message) else { return };
    let (span, shape) = match event.entries {
        Entries::One(span) => (span, Shape::Bare),
        Entries::Listed(span) | Entries::Packed(span, Compression::None) => (span, Shape::Entry),
        Entries::Packed(..) => return,
    };
    let entries = span.of(message);
    let mut spans = Vec::new();
    match shape {
        Shape::Bare => spans.push(ringhouse::batch::Span::new(0, entries.len())),
        Shape::Entry => drop(Rows::list(entries, &limits, &mut Extent::new(), &mut spans, usize::MAX)),
    }
    let rows = Rows { bytes: entries, spans: &spans, shape, tag: event.tag.of(message) };
    let name = TableName { database: "d".into(), table: "t".into() };
    let schema = Arc::new(TableSchema::default_table(name));
    let mut sink = TableSink::new(schema, &MappingConfig::default(), &limits);
    let (mut parser, mut errors) = (Parser::new(&limits), RowErrors::new(&limits));
    let (mut at, mut accepted) = (0, 0);
    while at < rows.end() {
        let pushed = rows.push(at, &mut sink, &mut parser, at as u64, 1_700_000_000_000_000_000, &mut errors);
        assert!(pushed.rows > 0 || pushed.blocked_on.is_some(), "no end in sight");
        at += pushed.consumed;
        accepted += pushed.accepted;
        if let Some(batch) = pushed.blocked_on {
            sink.seal(batch, &mut FrameEncoder::new(), &mut Vec::new());
        }
    }
    assert_eq!(accepted + errors.count, rows.end() as u64);
});
