//! Whatever a stream holds, however it is cut, each message of it is one row, and none is empty or too long.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::limits::Limits;
use ringhouse::syslog::{Framer, Messages};
use ringhouse_fuzz::Table;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { line_bytes_max: 1024, chunk_bytes: 4096, ..Limits::default() };
    let mut table = Table::new(&limits);
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
        table.take(&messages);
        let errors = &table.errors;
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        assert!(spans.iter().all(|span| (1..=limits.line_bytes_max).contains(&span.len())));
        start += listed.consumed;
        assert!(end - start <= limits.line_bytes_max + 11, "{} bytes are held", end - start);
        if end == stream.len() {
            break;
        }
    }
});
