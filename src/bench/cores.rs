//! `ringhouse bench cores`: the load against servers with one ingest core, two, and so on.
//!
//! One core is measured several times, by turns with the kernel (`bench kernel`'s, in this process) on the same CPU and
//! bodies of the same kind: what is between them is HTTP, sockets and the log.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::args::{IngestArgs, LoadArgs};
use super::environment::Environment;
use super::id::RunId;
use super::ingest::{BenchError, measure};
use super::interrupt::Interrupt;
use super::kernel::rows_per_cpu_s;
use super::layout::Layout;
use super::output::write_json;
use super::report::Report;
use super::request::{Encoding, RequestPlan};
use super::server::NULL_TABLE;
use super::table::{aligned, thousands};
use super::taker::Taker;
use super::target::Judged;
use super::wire::Wire;
use super::{median, unix_ms};
use crate::topology;

/// Options of `bench cores`.
#[derive(Debug, Clone, Args)]
pub struct CoresArgs {
    /// Runs of one ingest core, each between two turns of the kernel; figures are those of the median
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100), help_heading = "Load")]
    pub runs: u32,

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

/// What one ingest core is to reach of the kernel.
const KERNEL_TARGET: f64 = 0.85;

/// CPU time of a turn of the kernel at most; no longer than a run.
const TURN_MAX: Duration = Duration::from_secs(1);

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

/// One ingest core beside the kernel.
#[derive(Debug, Clone, Serialize)]
pub struct Beside {
    /// Rows for each second that the ingest core's thread had a CPU.
    pub core_rows_per_s: f64,
    /// Rows for each second of the kernel's, mean of the turns before and after.
    pub kernel_rows_per_s: f64,
    /// The one by the other.
    pub share: f64,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Scaling {
    /// Where, with what and how.
    pub environment: Environment,
    /// One by one.
    pub steps: Vec<Step>,
    /// The runs of one core beside the kernel, the smallest share first.
    pub kernel: Vec<Beside>,
    /// The median of these shares, judged.
    pub target: Judged,
    /// The runs behind all steps.
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
        for beside in &self.kernel {
            writeln!(
                f,
                "one core {} rows per core second, the kernel with the same bodies {} before and after: {:.3}",
                thousands(beside.core_rows_per_s),
                thousands(beside.kernel_rows_per_s),
                beside.share
            )?;
        }
        writeln!(f, "{}", self.target)?;
        for run in &self.runs {
            for reason in &run.verdict.reasons {
                writeln!(f, "VOID with {} cores: {reason}", run.cores.len())?;
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
    let (mut kernel, mut runs) = beside_kernel(args, &environment, &interrupt)?;
    // By their shares, so that the median's run is in the middle.
    let mut order: Vec<usize> = (0..kernel.len()).collect();
    order.sort_by(|one, other| kernel[*one].share.total_cmp(&kernel[*other].share));
    let middle = &runs[order[order.len() / 2]];
    let mut steps = vec![Step::of(middle, None)];
    kernel.sort_by(|one, other| one.share.total_cmp(&other.share));
    for cores in 2..=cores_max {
        eprintln!("{cores} of {cores_max} ingest cores:");
        let ingest = IngestArgs::null_on(cores, args.limits.clone(), args.load.clone());
        let report = measure(&ingest, environment.clone(), &interrupt)?.report;
        steps.push(Step::of(&report, steps.first()));
        runs.push(report);
    }
    let what = format!(
        "one ingest core by the kernel, {} rows a request at ack={}, rows per CPU second",
        thousands(f64::from(args.load.rows_per_request)),
        args.load.ack
    );
    let share = median(kernel.iter().map(|beside| beside.share));
    let scaling = Scaling {
        environment,
        steps,
        kernel,
        target: Judged::at_least(what, KERNEL_TARGET, share),
        runs,
    };
    print!("{scaling}");
    if let Some(path) = &args.json {
        write_json(path, &scaling)?;
    }
    let valid = scaling.runs.iter().all(|run| run.verdict.valid);
    Ok(if valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs one ingest core and the kernel by turns.
fn beside_kernel(
    args: &CoresArgs,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(Vec<Beside>, Vec<Report>), BenchError> {
    let ingest = IngestArgs::null_on(1, args.limits.clone(), args.load.clone());
    let load = ingest.load.load_cpus.as_ref();
    let layout = Layout::plan(&topology::available(), ingest.ingest_cores.as_ref(), load)
        .map_err(BenchError::Topology)?;
    let plan = RequestPlan {
        host: String::new(),
        table: NULL_TABLE.to_owned(),
        taker: Taker::Anyone,
        wire: Wire::Http1,
        encoding: Encoding::Identity,
        rows: args.load.rows_per_request as usize,
        id_key: ingest.id_key.clone(),
        run: RunId::random(),
    };
    let turn = || {
        let mut rows = args.load.rows(unix_ms())?;
        let at_least = args.load.duration.min(TURN_MAX);
        // On a thread of its own: this one starts the servers, which must not be pinned with it.
        std::thread::scope(|scope| {
            let turn = scope.spawn(|| {
                topology::pin_current_thread(layout.ingest[0]).map_err(BenchError::Topology)?;
                rows_per_cpu_s(&plan, &mut rows, at_least).map_err(BenchError::System)
            });
            turn.join().expect("the kernel takes what the generator makes")
        })
    };
    let (mut beside, mut runs) = (Vec::new(), Vec::new());
    let mut before = turn()?;
    for run in 1..=args.runs {
        eprintln!("one ingest core and the kernel, {run} of {}:", args.runs);
        let report = measure(&ingest, environment.clone(), interrupt)?.report;
        let after = turn()?;
        let core_rows_per_s = Step::of(&report, None).rows_per_core_s;
        let kernel_rows_per_s = (before + after) / 2.0;
        beside.push(Beside {
            core_rows_per_s,
            kernel_rows_per_s,
            share: core_rows_per_s / kernel_rows_per_s,
        });
        runs.push(report);
        before = after;
    }
    Ok((beside, runs))
}
