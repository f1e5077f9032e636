//! What was promised against what ClickHouse holds.

use std::collections::{HashMap, HashSet};

use super::common::eventually;
use super::has_log;
use super::load::{Level, Sent, status};
use super::rig::Rig;

/// The promises of one run, checked at the end of each round of it.
#[derive(Default)]
pub struct Verdict {
    /// Rows promised, by level.
    pub promised: [u64; 3],
    /// Rows promised at `wal` or `inserted` that are not there.
    pub lost: u64,
    /// Rows that are there more than once.
    pub doubled: u64,
    /// Rows promised at `memory` that are not there.
    pub memory_lost: u64,
    /// Rows that ringhouse says it has lost.
    pub told_lost: u64,
    /// Rows that it may have lost.
    unpromised: u64,
    /// Rows of earlier rounds, which nothing may change any more.
    earlier: u64,
}

impl Verdict {
    /// Waits until no row waits any more, and checks all that was `sent` by producers from `producer_first` on.
    ///
    /// # Panics
    ///
    /// When it is not as promised.
    pub fn check(&mut self, rig: &Rig, producer_first: u64, sent: &Sent) {
        let mut wrong = Vec::new();
        let mut demand = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        let settled = eventually("every row's end", || {
            let status = status(rig.server());
            let ledger = status["ledger"].as_array().expect("/status has a ledger").clone();
            (sum(&ledger, "waiting") == Some(0)).then_some(ledger)
        });
        for key in ["rejected", "dead_lettered"] {
            let rows = sum(&settled, key).unwrap_or(0);
            demand(
                rows == 0,
                format!("{rows} rows {key}, and all are good: {settled:?}"),
            );
        }
        let statuses = &sent.statuses;
        demand(
            statuses
                .keys()
                .all(|status| [200, 202, 409, 503].contains(status)),
            format!("no client did anything wrong: {statuses:?}"),
        );
        demand(
            sent.without_retry_after == 0,
            format!("{} times 503 without Retry-After", sent.without_retry_after),
        );
        demand(
            sent.given_up.is_empty(),
            format!("requests with a key and no success: {:?}", sent.given_up),
        );

        let number = "toUInt64(Body)";
        let first = producer_first << 40;
        let counts = rig.query(&format!(
            "SELECT count(), uniqExact({number}), countIf({number} < {first}), \
             countIf(LogAttributes['n'] != Body OR ServiceName != concat('crash-', toString(bitShiftRight({number}, 40)))) \
             FROM otel_logs"
        ));
        let counts: Vec<u64> = counts.split('\t').map(|n| n.parse().expect("a count")).collect();
        let [all, unique, earlier, mixed] = counts[..] else {
            panic!("four counts: {counts:?}");
        };
        self.doubled += all - unique;
        demand(
            all == unique,
            format!("{} of {all} rows are doubled", all - unique),
        );
        demand(mixed == 0, format!("{mixed} rows are not what was sent"));
        demand(
            earlier == self.earlier,
            format!(
                "{earlier} rows of earlier rounds, and there were {}",
                self.earlier
            ),
        );
        self.earlier = all;

        let there = self.rows_there(
            rig,
            &format!("SELECT {number} FROM otel_logs WHERE {number} >= {first}"),
        );
        let number_in = |end: u64| end & ((1 << 40) - 1);
        let ends: HashMap<u64, u64> = sent
            .ends
            .iter()
            .filter(|end| number_in(**end) > 0)
            .map(|end| (end >> 40, *end))
            .collect();
        let strangers = there
            .iter()
            .filter(|number| ends.get(&(**number >> 40)).is_none_or(|end| *number >= end))
            .count();
        demand(strangers == 0, format!("{strangers} rows that nobody has sent"));
        for level in Level::ALL {
            let numbers = sent.at(level);
            self.promised[level as usize] += numbers.len() as u64;
            let missing: Vec<u64> = numbers
                .iter()
                .copied()
                .filter(|number| !there.contains(number))
                .collect();
            if level == Level::Memory {
                self.memory_lost += missing.len() as u64;
                continue;
            }
            self.lost += missing.len() as u64;
            demand(
                missing.is_empty(),
                format!(
                    "{} of {} rows acknowledged at {} are missing: {}",
                    missing.len(),
                    numbers.len(),
                    level.name(),
                    ranges(&missing)
                ),
            );
        }

        self.unpromised += sent.unpromised;
        if has_log() {
            let ledger_lost = sum(&settled, "lost");
            demand(
                ledger_lost.is_some(),
                format!("/status tells what is lost: {settled:?}"),
            );
            self.told_lost = rig.rows_lost();
            demand(
                self.memory_lost <= self.told_lost,
                format!(
                    "{} rows acknowledged at memory are missing, and ringhouse tells of {}",
                    self.memory_lost, self.told_lost
                ),
            );
            demand(
                self.told_lost <= self.unpromised,
                format!(
                    "ringhouse tells of {} lost rows, and {} had no better promise than memory",
                    self.told_lost, self.unpromised
                ),
            );
        }
        assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
    }

    fn rows_there(&self, rig: &Rig, query: &str) -> HashSet<u64> {
        let text = rig.query(query);
        text.lines().map(|line| line.parse().expect("a number")).collect()
    }
}

/// Over all tables; `None` when one of them does not have it.
fn sum(ledger: &[serde_json::Value], key: &str) -> Option<u64> {
    ledger.iter().map(|entry| entry[key].as_u64()).sum()
}

/// Numbers in order, as the ranges they make.
fn ranges(numbers: &[u64]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let ranges: Vec<String> = numbers
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| format!("{}:{}+{}", run[0] >> 40, run[0] & ((1 << 40) - 1), run.len()))
        .collect();
    ranges.join(" ")
}
