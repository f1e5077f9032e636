//! `ringhouse check`: what would be run with, and how rows map to the live tables.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::clickhouse::control::{self, CheckReport, ControlConfig, TableReport};
use crate::config::{ClickHouse, Settings};
use crate::schema::{TableName, TableSchema};
use crate::server;

/// Prints the settings as a configuration file on standard output and, when ClickHouse answers, a report on its
/// tables on standard error. Failure: the keys are none, certificates cannot be used, a listed table is missing or cannot be served,
/// or the URL is none. A
/// ClickHouse that does not answer is reported and no failure: the server would start all the same.
pub fn check(settings: &Settings) -> ExitCode {
    // Whoever closed the output does not want it.
    let _ = io::stdout().write_all(settings.to_toml().as_bytes());
    let usable = server::open_access(settings).and_then(|_| server::load_certificates(settings));
    if let Err(error) = usable {
        eprintln!("ringhouse: {error}");
        return ExitCode::FAILURE;
    }
    if let ClickHouse::Embedded { .. } = settings.clickhouse {
        eprintln!("ringhouse: the embedded ClickHouse starts with `serve`; its tables are not checked");
        return ExitCode::SUCCESS;
    }
    let config = match settings.clickhouse.endpoints() {
        Ok(endpoints) => server::control_config(settings, endpoints),
        Err(error) => {
            eprintln!("ringhouse: {error}");
            return ExitCode::FAILURE;
        }
    };
    match control::check(&config) {
        Ok(report) => {
            eprint!("{}", describe(&report, &config));
            if is_servable(&report, &config) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!(
                "ringhouse: {} does not answer, its tables are not checked: {error}",
                server::list(&config.endpoints)
            );
            ExitCode::SUCCESS
        }
    }
}

fn is_servable(report: &CheckReport, config: &ControlConfig) -> bool {
    let created = |name: &TableName| config.create_tables && *name == config.default_table;
    let listed =
        |table: &&TableReport| table.name == config.default_table || config.tables.contains(&table.name);
    report.missing.iter().all(created)
        && report
            .tables
            .iter()
            .filter(listed)
            .all(|table| table.schema.is_ok())
}

fn describe(report: &CheckReport, config: &ControlConfig) -> String {
    let mut text = format!(
        "ringhouse: ClickHouse {} at {}\n",
        report.server_version, report.endpoint
    );
    for (endpoint, error) in &report.failed {
        let _ = writeln!(text, "ringhouse: {endpoint} is not checked: {error}");
    }
    for name in &report.missing {
        let what = if config.create_tables && *name == config.default_table {
            "does not exist and will be created"
        } else {
            "does not exist; requests for it are answered 404 until it does"
        };
        let _ = writeln!(text, "\n{name} {what}");
    }
    for table in &report.tables {
        let partition = if table.partition_key.is_empty() {
            "none"
        } else {
            &table.partition_key
        };
        let _ = writeln!(
            text,
            "\n{} ({}, partition key: {partition})",
            table.name, table.engine
        );
        match &table.schema {
            Ok(schema) => describe_columns(&mut text, schema),
            Err(reason) => {
                let _ = writeln!(text, "  cannot be served: {reason}");
            }
        }
        for warning in &table.warnings {
            let _ = writeln!(text, "  warning: {warning}");
        }
    }
    text
}

fn describe_columns(text: &mut String, schema: &TableSchema) {
    for (index, column) in schema.columns.iter().enumerate() {
        let _ = write!(text, "  {} {}", column.name, column.type_name);
        if column.has_default {
            text.push_str(", left to its DEFAULT when a row has no such key");
        }
        if schema.overflow == Some(index) {
            text.push_str(", takes the keys no other column takes");
        }
        text.push('\n');
    }
    for (column, why) in &schema.left_out {
        let _ = writeln!(text, "  {column} is left out: {why}");
    }
    if schema.overflow.is_none() {
        text.push_str(
            "  keys without a column are dropped and counted: there is no Map or JSON column for them\n",
        );
    }
}
