//! Whatever a body holds, its rows are accepted or rejected one by one, the same however it arrives.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringhouse::batch::TableSink;
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::json::{Parser, RowErrors, RowsText, Shape, Split, Splitter};
use ringhouse::limits::Limits;
use ringhouse::mapping::{MappingConfig, Reading, Vocabulary};
use ringhouse::schema::{TableName, TableSchema};

const NOW_NS: i64 = 1_700_000_000_000_000_000;

// The first byte is the size of the pieces the body arrives in.
fuzz_target!(|input: &[u8]| {
    let [piece, body @ ..] = input else { return };
    let limits = Limits { line_bytes_max: 4096, chunk_bytes: 1024, ..Limits::default() };
    for (shape, vocabulary) in [
        (Shape::Unknown, Vocabulary::Own),
        (Shape::Objects, Vocabulary::SplunkEvent),
        (Shape::Unknown, Vocabulary::Datadog),
        (Shape::Unknown, Vocabulary::Cribl),
    ] {
        let reading = Reading { vocabulary, ..Reading::default() };
        let whole = take(shape, reading, body, body.len().max(1), &limits);
        let cut = take(shape, reading, body, 1 + usize::from(*piece), &limits);
        // How a body is cut into chunks decides which lines are parsed as one text. Lines that are invalid alone and valid
        // together may then be accepted (docs/ARCHITECTURE.md); the number of rows is the same all the same.
        assert_eq!(whole.rows, cut.rows, "rows differ with the pieces");
    }
});

struct Taken {
    rows: u64,
}

fn take(shape: Shape, reading: Reading, body: &[u8], piece: usize, limits: &Limits) -> Taken {
    let name = TableName { database: "d".into(), table: "t".into() };
    let schema = Arc::new(TableSchema::default_table(name));
    let mut sink = TableSink::new(schema, &MappingConfig::default(), limits);
    sink.read_as(reading);
    let mut parser = Parser::new(limits);
    let mut encoder = FrameEncoder::new();
    let mut frames = Vec::new();
    let mut errors = RowErrors::new(limits);
    let mut splitter = Splitter::of(shape, limits);
    let (mut start, mut received) = (0, 0);
    let (mut rows, mut accepted, mut sealed) = (0, 0, 0);
    let mut seal = |sink: &mut TableSink, batch: usize| {
        frames.clear();
        let block = sink.seal(batch, &mut encoder, &mut frames);
        assert!(block.rows > 0 && block.partitions.count() <= limits.partitions_per_insert_max);
        sealed += u64::from(block.rows);
    };
    loop {
        match splitter.next(&body[start..received], received == body.len()) {
            Split::Rows(found) => {
                let text = found.text(&body[start..received]);
                let mut at = 0;
                while at < text.bytes.len() {
                    let rest = RowsText { bytes: &text.bytes[at..], form: text.form };
                    let pushed = sink.push(&mut parser, rest, rows, NOW_NS, &mut errors);
                    at += pushed.consumed;
                    rows += pushed.rows;
                    accepted += pushed.accepted;
                    if let Some(batch) = pushed.blocked_on {
                        seal(&mut sink, batch);
                    }
                    let full = sink.open().map(|(batch, _)| batch).find(|&batch| sink.is_full(batch));
                    if let Some(batch) = full {
                        seal(&mut sink, batch);
                    }
                }
                start += found.consumed;
            }
            Split::NeedMore { consumed } => {
                start += consumed;
                assert!(received < body.len(), "the end of the body was told");
                received = body.len().min(received + piece);
            }
            Split::TooLong { consumed } => {
                start += consumed;
                rows += 1;
            }
            Split::BodyError(_) | Split::Done => break,
        }
    }
    while let Some(batch) = { sink.open().next().map(|(batch, _)| batch) } {
        seal(&mut sink, batch);
    }
    assert_eq!(accepted, sealed, "accepted rows are in blocks");
    assert!(accepted + errors.count <= rows, "a row is accepted or rejected once");
    Taken { rows }
}
