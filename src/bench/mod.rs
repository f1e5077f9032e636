//! `ringhouse bench`: what this program can do, measured side by side with what else there is.

pub mod kernel;

use clap::Subcommand;
use std::error::Error;
use std::process::ExitCode;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// One core, in process: JSON lines to a sealed block, beside what bounds it and what others do with the same rows
    Kernel(kernel::KernelArgs),
}

/// Runs a benchmark.
///
/// # Errors
/// It cannot be run, or a figure would not be what it says.
pub fn run(command: BenchCommand) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        BenchCommand::Kernel(args) => kernel::run(&args),
    }
}
