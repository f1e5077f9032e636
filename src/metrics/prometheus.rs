//! Every counter as Prometheus text.

use super::{EndpointMetrics, IngestMetrics, LedgerEntry, TableMetrics, WriterMetrics};
use crate::access::{Access, Key};
use crate::dead_letter;
use crate::histogram::{HistogramSet, Measure};
use crate::idempotency::Keys;
use crate::wal::segment::Budget;
use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Type of the page: the OpenMetrics text Prometheus asks for first.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where a page takes its numbers.
#[derive(Debug)]
pub struct Sources {
    /// Counters of each ingest core, by core index.
    pub ingest: Vec<Arc<IngestMetrics>>,
    /// Counters of the writer.
    pub writer: Arc<WriterMetrics>,
    /// What the write-ahead log takes of the disk.
    pub log: Arc<Budget>,
    /// What the dead-letter store holds.
    pub dead_letters: dead_letter::Totals,
    /// Idempotency keys.
    pub keys: Keys,
    /// API keys.
    pub access: Arc<Access>,
    /// Requests for admin pages that were refused, by reason.
    pub admin_refused: Vec<(&'static str, u64)>,
    /// The ledger now.
    pub ledger: Vec<LedgerEntry>,
    /// Latencies of all cores.
    pub histograms: HistogramSet,
    /// Unix time of the start, in seconds.
    pub started_s: f64,
}

/// The `/metrics` page.
pub fn render(sources: Sources) -> String {
    let mut registry = Registry::with_prefix("ringhouse");
    registry.register_collector(Box::new(sources));
    let mut page = String::with_capacity(16 * 1024);
    prometheus_client::encoding::text::encode(&mut page, &registry).expect("a String takes all");
    page
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.gauge(
            "build_info",
            "Version of the program.",
            None,
            [([("version", env!("CARGO_PKG_VERSION").to_owned())], 1)],
        )?;
        page.gauge(
            "start_timestamp",
            "Unix time of the start.",
            Some(Unit::Seconds),
            [(UNLABELLED, self.started_s)],
        )?;
        self.encode_ingest(&mut page)?;
        self.encode_access(&mut page)?;
        self.encode_writer(&mut page)?;
        self.encode_ledger(&mut page)?;
        self.encode_stores(&mut page)?;
        self.encode_histograms(&mut page)
    }
}

impl Sources {
    fn encode_ingest(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter(
            "connections_accepted",
            "Connections taken.",
            None,
            self.per_core(|core| core.connections_accepted.get()),
        )?;
        page.counter(
            "connections_refused",
            "Connections closed at once because the core held its most.",
            None,
            self.per_core(|core| core.connections_refused.get()),
        )?;
        page.counter(
            "tls_handshakes_failed",
            "TLS connections whose handshake came to nothing.",
            None,
            self.per_core(|core| core.tls_handshakes_failed.get()),
        )?;
        page.gauge(
            "connections_open",
            "Connections held.",
            None,
            self.per_core(|core| core.connections_open.get()),
        )?;
        page.counter(
            "streams_accepted",
            "Requests of HTTP/2 taken.",
            None,
            self.per_core(|core| core.streams_accepted.get()),
        )?;
        page.counter(
            "streams_refused",
            "Requests of HTTP/2 refused unseen because the core served its most.",
            None,
            self.per_core(|core| core.streams_refused.get()),
        )?;
        page.gauge(
            "streams_open",
            "Requests of HTTP/2 under way.",
            None,
            self.per_core(|core| core.streams_open.get()),
        )?;
        let requests = self.cores().flat_map(|(index, core)| {
            core.requests().map(move |(status, count)| {
                // Statuses nobody expects share one label rather than disappear.
                let (status, class) = match status {
                    0 => ("other".to_owned(), "other".to_owned()),
                    _ => (status.to_string(), format!("{}xx", status / 100)),
                };
                (
                    [("core", index.to_string()), ("status", status), ("class", class)],
                    count,
                )
            })
        });
        page.counter("requests", "Requests answered, by status.", None, requests)?;
        page.counter(
            "received_wire",
            "Body bytes as they came, compressed or not.",
            Some(Unit::Bytes),
            self.per_core(|core| core.bytes_wire.get()),
        )?;
        page.counter(
            "received_decoded",
            "Body bytes after decompression.",
            Some(Unit::Bytes),
            self.per_core(|core| core.bytes_decoded.get()),
        )?;
        page.counter(
            "datagrams",
            "Datagrams received.",
            None,
            self.per_core(|core| core.datagrams.get()),
        )?;
        page.counter(
            "datagrams_dropped",
            "Datagrams the kernel dropped because its buffer was full.",
            None,
            self.per_core(|core| core.datagrams_dropped.get()),
        )?;
        page.counter(
            "rows_received",
            "Rows seen, good and bad.",
            None,
            self.per_core(|core| core.rows_received.get()),
        )?;
        page.counter(
            "rows_accepted",
            "Rows put into a batch.",
            None,
            self.per_core(|core| core.rows_accepted.get()),
        )?;
        let rejected = self.cores().flat_map(|(index, core)| {
            core.rejected().map(move |(reason, rows)| {
                ([("core", index.to_string()), ("reason", reason.to_owned())], rows)
            })
        });
        page.counter("rows_rejected", "Rows rejected, by reason.", None, rejected)?;
        page.gauge(
            "batches_open",
            "Batches that hold rows.",
            None,
            self.per_core(|core| core.batches_open.get()),
        )?;
        page.counter(
            "blocks_sealed",
            "Blocks sealed.",
            None,
            self.per_core(|core| core.blocks_sealed.get()),
        )?;
        page.gauge(
            "ring_blocks",
            "Blocks on their way to the writer.",
            None,
            self.per_core(|core| core.ring_depth.get()),
        )?;
        page.counter(
            "wal_commits",
            "Commits that are durable in the write-ahead log.",
            None,
            self.per_core(|core| core.commits.get()),
        )?;
        page.counter(
            "wal_commits_failed",
            "Tries to make a commit durable that failed.",
            None,
            self.per_core(|core| core.commits_failed.get()),
        )?;
        page.gauge(
            "wal_failing",
            "1 while the write-ahead log cannot be written and the core takes no rows.",
            None,
            self.per_core(|core| u64::from(core.log_error.get() != 0)),
        )?;
        page.gauge(
            "wal_room",
            "1 while sealed blocks find room on their way to the write-ahead log; at 0 the core takes no more rows.",
            None,
            self.per_core(|core| core.has_room.get()),
        )?;
        page.gauge(
            "wal_size",
            "Bytes of all files of the write-ahead log.",
            Some(Unit::Bytes),
            [(UNLABELLED, self.log.used_bytes())],
        )?;
        page.gauge(
            "wal_size_max",
            "Bytes the write-ahead log may take.",
            Some(Unit::Bytes),
            [(UNLABELLED, self.log.bytes_max())],
        )?;
        page.gauge(
            "wal_waiting_blocks",
            "Blocks in the write-ahead log that wait for ClickHouse.",
            None,
            [(UNLABELLED, self.log.blocks())],
        )?;
        page.gauge(
            "acks_waiting",
            "Requests that wait for their ack level.",
            None,
            self.per_core(|core| core.acks_waiting.get()),
        )?;
        let heartbeats = self
            .cores()
            .map(|(index, core)| (index.to_string(), core.heartbeat_ms.get()))
            .chain([("writer".to_owned(), self.writer.heartbeat_ms.get())])
            .map(|(core, at_ms)| ([("core", core)], at_ms as f64 / 1e3));
        page.gauge(
            "heartbeat_timestamp",
            "Unix time of the core's last tick.",
            Some(Unit::Seconds),
            heartbeats,
        )
    }

    fn encode_access(&self, page: &mut Page<'_>) -> fmt::Result {
        let label = |core: String, (reason, count): (&str, u64)| {
            ([("core", core), ("reason", reason.to_owned())], count)
        };
        let of_cores = self.cores().flat_map(|(index, core)| {
            core.access_refused()
                .map(move |refused| label(index.to_string(), refused))
        });
        let of_admin = self
            .admin_refused
            .iter()
            .map(|refused| label("admin".to_owned(), *refused));
        page.counter(
            "access_refused",
            "Requests refused for who sent them, by reason.",
            None,
            of_cores.chain(of_admin),
        )?;
        page.counter(
            "proxy_headers_refused",
            "Connections that did not begin with the PROXY protocol header they should.",
            None,
            self.per_core(|core| core.proxy_headers_refused.get()),
        )?;
        let keys = self.access.keys();
        let per_key = |value: fn((u64, u64, u64)) -> u64| {
            let value = move |key: &Key| ([("key", key.name.to_string())], value(key.usage.totals()));
            keys.iter().map(value).collect::<Vec<_>>()
        };
        page.counter(
            "key_requests",
            "Requests whose body was read, by key.",
            None,
            per_key(|(requests, _, _)| requests),
        )?;
        page.counter(
            "key_received",
            "Body bytes as they came, by key.",
            Some(Unit::Bytes),
            per_key(|(_, bytes, _)| bytes),
        )?;
        page.counter(
            "key_rows",
            "Rows accepted, by key.",
            None,
            per_key(|(_, _, rows)| rows),
        )
    }

    fn encode_writer(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter(
            "clickhouse_connects",
            "Connections made to ClickHouse.",
            None,
            [(UNLABELLED, self.writer.connects.get())],
        )?;
        page.counter(
            "clickhouse_connects_failed",
            "Tries to connect to ClickHouse that failed.",
            None,
            [(UNLABELLED, self.writer.connects_failed.get())],
        )?;
        self.encode_endpoints(page)?;
        let tables = self.writer.tables();
        page.counter(
            "inserts",
            "INSERTs confirmed.",
            None,
            per_table(&tables, |table| table.inserts.get()),
        )?;
        let failed = tables.iter().flat_map(|(name, table)| {
            table.failed().into_iter().map(move |((verdict, code), count)| {
                (
                    [
                        ("table", name.clone()),
                        ("verdict", verdict.to_owned()),
                        ("code", code.to_string()),
                    ],
                    count,
                )
            })
        });
        page.counter(
            "inserts_failed",
            "INSERTs that failed, by verdict and ClickHouse's code (0: the connection broke).",
            None,
            failed,
        )?;
        page.counter(
            "insert_rows",
            "Rows confirmed.",
            None,
            per_table(&tables, |table| table.rows.get()),
        )?;
        page.counter(
            "insert_blocks",
            "Blocks confirmed.",
            None,
            per_table(&tables, |table| table.blocks.get()),
        )?;
        page.counter(
            "insert_raw",
            "Bytes confirmed, before compression.",
            Some(Unit::Bytes),
            per_table(&tables, |table| table.bytes_raw.get()),
        )?;
        page.counter(
            "insert_compressed",
            "Bytes confirmed, as they went over the socket.",
            Some(Unit::Bytes),
            per_table(&tables, |table| table.bytes_compressed.get()),
        )?;
        page.counter(
            "insert_retries",
            "INSERTs sent again.",
            None,
            per_table(&tables, |table| table.retries.get()),
        )?;
        page.counter(
            "insert_parts",
            "New parts made by confirmed INSERTs, estimated.",
            None,
            per_table(&tables, |table| table.parts_estimated.get()),
        )?;
        page.gauge(
            "inserts_in_flight",
            "INSERTs in flight.",
            None,
            per_table(&tables, |table| table.in_flight.get()),
        )?;
        page.gauge(
            "writer_waiting_blocks",
            "Blocks the writer holds and has not sent.",
            None,
            per_table(&tables, |table| table.blocks_waiting.get()),
        )?;
        page.gauge(
            "backlog_rows",
            "Rows left by a former process, or more than one INSERT's worth, that drain beside the live ones.",
            None,
            per_table(&tables, |table| table.backlog_rows.get()),
        )?;
        page.gauge(
            "backlog_compressed",
            "The backlog's bytes.",
            Some(Unit::Bytes),
            per_table(&tables, |table| table.backlog_bytes.get()),
        )?;
        page.gauge(
            "parts_max",
            "Active parts of the table's fullest partition.",
            None,
            per_table(&tables, |table| table.parts_max.get()),
        )?;
        page.gauge(
            "last_insert_timestamp",
            "Unix time of the last confirmed INSERT, 0 before the first.",
            Some(Unit::Seconds),
            per_table(&tables, |table| table.last_insert_ms.get() as f64 / 1e3),
        )?;
        page.gauge(
            "breaker_state",
            "Breaker: 0 closed, 1 half open, 2 open.",
            None,
            per_table(&tables, |table| table.breaker() as u64),
        )
    }

    fn encode_endpoints(&self, page: &mut Page<'_>) -> fmt::Result {
        fn each<V>(
            servers: &[EndpointMetrics],
            value: fn(&EndpointMetrics) -> V,
        ) -> impl Iterator<Item = (Labels<1>, V)> {
            servers
                .iter()
                .map(move |server| ([("endpoint", server.endpoint.clone())], value(server)))
        }
        let servers = self.writer.endpoints();
        page.counter(
            "endpoint_connects",
            "Connections made to this ClickHouse server.",
            None,
            each(servers, |server| server.connects.get()),
        )?;
        page.counter(
            "endpoint_failures",
            "Failures of this ClickHouse server after which another one was tried, or it again.",
            None,
            each(servers, |server| server.failures.get()),
        )?;
        page.gauge(
            "endpoint_connected",
            "Whether the last that is known of this ClickHouse server is an answer.",
            None,
            each(servers, |server| server.connected.get()),
        )?;
        page.gauge(
            "endpoint_last_failure_timestamp",
            "Unix time of this ClickHouse server's last failure, 0 before the first.",
            Some(Unit::Seconds),
            each(servers, |server| server.last_failed_ms.get() as f64 / 1e3),
        )?;
        page.gauge(
            "endpoint_held_rows",
            "Rows whose INSERT broke off, held until this ClickHouse server answers.",
            None,
            each(servers, |server| server.held_rows.get()),
        )
    }

    fn encode_ledger(&self, page: &mut Page<'_>) -> fmt::Result {
        let rows = |of: fn(&LedgerEntry) -> u64| {
            self.ledger
                .iter()
                .map(move |entry| ([("table", entry.table.clone())], of(entry)))
        };
        page.counter(
            "ledger_received_rows",
            "Rows that came in.",
            None,
            rows(|entry| entry.totals.received),
        )?;
        page.counter(
            "ledger_inserted_rows",
            "Rows ClickHouse has confirmed.",
            None,
            rows(|entry| entry.totals.inserted),
        )?;
        page.counter(
            "ledger_rejected_rows",
            "Rows rejected.",
            None,
            rows(|entry| entry.totals.rejected),
        )?;
        page.counter(
            "ledger_dead_lettered_rows",
            "Rows ClickHouse refused for their content.",
            None,
            rows(|entry| entry.totals.dead_lettered),
        )?;
        page.counter(
            "ledger_lost_rows",
            "Rows that were in memory only when a process died, or that the write-ahead log could not give back.",
            None,
            rows(|entry| entry.totals.lost),
        )?;
        page.gauge(
            "ledger_mismatch_rows",
            "Rows that are nowhere; anything but 0 is a mistake of the program's. A scrape may see rows on their way.",
            None,
            rows(|entry| entry.totals.mismatch()),
        )?;
        page.gauge(
            "ledger_waiting_rows",
            "Rows in memory and in the write-ahead log.",
            None,
            rows(|entry| entry.totals.waiting),
        )
    }

    fn encode_stores(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "dead_letter_rows",
            "Rows in the dead-letter store: alert on anything but 0.",
            None,
            [(UNLABELLED, self.dead_letters.rows)],
        )?;
        page.gauge(
            "dead_letter_size",
            "Bytes of the dead-letter store.",
            Some(Unit::Bytes),
            [(UNLABELLED, self.dead_letters.bytes)],
        )?;
        page.counter(
            "dead_letter_dropped_rows",
            "Dead letters deleted because the store was too large.",
            None,
            [(UNLABELLED, self.dead_letters.dropped_rows)],
        )?;
        page.gauge(
            "idempotency_keys",
            "Idempotency keys remembered.",
            None,
            [(UNLABELLED, self.keys.len() as u64)],
        )?;
        page.counter(
            "idempotency_keys_evicted",
            "Idempotency keys forgotten before their time because there were too many.",
            None,
            [(UNLABELLED, self.keys.evicted())],
        )
    }

    fn encode_histograms(&self, page: &mut Page<'_>) -> fmt::Result {
        let of = |measure| self.histograms.get(measure);
        page.histogram(
            "request_duration",
            "First byte of a request to its reply, by the ack level reached.",
            [
                (vec![("ack", "memory".to_owned())], of(Measure::RequestMemory)),
                (vec![("ack", "wal".to_owned())], of(Measure::RequestWal)),
                (vec![("ack", "inserted".to_owned())], of(Measure::RequestInserted)),
            ],
        )?;
        page.histogram(
            "parse_duration",
            "Parsing one chunk of text into columns.",
            [(vec![], of(Measure::Parse))],
        )?;
        page.histogram(
            "wal_commit_duration",
            "Writing one commit to the write-ahead log and its fdatasync.",
            [(vec![], of(Measure::Commit))],
        )?;
        page.histogram(
            "visible_duration",
            "Arrival of a block's first row to the confirmation of its INSERT.",
            [(vec![], of(Measure::Visible))],
        )?;
        page.histogram(
            "insert_duration",
            "One INSERT, first byte to outcome.",
            [(vec![], of(Measure::Insert))],
        )
    }

    fn cores(&self) -> impl Iterator<Item = (usize, &IngestMetrics)> {
        self.ingest.iter().map(Arc::as_ref).enumerate()
    }

    fn per_core(&self, value: fn(&IngestMetrics) -> u64) -> impl Iterator<Item = (Labels<1>, u64)> {
        self.cores()
            .map(move |(index, core)| ([("core", index.to_string())], value(core)))
    }
}

fn per_table<V>(
    tables: &BTreeMap<String, Arc<TableMetrics>>,
    value: fn(&TableMetrics) -> V,
) -> impl Iterator<Item = (Labels<1>, V)> {
    tables
        .iter()
        .map(move |(name, table)| ([("table", name.clone())], value(table)))
}

type Labels<const N: usize> = [(&'static str, String); N];

/// Labels of a family with one sample.
const UNLABELLED: [(&str, &str); 0] = [];

/// A page being written, family by family.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// A family of counters; the encoder appends `_total`.
    fn counter<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge<L: EncodeLabelSet, V>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        let mut family = self
            .0
            .encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A family of durations in seconds.
    fn histogram<'h>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, &'h Histogram<u64>)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, histogram) in samples {
            let (sum_s, buckets) = buckets(histogram);
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<[(&str, &str); 0]>(sum_s, histogram.len(), &buckets, None)?;
        }
        Ok(())
    }
}

/// Upper ends in seconds: 10 us, where a chunk's parse lies, to one minute, three a decade.
const BUCKETS_S: [f64; 21] = [
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// Sum in seconds, and the count of each bucket by itself with the upper end `f64::INFINITY` for the rest (the encoder
/// adds them up and prints `+Inf`). A duration within 1 % above an upper end may count below it.
fn buckets(histogram: &Histogram<u64>) -> (f64, Vec<(f64, u64)>) {
    let mut buckets: Vec<(f64, u64)> = BUCKETS_S
        .iter()
        .chain([&f64::INFINITY])
        .map(|upper_s| (*upper_s, 0))
        .collect();
    let mut sum_ns = 0.0;
    let mut at = 0;
    for recorded in histogram.iter_recorded() {
        let value_ns = recorded.value_iterated_to();
        while histogram.lowest_equivalent(value_ns) as f64 / 1e9 > buckets[at].0 {
            at += 1;
        }
        buckets[at].1 += recorded.count_at_value();
        sum_ns += histogram.median_equivalent(value_ns) as f64 * recorded.count_at_value() as f64;
    }
    (sum_ns / 1e9, buckets)
}

#[cfg(test)]
mod tests;
