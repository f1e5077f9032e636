//! Whether a row can be taken at the default ack level.

use crate::ack::AckLevel;
use crate::wal::log::LogError;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whether a row can be taken at the default ack level, told by those who know.
#[derive(Debug)]
pub struct Readiness {
    /// Ack level of requests that name none.
    ack: AckLevel,
    clickhouse_reachable: AtomicBool,
    clickhouse_error: Mutex<Option<String>>,
    table_known: AtomicBool,
    table_exists: AtomicBool,
    inserts_fail: AtomicBool,
    draining: AtomicBool,
    clickhouse_version: Mutex<Option<String>>,
    clickhouse_endpoint: Mutex<Option<String>>,
}

impl Readiness {
    /// Not ready yet: ClickHouse has not answered and no table is known.
    pub fn new(ack: AckLevel) -> Readiness {
        Readiness {
            ack,
            clickhouse_reachable: AtomicBool::new(false),
            clickhouse_error: Mutex::new(None),
            table_known: AtomicBool::new(false),
            table_exists: AtomicBool::new(true),
            inserts_fail: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            clickhouse_version: Mutex::new(None),
            clickhouse_endpoint: Mutex::new(None),
        }
    }

    // Relaxed throughout: each flag is news by itself and orders nothing.

    /// ClickHouse answered, or did not.
    pub fn set_clickhouse_reachable(&self, reachable: bool) {
        self.clickhouse_reachable.store(reachable, Ordering::Relaxed);
    }

    /// The default table's columns are known, or are not (any more).
    pub fn set_table_known(&self, known: bool) {
        self.table_known.store(known, Ordering::Relaxed);
    }

    /// Why ClickHouse does not answer as it should, in one sentence without secrets; `None` when it does.
    pub fn set_clickhouse_error(&self, reason: Option<String>) {
        *self
            .clickhouse_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// ClickHouse has the default table, or has it no more.
    pub fn set_table_exists(&self, exists: bool) {
        self.table_exists.store(exists, Ordering::Relaxed);
    }

    /// The last INSERT into the default table failed and is tried again.
    pub fn set_inserts_fail(&self, fail: bool) {
        self.inserts_fail.store(fail, Ordering::Relaxed);
    }

    /// The server is shutting down; there is no way back.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The version ClickHouse told, and which server told it.
    pub fn set_clickhouse_version(&self, version: &str, endpoint: &str) {
        for (told, now) in [
            (&self.clickhouse_version, version),
            (&self.clickhouse_endpoint, endpoint),
        ] {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.as_deref() != Some(now) {
                *told = Some(now.to_owned());
            }
        }
    }

    pub(super) fn clickhouse_version(&self) -> Option<String> {
        self.clickhouse_version
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Why no row can be taken now, or `None` when one can.
    ///
    /// At `memory` and `wal` an unreachable ClickHouse is no reason: rows wait in the log until it is full. At `inserted` no
    /// request could be answered in time.
    fn refusal(&self, cores_have_room: bool, log_error: Option<LogError>) -> Option<String> {
        let error = || {
            let error = self
                .clickhouse_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            error
                .as_ref()
                .map_or(String::new(), |reason| format!(" ({reason})"))
        };
        if self.draining.load(Ordering::Relaxed) {
            return Some("shutting down: rows that are held are being inserted, new ones are refused".into());
        }
        if !self.table_known.load(Ordering::Relaxed) {
            return Some(format!(
                "the default table's columns are not known: ClickHouse has not told them, or has no such table{}",
                error()
            ));
        }
        if !cores_have_room {
            return Some(match log_error {
                Some(error) => error.to_string(),
                None => "rows come faster than the write-ahead log takes them".into(),
            });
        }
        if self.ack != AckLevel::Inserted {
            return None;
        }
        let trouble = if !self.clickhouse_reachable.load(Ordering::Relaxed) {
            format!("ClickHouse does not answer as it should{}", error())
        } else if !self.table_exists.load(Ordering::Relaxed) {
            "ClickHouse has the default table no more".to_owned()
        } else if self.inserts_fail.load(Ordering::Relaxed) {
            "INSERTs into the default table fail and are tried again, see /status".to_owned()
        } else {
            return None;
        };
        Some(format!(
            "{trouble}: rows are held, but requests cannot be answered at ack level `inserted`"
        ))
    }

    /// The page and whether it says yes.
    pub(super) fn page(&self, cores_have_room: bool, log_error: Option<LogError>) -> Readyz {
        let reason = self.refusal(cores_have_room, log_error);
        Readyz {
            ready: reason.is_none(),
            reason,
            ack: self.ack,
            clickhouse_reachable: self.clickhouse_reachable.load(Ordering::Relaxed),
            clickhouse_endpoint: self
                .clickhouse_endpoint
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            table_known: self.table_known.load(Ordering::Relaxed),
            cores_have_room,
            draining: self.draining.load(Ordering::Relaxed),
        }
    }
}

/// The `/readyz` page.
#[derive(Serialize)]
pub(super) struct Readyz {
    pub(super) ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    ack: AckLevel,
    clickhouse_reachable: bool,
    /// The server that answered last.
    clickhouse_endpoint: Option<String>,
    table_known: bool,
    cores_have_room: bool,
    draining: bool,
}
