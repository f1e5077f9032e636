//! `ringhouse bench cores`: the load against servers with one ingest core, two, and so on.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::args::{IngestArgs, LoadArgs};
use super::environment::Environment;
use super::ingest::{BenchError, measure};
use super::interrupt::Interrupt;
use super::report::Report;
use super::table::{aligned, thousands};
use crate::topology;

/// Options of `bench cores`.
#[derive(Debug, Clone, Args)]
pub struct CoresArgs {
    /// Ingest cores of the last run [default: as many as leave a CPU to the writer and one to the load, 2 at least]
    #[arg(long, value_name = "CORES", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Server")]
    pub cores_max: Option<u16>,

    /// Set a limit of the servers; repeat for more
    #[arg(long = "limit", value_name = "KEY=VALUE", help_heading = "Server")]
    pub limits: Vec<String>,

    /// What is sent.
    #[command(flatten)]
    pub load: LoadArgs,

    /// Write everything as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
}

/// What so many cores gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Ingest cores.
    pub cores: usize,
    /// Rows a second by the clock.
    pub rows_per_s: f64,
    /// Rows for each second that the ingest cores' threads had a CPU.
    pub rows_per_core_s: f64,
    /// Rows a second of each core, as a share of those of the first step.
    pub efficiency_clock: f64,
    /// Rows for each second of CPU, as a share of those of the first step: what each core pays for there being others.
    pub efficiency_cpu: f64,
    /// Rows of the busiest core by those of the average one: the kernel spreads connections by hash.
    pub imbalance: f64,
    /// The generator has a CPU of the server's cores: the clock then says little.
    pub cpus_shared: bool,
}

impl Step {
    fn of(report: &Report, first: Option<&Step>) -> Step {
        let cores = report.cores.len();
        let rows: u64 = report.cores.iter().map(|core| core.rows).sum();
        let busiest = report.cores.iter().map(|core| core.rows).max().unwrap_or(0);
        let cpu_s: f64 = report.cores.iter().map(|core| core.cpu_s).sum();
        let rows_per_core_s = rows as f64 / cpu_s;
        let rows_per_s = report.throughput.rows_per_s;
        Step {
            cores,
            rows_per_s,
            rows_per_core_s,
            efficiency_clock: first.map_or(1.0, |first| rows_per_s / cores as f64 / first.rows_per_s),
            efficiency_cpu: first.map_or(1.0, |first| rows_per_core_s / first.rows_per_core_s),
            imbalance: busiest as f64 * cores as f64 / rows as f64,
            cpus_shared: report.settings.cpus_shared,
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.cores.to_string(),
            thousands(self.rows_per_s),
            thousands(self.rows_per_core_s),
            format!("{:.2}", self.efficiency_clock),
            format!("{:.2}", self.efficiency_cpu),
            format!("{:.2}", self.imbalance),
            if self.cpus_shared { "yes" } else { "no" }.to_owned(),
        ]
    }
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Scaling {
    /// Where, with what and how.
    pub environment: Environment,
    /// One by one.
    pub steps: Vec<Step>,
    /// The runs behind them.
    pub runs: Vec<Report>,
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.environment)?;
        let head = [
            "ingest cores",
            "rows/s",
            "rows per core second",
            "efficiency by clock",
            "by CPU time",
            "imbalance",
            "CPUs shared",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.steps.iter().map(Step::cells));
        f.write_str(&aligned(&rows))?;
        if self.steps.iter().any(|step| step.cpus_shared) {
            writeln!(
                f,
                "where CPUs are shared the server, ClickHouse and the generator wait for each other: read the CPU time"
            )?;
        }
        for (step, run) in self.steps.iter().zip(&self.runs) {
            for reason in &run.verdict.reasons {
                writeln!(f, "VOID with {} cores: {reason}", step.cores)?;
            }
        }
        Ok(())
    }
}

/// The body of `bench cores`. Failure when a run is VOID.
///
/// # Errors
/// See [`BenchError`].
pub fn run(args: &CoresArgs) -> Result<ExitCode, BenchError> {
    let environment = Environment::read();
    let interrupt = Interrupt::install().map_err(BenchError::System)?;
    let cpus = topology::available().len();
    let cores_max = args
        .cores_max
        .map_or(cpus.saturating_sub(2).max(2.min(cpus)), usize::from);
    let mut scaling = Scaling {
        environment: environment.clone(),
        steps: Vec::new(),
        runs: Vec::new(),
    };
    for cores in 1..=cores_max {
        eprintln!("{cores} of {cores_max} ingest cores:");
        let ingest = IngestArgs::null_on(cores, args.limits.clone(), args.load.clone());
        let report = measure(&ingest, environment.clone(), &interrupt)?.report;
        scaling.steps.push(Step::of(&report, scaling.steps.first()));
        scaling.runs.push(report);
    }
    print!("{scaling}");
    if let Some(path) = &args.json {
        let mut text = serde_json::to_string_pretty(&scaling).expect("numbers, texts and lists are JSON");
        text.push('\n');
        std::fs::write(path, text).map_err(|error| BenchError::Output(path.clone(), error))?;
    }
    let valid = scaling.runs.iter().all(|run| run.verdict.valid);
    Ok(if valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
