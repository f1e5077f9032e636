//! `ringhouse bench`: what this program can do, measured beside what else there is, and what became of every row.
//!
//! [`ingest`] is the load generator, [`cores`] runs it against more and more ingest cores, [`single`] sends one log a
//! request, [`kernel`] is one core without sockets, [`peers`] what a user has without this program, [`ladder`] what one
//! builds on the way to it. What every measurement needs is beside them: rows and their ids, requests, the server to
//! measure, what Linux tells of processes, the environment, targets, tables and charts.

pub mod args;
pub mod bars;
pub mod chart;
pub mod clickhouse;
pub mod cores;
pub mod dialect;
pub mod environment;
mod forward;
pub mod id;
pub mod ingest;
pub mod interrupt;
pub mod kernel;
pub mod ladder;
pub mod layout;
pub mod link;
pub mod load;
mod loki;
pub mod measured;
mod otlp;
pub mod output;
pub mod parts;
pub mod peers;
mod place;
pub mod probe;
pub mod process;
pub mod reply;
pub mod report;
pub mod request;
pub mod rows;
pub mod schedule;
pub mod server;
pub mod settle;
pub mod single;
mod syslog;
pub mod table;
pub mod taker;
pub mod target;
pub mod ticker;
pub mod usage;
pub mod wire;

use std::error::Error;
use std::process::ExitCode;

use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// One core, in process: JSON lines to a sealed block, beside what bounds it and what others do with the same rows
    Kernel(kernel::KernelArgs),
    /// The same rows by this program and by what a user has without it, into the same table
    Peers(peers::PeersArgs),
    /// Posts rows as fast as the server takes them, or at a fixed rate, and counts them in ClickHouse
    Ingest(Box<args::IngestArgs>),
    /// The same against servers with one ingest core, two and so on: what each further core adds, and one beside the kernel
    Cores(cores::CoresArgs),
    /// The way to this design, each rung a server of its own, from one INSERT a request to native blocks
    Ladder(ladder::LadderArgs),
    /// Serves one rung of the ladder until standard input closes; `bench ladder` starts it
    #[command(hide = true)]
    Stage(ladder::StageArgs),
    /// One log a request, beside a bare responder on the same core and beside ClickHouse's async_insert
    Single(single::SingleArgs),
    /// Answers every request with the same reply until standard input ends; `bench single` starts it
    #[command(hide = true)]
    BareResponder(single::BareArgs),
}

/// The body of `bench`. Failure, also without an error, when the figures mean nothing.
///
/// # Errors
/// There was nothing to measure; one sentence.
pub fn run(command: BenchCommand) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        BenchCommand::Kernel(args) => kernel::run(&args),
        BenchCommand::Peers(args) => peers::run(&args),
        BenchCommand::Ingest(args) => Ok(ingest::run(&args)?),
        BenchCommand::Cores(args) => Ok(cores::run(&args)?),
        BenchCommand::Ladder(args) => Ok(ladder::run(&args)?),
        BenchCommand::Stage(args) => ladder::run_stage(&args),
        BenchCommand::Single(args) => Ok(single::run(&args)?),
        BenchCommand::BareResponder(args) => Ok(single::run_bare(&args)?),
    }
}

/// Unix time in milliseconds.
fn unix_ms() -> u64 {
    crate::ingest::unix_ms().max(0) as u64
}

/// The one in the middle, or the mean of the two there.
///
/// # Panics
/// When there is no number.
fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() % 2 {
        0 => (numbers[middle - 1] + numbers[middle]) / 2.0,
        _ => numbers[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
