//! Whatever a message of plain entries holds, it is refused or each of them is accepted or rejected once: those of the LogEntry
//! API, of Logger and of LogTide.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringhouse::batch::{RowInput, TableSink};
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::json::{MessageParser, Parser, RowErrors};
use ringhouse::limits::Limits;
use ringhouse::mapping::MappingConfig;
use ringhouse::schema::{TableName, TableSchema};
use ringhouse::{logentry, logger, logtide};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { line_bytes_max: 4096, chunk_bytes: 4096, depth_max: 8, ..Limits::default() };
    take(&logentry::Message::entry(bytes), &limits);
    take(&logger::Message::log_request(bytes), &limits);
    if let Ok(message) = logentry::Message::batch(bytes) {
        take(&message, &limits);
    }
    if let Ok(message) = logentry::Message::ingest_logs_request(bytes) {
        take(&message, &limits);
    }
    let _ = MessageParser::new(&limits).parse(bytes, |nodes| {
        if let Ok(message) = logentry::JsonMessage::parse(nodes) {
            take(&message, &limits);
        }
        if let Ok(message) = logger::JsonMessage::parse(nodes) {
            take(&message, &limits);
        }
        if let Ok(message) = logtide::JsonMessage::parse(nodes) {
            take(&message, &limits);
        }
        if let Ok(message) = logtide::SingleMessage::parse(nodes) {
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
