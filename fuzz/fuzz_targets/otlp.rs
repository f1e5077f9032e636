//! Whatever a message holds, in either encoding it is refused or each of its records is accepted or rejected once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::json::MessageParser;
use ringhouse::otlp::{JsonMessage, Message};
use ringhouse_fuzz::{small_limits, take};

fuzz_target!(|bytes: &[u8]| {
    let limits = small_limits();
    if let Ok(message) = Message::parse(bytes) {
        take(&message, &limits);
    }
    let _ = MessageParser::new(&limits).parse(bytes, |nodes| {
        if let Ok(message) = JsonMessage::parse(nodes) {
            take(&message, &limits);
        }
    });
});
