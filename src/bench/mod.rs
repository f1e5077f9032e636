//! `ringhouse bench`: what this program can do, measured beside what else there is, and what became of every row.
//!
//! [`ingest`] is the load generator, [`kernel`] one core without sockets. What every measurement needs is beside them: rows and
//! their ids, requests, the server to measure, what Linux tells of processes, the environment, tables and charts.

pub mod chart;
pub mod clickhouse;
pub mod dialect;
pub mod environment;
pub mod id;
pub mod ingest;
pub mod interrupt;
pub mod kernel;
pub mod layout;
pub mod load;
pub mod probe;
pub mod process;
pub mod reply;
pub mod report;
pub mod request;
pub mod rows;
pub mod schedule;
pub mod server;
pub mod settle;
pub mod table;

use std::error::Error;
use std::process::ExitCode;

use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// One core, in process: JSON lines to a sealed block, beside what bounds it and what others do with the same rows
    Kernel(kernel::KernelArgs),
    /// Posts rows as fast as the server takes them, or at a fixed rate, and counts them in ClickHouse
    Ingest(Box<ingest::IngestArgs>),
}

/// The body of `bench`. Failure, also without an error, when the figures mean nothing.
///
/// # Errors
/// There was nothing to measure; one sentence.
pub fn run(command: BenchCommand) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        BenchCommand::Kernel(args) => kernel::run(&args),
        BenchCommand::Ingest(args) => Ok(ingest::run(&args)?),
    }
}
