//! What the generator's threads count, while they run and at their end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use super::process::ThreadTime;

/// Least duration the latency histograms tell apart, in nanoseconds.
const LOWEST_NS: u64 = 1_000;

/// Longest, in nanoseconds: an hour. A longer one is recorded as this.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// Digits that are kept: every value is within 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram for latencies.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS).expect("the bounds are in order")
}

/// What the threads tell while they run, and how they are stopped. Plain counts, each meaningful alone: relaxed.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rows acknowledged.
    pub rows: AtomicU64,
    /// Requests acknowledged.
    pub requests: AtomicU64,
    /// Replies that refused a request for now.
    pub refused: AtomicU64,
    /// Nanoseconds by which the latest request was sent after it was due.
    pub behind_ns: AtomicU64,
    stop: AtomicBool,
    /// The first thing that went wrong.
    failure: Mutex<Option<String>>,
}

impl Progress {
    /// Ends the run now. The first reason is kept.
    pub fn fail(&self, reason: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(reason);
        self.stop();
    }

    /// Ends the run now, without a reason of its own.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the run is to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Why the run failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What one thread, or all together, have sent and measured. Latencies in nanoseconds.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Rows sent, warm-up included.
    pub rows_sent: u64,
    /// Rows acknowledged, warm-up included.
    pub rows_acknowledged: u64,
    /// Rows acknowledged in the measured time.
    pub rows: u64,
    /// Requests acknowledged in the measured time.
    pub requests: u64,
    /// Bytes of their bodies before compression.
    pub body_bytes: u64,
    /// Bytes of those requests on the wire.
    pub wire_bytes: u64,
    /// Replies that refused a request for now; it was sent again.
    pub refused: u64,
    /// Connections that the server ended behind a reply, each opened anew.
    pub reopened: u64,
    /// Requests that were due before the end and never sent, because no connection was free.
    pub unsent: u64,
    /// Due time to whole reply, of the requests due in the measured time.
    pub reply: Histogram<u64>,
    /// Due time to the start of sending, of the same requests; in an open loop.
    pub late: Histogram<u64>,
    /// Times of the generator's threads.
    pub time: ThreadTime,
}

impl Measured {
    /// Nothing yet.
    pub fn new() -> Measured {
        Measured {
            rows_sent: 0,
            rows_acknowledged: 0,
            rows: 0,
            requests: 0,
            body_bytes: 0,
            wire_bytes: 0,
            refused: 0,
            reopened: 0,
            unsent: 0,
            reply: histogram(),
            late: histogram(),
            time: ThreadTime::default(),
        }
    }

    /// Adds what another thread has.
    pub fn add(&mut self, other: &Measured) {
        self.rows_sent += other.rows_sent;
        self.rows_acknowledged += other.rows_acknowledged;
        self.rows += other.rows;
        self.requests += other.requests;
        self.body_bytes += other.body_bytes;
        self.wire_bytes += other.wire_bytes;
        self.refused += other.refused;
        self.reopened += other.reopened;
        self.unsent += other.unsent;
        let same = "both have the same bounds";
        self.reply.add(&other.reply).expect(same);
        self.late.add(&other.late).expect(same);
        self.time.cpu += other.time.cpu;
        self.time.waited += other.time.waited;
    }
}

impl Default for Measured {
    fn default() -> Measured {
        Measured::new()
    }
}
