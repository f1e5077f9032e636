//! When a table's next INSERT may start: far enough from the last one that ClickHouse can merge the parts.

use crate::limits::Limits;

/// Pace of one table. Reads no clock: time comes in as milliseconds.
#[derive(Debug, Default)]
pub struct Pace {
    /// Start of the last INSERT; `None` before the first, which starts at once.
    started_ms: Option<u64>,
    /// Partitions the last INSERT touched: each is a new part.
    parts: u64,
}

impl Pace {
    /// An INSERT that touches `parts` partitions starts.
    pub fn started(&mut self, now_ms: u64, parts: usize) {
        self.started_ms = Some(now_ms);
        self.parts = parts as u64;
    }

    /// Milliseconds until the next INSERT may start; 0 is now.
    ///
    /// Two bounds hold: `insert_interval_ms` between starts, and no more than `parts_per_second` new parts on average. Under
    /// `pressure` (an ingest core is running out of blocks) the interval gives way, the parts do not: too
    /// many parts slow ClickHouse down for everybody (error 252), too few free blocks only slow this client.
    pub fn wait_ms(&self, now_ms: u64, pressure: bool, limits: &Limits) -> u64 {
        let Some(started_ms) = self.started_ms else {
            return 0;
        };
        let interval_ms = if pressure { 0 } else { limits.insert_interval_ms };
        let parts_ms = self.parts * 1000 / limits.parts_per_second as u64;
        (started_ms + interval_ms.max(parts_ms)).saturating_sub(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_insert_starts_at_once_and_the_next_after_the_interval() {
        let limits = Limits {
            insert_interval_ms: 200,
            parts_per_second: 100,
            ..Limits::default()
        };
        let mut pace = Pace::default();
        assert_eq!(pace.wait_ms(5, false, &limits), 0);
        pace.started(5, 1);
        assert_eq!(pace.wait_ms(5, false, &limits), 200);
        assert_eq!(pace.wait_ms(200, false, &limits), 5);
        assert_eq!(pace.wait_ms(205, false, &limits), 0);
        assert_eq!(pace.wait_ms(9_999, false, &limits), 0);
    }

    #[test]
    fn many_parts_wait_longer_even_under_pressure() {
        let limits = Limits {
            insert_interval_ms: 200,
            parts_per_second: 100,
            ..Limits::default()
        };
        let mut pace = Pace::default();
        pace.started(0, 64);
        assert_eq!(pace.wait_ms(0, false, &limits), 640);
        assert_eq!(pace.wait_ms(0, true, &limits), 640);
        pace.started(0, 1);
        assert_eq!(pace.wait_ms(0, true, &limits), 10);
    }
}
