//! The subcommands that are not a server: `check`, `schema`, `histograms`.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::admin::{self, FetchError};
use crate::cli::{HistogramFormat, HistogramsArgs, SchemaArgs};
use crate::config::Settings;
use crate::schema::{TableName, TableSchema};

/// Why a subcommand printed nothing.
#[derive(Debug)]
pub enum CommandError {
    /// The running server did not give the page.
    Fetch(FetchError),
    /// Standard output is closed.
    Output(io::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Fetch(error) => error.fmt(f),
            CommandError::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl std::error::Error for CommandError {}

/// Prints the default table's DDL.
///
/// # Errors
/// Standard output is closed.
pub fn schema(args: &SchemaArgs) -> Result<(), CommandError> {
    let (database, table) = args.table.split_once('.').unwrap_or(("default", &args.table));
    let name = TableName { database: database.to_owned(), table: table.to_owned() };
    print(&format!("{};\n", TableSchema::default_table_ddl(&name, args.ttl_days)))
}

/// Prints a running server's latency histograms.
///
/// # Errors
/// No server answers at the admin address.
pub fn histograms(args: &HistogramsArgs) -> Result<(), CommandError> {
    let format = match args.format {
        HistogramFormat::Text => "text",
        HistogramFormat::Hgrm => "hgrm",
        HistogramFormat::Log => "log",
    };
    let path = format!("/histograms?format={format}&name={}", args.name);
    print(&admin::fetch(args.admin, &path).map_err(CommandError::Fetch)?)
}

/// Prints the settings as a configuration file and compares them with the live tables.
///
/// # Errors
/// Standard output is closed.
pub fn check(settings: &Settings) -> Result<ExitCode, CommandError> {
    print(&settings.to_toml())?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<(), CommandError> {
    io::stdout().write_all(text.as_bytes()).map_err(CommandError::Output)
}
