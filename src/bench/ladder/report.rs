//! What the ladder gave: as a table for people, as JSON for programs, as bars.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::super::bars::{self, Label, Panel};
use super::super::environment::Environment;
use super::super::ingest::BenchError;
use super::super::layout::Layout;
use super::super::median;
use super::super::table::{aligned, thousands};
use super::climb::Run;
use super::{LadderArgs, Rung};

/// Share of its time from which on the generator counts as the bottleneck.
const BUSY_SHARE: f64 = 0.9;

/// Everything.
#[derive(Debug, Serialize)]
pub struct Ladder {
    environment: Environment,
    rows_per_request: u32,
    connections: u32,
    duration_s: f64,
    warm_up_s: f64,
    ingest_cpus: Vec<usize>,
    writer_cpu: usize,
    load_cpus: Vec<usize>,
    /// The generator shares CPUs with the servers' cores.
    cpus_shared: bool,
    /// From the first to the last.
    pub rungs: Vec<Climbed>,
}

/// The runs of one rung.
#[derive(Debug, Serialize)]
pub struct Climbed {
    name: &'static str,
    promise: &'static str,
    ack: &'static str,
    /// One after the other.
    pub runs: Vec<Run>,
    /// Medians of the rows a second as a multiple of the first rung's.
    over_first: f64,
    /// ... of the rung's before.
    over_before: f64,
}

impl Climbed {
    /// Without a run.
    pub fn new(rung: &Rung) -> Climbed {
        Climbed {
            name: rung.name,
            promise: rung.promise,
            ack: rung.server.ack().name(),
            runs: Vec::new(),
            over_first: 1.0,
            over_before: 1.0,
        }
    }

    fn of(&self, pick: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(pick))
    }

    fn rows_per_s(&self) -> f64 {
        self.of(|run| run.rows_per_s_stored)
    }
}

impl Ladder {
    /// Of rungs that have all run, in their order.
    pub fn new(
        environment: Environment,
        args: &LadderArgs,
        layout: &Layout,
        mut rungs: Vec<Climbed>,
    ) -> Ladder {
        let rows_per_s: Vec<f64> = rungs.iter().map(Climbed::rows_per_s).collect();
        for (at, rung) in rungs.iter_mut().enumerate() {
            rung.over_first = rows_per_s[at] / rows_per_s[0];
            rung.over_before = rows_per_s[at] / rows_per_s[at.saturating_sub(1)];
        }
        Ladder {
            environment,
            rows_per_request: args.rows_per_request,
            connections: args.connections,
            duration_s: args.duration.as_secs_f64(),
            warm_up_s: args.warm_up.as_secs_f64(),
            ingest_cpus: layout.ingest.clone(),
            writer_cpu: layout.writer,
            load_cpus: layout.load.clone(),
            cpus_shared: layout.is_shared(),
            rungs,
        }
    }

    /// Writes what was asked for.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_files(&self, args: &LadderArgs) -> Result<(), BenchError> {
        let write = |path: &Path, text: &str| {
            std::fs::write(path, text).map_err(|error| BenchError::Output(path.to_owned(), error))
        };
        if let Some(path) = &args.json {
            let mut text = serde_json::to_string_pretty(self).expect("numbers, texts and lists are JSON");
            text.push('\n');
            write(path, &text)?;
        }
        if let Some(path) = &args.svg {
            write(path, &self.svg())?;
        }
        Ok(())
    }

    fn how(&self) -> String {
        format!(
            "{} rows a request, {} connections, {} s after {} s of warm-up, medians of {}; ingest on CPU {:?}, writer on CPU {}, load on CPU {:?}{}; ClickHouse on any",
            thousands(f64::from(self.rows_per_request)),
            self.connections,
            self.duration_s,
            self.warm_up_s,
            self.rungs.first().map_or(0, |rung| rung.runs.len()),
            self.ingest_cpus,
            self.writer_cpu,
            self.load_cpus,
            if self.cpus_shared {
                " (shared with the servers)"
            } else {
                ""
            }
        )
    }

    fn svg(&self) -> String {
        let names: Vec<String> = (self.rungs.iter().enumerate())
            .map(|(at, rung)| format!("{}  {}", at + 1, rung.name))
            .collect();
        let labels: Vec<Label<'_>> = (names.iter().zip(&self.rungs))
            .map(|(name, rung)| Label {
                name,
                note: rung.promise,
            })
            .collect();
        let bar = |value: f64, text: String| (value, text);
        let panels = [
            Panel {
                title: "rows stored a second, and as a multiple of the first",
                bars: (self.rungs.iter())
                    .map(|rung| {
                        let rows = rung.rows_per_s();
                        bar(rows, format!("{} ({:.1})", thousands(rows), rung.over_first))
                    })
                    .collect(),
            },
            Panel {
                title: "CPU seconds per million rows, ClickHouse's included",
                bars: (self.rungs.iter())
                    .map(|rung| {
                        let cpu_s = rung.of(Run::cpu_s);
                        bar(cpu_s, format!("{cpu_s:.2}"))
                    })
                    .collect(),
            },
        ];
        let mut notes = vec![
            "Small print under a name: where the rows are when a request is answered with success."
                .to_owned(),
            self.how(),
        ];
        notes.extend(self.environment.to_string().lines().map(str::to_owned));
        bars::bars("The ladder to ringhouse", &labels, &panels, &notes)
    }
}

impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n\n{}\n", self.environment, self.how())?;
        let head = [
            "",
            "requests/s",
            "rows/s stored",
            "of first",
            "of before",
            "p50 ms",
            "p99 ms",
            "CPU s/M rows",
            "server",
            "ClickHouse",
            "parts",
            "rows a part",
            "lost",
            "doubled",
        ];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        for (at, rung) in self.rungs.iter().enumerate() {
            lines.push(vec![
                format!("{}  {}", at + 1, rung.name),
                thousands(rung.of(|run| run.requests_per_s)),
                thousands(rung.rows_per_s()),
                format!("{:.2}", rung.over_first),
                format!("{:.2}", rung.over_before),
                format!("{:.2}", rung.of(|run| run.reply_p50_ms)),
                format!("{:.2}", rung.of(|run| run.reply_p99_ms)),
                format!("{:.2}", rung.of(Run::cpu_s)),
                format!("{:.2}", rung.of(|run| run.server_cpu_s)),
                format!("{:.2}", rung.of(|run| run.clickhouse_cpu_s)),
                thousands(rung.of(|run| run.parts as f64)),
                thousands(rung.of(Run::rows_per_part)),
                // Of all runs: a median would hide them.
                thousands(rung.runs.iter().map(|run| run.rows_lost as f64).sum()),
                thousands(rung.runs.iter().map(|run| run.rows_doubled as f64).sum()),
            ]);
        }
        writeln!(
            f,
            "{}\nan answer of success means that the rows are",
            aligned(&lines)
        )?;
        for (at, rung) in self.rungs.iter().enumerate() {
            writeln!(f, "{}  {}", at + 1, rung.promise)?;
        }
        for (at, rung) in self.rungs.iter().enumerate() {
            let refused: u64 = rung.runs.iter().map(|run| run.refused).sum();
            if refused > 0 {
                writeln!(
                    f,
                    "{}: {} replies were 503, their requests sent again",
                    at + 1,
                    thousands(refused as f64)
                )?;
            }
            if rung.of(|run| run.generator_cpu_share + run.generator_wait_share) > BUSY_SHARE {
                writeln!(
                    f,
                    "{}: the generator was the bottleneck ({:.0} % busy, {:.0} % waiting for a CPU), the server can do more",
                    at + 1,
                    rung.of(|run| run.generator_cpu_share) * 100.0,
                    rung.of(|run| run.generator_wait_share) * 100.0
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::RUNGS;
    use super::*;

    fn run(rows_per_s_stored: f64, rows_lost: u64) -> Run {
        Run {
            requests_per_s: 1.0,
            rows_per_s_stored,
            reply_p50_ms: 1.0,
            reply_p99_ms: 2.0,
            server_cpu_s: 1.5,
            clickhouse_cpu_s: 2.0,
            parts: 4,
            rows: 4_000,
            rows_lost,
            rows_doubled: 0,
            refused: 0,
            generator_cpu_share: 0.1,
            generator_wait_share: 0.1,
        }
    }

    #[test]
    fn compares_each_rung_with_the_first_and_the_one_before() {
        let args = LadderArgs {
            rows_per_request: 100,
            connections: 1,
            duration: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            runs: 3,
            json: None,
            svg: None,
        };
        let layout = Layout {
            ingest: vec![0],
            writer: 1,
            load: vec![1],
        };
        let rungs = (0..3).map(|at| {
            let mut climbed = Climbed::new(&RUNGS[at]);
            let middle = [1_000.0, 4_000.0, 2_000.0][at];
            climbed.runs = vec![run(1.0, 0), run(middle, 7), run(1e6, 0)];
            climbed
        });
        let ladder = Ladder::new(Environment::read(), &args, &layout, rungs.collect());
        let factors = ladder
            .rungs
            .iter()
            .map(|rung| (rung.over_first, rung.over_before));
        assert_eq!(factors.collect::<Vec<_>>(), [(1.0, 1.0), (4.0, 4.0), (2.0, 0.5)]);
        let text = ladder.to_string();
        let second = text.lines().find(|line| line.starts_with("2  the same")).unwrap();
        let cells: Vec<&str> = second
            .rsplit("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect();
        assert_eq!(cells[..5], ["0", "7", "1,000", "4", "2.00"], "{second}");
        let svg = ladder.svg();
        assert!(svg.contains("4,000 (4.0)") && svg.contains("3.50"), "{svg}");
    }
}
