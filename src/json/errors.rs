//! Rejected rows of one request: an exact count, and the first few spelled out for the reply.

use std::fmt;

use super::{RowFault, RowFaultKind};
use crate::column::ValueError;

/// Why a row was rejected. A row is rejected for the first reason found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Not JSON.
    Json,
    /// Not UTF-8, or a lone surrogate.
    Utf8,
    /// JSON, but not an object.
    NotObject,
    /// Nested deeper than `depth_max`.
    TooDeep,
    /// Longer than `line_bytes_max`.
    TooLong,
    /// Too many attributes, or a name that is too long.
    Attributes,
    /// A value of a type its column does not take.
    Type,
    /// A value out of its column's range.
    Range,
    /// A time in no known form.
    Time,
}

impl RejectReason {
    /// Every reason; `as usize` is its place here.
    pub const ALL: [RejectReason; 9] = [
        RejectReason::Json,
        RejectReason::Utf8,
        RejectReason::NotObject,
        RejectReason::TooDeep,
        RejectReason::TooLong,
        RejectReason::Attributes,
        RejectReason::Type,
        RejectReason::Range,
        RejectReason::Time,
    ];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            RejectReason::Json => "json",
            RejectReason::Utf8 => "utf8",
            RejectReason::NotObject => "not_object",
            RejectReason::TooDeep => "too_deep",
            RejectReason::TooLong => "too_long",
            RejectReason::Attributes => "attributes",
            RejectReason::Type => "type",
            RejectReason::Range => "range",
            RejectReason::Time => "time",
        }
    }
}

impl From<RowFaultKind> for RejectReason {
    fn from(kind: RowFaultKind) -> Self {
        match kind {
            RowFaultKind::Json => RejectReason::Json,
            RowFaultKind::Utf8 => RejectReason::Utf8,
            RowFaultKind::NotObject => RejectReason::NotObject,
            RowFaultKind::TooDeep => RejectReason::TooDeep,
        }
    }
}

impl From<ValueError> for RejectReason {
    fn from(error: ValueError) -> Self {
        match error.label() {
            "range" => RejectReason::Range,
            "time" => RejectReason::Time,
            _ => RejectReason::Type,
        }
    }
}

/// One rejected row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// Its number in the request, from 0.
    pub row: u64,
    /// Why.
    pub reason: RejectReason,
    /// The same as a sentence for the client.
    pub text: String,
}

/// The rejected rows of one request.
#[derive(Debug)]
pub struct RowErrors {
    /// Rows rejected.
    pub count: u64,
    /// The first of them, at most `errors_in_reply_max`.
    pub first: Vec<RowError>,
    by_reason: [u64; RejectReason::ALL.len()],
    first_max: usize,
}

impl RowErrors {
    /// No errors yet; `first_max` will be spelled out (`Limits::errors_in_reply_max`).
    pub fn new(first_max: usize) -> Self {
        RowErrors { count: 0, first: Vec::new(), by_reason: [0; RejectReason::ALL.len()], first_max }
    }

    /// Rejects row `row`; the sentence is only made while there is room for it.
    pub fn reject(&mut self, row: u64, reason: RejectReason, text: impl fmt::Display) {
        self.count += 1;
        self.by_reason[reason as usize] += 1;
        if self.first.len() < self.first_max {
            self.first.push(RowError { row, reason, text: text.to_string() });
        }
    }

    /// Rejects row `row`, which does not parse.
    pub fn reject_fault(&mut self, row: u64, fault: &RowFault) {
        self.reject(row, fault.kind.into(), fault);
    }

    /// Rows rejected for `reason`.
    pub fn of_reason(&self, reason: RejectReason) -> u64 {
        self.by_reason[reason as usize]
    }

    /// Forgets all errors and keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.first.clear();
        self.by_reason = [0; RejectReason::ALL.len()];
    }
}
