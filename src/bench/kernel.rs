//! `bench kernel`: what one core makes of JSON lines, from the text to the sealed block, in process.
//!
//! Beside it, over the same lines in the same run: what nobody passes (copying the bytes, finding their line ends, simd-json's
//! tape), our own parser alone, and what a program would do without this one (serde_json, and blocks of `clickhouse-rs`). The
//! contestants take turns, so that what disturbs the machine disturbs all of them; time is the thread's CPU time. Does not
//! claim anything of sockets, of ClickHouse, or of several cores.

mod core;
mod inputs;
mod messages;
mod peer;
mod sent;

pub use self::core::{Core, TapeOnly, chunks, one_text};
pub use self::inputs::{Input, Table, corpus, plain, service};
pub use self::peer::default_block;
pub use self::sent::rows_per_cpu_s;

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use perf_event::events::Hardware;
use serde::Serialize;

use self::inputs::{otlp_requests, with_resource};
use self::messages::{forward_entries, syslog_stream};
use self::peer::{clickhouse_rs_blocks, serde_json_values};
use super::environment::Environment;
use super::median;
use super::process::thread_cpu;
use super::target::Judged;
use crate::json::{Parser, RowForm, RowsText};
use crate::limits::Limits;
use crate::topology;

/// Options of `bench kernel`.
#[derive(Debug, Args)]
pub struct KernelArgs {
    /// Generated lines of each kind
    #[arg(long, value_name = "ROWS", default_value_t = 40_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rows: u64,

    /// Turns of each contestant; figures are medians
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,

    /// CPU this runs on; without it the last one of the machine
    #[arg(long, value_name = "CPU")]
    pub core: Option<usize>,

    /// Folder of .ndjson files, real lines to be measured as well
    #[arg(long, value_name = "DIRECTORY")]
    pub corpus: Option<PathBuf>,

    /// Measures this contestant alone, for a profiler; without a name our kernel
    #[arg(long, value_name = "CONTESTANT", num_args = 0..=1, default_missing_value = KERNEL)]
    pub alone: Option<String>,

    /// File that all figures are written to
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What our kernel is to reach of simd-json's speed on the default table, and how many times that of `clickhouse-rs`.
const TAPE_TARGET: f64 = 0.65;
const CLICKHOUSE_RS_TARGET: f64 = 8.0;

/// Rows of one OTLP request, as a collector's default batches.
const OTLP_ROWS: usize = 8_192;
/// Rows that a connection without requests pushes at once.
const SOCKET_ROWS: usize = 512;

/// Time a turn takes at least: the lines are gone over as often as that takes.
const TURN_MIN: Duration = Duration::from_millis(100);

/// Place of our kernel among the contestants.
const KERNEL: &str = "kernel";

/// One way to go over the lines.
struct Contestant<'a> {
    name: &'static str,
    what: &'static str,
    /// Goes over all lines once and returns how many they were.
    pass: Box<dyn FnMut() -> u64 + 'a>,
    turns: Vec<Turn>,
}

/// What a turn of a contestant took, by row.
#[derive(Clone, Copy)]
struct Turn {
    ns: f64,
    /// Where the machine counts them.
    cycles: Option<f64>,
}

/// A contestant's medians.
#[derive(Debug, Serialize)]
struct Figures {
    name: &'static str,
    what: &'static str,
    ns_per_row: f64,
    rows_per_s: f64,
    mb_per_s: f64,
    cycles_per_byte: Option<f64>,
    /// Our kernel's speed as a multiple of this one's: median over the turns, each against the kernel's own of that turn.
    kernel_ratio: f64,
}

/// What `--json` writes.
#[derive(Serialize)]
struct Written<'a> {
    environment: &'a Environment,
    inputs: &'a [Report],
}

/// Everything that was measured over one input.
#[derive(Debug, Serialize)]
struct Report {
    input: &'static str,
    rows: u64,
    bytes: u64,
    /// Bytes of the lines for each byte of sealed blocks.
    compression: f64,
    contestants: Vec<Figures>,
}

/// Measures and prints.
///
/// # Errors
/// The corpus cannot be read, the CPU cannot be chosen, or the file cannot be written.
pub fn run(args: &KernelArgs) -> Result<ExitCode, Box<dyn Error>> {
    let environment = Environment::read();
    println!("{environment}");
    pin(args.core)?;
    let mut inputs = vec![service(args.rows), plain(args.rows)];
    if let Some(folder) = &args.corpus {
        let corpus = corpus(folder, args.rows as usize);
        inputs.push(corpus.map_err(|error| format!("--corpus {}: {error}", folder.display()))?);
    }
    let mut counter = counter();
    if let Err(error) = &counter {
        eprintln!("no cycles per byte: this machine does not count cycles ({error})");
    }
    let mut reports = Vec::new();
    for input in &inputs {
        let mut contestants = contestants(input);
        if let Some(alone) = &args.alone {
            contestants.retain(|contestant| contestant.name == alone);
        }
        if contestants.is_empty() {
            continue;
        }
        let report = measure(input, contestants, args.runs, counter.as_mut().ok());
        print(&report);
        reports.push(report);
    }
    match &args.alone {
        None => print_targets(&reports[0]),
        Some(name) if reports.is_empty() => {
            return Err(format!("--alone {name}: there is no such contestant").into());
        }
        Some(_) => {}
    }
    if let Some(path) = &args.json {
        let written = Written {
            environment: &environment,
            inputs: &reports,
        };
        let text = serde_json::to_vec_pretty(&written).expect("numbers and texts have a JSON form");
        std::fs::write(path, text).map_err(|error| format!("--json {}: {error}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn pin(core: Option<usize>) -> Result<(), Box<dyn Error>> {
    let available = topology::available();
    let chosen = match core {
        Some(cpu) => available.into_iter().find(|one| *one == cpu),
        None => available.into_iter().next_back(),
    };
    let chosen = chosen.ok_or("--core: this process may not run on such a CPU")?;
    topology::pin_current_thread(chosen)?;
    println!("on CPU {chosen}, time of the thread");
    Ok(())
}

fn counter() -> std::io::Result<perf_event::Counter> {
    let mut counter = perf_event::Builder::new(Hardware::CPU_CYCLES).build()?;
    counter.enable()?;
    Ok(counter)
}

fn measure(
    input: &Input,
    mut contestants: Vec<Contestant<'_>>,
    runs: u32,
    mut counter: Option<&mut perf_event::Counter>,
) -> Report {
    // Once for the caches, and to see that each knows all rows.
    for contestant in &mut contestants {
        assert_eq!((contestant.pass)(), input.rows, "{}", contestant.name);
    }
    for _ in 0..runs {
        for contestant in &mut contestants {
            let turn = take_turn(contestant, input.rows, counter.as_deref_mut());
            contestant.turns.push(turn);
        }
    }
    let kernel = contestants.iter().find(|contestant| contestant.name == KERNEL);
    // One that is measured alone is compared with itself.
    let kernel: Vec<Turn> = kernel.unwrap_or(&contestants[0]).turns.clone();
    let bytes_per_row = input.text.len() as f64 / input.rows as f64;
    let figures = |contestant: &Contestant<'_>| {
        let ns_per_row = median(contestant.turns.iter().map(|turn| turn.ns));
        let of_kernel = contestant.turns.iter().zip(&kernel);
        let cycles: Option<Vec<f64>> = contestant.turns.iter().map(|turn| turn.cycles).collect();
        Figures {
            name: contestant.name,
            what: contestant.what,
            ns_per_row,
            rows_per_s: 1e9 / ns_per_row,
            mb_per_s: bytes_per_row * 1e3 / ns_per_row,
            cycles_per_byte: cycles.map(|cycles| median(cycles) / bytes_per_row),
            kernel_ratio: median(of_kernel.map(|(turn, kernel)| turn.ns / kernel.ns)),
        }
    };
    Report {
        input: input.name,
        rows: input.rows,
        bytes: input.text.len() as u64,
        compression: compression(input),
        contestants: contestants.iter().map(figures).collect(),
    }
}

fn compression(input: &Input) -> f64 {
    let limits = Limits::default();
    let mut core = Core::new(input.table, &limits);
    for (start, end) in chunks(&input.text, &limits) {
        core.push(&input.text[start..end]);
    }
    core.finish();
    input.text.len() as f64 / core.frame_bytes() as f64
}

fn contestants(input: &Input) -> Vec<Contestant<'_>> {
    let limits = &Limits::default();
    let text = input.text.as_slice();
    let chunks = chunks(text, limits);
    let mut contestants = Vec::new();
    let mut enter = |name, what, pass| {
        contestants.push(Contestant {
            name,
            what,
            pass,
            turns: Vec::new(),
        });
    };
    let mut copy = vec![0; limits.chunk_bytes];
    let (of_copy, rows) = (chunks.clone(), input.rows);
    enter(
        "memcpy",
        "the bytes, copied chunk by chunk",
        Box::new(move || {
            for &(start, end) in &of_copy {
                copy[..end - start].copy_from_slice(black_box(&text[start..end]));
                black_box(&copy);
            }
            rows
        }),
    );
    enter(
        "newlines",
        "line ends found (memchr)",
        Box::new(|| memchr::memchr_iter(b'\n', black_box(text)).count() as u64),
    );
    let texts: Vec<Vec<u8>> = chunks
        .iter()
        .map(|&(start, end)| one_text(&text[start..end]))
        .collect();
    let mut tape = TapeOnly::new(limits.chunk_bytes);
    enter(
        "tape",
        "simd-json's tape of the same lines as arrays, nothing made of it",
        Box::new(move || {
            let nodes: usize = texts.iter().map(|text| tape.parse(text)).sum();
            black_box(nodes);
            rows
        }),
    );
    let mut parser = Parser::new(limits);
    let of_parser = chunks.clone();
    enter(
        "parse",
        "lines to a checked tape: how rows are read that are not written the usual way",
        Box::new(move || {
            let rows_of = |&(start, end): &(usize, usize)| {
                let text = RowsText {
                    bytes: &text[start..end],
                    form: RowForm::Lines,
                };
                parser.parse(text, |parsed| parsed.rows.len() as u64)
            };
            of_parser.iter().map(rows_of).sum()
        }),
    );
    let mut core = Core::new(input.table, limits);
    enter(
        KERNEL,
        "lines to typed columns to sealed blocks, LZ4 and checksums included",
        Box::new(move || {
            let before = core.finish();
            for &(start, end) in &chunks {
                core.push(&text[start..end]);
            }
            core.finish() - before
        }),
    );
    if input.table == Table::Default {
        let requests = otlp_requests(text, OTLP_ROWS);
        let lines = with_resource(text);
        let chunks = self::chunks(&lines, limits);
        let mut core = Core::new(input.table, limits);
        enter(
            "resource",
            "the kernel's work for lines that bring their resource and scope as well",
            Box::new(move || {
                let before = core.finish();
                for &(start, end) in &chunks {
                    core.push(&lines[start..end]);
                }
                core.finish() - before
            }),
        );
        let mut core = Core::new(input.table, limits);
        enter(
            "otlp",
            "the same rows as OTLP records in protobuf: requests to sealed blocks",
            Box::new(move || {
                let before = core.finish();
                requests.iter().for_each(|request| core.push_otlp(request));
                core.finish() - before
            }),
        );
        let own_limits = *limits;
        let mut stream = syslog_stream(text);
        let mut core = Core::new(input.table, limits);
        enter(
            "syslog",
            "the same as a stream of counted messages of RFC 5424, trace ids and attributes as structured data: framed, to sealed \
             blocks",
            Box::new(move || {
                let before = core.finish();
                stream.each_syslog(&own_limits, SOCKET_ROWS, |messages| core.push_rows(&messages));
                core.finish() - before
            }),
        );
        let mut entries = forward_entries(text);
        let mut core = Core::new(input.table, limits);
        enter(
            "forward",
            "the same as entries of Fluent Forward's packed mode: listed, to sealed blocks",
            Box::new(move || {
                let before = core.finish();
                entries.each_forward(&own_limits, SOCKET_ROWS, |rows| core.push_rows(&rows));
                core.finish() - before
            }),
        );
    }
    enter(
        "serde_json",
        "lines to serde_json::Value, nothing made of it",
        Box::new(move || serde_json_values(text)),
    );
    let table = input.table;
    enter(
        "clickhouse-rs",
        "serde_json to blocks of clickhouse-rs, not encoded nor compressed",
        Box::new(move || clickhouse_rs_blocks(table, text)),
    );
    contestants
}

fn take_turn(
    contestant: &mut Contestant<'_>,
    rows: u64,
    mut counter: Option<&mut perf_event::Counter>,
) -> Turn {
    let mut cycles = || counter.as_mut().and_then(|counter| counter.read().ok());
    let (started, cycles_before) = (thread_cpu(), cycles());
    let mut passes = 0_u64;
    loop {
        assert_eq!((contestant.pass)(), rows, "{}", contestant.name);
        passes += 1;
        let took = thread_cpu() - started;
        if took >= TURN_MIN {
            let rows = (passes * rows) as f64;
            let cycles = cycles_before.zip(cycles()).map(|(before, after)| after - before);
            return Turn {
                ns: took.as_nanos() as f64 / rows,
                cycles: cycles.map(|cycles| cycles as f64 / rows),
            };
        }
    }
}

fn print(report: &Report) {
    println!(
        "\n{}: {} rows of {:.0} bytes, blocks {:.1} times smaller",
        report.input,
        report.rows,
        report.bytes as f64 / report.rows as f64,
        report.compression
    );
    println!(
        "{:<14} {:>8} {:>10} {:>8} {:>8} {:>14}",
        "", "ns/row", "M rows/s", "MB/s", "cyc/B", "kernel is"
    );
    for figures in &report.contestants {
        let cycles = figures
            .cycles_per_byte
            .map_or("-".to_owned(), |cycles| format!("{cycles:.2}"));
        println!(
            "{:<14} {:>8.1} {:>10.2} {:>8.0} {:>8} {:>8.2} times  {}",
            figures.name,
            figures.ns_per_row,
            figures.rows_per_s / 1e6,
            figures.mb_per_s,
            cycles,
            figures.kernel_ratio,
            figures.what
        );
    }
}

fn print_targets(default_table: &Report) {
    let ratio = |name: &str| {
        let figures = default_table.contestants.iter();
        let figures = figures.filter(|figures| figures.name == name);
        figures.map(|figures| figures.kernel_ratio).sum::<f64>()
    };
    println!();
    for (name, target) in [("tape", TAPE_TARGET), ("clickhouse-rs", CLICKHOUSE_RS_TARGET)] {
        let what = format!("speed of the kernel by that of {name}, default table");
        println!("{}", Judged::at_least(what, target, ratio(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contestant_goes_over_all_rows() {
        for input in [service(300), plain(300)] {
            let report = measure(&input, contestants(&input), 1, None);
            let is_default = input.table == Table::Default;
            assert_eq!(report.contestants.len(), 7 + 4 * usize::from(is_default));
            for figures in &report.contestants {
                assert!(figures.ns_per_row > 0.0, "{figures:?}");
            }
            let kernel = report.contestants.iter().find(|figures| figures.name == KERNEL);
            assert_eq!(kernel.map(|figures| figures.kernel_ratio), Some(1.0));
            assert!(report.compression > 1.0);
        }
    }

    #[test]
    fn a_folder_without_lines_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(corpus(directory.path(), 10).is_err());
        std::fs::write(directory.path().join("a.ndjson"), "{}\n{}\n{}\n").unwrap();
        assert_eq!(corpus(directory.path(), 2).unwrap().rows, 2);
    }
}
