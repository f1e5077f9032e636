//! Whatever a disk holds, keys are read from it up to an end, and what was read is written and read as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::idempotency::record::read_records;

fuzz_target!(|bytes: &[u8]| {
    let reading = read_records(bytes);
    assert_eq!(read_records(&bytes[..reading.end]), reading);
    let mut again = Vec::new();
    reading
        .records
        .iter()
        .for_each(|record| record.encode(&mut again));
    let written = read_records(&again);
    assert_eq!(
        (written.records, written.skipped, written.end),
        (reading.records, 0, again.len())
    );
});
