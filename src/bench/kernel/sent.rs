//! What the kernel makes of the bodies that the generator sends, ids included.

use std::io;
use std::time::Duration;

use super::core::{Core, chunks};
use super::inputs::Table;
use crate::bench::process::thread_cpu;
use crate::bench::request::{RequestPlan, Requests};
use crate::bench::rows::Rows;
use crate::limits::Limits;

/// Goes over bodies of `plan`, lines for the default table that are not compressed, for so much CPU time of this thread,
/// after a tenth of it for the caches; the rows of a CPU second. Writing ids and finding line ends are not counted, as in
/// `bench kernel`.
///
/// # Errors
/// The bodies cannot be made.
pub fn rows_per_cpu_s(plan: &RequestPlan, rows: &mut Rows, at_least: Duration) -> io::Result<f64> {
    let limits = Limits::default();
    let mut core = Core::new(Table::Default, &limits);
    let mut requests = Requests::new(plan, rows)?;
    let mut next = 0;
    let mut turn = |at_least: Duration| {
        let before = core.finish();
        let mut took = Duration::ZERO;
        while took < at_least {
            let ready = requests.make(next)?;
            next += plan.rows as u64;
            let body = ready.body();
            let chunks = chunks(body, &limits);
            let started = thread_cpu();
            for (start, end) in chunks {
                core.push(&body[start..end]);
            }
            took += thread_cpu() - started;
        }
        let started = thread_cpu();
        let rows = core.finish() - before;
        took += thread_cpu() - started;
        Ok(rows as f64 / took.as_secs_f64())
    };
    turn(at_least / 10)?;
    turn(at_least)
}
