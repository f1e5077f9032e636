//! Latency histograms of each core: recorded without locks, copied out only when a reader asks.

use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

mod text;
pub use text::{dump, hgrm, log, percentiles};

/// Least duration told apart, in nanoseconds. Below it two durations may share a bucket.
pub const LOWEST_NS: u64 = 64;

/// Longest duration told apart, in nanoseconds: one hour. A longer one is recorded as this.
pub const HIGHEST_NS: u64 = 3_600_000_000_000;

/// Two significant digits: every reported value is within 1 %. A third digit would make one copy 216 KiB instead
/// of 28 and push the working set of an ingest core out of its L2 at every scrape.
const SIGNIFICANT_DIGITS: u8 = 2;

/// Memory of one histogram. Two digits need 256 sub-buckets; the first bucket holds all of them, from 64 ns up to
/// 256 * 64 ns = 16.4 us; each further one doubles that and adds the upper half. 16.4 us * 2^28 is over an hour:
/// 29 buckets, (29 + 1) * 128 counts of 8 bytes.
const HISTOGRAM_BYTES: usize = (29 + 1) * 128 * 8;

/// Memory of one core's histograms and their published copy.
pub const RECORDER_BYTES: usize = 2 * Measure::ALL.len() * HISTOGRAM_BYTES;

/// What is measured. Every value is a duration in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// First byte of a request to its reply, for requests answered at ack level `memory`.
    RequestMemory,
    /// First byte of a request to its reply, for requests answered at ack level `wal`.
    RequestWal,
    /// First byte of a request to its reply, for requests answered at ack level `inserted`.
    RequestInserted,
    /// Parsing one chunk of text into columns.
    Parse,
    /// Writing one commit to the log and its fdatasync.
    Commit,
    /// Arrival of a block's first row to the confirmation of its INSERT.
    Visible,
    /// One INSERT, from its first byte to its outcome.
    Insert,
}

impl Measure {
    /// Every measure, in the order of its discriminant.
    pub const ALL: [Measure; 7] = [
        Measure::RequestMemory,
        Measure::RequestWal,
        Measure::RequestInserted,
        Measure::Parse,
        Measure::Commit,
        Measure::Visible,
        Measure::Insert,
    ];

    /// Name in outputs and in `?name=`.
    pub fn name(self) -> &'static str {
        match self {
            Measure::RequestMemory => "request_memory",
            Measure::RequestWal => "request_wal",
            Measure::RequestInserted => "request_inserted",
            Measure::Parse => "parse",
            Measure::Commit => "commit",
            Measure::Visible => "visible",
            Measure::Insert => "insert",
        }
    }

    /// The measure of this name.
    pub fn from_name(name: &str) -> Option<Measure> {
        Measure::ALL.into_iter().find(|measure| measure.name() == name)
    }
}

/// One histogram for each [`Measure`].
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSet([Histogram<u64>; Measure::ALL.len()]);

impl HistogramSet {
    /// Empty histograms with their whole memory.
    pub fn new() -> Self {
        HistogramSet(Measure::ALL.map(|_| {
            let mut histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants and in order");
            histogram.auto(false);
            histogram
        }))
    }

    /// The histogram of one measure.
    pub fn get(&self, measure: Measure) -> &Histogram<u64> {
        &self.0[measure as usize]
    }

    fn record(&mut self, measure: Measure, duration_ns: u64) {
        // Saturating: an hour-long request is an hour, not an error.
        self.0[measure as usize].saturating_record(duration_ns);
    }

    fn merge(&mut self, other: &HistogramSet) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
    }

    fn copy_from(&mut self, other: &HistogramSet) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.set_to(theirs).expect("all histograms have the same bounds");
        }
    }
}

impl Default for HistogramSet {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a core leaves a copy of its histograms for readers.
#[derive(Debug)]
struct Slot {
    /// Counts up with every reader's question.
    asked: AtomicU64,
    /// The question the copy answers.
    answered: AtomicU64,
    copy: Mutex<HistogramSet>,
}

/// The recording end: owned by one core, no lock and no atomic on its way.
#[derive(Debug)]
pub struct Recorder {
    set: HistogramSet,
    answered: u64,
    slot: Arc<Slot>,
}

impl Recorder {
    /// Counts one duration, in nanoseconds.
    pub fn record(&mut self, measure: Measure, duration_ns: u64) {
        self.set.record(measure, duration_ns);
    }

    /// Leaves a copy for readers if one asked since the last call. The core calls it about every 100 ms.
    ///
    /// Never waits: while a reader holds the copy, the next call answers.
    pub fn publish(&mut self) {
        // Relaxed: the question carries no data.
        let asked = self.slot.asked.load(Ordering::Relaxed);
        if asked == self.answered {
            return;
        }
        match self.slot.copy.try_lock() {
            Ok(mut copy) => copy.copy_from(&self.set),
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().copy_from(&self.set),
        }
        self.answered = asked;
        // Release pairs with the Acquire load in `Reader::is_answered`: who sees the answer sees the copy.
        self.slot.answered.store(asked, Ordering::Release);
    }
}

/// The reading end of every core's histograms; cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    slots: Arc<[Arc<Slot>]>,
}

/// A reader's question to every core, see [`Reader::ask`].
#[derive(Debug)]
pub struct Question(Vec<u64>);

/// Recorders for `cores` cores (ingest cores and the writer) and the reader of all of them.
pub fn channel(cores: usize) -> (Vec<Recorder>, Reader) {
    let slots: Vec<Arc<Slot>> = (0..cores)
        .map(|_| {
            Arc::new(Slot {
                asked: AtomicU64::new(0),
                answered: AtomicU64::new(0),
                copy: Mutex::new(HistogramSet::new()),
            })
        })
        .collect();
    let recorders = slots
        .iter()
        .map(|slot| Recorder {
            set: HistogramSet::new(),
            answered: 0,
            slot: slot.clone(),
        })
        .collect();
    (recorders, Reader { slots: slots.into() })
}

impl Reader {
    /// Asks every core for a copy at its next tick.
    pub fn ask(&self) -> Question {
        Question(
            self.slots
                .iter()
                .map(|slot| slot.asked.fetch_add(1, Ordering::Relaxed) + 1)
                .collect(),
        )
    }

    /// Whether every core has answered.
    pub fn is_answered(&self, question: &Question) -> bool {
        // Acquire pairs with the Release store in `Recorder::publish`.
        self.slots
            .iter()
            .zip(&question.0)
            .all(|(slot, asked)| slot.answered.load(Ordering::Acquire) >= *asked)
    }

    /// The sum of what the cores last published.
    pub fn merged(&self) -> HistogramSet {
        let mut total = HistogramSet::new();
        for slot in self.slots.iter() {
            match slot.copy.lock() {
                Ok(copy) => total.merge(&copy),
                Err(poisoned) => total.merge(&poisoned.into_inner()),
            }
        }
        total
    }

    /// Asks, waits until every core has answered or `patience` is over, and merges. Blocks the thread.
    ///
    /// A core that did not answer in time takes part with what it published last.
    pub fn read(&self, patience: Duration) -> HistogramSet {
        let question = self.ask();
        let deadline = Instant::now() + patience;
        while !self.is_answered(&question) && Instant::now() < deadline {
            std::thread::sleep(POLL_PAUSE);
        }
        self.merged()
    }

    /// [`Reader::read`] for an async caller with tokio's clock.
    pub async fn read_async(&self, patience: Duration) -> HistogramSet {
        let question = self.ask();
        let deadline = Instant::now() + patience;
        while !self.is_answered(&question) && Instant::now() < deadline {
            tokio::time::sleep(POLL_PAUSE).await;
        }
        self.merged()
    }
}

/// Cores answer at their 100 ms tick: looking more often finds nothing sooner that a person would notice.
const POLL_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
