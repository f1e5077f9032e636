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
    /// Not protobuf.
    Protobuf,
    /// Not MessagePack, or not the message it should be.
    MessagePack,
    /// Against a rule of its protocol: a field is missing, or out of its bounds.
    Rule,
}

impl RejectReason {
    /// Every reason; `as usize` is its place here.
    pub const ALL: [RejectReason; 12] = [
        RejectReason::Json,
        RejectReason::Utf8,
        RejectReason::NotObject,
        RejectReason::TooDeep,
        RejectReason::TooLong,
        RejectReason::Attributes,
        RejectReason::Type,
        RejectReason::Range,
        RejectReason::Time,
        RejectReason::Protobuf,
        RejectReason::MessagePack,
        RejectReason::Rule,
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
            RejectReason::Protobuf => "protobuf",
            RejectReason::MessagePack => "messagepack",
            RejectReason::Rule => "rule",
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
    /// The first of them by row, at most `errors_in_reply_max`.
    pub first: Vec<RowError>,
    by_reason: [u64; RejectReason::ALL.len()],
    first_max: usize,
    /// Every rejected row, where the reply says what became of each.
    each: Option<Vec<(u64, RejectReason)>>,
}

impl RowErrors {
    /// No errors yet.
    pub fn new(limits: &Limits) -> Self {
        RowErrors {
            count: 0,
            first: Vec::new(),
            by_reason: [0; RejectReason::ALL.len()],
            first_max: limits.errors_in_reply_max,
            each: None,
        }
    }

    /// As [`RowErrors::new`], keeping number and reason of every row: their number must have a bound of its own.
    pub fn of_each(limits: &Limits) -> Self {
        RowErrors {
            each: Some(Vec::new()),
            ..RowErrors::new(limits)
        }
    }

    /// Number and reason of every row, in no order; none unless each is kept.
    pub fn each(&self) -> &[(u64, RejectReason)] {
        self.each.as_deref().unwrap_or_default()
    }

    /// Rejects row `row`; the sentence is only made when it is kept.
    ///
    /// A chunk's rows are found wanting in several passes (as text, by their keys, by each column), so they do not come
    /// in order; those kept are the first of the body all the same.
    pub fn push(&mut self, row: u64, reason: RejectReason, text: impl FnOnce() -> String) {
        self.count += 1;
        self.by_reason[reason as usize] += 1;
        if let Some(each) = &mut self.each {
            each.push((row, reason));
        }
        let at = self.first.partition_point(|error| error.row < row);
        if at >= self.first_max {
            return;
        }
        self.first.truncate(self.first_max - 1);
        self.first.insert(
            at,
            RowError {
                row,
                reason,
                text: text(),
            },
        );
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_the_first_rows_in_whatever_order_they_are_rejected(
            rows in prop::collection::btree_set(0_u64..1000, 0..60).prop_map(Vec::from_iter).prop_shuffle(),
            errors_in_reply_max in 0_usize..30,
        ) {
            let limits = Limits { errors_in_reply_max, ..Limits::default() };
            let mut errors = RowErrors::new(&limits);
            for row in &rows {
                errors.push(*row, RejectReason::Json, || row.to_string());
            }
            let mut expected = rows.clone();
            expected.sort_unstable();
            expected.truncate(errors_in_reply_max);
            prop_assert_eq!(errors.count, rows.len() as u64);
            let first: Vec<u64> = errors.first.iter().map(|error| error.row).collect();
            prop_assert_eq!(first, expected);
        }
    }
}
