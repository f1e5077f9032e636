//! Parts of ClickHouse's tables: how many INSERTs made, whether any is being merged, and whether INSERTs were gathered.

use std::time::Duration;

use super::clickhouse::{AskError, ClickHouse};
use super::interrupt::Interrupt;

/// Looks in a row that must find ClickHouse without a merge.
const IDLE_LOOKS: u32 = 3;
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// Waits until ClickHouse merges nothing any more, or a signal comes.
///
/// # Errors
/// ClickHouse does not tell.
pub fn wait_until_idle(clickhouse: &ClickHouse, interrupt: &Interrupt) -> Result<(), AskError> {
    let mut looks = 0;
    while looks < IDLE_LOOKS && !interrupt.has_come() {
        let merges = clickhouse.number("SELECT toString(count()) FROM system.merges")?;
        looks = if merges == 0 { looks + 1 } else { 0 };
        std::thread::sleep(IDLE_PAUSE);
    }
    Ok(())
}

/// Parts that INSERTs into MergeTree tables have made since ClickHouse started.
///
/// # Errors
/// ClickHouse does not tell.
pub fn parts_made(clickhouse: &ClickHouse) -> Result<u64, AskError> {
    clickhouse
        .number("SELECT toString(sum(value)) FROM system.events WHERE event = 'MergeTreeDataWriterBlocks'")
}

/// What is to be said of figures of `async_insert`, when this ClickHouse has gathered no INSERT since it started: the embedded
/// one is `clickhouse local`, which has no queue for them (seen with 26.7).
///
/// # Errors
/// ClickHouse does not tell.
pub fn async_insert_remark(clickhouse: &ClickHouse) -> Result<Option<&'static str>, AskError> {
    let gathered = clickhouse
        .number("SELECT toString(sum(value)) FROM system.events WHERE event = 'AsyncInsertQuery'")?;
    Ok((gathered == 0).then_some(
        "this ClickHouse has no queue for async_insert (it counted no AsyncInsertQuery): it took each as a synchronous INSERT, \
         a part for each request",
    ))
}
