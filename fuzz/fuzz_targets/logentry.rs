//! Whatever a message of plain entries holds, it is refused or each of them is accepted or rejected once: those of the LogEntry
//! API, of Logger and of LogTide.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::json::MessageParser;
use ringhouse::{logentry, logger, logtide};
use ringhouse_fuzz::{small_limits, take};

fuzz_target!(|bytes: &[u8]| {
    let limits = small_limits();
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
