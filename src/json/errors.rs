//! Rejected rows of one request: an exact count, and the first few spelled out for the reply.

use super::{RowFault, RowFaultKind};
use crate::column::ValueError;
use crate::limits::Limits;

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

/// Rejected rows by reason, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RejectCounts([u64; RejectReason::ALL.len()]);

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
    /// No errors yet.
    pub fn new(limits: &Limits) -> Self {
        RowErrors {
            count: 0,
            first: Vec::new(),
            by_reason: [0; RejectReason::ALL.len()],
            first_max: limits.errors_in_reply_max,
        }
    }

    /// Rejects row `row`; the sentence is only made while there is room for it.
    pub fn push(&mut self, row: u64, reason: RejectReason, text: impl FnOnce() -> String) {
        self.count += 1;
        self.by_reason[reason as usize] += 1;
        if self.first.len() < self.first_max {
            self.first.push(RowError {
                row,
                reason,
                text: text(),
            });
        }
    }

    /// Rejects row `row`, which does not parse.
    pub fn push_fault(&mut self, row: u64, fault: &RowFault) {
        self.push(row, fault.kind.into(), || fault.to_string());
    }

    /// Rows rejected so far, by reason.
    pub fn counts(&self) -> RejectCounts {
        RejectCounts(self.by_reason)
    }

    /// Calls `visit` with each reason that rejected rows since `before`, and how many.
    pub fn each_since(&self, before: &RejectCounts, mut visit: impl FnMut(RejectReason, u64)) {
        for (reason, (now, before)) in RejectReason::ALL
            .into_iter()
            .zip(self.by_reason.iter().zip(before.0))
        {
            if *now > before {
                visit(reason, now - before);
            }
        }
    }

    /// Some row was rejected, and every rejected one for `reason`.
    pub fn only(&self, reason: RejectReason) -> bool {
        self.count > 0 && self.by_reason[reason as usize] == self.count
    }
}
