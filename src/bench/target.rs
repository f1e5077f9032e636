//! A figure beside what it is to reach, as every measurement prints it.

use std::fmt;

use serde::Serialize;

/// Which side of its target a figure is to be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// More is better.
    AtLeast,
    /// Less is.
    AtMost,
}

/// A figure, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    what: String,
    side: Side,
    target: f64,
    /// `null` in JSON when there is none.
    value: f64,
    reached: bool,
}

impl Judged {
    /// Of a figure that is to be `target` or more.
    pub fn at_least(what: impl Into<String>, target: f64, value: f64) -> Judged {
        Judged {
            what: what.into(),
            side: Side::AtLeast,
            target,
            value,
            reached: value >= target,
        }
    }

    /// Of a figure that is to be `target` or less.
    pub fn at_most(what: impl Into<String>, target: f64, value: f64) -> Judged {
        Judged {
            what: what.into(),
            side: Side::AtMost,
            target,
            value,
            reached: value <= target,
        }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::AtLeast => "least",
            Side::AtMost => "most",
        };
        let verdict = if self.reached { "reached" } else { "missed" };
        write!(
            f,
            "target: {}: {:.2}, at {side} {}: {verdict}",
            self.what, self.value, self.target
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_by_the_side_and_misses_what_is_no_number() {
        let shown = |judged: Judged| judged.to_string();
        assert_eq!(
            shown(Judged::at_least("a of b", 0.65, 0.381)),
            "target: a of b: 0.38, at least 0.65: missed"
        );
        assert_eq!(
            shown(Judged::at_least("a", 8.0, 8.0)),
            "target: a: 8.00, at least 8: reached"
        );
        assert_eq!(
            shown(Judged::at_most("a", 1.0, 0.9)),
            "target: a: 0.90, at most 1: reached"
        );
        assert!(!Judged::at_most("a", 1.0, 1.1).reached);
        assert!(!Judged::at_most("a", 1.0, f64::NAN).reached);
        assert!(!Judged::at_least("a", 1.0, f64::NAN).reached);
    }
}
