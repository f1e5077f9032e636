//! Parts of ClickHouse's tables: how many INSERTs made, and whether any is being merged.

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
