//! Tells the user each second how a run goes.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::load::LoadPlan;
use super::measured::Progress;
use super::schedule::Schedule;
use super::table::thousands;

/// Prints a line a second while the run goes on.
pub struct Ticker {
    origin: Instant,
    printed_s: u64,
    rows: u64,
    requests: u64,
}

impl Ticker {
    /// For a run that began at `origin`.
    pub fn new(origin: Instant) -> Ticker {
        Ticker {
            origin,
            printed_s: 0,
            rows: 0,
            requests: 0,
        }
    }

    /// Prints a line on standard error when another second has passed.
    pub fn tick(&mut self, progress: &Progress, plan: &LoadPlan) {
        let elapsed = self.origin.elapsed();
        if elapsed.as_secs() == self.printed_s {
            return;
        }
        let passed = (elapsed.as_secs() - self.printed_s) as f64;
        self.printed_s = elapsed.as_secs();
        let rows = progress.rows.load(Ordering::Relaxed);
        let requests = progress.requests.load(Ordering::Relaxed);
        let phase = if elapsed < plan.warm_up {
            " (warm-up)"
        } else if elapsed > plan.warm_up + plan.duration {
            " (waiting for replies and probes)"
        } else {
            ""
        };
        let behind = match plan.schedule {
            Schedule::Closed => String::new(),
            Schedule::Open { .. } => format!(
                ", {:.1} ms behind",
                progress.behind_ns.load(Ordering::Relaxed) as f64 / 1e6
            ),
        };
        eprintln!(
            "{:4} s  {:>12} rows/s  {:>9} requests/s  {} refused{behind}{phase}",
            self.printed_s,
            thousands((rows - self.rows) as f64 / passed),
            thousands((requests - self.requests) as f64 / passed),
            progress.refused.load(Ordering::Relaxed),
        );
        (self.rows, self.requests) = (rows, requests);
    }
}
