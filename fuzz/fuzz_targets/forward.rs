//! Whatever a message holds, its end is found once, and each of its entries is accepted or rejected once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::batch::Span;
use ringhouse::forward::msgpack::Extent;
use ringhouse::forward::{Compression, Entries, Rows, Shape, parse};
use ringhouse_fuzz::{small_limits, take};

fuzz_target!(|bytes: &[u8]| {
    let limits = small_limits();
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
        Shape::Bare => spans.push(Span::new(0, entries.len())),
        Shape::Entry => drop(Rows::list(entries, &limits, &mut Extent::new(), &mut spans, usize::MAX)),
    }
    let rows = Rows { bytes: entries, spans: &spans, shape, tag: event.tag.of(message) };
    take(&rows, &limits);
});
