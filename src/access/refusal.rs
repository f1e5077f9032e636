//! Why a request is not taken from whoever sends it.

use std::fmt;

use super::quota::OverQuota;
use crate::http::status::Status;

/// Why a sender is refused. Always the client's to mend; no sentence holds a token or says whether a name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No token where one is needed, and no certificate that is a key's: 401.
    Missing,
    /// A token that is no key's: 401.
    Unknown,
    /// A header or parameter for a token that holds none: 401.
    Malformed,
    /// Two different tokens, or a certificate that is that of two keys: 400 (RFC 6750 section 3.1, `invalid_request`).
    Ambiguous,
    /// The key is not for sending rows: 403.
    NotIngest,
    /// The key is not for the admin pages: 403.
    NotAdmin,
    /// The sender's address is not on the list of the key or of the listener: 403.
    NotAllowedFrom,
    /// The key does not reach the table: 403.
    TableNotAllowed,
    /// The key has sent too much: 429.
    OverQuota(OverQuota),
}

impl Refusal {
    /// Labels of every reason, in the order of [`Refusal::index`].
    pub const LABELS: [&'static str; 10] = [
        "missing",
        "unknown",
        "malformed",
        "ambiguous",
        "not_ingest",
        "not_admin",
        "not_allowed_from",
        "table_not_allowed",
        "requests_quota",
        "bytes_quota",
    ];

    /// Position of the reason's label in [`Refusal::LABELS`].
    pub fn index(&self) -> usize {
        match self {
            Refusal::Missing => 0,
            Refusal::Unknown => 1,
            Refusal::Malformed => 2,
            Refusal::Ambiguous => 3,
            Refusal::NotIngest => 4,
            Refusal::NotAdmin => 5,
            Refusal::NotAllowedFrom => 6,
            Refusal::TableNotAllowed => 7,
            Refusal::OverQuota(over) if over.unit == super::quota::Unit::Requests => 8,
            Refusal::OverQuota(_) => 9,
        }
    }

    /// The status the reply carries. A 401 also names what would be taken ([`crate::http::Replier::error`]).
    pub fn status(&self) -> Status {
        match self {
            Refusal::Missing | Refusal::Unknown | Refusal::Malformed => Status::Unauthorized,
            Refusal::Ambiguous => Status::BadRequest,
            Refusal::NotIngest | Refusal::NotAdmin | Refusal::NotAllowedFrom | Refusal::TableNotAllowed => {
                Status::Forbidden
            }
            Refusal::OverQuota(_) => Status::TooManyRequests,
        }
    }

    /// When to come again and what the quota is, of a refusal that time mends.
    pub fn over_quota(&self) -> Option<OverQuota> {
        match self {
            Refusal::OverQuota(over) => Some(*over),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Missing => {
                "a key is needed here; send its token as `Authorization: Bearer TOKEN` or in your protocol's own way"
            }
            Refusal::Unknown => "the token is no key's; it may have been mistyped, replaced or withdrawn",
            Refusal::Malformed => "the header or parameter that should hold the token does not hold one",
            Refusal::Ambiguous => "the request holds two different tokens, or its certificate is that of two keys; send one token",
            Refusal::NotIngest => "the key is not for sending rows",
            Refusal::NotAdmin => "the key is not for the admin pages",
            Refusal::NotAllowedFrom => "requests are not taken from this address",
            Refusal::TableNotAllowed => "the key does not reach this table",
            Refusal::OverQuota(over) => return over.fmt(f),
        })
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::quota::{Quota, Rate, Unit};

    #[test]
    fn every_reason_has_its_status_and_its_own_label() {
        let over = |unit| {
            let quota = Quota::new(
                unit,
                Rate {
                    per_second: 1,
                    burst: 1,
                },
            );
            quota.take(1, 0).expect("the first passes");
            Refusal::OverQuota(quota.take(1, 0).expect_err("the second does not"))
        };
        let all = [
            (Refusal::Missing, 401),
            (Refusal::Unknown, 401),
            (Refusal::Malformed, 401),
            (Refusal::Ambiguous, 400),
            (Refusal::NotIngest, 403),
            (Refusal::NotAdmin, 403),
            (Refusal::NotAllowedFrom, 403),
            (Refusal::TableNotAllowed, 403),
            (over(Unit::Requests), 429),
            (over(Unit::Bytes), 429),
        ];
        for (index, (refusal, status)) in all.into_iter().enumerate() {
            assert_eq!(
                (refusal.index(), refusal.status().code()),
                (index, status),
                "{refusal:?}"
            );
            assert_eq!(refusal.over_quota().is_some(), status == 429);
            assert!(!refusal.to_string().is_empty());
        }
        assert_eq!(all.len(), Refusal::LABELS.len());
    }
}
