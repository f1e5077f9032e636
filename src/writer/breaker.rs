//! Circuit breaker towards ClickHouse: closed, open for a jittered pause, half-open with a single probe.

/// What a lane that wants to send may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Send. In half-open state this admits exactly one caller, the probe.
    Go,
    /// Ask again in so many milliseconds.
    WaitMs(u64),
}

/// State of the breaker, for metrics and `/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything is sent.
    Closed,
    /// Nothing is sent until the pause is over.
    Open,
    /// One probe is under way; its outcome decides.
    HalfOpen,
}

/// How often a lane looks again while another lane's probe is under way.
const PROBE_POLL_MS: u64 = 10;

/// The breaker towards ClickHouse, be it one server or several. Reads no clock: time comes in as milliseconds.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    retry_at_ms: u64,
    backoff: Backoff,
}

impl Breaker {
    /// A closed breaker whose pauses grow from `pause_min_ms` to `pause_max_ms`.
    pub fn new(pause_min_ms: u64, pause_max_ms: u64, seed: u64) -> Self {
        Breaker {
            state: State::Closed,
            retry_at_ms: 0,
            backoff: Backoff::new(pause_min_ms, pause_max_ms, seed),
        }
    }

    /// Current state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Asks to send. Every `Go` must be followed by `succeeded`, `failed` or `moved_on`.
    pub fn admit(&mut self, now_ms: u64) -> Admission {
        match self.state {
            State::Closed => Admission::Go,
            State::Open if now_ms >= self.retry_at_ms => {
                self.state = State::HalfOpen;
                Admission::Go
            }
            State::Open => Admission::WaitMs(self.retry_at_ms - now_ms),
            State::HalfOpen => Admission::WaitMs(PROBE_POLL_MS),
        }
    }

    /// ClickHouse answered: whatever it said about one table, it is there.
    pub fn succeeded(&mut self) {
        self.state = State::Closed;
        self.backoff.reset();
    }

    /// ClickHouse could not be reached or did not answer. When it went away under many lanes at once, their failures
    /// are one: the first opens the breaker, the others find it open.
    pub fn failed(&mut self, now_ms: u64) {
        if self.state == State::Open {
            return;
        }
        self.state = State::Open;
        self.retry_at_ms = now_ms + self.backoff.next_pause_ms();
    }

    /// One server could not be reached or did not answer, and another has not been tried yet: no reason to pause, but a
    /// probe has not succeeded either. The next caller is the next probe, at once.
    pub fn moved_on(&mut self, now_ms: u64) {
        if self.state == State::HalfOpen {
            self.state = State::Open;
            self.retry_at_ms = now_ms;
        }
    }
}

/// Exponential pauses with jitter: half of each is fixed, half is random, so that writers do not come back in step.
#[derive(Debug)]
pub struct Backoff {
    min_ms: u64,
    max_ms: u64,
    ceiling_ms: u64,
    random: fastrand::Rng,
}

impl Backoff {
    /// Pauses from `min_ms`, doubling up to `max_ms`.
    pub fn new(min_ms: u64, max_ms: u64, seed: u64) -> Self {
        Backoff {
            min_ms,
            max_ms,
            ceiling_ms: min_ms,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The next pause.
    pub fn next_pause_ms(&mut self) -> u64 {
        let ceiling = self.ceiling_ms;
        self.ceiling_ms = (ceiling * 2).min(self.max_ms);
        ceiling / 2 + self.random.u64(0..=ceiling - ceiling / 2)
    }

    /// The next failure pauses shortly again.
    pub fn reset(&mut self) {
        self.ceiling_ms = self.min_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_a_single_probe_after_the_pause() {
        let mut breaker = Breaker::new(100, 1000, 1);
        assert_eq!(breaker.admit(0), Admission::Go);
        breaker.failed(0);
        let Admission::WaitMs(pause) = breaker.admit(0) else {
            panic!("open right after a failure")
        };
        assert!((50..=100).contains(&pause), "{pause}");
        assert_eq!(breaker.admit(pause), Admission::Go);
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(
            matches!(breaker.admit(pause), Admission::WaitMs(_)),
            "one probe at a time"
        );
        breaker.succeeded();
        assert_eq!(breaker.admit(pause), Admission::Go);
        assert_eq!(breaker.admit(pause), Admission::Go);
    }

    #[test]
    fn many_failures_at_once_are_one() {
        let mut breaker = Breaker::new(100, 60_000, 5);
        for _ in 0..16 {
            assert_eq!(breaker.admit(0), Admission::Go);
        }
        for _ in 0..16 {
            breaker.failed(7);
        }
        let Admission::WaitMs(pause) = breaker.admit(7) else {
            panic!("open right after a failure")
        };
        assert!(pause <= 100, "{pause}");
    }

    #[test]
    fn a_probe_that_moves_on_is_followed_by_another_at_once() {
        let mut breaker = Breaker::new(100, 1000, 1);
        breaker.moved_on(0);
        assert_eq!(breaker.admit(0), Admission::Go, "closed, it stays so");
        breaker.failed(0);
        breaker.moved_on(0);
        assert!(
            matches!(breaker.admit(0), Admission::WaitMs(_)),
            "a pause is not cut short"
        );
        assert_eq!(breaker.admit(1000), Admission::Go);
        breaker.moved_on(1000);
        assert_eq!(breaker.admit(1000), Admission::Go);
        assert!(
            matches!(breaker.admit(1000), Admission::WaitMs(_)),
            "one probe at a time"
        );
        breaker.failed(1000);
        assert!(matches!(breaker.admit(1000), Admission::WaitMs(_)));
    }

    #[test]
    fn pauses_grow_to_the_maximum_and_start_over() {
        let mut backoff = Backoff::new(50, 5_000, 7);
        for _ in 0..20 {
            assert!(backoff.next_pause_ms() <= 5_000);
        }
        assert!((2_500..=5_000).contains(&backoff.next_pause_ms()));
        backoff.reset();
        assert!((25..=50).contains(&backoff.next_pause_ms()));
    }

    #[test]
    fn a_failed_probe_opens_for_longer() {
        let mut breaker = Breaker::new(100, 10_000, 3);
        let mut now = 0;
        for round in 0..6u32 {
            breaker.failed(now);
            let Admission::WaitMs(pause) = breaker.admit(now) else {
                panic!("open after a failure")
            };
            let ceiling = 100 << round;
            assert!((ceiling / 2..=ceiling).contains(&pause), "round {round}: {pause}");
            now += pause;
            assert_eq!(breaker.admit(now), Admission::Go);
        }
    }
}
