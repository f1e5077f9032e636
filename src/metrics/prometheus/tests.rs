use super::*;
use crate::access::Access;
use crate::ledger::Totals;
use crate::metrics::{BreakerState, REASONS, STATUSES};
use crate::wal::log::LogError;
use crate::wal::segment::{Segment, SegmentId};
use std::collections::{BTreeSet, HashMap};

/// One sample line: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// A strict reader of OpenMetrics text, independent of the encoder: names, order, duplicates, cumulative buckets.
fn check(page: &str) -> Vec<Sample> {
    let body = page
        .strip_suffix("# EOF\n")
        .expect("the page ends with its end marker");
    let mut samples: Vec<Sample> = Vec::new();
    let mut families = BTreeSet::new();
    let mut family = String::new();
    let mut kind = String::new();
    let mut unit = String::new();
    let mut seen = BTreeSet::new();
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a help text");
            assert!(families.insert(name.to_owned()), "{name} stands twice");
            assert!(name.starts_with("ringhouse_"), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{name}"
            );
            assert!(text.len() > 5 && text.ends_with('.'), "{line}");
            (family, kind, unit) = (name.to_owned(), String::new(), String::new());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, told) = rest.split_once(' ').expect("a type");
            assert_eq!(name, family, "TYPE follows its HELP");
            assert!(["counter", "gauge", "histogram"].contains(&told), "{line}");
            assert!(
                !name.ends_with("_total"),
                "{name}: the suffix belongs to the sample"
            );
            kind = told.to_owned();
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, told) = rest.split_once(' ').expect("a unit");
            assert_eq!(name, family, "UNIT follows its TYPE");
            assert!(name.ends_with(&format!("_{told}")), "{line}");
            unit = told.to_owned();
        } else {
            assert!(!line.starts_with('#') && !kind.is_empty(), "{line}");
            let sample = sample(line);
            let suffix = sample
                .0
                .strip_prefix(&family)
                .unwrap_or_else(|| panic!("{line} outside {family}"));
            let allowed: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                _ => &["_bucket", "_sum", "_count"],
            };
            assert!(allowed.contains(&suffix), "{line} in a {kind}");
            assert_eq!(sample.1.contains_key("le"), suffix == "_bucket", "{line}");
            assert!(sample.2.is_finite() && sample.2 >= 0.0, "{line}");
            for measured in ["seconds", "bytes"] {
                assert_eq!(family.contains(measured), unit == measured, "{line}");
            }
            assert!(
                seen.insert(format!("{}{:?}", sample.0, sample.1)),
                "{line} stands twice"
            );
            samples.push(sample);
        }
    }
    check_buckets(&samples);
    samples
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
    let Some((name, rest)) = series.split_once('{') else {
        return (series.to_owned(), BTreeMap::new(), value);
    };
    let mut rest = rest.strip_suffix('}').expect("closed labels");
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect("a quoted value");
        assert!(
            label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{line}"
        );
        let mut text = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => text.push(match letters.next().expect("an escaped letter").1 {
                    'n' => '\n',
                    letter @ ('\\' | '"') => letter,
                    letter => panic!("{line}: \\{letter}"),
                }),
                (_, letter) => text.push(letter),
            }
        };
        assert!(
            labels.insert(label.to_owned(), text).is_none(),
            "{line}: {label} twice"
        );
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels, value)
}

/// Buckets rise with their upper ends, the last is `+Inf` and counts everything.
fn check_buckets(samples: &[Sample]) {
    let mut last: HashMap<String, (f64, f64)> = HashMap::new();
    let series = |name: &str, labels: &BTreeMap<String, String>| {
        let others: Vec<_> = labels.iter().filter(|(label, _)| *label != "le").collect();
        format!("{name}{others:?}")
    };
    for (name, labels, value) in samples {
        if let Some(base) = name.strip_suffix("_bucket") {
            let upper = match labels["le"].as_str() {
                "+Inf" => f64::INFINITY,
                upper => upper.parse().expect("a number"),
            };
            let before = last
                .insert(series(base, labels), (upper, *value))
                .unwrap_or((0.0, 0.0));
            assert!(upper > before.0 && *value >= before.1, "{name} {labels:?}");
        }
    }
    for (name, labels, value) in samples {
        if let Some(base) = name
            .strip_suffix("_count")
            .filter(|base| base.ends_with("_seconds"))
        {
            assert_eq!(last[&series(base, labels)], (f64::INFINITY, *value), "{name}");
        }
    }
}

fn sources(cores: usize) -> Sources {
    Sources {
        ingest: (0..cores).map(|_| Arc::default()).collect(),
        writer: Arc::new(WriterMetrics::of(
            ["tcp://a:9000", "tcp://b:9000"].map(String::from).into_iter(),
        )),
        dead_letters: crate::dead_letter::Totals {
            rows: 3,
            bytes: 300,
            dropped_rows: 1,
        },
        keys: crate::idempotency::Keys::new(10, 1 << 20, 1000),
        access: Arc::new(Access::open()),
        admin_refused: vec![("missing", 4)],
        log: Arc::new(Budget::new(1_000, 8)),
        ledger: Vec::new(),
        histograms: HistogramSet::new(),
        started_s: 1.5,
    }
}

/// A segment of 600 bytes in which two blocks wait.
fn two_blocks(budget: &Arc<Budget>) -> Segment {
    assert!(budget.take(600));
    let id = SegmentId {
        boot: 0,
        core: 0,
        index: 0,
    };
    let segment = Segment::new(id, "/nowhere".into(), 600, Arc::clone(budget));
    segment.claim(0);
    segment.claim(1);
    segment
}

/// The value of the one sample with these labels.
fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: BTreeMap<String, String> = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let found: Vec<f64> = samples
        .iter()
        .filter(|s| s.0 == name && s.1 == wanted)
        .map(|s| s.2)
        .collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}");
    found[0]
}

#[test]
fn renders_a_page_a_strict_reader_takes_before_anything_happened() {
    let samples = check(&render(sources(2)));
    assert_eq!(
        value(&samples, "ringhouse_connections_accepted_total", &[("core", "1")]),
        0.0
    );
    assert_eq!(value(&samples, "ringhouse_start_timestamp_seconds", &[]), 1.5);
    assert_eq!(
        value(&samples, "ringhouse_parse_duration_seconds_count", &[]),
        0.0
    );
}

#[test]
fn renders_every_count_under_its_labels() {
    let totals = Totals {
        received: 17,
        inserted: 6,
        rejected: 1,
        dead_lettered: 4,
        waiting: 3,
        // Two more than there can be.
        lost: 5,
    };
    let sources = Sources {
        ledger: vec![LedgerEntry {
            table: "d.t".into(),
            totals,
        }],
        ..sources(2)
    };
    let _segment = two_blocks(&sources.log);
    sources.ingest[0].has_room.set(1);
    let core = &sources.ingest[1];
    core.connections_accepted.add(3);
    core.connections_open.set(2);
    core.streams_accepted.add(5);
    core.streams_refused.add(6);
    core.streams_open.set(4);
    core.bytes_wire.add(100);
    core.bytes_decoded.add(1_000);
    core.heartbeat_ms.set(2_500);
    core.commits.add(11);
    core.commits_failed.add(12);
    core.log_error.set(u64::from(LogError::BlocksMax.code() as u32));
    for (at, status) in STATUSES[..STATUSES.len() - 1].iter().enumerate() {
        (0..=at).for_each(|_| core.request(*status));
    }
    core.request(299);
    for (at, reason) in REASONS[..REASONS.len() - 1].iter().enumerate() {
        core.reject(reason, at as u64 + 5);
    }
    core.reject("a reason of tomorrow", 4);
    let server = &sources.writer.endpoints()[1];
    server.connect();
    server.fail(2_250);
    server.held_rows.set(9);
    let table = sources.writer.table("d.\"odd\\\n");
    table.inserts.add(7);
    table.bytes_raw.add(70);
    table.last_insert_ms.set(1_250);
    table.backlog_rows.set(8);
    table.backlog_bytes.set(80);
    table.set_breaker(BreakerState::Open);
    table.fail("retry", 252);
    table.fail("retry", 252);
    table.fail("unknown", 0);

    let samples = check(&render(sources));

    let ours = [("core", "1")];
    assert_eq!(
        value(&samples, "ringhouse_connections_accepted_total", &ours),
        3.0
    );
    assert_eq!(value(&samples, "ringhouse_connections_open", &ours), 2.0);
    assert_eq!(value(&samples, "ringhouse_streams_accepted_total", &ours), 5.0);
    assert_eq!(value(&samples, "ringhouse_streams_refused_total", &ours), 6.0);
    assert_eq!(value(&samples, "ringhouse_streams_open", &ours), 4.0);
    assert_eq!(
        value(&samples, "ringhouse_received_wire_bytes_total", &ours),
        100.0
    );
    assert_eq!(
        value(&samples, "ringhouse_received_decoded_bytes_total", &ours),
        1_000.0
    );
    assert_eq!(
        value(&samples, "ringhouse_heartbeat_timestamp_seconds", &ours),
        2.5
    );
    for (name, expected) in [
        ("commits_total", [0.0, 11.0]),
        ("commits_failed_total", [0.0, 12.0]),
        ("failing", [0.0, 1.0]),
        ("room", [1.0, 0.0]),
    ] {
        let name = format!("ringhouse_wal_{name}");
        let values = ["0", "1"].map(|core| value(&samples, &name, &[("core", core)]));
        assert_eq!(values, expected, "{name}");
    }
    assert_eq!(value(&samples, "ringhouse_wal_size_bytes", &[]), 600.0);
    assert_eq!(value(&samples, "ringhouse_wal_size_max_bytes", &[]), 1_000.0);
    assert_eq!(value(&samples, "ringhouse_wal_waiting_blocks", &[]), 2.0);
    for (at, status) in STATUSES[..STATUSES.len() - 1].iter().enumerate() {
        let (status, class) = (status.to_string(), format!("{}xx", status / 100));
        let labels = [
            ("core", "1"),
            ("status", status.as_str()),
            ("class", class.as_str()),
        ];
        assert_eq!(
            value(&samples, "ringhouse_requests_total", &labels),
            at as f64 + 1.0
        );
    }
    let other = [("core", "1"), ("status", "other"), ("class", "other")];
    assert_eq!(value(&samples, "ringhouse_requests_total", &other), 1.0);
    for (at, reason) in REASONS[..REASONS.len() - 1].iter().enumerate() {
        let labels = [("core", "1"), ("reason", *reason)];
        assert_eq!(
            value(&samples, "ringhouse_rows_rejected_total", &labels),
            at as f64 + 5.0
        );
    }
    assert_eq!(
        value(
            &samples,
            "ringhouse_rows_rejected_total",
            &[("core", "1"), ("reason", "other")]
        ),
        4.0
    );
    for (name, expected) in [
        ("connects_total", [0.0, 1.0]),
        ("failures_total", [0.0, 1.0]),
        ("connected", [0.0, 0.0]),
        ("last_failure_timestamp_seconds", [0.0, 2.25]),
        ("held_rows", [0.0, 9.0]),
    ] {
        let name = format!("ringhouse_endpoint_{name}");
        let values = ["tcp://a:9000", "tcp://b:9000"].map(|at| value(&samples, &name, &[("endpoint", at)]));
        assert_eq!(values, expected, "{name}");
    }
    let table = ("table", "d.\"odd\\\n");
    assert_eq!(value(&samples, "ringhouse_inserts_total", &[table]), 7.0);
    assert_eq!(
        value(&samples, "ringhouse_insert_raw_bytes_total", &[table]),
        70.0
    );
    assert_eq!(
        value(&samples, "ringhouse_last_insert_timestamp_seconds", &[table]),
        1.25
    );
    assert_eq!(value(&samples, "ringhouse_backlog_rows", &[table]), 8.0);
    assert_eq!(
        value(&samples, "ringhouse_backlog_compressed_bytes", &[table]),
        80.0
    );
    assert_eq!(value(&samples, "ringhouse_breaker_state", &[table]), 2.0);
    let failed = |verdict, code| {
        value(
            &samples,
            "ringhouse_inserts_failed_total",
            &[table, ("verdict", verdict), ("code", code)],
        )
    };
    assert_eq!((failed("retry", "252"), failed("unknown", "0")), (2.0, 1.0));
    let ledger = [
        "received_rows_total",
        "inserted_rows_total",
        "rejected_rows_total",
        "dead_lettered_rows_total",
        "lost_rows_total",
        "mismatch_rows",
        "waiting_rows",
    ];
    let rows = ledger.map(|state| {
        value(
            &samples,
            &format!("ringhouse_ledger_{state}"),
            &[("table", "d.t")],
        )
    });
    assert_eq!(rows, [17.0, 6.0, 1.0, 4.0, 5.0, 2.0, 3.0]);
}

#[test]
fn renders_every_measure_as_a_histogram_of_its_own() {
    let (mut recorders, reader) = crate::histogram::channel(1);
    for (at, measure) in Measure::ALL.into_iter().enumerate() {
        (0..=at).for_each(|_| recorders[0].record(measure, 1_000_000));
    }
    reader.ask();
    recorders[0].publish();
    let samples = check(&render(Sources {
        histograms: reader.merged(),
        ..sources(1)
    }));
    let ack = |level| vec![("ack", level)];
    let series = Measure::ALL.map(|measure| match measure {
        Measure::RequestMemory => ("request", ack("memory")),
        Measure::RequestWal => ("request", ack("wal")),
        Measure::RequestInserted => ("request", ack("inserted")),
        Measure::Parse => ("parse", vec![]),
        Measure::Commit => ("wal_commit", vec![]),
        Measure::Visible => ("visible", vec![]),
        Measure::Insert => ("insert", vec![]),
    });
    for (at, (name, labels)) in series.into_iter().enumerate() {
        let name = format!("ringhouse_{name}_duration_seconds_count");
        assert_eq!(
            value(&samples, &name, &labels),
            at as f64 + 1.0,
            "{name} {labels:?}"
        );
    }
}

#[test]
fn renders_histograms_as_cumulative_seconds() {
    let (mut recorders, reader) = crate::histogram::channel(1);
    let durations_ns = [
        1_000,
        20_000,
        999_000,
        70_000_000,
        2_000_000_000,
        90_000_000_000_u64,
    ];
    durations_ns
        .iter()
        .for_each(|duration| recorders[0].record(Measure::RequestInserted, *duration));
    reader.ask();
    recorders[0].publish();
    let samples = check(&render(Sources {
        histograms: reader.merged(),
        ..sources(1)
    }));
    for upper in BUCKETS_S {
        let naive = durations_ns
            .iter()
            .filter(|duration| **duration as f64 / 1e9 <= upper)
            .count();
        let found = samples.iter().find(|(name, labels, _)| {
            name == "ringhouse_request_duration_seconds_bucket"
                && labels["ack"] == "inserted"
                && labels["le"].parse::<f64>() == Ok(upper)
        });
        assert_eq!(found.expect("every bucket is printed").2, naive as f64, "{upper}");
    }
    let ack = [("ack", "inserted")];
    assert_eq!(
        value(&samples, "ringhouse_request_duration_seconds_count", &ack),
        6.0
    );
    let sum_s = durations_ns.iter().sum::<u64>() as f64 / 1e9;
    let told = value(&samples, "ringhouse_request_duration_seconds_sum", &ack);
    assert!((told - sum_s).abs() <= sum_s * 0.01, "{told} {sum_s}");
}
