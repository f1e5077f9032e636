//! The two clocks of a core: monotonic milliseconds for deadlines, Unix nanoseconds for rows.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads time; the only place of the data plane that does.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose milliseconds start at 0 now. Copies share the start.
    pub fn start() -> Self {
        Clock {
            started: Instant::now(),
        }
    }

    /// Monotonic milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Monotonic nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Nanoseconds since 1970-01-01 UTC.
    ///
    /// # Panics
    /// When the host's clock is before 1970 or after 2262.
    pub fn unix_ns(&self) -> i64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("the host's clock is after 1970");
        i64::try_from(since_epoch.as_nanos()).expect("the host's clock is before 2262")
    }
}
