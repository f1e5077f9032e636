//! Whatever a block holds, it is refused or can be printed and cut, and its halves have the rows of the whole.

#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::column::rows::Rows;

// The input goes into frames here: their checksum is not to be guessed.
fuzz_target!(|block: &[u8]| {
    if block.is_empty() {
        return;
    }
    let (mut encoder, mut frames) = (FrameEncoder::new(), Vec::new());
    encoder.put(block, &mut frames);
    encoder.finish(&mut frames);
    let Ok(rows) = Rows::read(&frames) else { return };
    let whole = json(&rows);
    let middle = rows.len() / 2;
    if middle > 0 {
        let mut half = |range: Range<usize>| {
            let mut frames = Vec::new();
            rows.cut(range, &mut encoder, &mut frames);
            json(&Rows::read(&frames).expect("a part of a block is a block"))
        };
        assert_eq!([half(0..middle), half(middle..rows.len())].concat(), whole);
    }
});

/// Every row on a line of its own.
fn json(rows: &Rows) -> Vec<u8> {
    let mut lines = Vec::new();
    for row in 0..rows.len() {
        rows.put_json(row, &mut lines);
        lines.push(b'\n');
    }
    lines
}
