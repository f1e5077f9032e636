//! Notices that the user wants an end, so that what was started is ended too.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether SIGINT or SIGTERM has come.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

/// How often a condition is looked at while it is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

impl Interrupt {
    /// Takes both signals over from now on, also when they are repeated: what was started must be ended first.
    ///
    /// # Errors
    /// The system gives no handler.
    pub fn install() -> io::Result<Interrupt> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Interrupt(flag))
    }

    /// Whether one has come.
    pub fn has_come(&self) -> bool {
        // Relaxed: the flag guards nothing.
        self.0.load(Ordering::Relaxed)
    }

    /// Calls `check` until it gives a value, for `patience` at most; `None` also when a signal comes.
    pub fn wait_for<T>(&self, patience: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
        let started = Instant::now();
        loop {
            if let Some(value) = check() {
                return Some(value);
            }
            if self.has_come() || started.elapsed() > patience {
                return None;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}
