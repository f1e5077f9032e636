//! Options of the measurements that make load.

// The doc comments of arguments are their help texts, where `[default: VALUE]` is no link.
#![allow(rustdoc::broken_intra_doc_links)]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::clickhouse::ClickHouse;
use super::dialect::Dialect;
use super::id::RunId;
use super::ingest::BenchError;
use super::request::Encoding;
use super::rows::Rows;
use super::wire::Wire;
use crate::ack::AckLevel;
use crate::dead_letter::Target;
use crate::topology::{self, CoreChoice};

/// Options of `bench ingest`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct IngestArgs {
    /// The server, as http://HOST:PORT; without it one is started, with an embedded ClickHouse, and removed afterwards
    #[arg(long, value_name = "URL", requires = "clickhouse", help_heading = "Server")]
    pub url: Option<Target>,

    /// ClickHouse to count in, as http://USER@HOST:8123/DATABASE or tcp://USER@HOST:9000/DATABASE
    ///
    /// The password may come from RINGHOUSE_CLICKHOUSE_PASSWORD.
    #[arg(long, value_name = "URL", requires = "url", help_heading = "Server")]
    pub clickhouse: Option<ClickHouse>,

    /// Process id of the server, when it runs on this machine, for its CPU time and memory
    #[arg(long, value_name = "PID", requires = "url", help_heading = "Server")]
    pub pid: Option<u32>,

    /// Its listener for a dialect that is not HTTP's: syslog, forward or json-lines
    #[arg(long, value_name = "HOST:PORT", requires = "url", help_heading = "Server")]
    pub socket: Option<String>,

    /// Table, as `table` or `database.table`
    #[arg(
        long,
        value_name = "NAME",
        default_value = "otel_logs",
        help_heading = "Server"
    )]
    pub table: String,

    /// JSON key of a row's id
    #[arg(long, value_name = "KEY", default_value = "trace_id", help_heading = "Server")]
    pub id_key: String,

    /// SQL expression of a row's id in the table [default: where the dialect's rows have it in the default table]
    #[arg(long, value_name = "SQL", help_heading = "Server")]
    pub id_sql: Option<String>,

    /// Ingest cores of the server that is started: a count or CPUs [default: a quarter of the CPUs]
    #[arg(long, value_name = "CORES", conflicts_with = "url", help_heading = "Server")]
    pub ingest_cores: Option<CoreChoice>,

    /// Set a limit of the server that is started; repeat for more
    #[arg(
        long = "limit",
        value_name = "KEY=VALUE",
        conflicts_with = "url",
        help_heading = "Server"
    )]
    pub limits: Vec<String>,

    /// CPUs of the ClickHouse that is started, comma-separated [default: any]
    #[arg(
        long,
        value_name = "CPUS",
        value_delimiter = ',',
        conflicts_with = "url",
        help_heading = "Server"
    )]
    pub clickhouse_cpus: Vec<usize>,

    /// Throw the rows away in ClickHouse but for their ids, to measure the server of this run rather than ClickHouse
    #[arg(long, conflicts_with_all = ["url", "table", "id_key", "id_sql"], help_heading = "Server")]
    pub null: bool,

    /// What is sent.
    #[command(flatten)]
    pub load: LoadArgs,

    /// Write everything as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// Write the reply latencies' percentiles as HdrHistogram plotters read them; those to visible beside it, as
    /// FILE with `visible` before its extension
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hdr: Option<PathBuf>,

    /// Draw both by percentile
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub svg: Option<PathBuf>,
}

impl IngestArgs {
    /// A server of its own with so many ingest cores, whose rows are thrown away but for their ids.
    pub fn null_on(ingest_cores: usize, limits: Vec<String>, load: LoadArgs) -> IngestArgs {
        IngestArgs {
            url: None,
            clickhouse: None,
            pid: None,
            socket: None,
            table: "otel_logs".to_owned(),
            id_key: "trace_id".to_owned(),
            id_sql: None,
            ingest_cores: Some(CoreChoice::Count(ingest_cores)),
            limits,
            clickhouse_cpus: Vec::new(),
            null: true,
            load,
            json: None,
            hdr: None,
            svg: None,
        }
    }

    /// Whether a run can be made of it.
    ///
    /// # Errors
    /// It does not go together.
    pub fn check(&self) -> Result<(), BenchError> {
        let load = &self.load;
        let (is_http, is_socket) = (
            load.dialect.wire() == Wire::Http1,
            load.dialect.protocol().is_some(),
        );
        let available = topology::available();
        let wrong = if self.clickhouse_cpus.iter().any(|cpu| !available.contains(cpu)) {
            "--clickhouse-cpus: this process may not run on such a CPU"
        } else if load.rows_per_request > load.dialect.rows_max() {
            "--rows-per-request: Logger takes one log a request, LogTide 1,000"
        } else if load.http2 && !is_http {
            "--http2: this dialect has no choice of protocols"
        } else if load.encoding != Encoding::Identity && !is_http {
            "--encoding: bodies of this dialect are not compressed here"
        } else if self.url.is_some() && self.socket.is_some() != is_socket {
            "--socket: goes with --url and a dialect that has a listener of its own, and both need it"
        } else {
            return Ok(());
        };
        Err(BenchError::Asked(wrong))
    }
}

/// What is sent, and for how long.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Rows a second, each request due at a fixed time and its latency counted from there; as fast as it goes when absent
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..=10_000_000_000), help_heading = "Load")]
    pub rate: Option<u64>,

    /// Rows of one request
    #[arg(long, value_name = "ROWS", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Load")]
    pub rows_per_request: u32,

    /// Bytes of a row, by longer messages than it has by itself, some 240 in all as JSON
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = "Load")]
    pub row_bytes: Option<u32>,

    /// Connections
    #[arg(long, value_name = "COUNT", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Load")]
    pub connections: u32,

    /// Requests in flight on one connection at most
    #[arg(long, value_name = "REQUESTS", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000), help_heading = "Load")]
    pub pipeline: u32,

    /// How rows are written
    #[arg(long, value_name = "DIALECT", default_value = "ndjson", help_heading = "Load")]
    pub dialect: Dialect,

    /// HTTP/2 by prior knowledge, for dialects of HTTP; gRPC always has it
    #[arg(long, help_heading = "Load")]
    pub http2: bool,

    /// What replies must promise; without meaning for syslog and json-lines, which have none
    #[arg(long, value_name = "LEVEL", value_parser = crate::cli::ack_levels(), default_value = "wal", help_heading = "Load")]
    pub ack: AckLevel,

    /// Content coding of bodies; each is compressed anew, which costs the generator CPU time
    #[arg(
        long,
        value_name = "CODING",
        default_value = "identity",
        help_heading = "Load"
    )]
    pub encoding: Encoding,

    /// Seconds that are measured
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Load")]
    pub duration: Duration,

    /// Seconds before
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, help_heading = "Load")]
    pub warm_up: Duration,

    /// Directory whose files' lines become messages; generated rows when absent
    #[arg(long, value_name = "DIRECTORY", help_heading = "Load")]
    pub corpus: Option<PathBuf>,

    /// Seed of the rows' content
    #[arg(long, value_name = "NUMBER", default_value = "1", help_heading = "Load")]
    pub seed: u64,

    /// CPUs of the generator, a thread each: a count or CPUs [default: away from the server's]
    #[arg(long, value_name = "CPUS", help_heading = "Load")]
    pub load_cpus: Option<CoreChoice>,

    /// Rows a second that are posted on a connection of their own to measure when they become visible; 0 for none
    #[arg(long, value_name = "ROWS", default_value = "5", value_parser = clap::value_parser!(u32).range(0..=1000), help_heading = "Load")]
    pub probe_rate: u32,

    /// Seconds without a new row in ClickHouse after which those that are missing count as lost
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Load")]
    pub patience: Duration,
}

impl LoadArgs {
    /// What is spoken on its connections.
    pub fn wire(&self) -> Wire {
        match self.dialect.wire() {
            Wire::Http1 if self.http2 => Wire::Http2,
            wire => wire,
        }
    }

    /// The rows that are sent, from `unix_ms` on.
    ///
    /// # Errors
    /// The corpus gives none, or they are longer than they are to be.
    pub fn rows(&self, unix_ms: u64) -> Result<Rows, BenchError> {
        let rows = match &self.corpus {
            Some(directory) => {
                Rows::from_corpus(self.seed, unix_ms, directory).map_err(BenchError::Corpus)?
            }
            None => Rows::generated(self.seed, unix_ms),
        };
        let Some(bytes) = self.row_bytes else {
            return Ok(rows);
        };
        let mut sample = rows.of_thread(0);
        let sample: Vec<_> = (0..SAMPLE_ROWS).map(|_| sample.next_row()).collect();
        let body = self.dialect.body(&sample, "trace_id", &RunId::random());
        match (bytes as usize).checked_sub(body.bytes.len() / SAMPLE_ROWS) {
            Some(missing) => Ok(rows.with_longer_messages(missing)),
            None => Err(BenchError::Asked(
                "--row-bytes: rows of this dialect are longer by themselves",
            )),
        }
    }
}

/// Rows by which it is told how long one is in a body: what a body has besides them does not count among so many.
const SAMPLE_ROWS: usize = 1_000;

/// Where the id of the default table's rows is.
pub const ID_SQL: &str = "TraceId";

const EXAMPLES: &str = "\
Examples:
  ringhouse bench ingest
      as fast as it goes, against a server and a ClickHouse of its own
  ringhouse bench ingest --rate 100000 --duration 60 --svg latency.svg
      latencies at 100,000 rows a second
  ringhouse bench ingest --url http://10.0.0.7:8080 --clickhouse http://10.0.0.8:8123 --connections 256
      against a running server; the rows stay in its table, under a trace id that begins with the run's 16 digits
  ringhouse bench ingest --dialect otlp-grpc --rows-per-request 8192 --row-bytes 300 --ack inserted --clickhouse-cpus 2,3
      logs of some 300 bytes over gRPC, each call answered after its INSERT, ClickHouse on CPUs of its own

The run is VOID, and the exit code not 0, unless every row sent was acknowledged and is in ClickHouse exactly once.";

/// Seconds, with a fraction if need be.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let digits = text.strip_suffix('s').unwrap_or(text);
    match digits.parse::<f64>().map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) if duration <= Duration::from_secs(7 * 86_400) => Ok(duration),
        _ => Err("seconds are a number from 0 to 604800, such as 10 or 0.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_seconds() {
        assert_eq!(seconds("10"), Ok(Duration::from_secs(10)));
        assert_eq!(seconds("0.5s"), Ok(Duration::from_millis(500)));
        for text in ["", "-1", "NaN", "inf", "1e9", "1m"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
