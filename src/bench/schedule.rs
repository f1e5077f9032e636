//! When requests are due: in an open loop at times fixed in advance, in a closed loop as soon as a connection is free.

/// The send times of a run, in nanoseconds since its start.
///
/// In an open loop a request is due at its time whether or not the ones before were answered, and its latency
/// counts from there: a server that stalls is charged for every request it kept waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// The next request is due at once.
    Closed,
    /// `rows_per_second` in requests of `rows_per_request`, evenly spaced.
    Open {
        /// Above zero.
        rows_per_second: u64,
        /// Above zero.
        rows_per_request: u64,
    },
}

impl Schedule {
    /// When the request `number`, from 0, is due; `None` when nothing but a free connection is waited for.
    pub fn due_ns(self, number: u64) -> Option<u64> {
        match self {
            Schedule::Closed => None,
            Schedule::Open {
                rows_per_second,
                rows_per_request,
            } => {
                // From the number, not from the time before: rounding must not add up to another rate.
                let rows = u128::from(number) * u128::from(rows_per_request);
                Some((rows * 1_000_000_000 / u128::from(rows_per_second)) as u64)
            }
        }
    }
}

/// The requests of one of several threads that share a schedule, in turn.
#[derive(Debug, Clone)]
pub struct Share {
    schedule: Schedule,
    next: u64,
    threads: u64,
}

impl Share {
    /// The share of `thread`, from 0, of `threads`.
    pub fn new(schedule: Schedule, thread: usize, threads: usize) -> Share {
        Share {
            schedule,
            next: thread as u64,
            threads: threads as u64,
        }
    }

    /// When the next request is due: never after `now_ns` in a closed loop.
    pub fn due_ns(&self, now_ns: u64) -> u64 {
        self.schedule.due_ns(self.next).unwrap_or(now_ns)
    }

    /// Goes on to the request after.
    pub fn advance(&mut self) {
        self.next += self.threads;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(rows_per_second: u64, rows_per_request: u64) -> Schedule {
        Schedule::Open {
            rows_per_second,
            rows_per_request,
        }
    }

    #[test]
    fn spaces_requests_evenly_and_keeps_the_rate() {
        let schedule = open(3, 1);
        let due: Vec<u64> = (0..4).map(|n| schedule.due_ns(n).unwrap()).collect();
        assert_eq!(due, [0, 333_333_333, 666_666_666, 1_000_000_000]);
        // A day at 7 million rows a second: no drift, no overflow.
        let requests = 86_400 * 7_000_000 / 1000;
        assert_eq!(
            open(7_000_000, 1000).due_ns(requests),
            Some(86_400 * 1_000_000_000)
        );
    }

    #[test]
    fn does_not_wait_for_what_came_before() {
        let mut share = Share::new(open(1000, 1), 0, 1);
        // Ten requests late: all ten are due, each at its own time.
        let mut due = Vec::new();
        while share.due_ns(9_500_000) <= 9_500_000 {
            due.push(share.due_ns(9_500_000));
            share.advance();
        }
        assert_eq!(due, (0..10).map(|n| n * 1_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn gives_every_request_to_one_thread() {
        let mut due = Vec::new();
        for thread in 0..3 {
            let mut share = Share::new(open(10, 5), thread, 3);
            for _ in 0..4 {
                due.push(share.due_ns(0));
                share.advance();
            }
        }
        due.sort_unstable();
        assert_eq!(due, (0..12).map(|n| n * 500_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn is_always_due_in_a_closed_loop() {
        let mut share = Share::new(Schedule::Closed, 1, 2);
        share.advance();
        assert_eq!(share.due_ns(77), 77);
    }
}
