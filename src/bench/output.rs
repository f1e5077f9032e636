//! Writes what a run found into the files that were asked for.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::IngestArgs;
use super::chart::{self, Series};
use super::ingest::{BenchError, Outcome};
use super::table::thousands;
use crate::histogram::hgrm;

/// Writes figures as JSON.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, figures: &impl Serialize) -> Result<(), BenchError> {
    let mut text = serde_json::to_string_pretty(figures).expect("numbers, texts and lists are JSON");
    text.push('\n');
    std::fs::write(path, text).map_err(|error| BenchError::Output(path.to_owned(), error))
}

/// Writes the report as JSON, the latencies as `hgrm` and the chart.
///
/// # Errors
/// A file cannot be written; those before it are there.
pub fn write_files(args: &IngestArgs, outcome: &Outcome) -> Result<(), BenchError> {
    let Outcome {
        report,
        reply,
        visible,
    } = outcome;
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| BenchError::Output(path.to_owned(), error))
    };
    if let Some(path) = &args.json {
        write_json(path, report)?;
    }
    if let Some(path) = &args.hdr {
        write(path, &hgrm(reply))?;
        if !visible.is_empty() {
            write(&beside(path, "visible"), &hgrm(visible))?;
        }
    }
    if let Some(path) = &args.svg {
        let series = [
            Series {
                name: "reply",
                histogram: reply,
            },
            Series {
                name: "visible in ClickHouse",
                histogram: visible,
            },
        ];
        let title = format!(
            "ringhouse bench ingest: {} rows/s, ack={}",
            thousands(report.throughput.rows_per_s),
            report.settings.ack
        );
        let mut notes: Vec<String> = report
            .environment
            .to_string()
            .lines()
            .map(str::to_owned)
            .collect();
        notes.extend(
            report
                .verdict
                .reasons
                .iter()
                .map(|reason| format!("VOID: {reason}")),
        );
        write(path, &chart::percentiles(&title, &series, &notes))?;
    }
    Ok(())
}

/// `a/b.hgrm` → `a/b.visible.hgrm`.
fn beside(path: &Path, what: &str) -> PathBuf {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => path.with_extension(format!("{what}.{extension}")),
        None => path.with_extension(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_second_distribution_after_the_first() {
        assert_eq!(
            beside(Path::new("a/b.hgrm"), "visible"),
            Path::new("a/b.visible.hgrm")
        );
        assert_eq!(beside(Path::new("a/b"), "visible"), Path::new("a/b.visible"));
    }
}
