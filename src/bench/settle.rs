//! Waits for ClickHouse: until it has the rows of a run, or rests.

use std::time::{Duration, Instant};

use super::clickhouse::{AskError, ClickHouse};
use super::id::{ID_BYTES, RunId};
use super::interrupt::Interrupt;
use crate::schema::TableName;

/// Pause between two counts.
const COUNT_PAUSE: Duration = Duration::from_millis(50);

/// Rows whose ids are told apart in one question: 8 bytes each, and as much again for the set.
const DISTINCT_ROWS_MAX: u64 = 16_000_000;

/// The rows of one run in one table.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Where they are counted.
    pub clickhouse: ClickHouse,
    /// The table.
    pub table: TableName,
    /// SQL condition that keeps ClickHouse from reading what was there before the run; the rows' times are the
    /// generator's, so no clocks are compared.
    pub since: String,
    /// SQL expression of a row's id.
    pub id_sql: String,
    /// Whose rows they are.
    pub run: RunId,
}

impl Stored {
    /// How many there are.
    ///
    /// # Errors
    /// ClickHouse does not tell.
    pub fn count(&self) -> Result<u64, AskError> {
        self.clickhouse
            .number(&format!("SELECT toString(count()) {}", self.of_run()))
    }

    /// How many different ids they have, of `rows` that there are about.
    ///
    /// # Errors
    /// ClickHouse does not tell.
    pub fn distinct(&self, rows: u64) -> Result<u64, AskError> {
        let parts = rows.div_ceil(DISTINCT_ROWS_MAX).max(1);
        // Not by `toUInt64`, which fails for rows of others that the condition leaves out in vain: it may be asked of them first.
        let number = format!(
            "toUInt64OrZero(substring({}, {}))",
            self.id_sql,
            self.run.prefix().len() + 1
        );
        debug_assert_eq!(self.run.id(0).len(), self.run.prefix().len() + ID_BYTES);
        let of_part = |part: u64| {
            self.clickhouse.number(&format!(
                "SELECT toString(uniqExact({number})) {} AND {number} % {parts} = {part}",
                self.of_run()
            ))
        };
        (0..parts).map(of_part).sum()
    }

    /// Waits until there are `rows` of them, for as long as their number grows: it gives up when it has not for
    /// `patience`, when there are more, and at a signal. The last count, and the time it took. A ClickHouse that is away
    /// may come back meanwhile: the server holds what it has acknowledged.
    ///
    /// # Errors
    /// ClickHouse does not tell, also not within `patience`.
    pub fn wait_for(
        &self,
        rows: u64,
        patience: Duration,
        interrupt: &Interrupt,
    ) -> Result<(u64, Duration), AskError> {
        let started = Instant::now();
        let (mut most, mut grown) = (0, started);
        loop {
            let count = self.count();
            if let Some(count) = count.as_ref().ok().filter(|count| **count > most) {
                (most, grown) = (*count, Instant::now());
            }
            let is_over = grown.elapsed() > patience || interrupt.has_come();
            match count {
                Ok(count) if count >= rows || is_over => return Ok((count, started.elapsed())),
                Err(error) if is_over => return Err(error),
                Ok(_) | Err(_) => {}
            }
            std::thread::sleep(COUNT_PAUSE);
        }
    }

    fn of_run(&self) -> String {
        format!(
            "FROM {} WHERE {} AND startsWith({}, '{}')",
            self.table,
            self.since,
            self.id_sql,
            self.run.prefix()
        )
    }
}
