//! Arguments → settings → the subcommand; nothing else.

use std::process::ExitCode;

use clap::Parser;
use ringhouse::cli::{Arguments, Command, SettingsArgs};
use ringhouse::clickhouse::embedded::run_engine_child;
use ringhouse::config::{ConfigError, Settings};
use ringhouse::{bench, check, cli, server, telemetry, topology};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result: Result<ExitCode, Box<dyn std::error::Error>> = match Arguments::parse().command {
        Command::Serve(args) => serve(args),
        Command::Check(args) => check(args),
        Command::Schema(args) => cli::print_schema(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::Histograms(args) => cli::print_histograms(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::DeadLetters(args) => cli::dead_letters(args).map_err(Into::into),
        Command::Keys(command) => cli::keys(command).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Bench(command) => bench::run(command),
        Command::EmbeddedEngine(args) => run_engine_child(&args.arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("ringhouse: {error}");
        ExitCode::FAILURE
    })
}

fn serve(args: SettingsArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let settings = settings(args)?;
    telemetry::start(&settings.log_level, settings.log_format)?;
    // Huge pages would make 74 MiB of the 28 that are used, for a hundredth of the speed (tuning/README.md). Before any
    // thread asks for memory; a kernel that cannot is as good as one that does not.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    Ok(server::serve(&settings)?)
}

fn check(args: SettingsArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    Ok(check::check(&settings(args)?))
}

fn settings(args: SettingsArgs) -> Result<Settings, ConfigError> {
    Settings::load(
        args.into_written()?,
        &|name| std::env::var(name).ok(),
        &topology::available(),
    )
}
