//! What the writer counts for one ClickHouse server.

use super::{Counter, Gauge};

/// Counters of one server, written by the writer core alone.
#[derive(Debug, Default)]
pub struct EndpointMetrics {
    /// Its address without the password.
    pub endpoint: String,
    /// Connections made.
    pub connects: Counter,
    /// Tries and INSERTs it did not answer, or answered so that another server was tried.
    pub failures: Counter,
    /// 1 when the last thing known of it is an answer, 0 before the first and after a failure.
    pub connected: Gauge,
    /// Unix time in milliseconds of the last failure, 0 before the first.
    pub last_failed_ms: Gauge,
    /// Rows whose INSERT broke off, held until this server says whether it has them.
    pub held_rows: Gauge,
}

impl EndpointMetrics {
    pub(super) fn of(endpoint: String) -> EndpointMetrics {
        EndpointMetrics {
            endpoint,
            ..EndpointMetrics::default()
        }
    }

    /// A connection was made.
    pub fn connect(&self) {
        self.connects.add(1);
        self.connected.set(1);
    }

    /// It failed now.
    pub fn fail(&self, now_ms: u64) {
        self.failures.add(1);
        self.connected.set(0);
        self.last_failed_ms.set(now_ms);
    }
}
