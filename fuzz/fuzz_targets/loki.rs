//! Whatever a push request holds, in either encoding it is refused or each of its entries is accepted or rejected once.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringhouse::batch::{RowInput, TableSink};
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::json::{MessageParser, Parser, RowErrors};
use ringhouse::limits::Limits;
use ringhouse::mapping::MappingConfig;
use ringhouse::schema::{TableName, TableSchema};
use ringhouse::loki::{JsonMessage, Message};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { line_bytes_max: 4096, chunk_bytes: 4096, depth_max: 8, ..Limits::default() };
    if let Ok(message) = Message::parse(bytes) {
        take(&message, &limits);
    }
    let _ = MessageParser::new(&limits).parse(bytes, |nodes| {
        if let Ok(message) = JsonMessage::parse(nodes) {
            take(&message, &limits);
        }
    });
});

fn take(message: &impl RowInput, limits: &Limits) {
    let name = TableName { database: "d".into(), table: "t".into() };
    let schema = Arc::new(TableSchema::default_table(name));
    let mut sink = TableSink::new(schema, &MappingConfig::default(), limits);
    let (mut parser, mut errors) = (Parser::new(limits), RowErrors::new(limits));
    let (mut at, mut accepted) = (0, 0);
    while at < message.end() {
        let pushed = message.push(at, &mut sink, &mut parser, at as u64, 1_700_000_000_000_000_000, &mut errors);
        assert!(pushed.rows > 0 || pushed.blocked_on.is_some(), "no end in sight");
        at += pushed.consumed;
        accepted += pushed.accepted;
        if let Some(batch) = pushed.blocked_on {
            sink.seal(batch, &mut FrameEncoder::new(), &mut Vec::new());
        }
    }
    assert_eq!(accepted + errors.count, message.end() as u64);
}
