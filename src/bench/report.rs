//! What a run of `bench ingest` found: as JSON for programs, as lines for people.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt;

use super::environment::Environment;
use super::table::{aligned, thousands};
use super::usage::Usage;

/// Everything about one run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where, with what and how.
    pub environment: Environment,
    /// What was asked for, as far as defaults decided it.
    pub settings: Settings,
    /// Whether the figures mean anything.
    pub verdict: Verdict,
    /// What went through in the measured time.
    pub throughput: Throughput,
    /// Due (or, in a closed loop, sent) to whole reply; where nobody replies, to the moment the socket had all of it.
    pub reply_ms: Latency,
    /// Due to sent: how late the generator was, its waiting for a free connection included; open loop only.
    pub late_ms: Option<Latency>,
    /// Due to seen in ClickHouse; without it nothing was probed.
    pub visible_ms: Option<Visible>,
    /// The server's process, when it is known.
    pub server: Option<Process>,
    /// The server's ingest cores, when the run started it.
    pub cores: Vec<Core>,
    /// What the measured time alone cost its threads and ClickHouse, when the run started them.
    pub usages: Vec<Usage>,
    /// The process of its embedded ClickHouse, when it is known.
    pub clickhouse: Option<Process>,
    /// The generator's own threads.
    pub generator: Generator,
    /// Last reply to all rows in ClickHouse, in milliseconds.
    pub settled_ms: u64,
}

/// How a run was made.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Where rows were posted.
    pub url: String,
    /// Where they were counted.
    pub clickhouse: String,
    /// Their table.
    pub table: String,
    /// `open` or `closed`.
    pub r#loop: &'static str,
    /// Rows a second that were due; `null` in a closed loop.
    pub rate: Option<u64>,
    /// Rows of a request.
    pub rows_per_request: usize,
    /// Connections.
    pub connections: usize,
    /// Requests in flight on one.
    pub pipeline: usize,
    /// Dialect of the bodies.
    pub dialect: &'static str,
    /// What was spoken on the connections.
    pub protocol: &'static str,
    /// Content coding.
    pub encoding: &'static str,
    /// Ack level.
    pub ack: &'static str,
    /// Seconds before anything was measured.
    pub warm_up_s: f64,
    /// Seconds that were measured.
    pub duration_s: f64,
    /// Bytes a row was to have, if that was asked for.
    pub row_bytes: Option<u32>,
    /// Seed of the rows' content.
    pub seed: u64,
    /// Directory of the corpus, if one was used.
    pub corpus: Option<String>,
    /// What every id of the run begins with.
    pub run: String,
    /// CPUs of the server's ingest cores, when the run started it.
    pub ingest_cpus: Option<Vec<usize>>,
    /// CPU of its writer.
    pub writer_cpu: Option<usize>,
    /// CPUs of its ClickHouse; empty when it was not pinned.
    pub clickhouse_cpus: Vec<usize>,
    /// CPUs of the generator; empty when it was not pinned.
    pub load_cpus: Vec<usize>,
    /// The generator shares CPUs with the server's cores.
    pub cpus_shared: bool,
}

/// Whether every row was sent, acknowledged and stored once.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// sent = acknowledged = stored = distinct, and every reply as it should be.
    pub valid: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// Rows sent, warm-up and probes included.
    pub sent: u64,
    /// Rows acknowledged.
    pub acknowledged: u64,
    /// Rows of this run in ClickHouse.
    pub stored: u64,
    /// Different ids among them.
    pub distinct: u64,
}

/// What was acknowledged in the measured time.
#[derive(Debug, Clone, Serialize)]
pub struct Throughput {
    /// Rows.
    pub rows: u64,
    /// Requests.
    pub requests: u64,
    /// Rows a second.
    pub rows_per_s: f64,
    /// Requests a second.
    pub requests_per_s: f64,
    /// Megabytes (10^6) of bodies a second, before compression.
    pub body_mb_per_s: f64,
    /// Megabytes of requests a second, on the wire.
    pub wire_mb_per_s: f64,
    /// Replies that refused a request for now (429 and 503, UNAVAILABLE of gRPC); it was sent again.
    pub refused: u64,
    /// Connections that the server ended behind a reply; each was opened anew.
    pub reopened: u64,
    /// Requests that were due and never sent, because every connection was busy to the end.
    pub unsent: u64,
}

/// A distribution of durations, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Values.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// Of values in nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        // The upper end of a bucket may lie above the largest value.
        let at = |quantile| histogram.value_at_quantile(quantile).min(histogram.max()) as f64 / 1e6;
        Latency {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }

    fn cells(&self, name: &str) -> Vec<String> {
        let values = [self.p50, self.p90, self.p95, self.p99, self.p999, self.max];
        let mut cells = vec![name.to_owned(), thousands(self.count as f64)];
        cells.extend(values.map(|value| format!("{value:.2}")));
        cells
    }
}

/// Time to visible, and how finely it was looked for.
#[derive(Debug, Clone, Serialize)]
pub struct Visible {
    /// Due to the end of the question that saw the row.
    pub latency: Latency,
    /// Between the starts of two questions, median, in milliseconds: a latency may be too long by as much.
    pub poll_p50_ms: f64,
    /// The same at most.
    pub poll_max_ms: f64,
}

/// What a process took, from the first request until all rows were stored.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// CPU time, user and system, all threads.
    pub cpu_s: f64,
    /// The same for a million rows, warm-up included.
    pub cpu_s_per_million_rows: f64,
    /// The most memory it has had since it started.
    pub memory_peak_bytes: u64,
}

/// What one ingest core did, from the start of the server until all rows were stored.
#[derive(Debug, Clone, Serialize)]
pub struct Core {
    /// Its index.
    pub core: usize,
    /// Its CPU.
    pub cpu: usize,
    /// Rows it has accepted.
    pub rows: u64,
    /// CPU time of its thread.
    pub cpu_s: f64,
}

/// What the generator took.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// Its threads.
    pub threads: usize,
    /// Their CPU time while they sent.
    pub cpu_s: f64,
    /// The same as a share of the time they had.
    pub cpu_share: f64,
    /// Time in which they could have run and had no CPU, as such a share: high where CPUs are shared. When both
    /// together are near 1, the generator was the bottleneck.
    pub wait_share: f64,
}

/// Share of its threads' time from which on the generator counts as the bottleneck.
const BUSY_SHARE: f64 = 0.9;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            settings,
            verdict,
            throughput,
            generator,
            ..
        } = self;
        writeln!(f, "{}\n", self.environment)?;
        writeln!(
            f,
            "{} loop, {} rows a request, {} connections, {} in flight on each, {} {} over {}, ack={}, {} s after {} s of warm-up, seed {}",
            settings.r#loop,
            settings.rows_per_request,
            settings.connections,
            settings.pipeline,
            settings.dialect,
            settings.encoding,
            settings.protocol,
            settings.ack,
            settings.duration_s,
            settings.warm_up_s,
            settings.seed,
        )?;
        if let (Some(ingest), Some(writer)) = (&settings.ingest_cpus, settings.writer_cpu) {
            writeln!(
                f,
                "ingest on CPU {ingest:?}, writer on CPU {writer}, ClickHouse on CPU {}, load on CPU {:?}{}",
                match settings.clickhouse_cpus.as_slice() {
                    [] => "any".to_owned(),
                    cpus => format!("{cpus:?}"),
                },
                settings.load_cpus,
                if settings.cpus_shared {
                    " (shared with the server)"
                } else {
                    ""
                }
            )?;
        }
        writeln!(
            f,
            "\n{} rows/s of {:.0} bytes, {} requests/s, {:.1} MB/s of bodies, {:.1} MB/s on the wire",
            thousands(throughput.rows_per_s),
            throughput.body_mb_per_s * 1e6 / throughput.rows_per_s.max(1.0),
            thousands(throughput.requests_per_s),
            throughput.body_mb_per_s,
            throughput.wire_mb_per_s
        )?;
        for (name, process) in [("server", &self.server), ("ClickHouse", &self.clickhouse)] {
            if let Some(process) = process {
                writeln!(
                    f,
                    "{name}: {:.3} CPU seconds per million rows, {:.1} MiB at most",
                    process.cpu_s_per_million_rows,
                    process.memory_peak_bytes as f64 / f64::from(1 << 20)
                )?;
            }
        }
        for core in &self.cores {
            writeln!(
                f,
                "ingest core {} on CPU {}: {} rows, {:.3} CPU seconds per million",
                core.core,
                core.cpu,
                thousands(core.rows as f64),
                core.cpu_s * 1e6 / (core.rows as f64).max(1.0)
            )?;
        }
        for usage in &self.usages {
            writeln!(
                f,
                "{}, in the measured time: {:.0} % of a CPU busy, {:.0} % waiting for one, {} rows a CPU second",
                usage.name,
                usage.busy_share * 100.0,
                usage.wait_share * 100.0,
                thousands(usage.rows_per_cpu_s)
            )?;
        }
        writeln!(
            f,
            "generator: {} threads, {:.0} % busy, {:.0} % waiting for a CPU{}",
            generator.threads,
            generator.cpu_share * 100.0,
            generator.wait_share * 100.0,
            if generator.cpu_share + generator.wait_share > BUSY_SHARE {
                ": it was the bottleneck, the server can do more"
            } else {
                ""
            }
        )?;
        if throughput.refused > 0 {
            writeln!(
                f,
                "{} times a request was refused and sent again: the server was full; {} connections were opened anew",
                thousands(throughput.refused as f64),
                thousands(throughput.reopened as f64)
            )?;
        }
        if throughput.unsent > 0 {
            writeln!(
                f,
                "{} requests were due and never sent: the server did not keep up; they count with the time they had waited",
                thousands(throughput.unsent as f64)
            )?;
        }
        let settled = match settings.ack {
            "none" => "written",
            _ => "reply",
        };
        let head = [
            "milliseconds",
            "count",
            "p50",
            "p90",
            "p95",
            "p99",
            "p99.9",
            "max",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec(), self.reply_ms.cells(settled)];
        rows.extend(self.late_ms.as_ref().map(|late| late.cells("sent late")));
        rows.extend(
            self.visible_ms
                .as_ref()
                .map(|visible| visible.latency.cells("visible")),
        );
        write!(f, "\n{}", aligned(&rows))?;
        if let Some(visible) = &self.visible_ms {
            writeln!(
                f,
                "visible: asked every {:.1} ms (median; {:.1} ms at most), a value may be too long by as much",
                visible.poll_p50_ms, visible.poll_max_ms
            )?;
        }
        let counts = [
            verdict.sent,
            verdict.acknowledged,
            verdict.stored,
            verdict.distinct,
        ];
        let [sent, acknowledged, stored, distinct] = counts.map(|count| thousands(count as f64));
        writeln!(
            f,
            "\n{sent} rows sent, {acknowledged} acknowledged, {stored} stored, {distinct} distinct, all {} ms after the last reply",
            self.settled_ms
        )?;
        if verdict.valid {
            return writeln!(f, "VALID: sent = acknowledged = stored, each once");
        }
        verdict
            .reasons
            .iter()
            .try_for_each(|reason| writeln!(f, "VOID: {reason}"))
    }
}
