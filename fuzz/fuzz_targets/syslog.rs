//! Whatever a stream holds, however it is cut, each message of it is one row, and none is empty or too long.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringhouse::batch::{RowInput, TableSink};
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::json::{Parser, RowErrors};
use ringhouse::limits::Limits;
use ringhouse::mapping::MappingConfig;
use ringhouse::schema::{TableName, TableSchema};
use ringhouse::syslog::{Framer, Messages};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { line_bytes_max: 1024, chunk_bytes: 4096, ..Limits::default() };
    let name = TableName { database: "d".into(), table: "t".into() };
    let schema = Arc::new(TableSchema::default_table(name));
    let mut sink = TableSink::new(schema, &MappingConfig::default(), &limits);
    let (mut parser, mut errors) = (Parser::new(&limits), RowErrors::new(&limits));
    // The first byte says how the stream is cut.
    let Some((step, stream)) = bytes.split_first() else { return };
    let step = usize::from(*step) + 1;
    let mut framer = Framer::new(&limits);
    let (mut start, mut end) = (0, 0);
    loop {
        end = (end + step).min(stream.len());
        let mut spans = Vec::new();
        let listed = framer.list(&stream[start..end], end == stream.len(), &mut spans, usize::MAX);
        let messages = Messages { bytes: &stream[start..end], spans: &spans };
        let mut at = 0;
        while at < messages.end() {
            let pushed = messages.push(at, &mut sink, &mut parser, 0, 1_700_000_000_000_000_000, &mut errors);
            at += pushed.consumed;
            if let Some(batch) = pushed.blocked_on {
                sink.seal(batch, &mut FrameEncoder::new(), &mut Vec::new());
            }
        }
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        assert!(spans.iter().all(|span| (1..=limits.line_bytes_max).contains(&span.len())));
        start += listed.consumed;
        assert!(end - start <= limits.line_bytes_max + 11, "{} bytes are held", end - start);
        if end == stream.len() {
            break;
        }
    }
});
