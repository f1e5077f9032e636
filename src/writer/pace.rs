//! When a table's next INSERT may start: far enough from the last one that ClickHouse can merge the parts.

use crate::limits::Limits;

/// Parts in one partition from which on the writer slows down. ClickHouse itself delays INSERTs from 1,000 on
/// (`parts_to_delay_insert`) and refuses them from 3,000 on (code 252).
pub const PARTS_COMFORTABLE: u64 = 300;

/// Pace of one table. Reads no clock: time comes in as milliseconds.
#[derive(Debug, Default)]
pub struct Pace {
    /// Start of the last INSERT; `None` before the first, which starts at once.
    started_ms: Option<u64>,
    /// Partitions the last INSERT touched: each is a new part.
    parts: u64,
    /// Time between INSERTs since ClickHouse said that it has too many parts; 0 while it does not.
    slow_ms: u64,
}

/// The first pause after «too many parts»; it doubles with every further one.
const SLOW_MS_MIN: u64 = 1_000;

impl Pace {
    /// An INSERT that touches `parts` partitions starts.
    pub fn started(&mut self, now_ms: u64, parts: usize) {
        self.started_ms = Some(now_ms);
        self.parts = parts as u64;
    }

    /// ClickHouse refused an INSERT because it has too many parts. Rows gather meanwhile, so the next one is larger.
    pub fn slow_down(&mut self, limits: &Limits) {
        self.slow_ms = (self.slow_ms * 2)
            .max(SLOW_MS_MIN)
            .min(limits.retry_pause_max_ms.max(SLOW_MS_MIN));
    }

    /// An INSERT was confirmed: half as slow.
    pub fn speed_up(&mut self) {
        self.slow_ms /= 2;
    }

    /// Milliseconds until the next INSERT may start; 0 is now.
    ///
    /// Two bounds hold: `insert_interval_ms` between starts, and no more than `parts_per_second` new parts on average. Under
    /// `pressure` (half an INSERT's worth waits) the interval gives way, the parts do not: too
    /// many parts slow ClickHouse down for everybody (error 252).
    pub fn wait_ms(&self, now_ms: u64, pressure: bool, parts: u64, limits: &Limits) -> u64 {
        let interval_ms = if pressure { 0 } else { limits.insert_interval_ms };
        let Some(started_ms) = self.started_ms else {
            return 0;
        };
        (started_ms + interval_ms)
            .saturating_sub(now_ms)
            .max(self.parts_wait_ms(now_ms, parts, limits))
    }

    /// What of [`Pace::wait_ms`] parts alone ask for. `parts` is how many the fullest partition of the table has now.
    pub fn parts_wait_ms(&self, now_ms: u64, parts: u64, limits: &Limits) -> u64 {
        let Some(started_ms) = self.started_ms else {
            return 0;
        };
        let own_ms = self.parts * 1000 / limits.parts_per_second as u64;
        // Twice the interval at 600 parts, three times at 900: merging catches up long before ClickHouse refuses.
        let crowded_ms =
            limits.insert_interval_ms * (parts.saturating_sub(PARTS_COMFORTABLE) / PARTS_COMFORTABLE);
        (started_ms + own_ms.max(crowded_ms).max(self.slow_ms)).saturating_sub(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            insert_interval_ms: 200,
            parts_per_second: 100,
            ..Limits::default()
        }
    }

    #[test]
    fn the_first_insert_starts_at_once_and_the_next_after_the_interval() {
        let limits = limits();
        let mut pace = Pace::default();
        assert_eq!(pace.wait_ms(5, false, 0, &limits), 0);
        pace.started(5, 1);
        assert_eq!(pace.wait_ms(5, false, 0, &limits), 200);
        assert_eq!(pace.wait_ms(200, false, 0, &limits), 5);
        assert_eq!(pace.wait_ms(205, false, 0, &limits), 0);
        assert_eq!(pace.wait_ms(9_999, false, 0, &limits), 0);
    }

    #[test]
    fn many_parts_wait_longer_even_under_pressure() {
        let limits = limits();
        let mut pace = Pace::default();
        pace.started(0, 64);
        assert_eq!(pace.wait_ms(0, false, 0, &limits), 640);
        assert_eq!(pace.wait_ms(0, true, 0, &limits), 640);
        pace.started(0, 1);
        assert_eq!(pace.wait_ms(0, true, 0, &limits), 10);
    }

    #[test]
    fn a_crowded_table_is_written_to_less_often() {
        let limits = limits();
        let mut pace = Pace::default();
        pace.started(0, 1);
        let waits = [0, 300, 599, 600, 900, 3000].map(|parts| pace.wait_ms(0, true, parts, &limits));
        assert_eq!(waits, [10, 10, 10, 200, 400, 1800]);
    }

    #[test]
    fn too_many_parts_double_the_pause_and_success_halves_it() {
        let limits = limits();
        let mut pace = Pace::default();
        pace.started(0, 1);
        let mut slow = || {
            pace.slow_down(&limits);
            pace.wait_ms(0, true, 0, &limits)
        };
        assert_eq!([slow(), slow(), slow(), slow()], [1000, 2000, 4000, 5000]);
        pace.speed_up();
        assert_eq!(pace.wait_ms(0, true, 0, &limits), 2500);
    }
}
