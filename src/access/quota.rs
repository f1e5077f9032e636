//! How much a key may send: a token bucket in one word, shared by all cores.
//!
//! The bucket is kept as the generic cell rate algorithm keeps it (ITU-T I.371, annex A): not how full it is, but the time
//! at which it will be full again. That is one number, so one compare-and-exchange takes from it, nothing has to refill it,
//! and a bucket that is not used costs nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::reply::RateLimit;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Bytes of bodies as they come over the wire, compressed or not.
    Bytes,
}

impl Unit {
    /// Name of the policy in `RateLimit` and `RateLimit-Policy`, and of the thing in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Requests => "requests",
            Unit::Bytes => "bytes",
        }
    }
}

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units a second, 1 to [`RATE_MAX`].
    pub per_second: u64,
    /// Units that may come at once after a pause, 1 to [`RATE_MAX`], and no more than [`BURST_S_MAX`] seconds bring.
    pub burst: u64,
}

impl Rate {
    /// Whether both numbers are within their bounds.
    pub fn is_sane(&self) -> bool {
        let bounds = 1..=RATE_MAX;
        bounds.contains(&self.per_second)
            && bounds.contains(&self.burst)
            && self.burst / self.per_second <= BURST_S_MAX
    }
}

/// Units a second and of a burst: above what a machine takes in, and far below where nanoseconds overflow.
pub const RATE_MAX: u64 = 1_000_000_000_000;

/// Time in which a bucket must be able to fill, in seconds: a year. What is larger is meant as no quota, and ten of them would
/// overflow the nanoseconds of a word.
pub const BURST_S_MAX: u64 = 366 * 24 * 3600;

const NS_PER_S: u128 = 1_000_000_000;

/// A bucket. Its time is whatever nanoseconds the caller counts, the same for all cores.
#[derive(Debug)]
pub struct Quota {
    unit: Unit,
    rate: Rate,
    /// Time in which an empty bucket fills.
    burst_ns: u64,
    /// When the bucket is full; in the past while it is.
    full_at_ns: AtomicU64,
}

impl Quota {
    /// A full bucket.
    ///
    /// # Panics
    /// When the rate is outside its bounds.
    pub fn new(unit: Unit, rate: Rate) -> Quota {
        assert!(rate.is_sane(), "{rate:?}");
        Quota {
            unit,
            rate,
            burst_ns: cost_ns(rate.burst, rate.per_second),
            full_at_ns: AtomicU64::new(0),
        }
    }

    /// The rate it was made with.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes `units`. More than the bucket can ever hold pass when it is full, and are owed: until they are paid back
    /// nothing else passes.
    ///
    /// # Errors
    /// [`OverQuota`] when the bucket does not hold them; nothing is taken then.
    pub fn take(&self, units: u64, now_ns: u64) -> Result<(), OverQuota> {
        let cost_ns = cost_ns(units, self.rate.per_second);
        let needed_ns = cost_ns.min(self.burst_ns);
        // Relaxed throughout: the word is all there is of the bucket, it publishes nothing else, and exchanges of one
        // word have one order whatever their ordering.
        let taken = self
            .full_at_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
                let owed_ns = full_at_ns.saturating_sub(now_ns);
                (owed_ns.saturating_add(needed_ns) <= self.burst_ns)
                    .then(|| full_at_ns.max(now_ns).saturating_add(cost_ns))
            });
        taken.map(|_| ()).map_err(|full_at_ns| {
            let owed_ns = full_at_ns.saturating_sub(now_ns);
            self.over(owed_ns, owed_ns.saturating_add(needed_ns) - self.burst_ns)
        })
    }

    /// Takes `units` that have come already, whether the bucket holds them or not.
    pub fn owe(&self, units: u64, now_ns: u64) {
        let cost_ns = cost_ns(units, self.rate.per_second);
        // Relaxed as in `take`.
        let _ = self
            .full_at_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
                Some(full_at_ns.max(now_ns).saturating_add(cost_ns))
            });
    }

    /// Gives back `units` that were taken for nothing.
    pub fn give_back(&self, units: u64) {
        let cost_ns = cost_ns(units, self.rate.per_second);
        // Relaxed as in `take`.
        let _ = self
            .full_at_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
                Some(full_at_ns.saturating_sub(cost_ns))
            });
    }

    fn over(&self, owed_ns: u64, wait_ns: u64) -> OverQuota {
        let held_ns = u128::from(self.burst_ns.saturating_sub(owed_ns));
        let Rate { per_second, burst } = self.rate;
        // A quota over a window says the same as rate and burst only if it is one of the two.
        let (quota, window_s) = match burst <= per_second {
            true => (per_second, 1),
            false => (burst, burst.div_ceil(per_second)),
        };
        OverQuota {
            unit: self.unit,
            quota,
            window_s,
            remaining: (held_ns * u128::from(per_second) / NS_PER_S) as u64,
            retry_after_s: wait_ns.div_ceil(NS_PER_S as u64).max(1),
        }
    }
}

/// Time in which a bucket gains `units`, rounded up: nobody is given more than the rate.
fn cost_ns(units: u64, per_second: u64) -> u64 {
    let cost_ns = (u128::from(units) * NS_PER_S).div_ceil(u128::from(per_second));
    u64::try_from(cost_ns).unwrap_or(u64::MAX)
}

/// A bucket does not hold what was asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    /// Which bucket.
    pub unit: Unit,
    /// Units allowed within the window.
    pub quota: u64,
    /// The window, in whole seconds.
    pub window_s: u64,
    /// Units the bucket holds now.
    pub remaining: u64,
    /// Whole seconds until the same request would pass if nothing else came; at least 1.
    pub retry_after_s: u64,
}

impl From<OverQuota> for RateLimit {
    fn from(over: OverQuota) -> RateLimit {
        RateLimit {
            policy: over.unit.name(),
            unit: match over.unit {
                Unit::Requests => None,
                Unit::Bytes => Some("content-bytes"),
            },
            quota: over.quota,
            window_s: over.window_s,
            remaining: over.remaining,
            reset_s: over.retry_after_s,
        }
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OverQuota {
            unit,
            quota,
            window_s,
            retry_after_s,
            ..
        } = self;
        write!(
            f,
            "the key has used up its quota of {quota} {} in {window_s} s; try again in {retry_after_s} s",
            unit.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn quota(per_second: u64, burst: u64) -> Quota {
        Quota::new(Unit::Requests, Rate { per_second, burst })
    }

    #[test]
    fn a_burst_passes_then_one_at_a_time() {
        let quota = quota(2, 3);
        for _ in 0..3 {
            assert_eq!(quota.take(1, 0), Ok(()));
        }
        let over = quota.take(1, 0).unwrap_err();
        assert_eq!((over.remaining, over.retry_after_s), (0, 1));
        assert!(quota.take(1, S / 2 - 1).is_err());
        assert_eq!(quota.take(1, S / 2), Ok(()));
        assert!(quota.take(1, S - 1).is_err());
        assert_eq!(quota.take(1, S), Ok(()));
        // A long pause saves no more than the burst.
        assert_eq!(quota.take(3, 1_000 * S), Ok(()));
        assert!(quota.take(1, 1_000 * S).is_err());
    }

    #[test]
    fn says_what_is_left_and_when_to_come_again() {
        let quota = quota(10, 100);
        assert_eq!(quota.take(70, 0), Ok(()));
        let over = quota.take(50, 0).unwrap_err();
        let told = OverQuota {
            unit: Unit::Requests,
            quota: 100,
            window_s: 10,
            remaining: 30,
            retry_after_s: 2,
        };
        assert_eq!(over, told);
        assert!(
            over.to_string()
                .contains("100 requests in 10 s; try again in 2 s"),
            "{over}"
        );
        assert!(quota.take(50, 2 * S - 1).is_err());
        assert_eq!(quota.take(50, 2 * S), Ok(()));
        // A burst below the rate: what a second allows.
        let over = {
            let quota = self::quota(100, 10);
            quota.take(10, 0).unwrap();
            quota.take(1, 0).unwrap_err()
        };
        assert_eq!((over.quota, over.window_s, over.retry_after_s), (100, 1, 1));
    }

    #[test]
    fn more_than_the_burst_passes_when_nothing_is_owed_and_is_paid_back() {
        let quota = quota(10, 20);
        assert_eq!(quota.take(100, 0), Ok(()));
        assert_eq!(quota.take(1, 0).unwrap_err().retry_after_s, 9);
        assert!(quota.take(1, 8 * S).is_err());
        assert_eq!(quota.take(1, 9 * S), Ok(()));
        assert!(quota.take(100, 9 * S).is_err(), "something is owed");
    }

    #[test]
    fn what_has_come_already_is_owed_and_what_was_not_used_is_given_back() {
        let quota = quota(1, 5);
        quota.owe(8, 0);
        let over = quota.take(1, 0).unwrap_err();
        assert_eq!((over.remaining, over.retry_after_s), (0, 4));
        quota.give_back(4);
        assert_eq!(quota.take(1, 0), Ok(()));
        assert!(quota.take(1, 0).is_err());
        quota.give_back(1_000);
        assert_eq!(quota.take(5, 0), Ok(()), "never more than full");
        assert!(quota.take(1, 0).is_err());
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        for (per_second, burst) in [(1, BURST_S_MAX), (RATE_MAX, RATE_MAX), (RATE_MAX, 1)] {
            let quota = quota(per_second, burst);
            quota.owe(u64::MAX, u64::MAX);
            quota.owe(u64::MAX, u64::MAX);
            assert!(quota.take(u64::MAX, 0).is_err());
        }
        assert!(
            !Rate {
                per_second: 1,
                burst: 2 * BURST_S_MAX
            }
            .is_sane()
        );
    }

    #[test]
    fn cores_together_take_what_one_alone_could() {
        let quota = Arc::new(quota(1, 10_000));
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let quota = Arc::clone(&quota);
                thread::spawn(move || (0..5_000).filter(|_| quota.take(1, 0).is_ok()).count())
            })
            .collect();
        let taken: usize = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
        assert_eq!(taken, 10_000);
    }

    /// The bucket as a textbook keeps it, exactly: its level in units, times the rate's denominator.
    struct Oracle {
        rate: Rate,
        /// Units times nanoseconds a second; negative when something is owed.
        level: i128,
        at_ns: u64,
    }

    impl Oracle {
        fn take(&mut self, units: u64, now_ns: u64) -> bool {
            let full = i128::from(self.rate.burst) * NS_PER_S as i128;
            let gained = i128::from(now_ns - self.at_ns) * i128::from(self.rate.per_second);
            self.level = (self.level + gained).min(full);
            self.at_ns = now_ns;
            let passes = self.level >= i128::from(units.min(self.rate.burst)) * NS_PER_S as i128;
            if passes {
                self.level -= i128::from(units) * NS_PER_S as i128;
            }
            passes
        }
    }

    proptest! {
        // Rates that divide a second's nanoseconds, for which both reckon without rounding.
        #[test]
        fn passes_what_a_bucket_with_a_level_passes(
            rate in prop_oneof![Just(1u64), Just(5), Just(1_000), Just(1_000_000)],
            burst in 1u64..50,
            steps in proptest::collection::vec((0u64..3_000_000_000, 0u64..60), 1..80),
        ) {
            let rate = Rate { per_second: rate, burst };
            let quota = Quota::new(Unit::Requests, rate);
            let mut oracle = Oracle { rate, level: i128::from(burst) * NS_PER_S as i128, at_ns: 0 };
            let mut now_ns = 0;
            for (pause_ns, units) in steps {
                now_ns += pause_ns;
                let taken = quota.take(units, now_ns);
                prop_assert_eq!(taken.is_ok(), oracle.take(units, now_ns), "{:?} {} at {}", rate, units, now_ns);
                if let Err(over) = taken {
                    // Just when it says, and no second earlier, the same would pass.
                    let wait_ns = over.retry_after_s * S;
                    let again = Quota::new(Unit::Requests, rate);
                    again.full_at_ns.store(quota.full_at_ns.load(Ordering::Relaxed), Ordering::Relaxed);
                    if wait_ns > S {
                        prop_assert!(again.take(units, now_ns + wait_ns - S).is_err());
                    }
                    prop_assert_eq!(again.take(units, now_ns + wait_ns), Ok(()));
                }
            }
        }
    }
}
