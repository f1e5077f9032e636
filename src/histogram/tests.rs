use super::*;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use std::time::SystemTime;

/// Durations over all magnitudes up to 2^41 ns (37 minutes), from a seed.
fn durations(seed: u64, count: usize) -> Vec<u64> {
    let mut state = seed;
    let step = |state: &mut u64| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    };
    (0..count)
        .map(|_| (step(&mut state) << 10) >> (step(&mut state) % 40))
        .collect()
}

/// Records on threads of their own, as cores do, and ticks until the reader has its answer.
fn read_while_ticking(recorders: &mut [Recorder], reader: &Reader) -> HistogramSet {
    let question = reader.ask();
    recorders.iter_mut().for_each(Recorder::publish);
    assert!(reader.is_answered(&question));
    reader.merged()
}

#[test]
fn merges_to_what_one_histogram_would_hold_and_near_the_sorted_values() {
    for seed in 1..6 {
        let values = durations(seed, 9_000);
        let (mut recorders, reader) = channel(3);
        let mut oracle = HistogramSet::new();
        for (at, value) in values.iter().enumerate() {
            recorders[at % 3].record(Measure::Parse, *value);
            oracle.record(Measure::Parse, *value);
        }
        let merged = read_while_ticking(&mut recorders, &reader);
        assert_eq!(merged, oracle, "seed {seed}");

        let mut sorted = values;
        sorted.sort_unstable();
        let histogram = merged.get(Measure::Parse);
        assert_eq!(histogram.len(), sorted.len() as u64);
        for quantile in [0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = sorted[((quantile * sorted.len() as f64).ceil() as usize).max(1) - 1] as f64;
            let told = histogram.value_at_quantile(quantile) as f64;
            assert!(
                (told - exact).abs() <= exact * 0.01 + LOWEST_NS as f64,
                "seed {seed}: {quantile} {told} {exact}"
            );
        }
        assert_eq!(merged.get(Measure::Insert).len(), 0);
    }
}

#[test]
fn copies_only_when_asked_and_never_waits_for_a_reader() {
    let (mut recorders, reader) = channel(1);
    let recorder = &mut recorders[0];
    recorder.record(Measure::Insert, 1_000);
    recorder.publish();
    assert_eq!(reader.merged().get(Measure::Insert).len(), 0, "nobody asked");

    let question = reader.ask();
    let held = reader.slots[0].copy.lock().unwrap();
    recorder.publish();
    assert!(
        !reader.is_answered(&question),
        "the copy was busy; publish returned all the same"
    );
    drop(held);
    recorder.publish();
    assert!(reader.is_answered(&question));
    assert_eq!(reader.merged().get(Measure::Insert).len(), 1);

    recorder.record(Measure::Insert, 1_000);
    recorder.publish();
    assert_eq!(
        reader.merged().get(Measure::Insert).len(),
        1,
        "the question was answered before"
    );
}

#[test]
fn reads_from_cores_that_tick_on_their_own_threads() {
    let (recorders, reader) = channel(2);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mut recorder in recorders {
            let stop = &stop;
            scope.spawn(move || {
                (0..100).for_each(|_| recorder.record(Measure::Visible, 5_000_000));
                while !stop.load(Ordering::Relaxed) {
                    recorder.publish();
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let read = reader.read(Duration::from_secs(10));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(read.get(Measure::Visible).len(), 200);
    });
}

#[test]
fn gives_up_on_a_dead_core_and_keeps_what_it_left() {
    let (mut recorders, reader) = channel(2);
    recorders[0].record(Measure::Parse, 7);
    reader.ask();
    recorders[0].publish();
    let read = reader.read(Duration::from_millis(20));
    assert_eq!(read.get(Measure::Parse).len(), 1);
}

#[test]
fn takes_any_duration_and_the_memory_it_says() {
    let mut set = HistogramSet::new();
    for value in [0, 1, LOWEST_NS, HIGHEST_NS, HIGHEST_NS + 1, u64::MAX] {
        set.record(Measure::Insert, value);
    }
    let histogram = set.get(Measure::Insert);
    assert_eq!(histogram.len(), 6);
    assert!(histogram.max() >= HIGHEST_NS);
    assert_eq!(histogram.distinct_values() * 8, HISTOGRAM_BYTES);
    assert!(!histogram.is_auto_resize());
}

#[test]
fn writes_a_log_the_standard_reader_decodes() {
    let mut set = HistogramSet::new();
    for (at, measure) in Measure::ALL.into_iter().enumerate() {
        durations(at as u64 + 1, 100 * at)
            .into_iter()
            .for_each(|value| set.record(measure, value));
    }
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let log = log(&set, started, Duration::from_millis(12_345));
    let mut decoded = Vec::new();
    for entry in IntervalLogIterator::new(log.as_bytes()) {
        match entry.expect("every line parses") {
            LogEntry::StartTime(time) | LogEntry::BaseTime(time) => {
                assert_eq!(time, Duration::from_secs(1_700_000_000));
            }
            LogEntry::Interval(interval) => {
                assert_eq!(interval.duration(), Duration::from_millis(12_345));
                let bytes = base64::Engine::decode(
                    &base64::engine::general_purpose::STANDARD,
                    interval.encoded_histogram(),
                )
                .unwrap();
                let histogram: Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                let measure = Measure::from_name(interval.tag().unwrap().as_str()).unwrap();
                assert_eq!(&histogram, set.get(measure), "{}", measure.name());
                decoded.push(measure);
            }
        }
    }
    assert_eq!(decoded, Measure::ALL);
}

#[test]
fn writes_a_distribution_plotters_read() {
    let mut set = HistogramSet::new();
    let mut values = durations(9, 1_000);
    values.iter().for_each(|value| set.record(Measure::Parse, *value));
    let text = hgrm(set.get(Measure::Parse));
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
    assert_eq!(lines.next(), Some(""));
    let rows: Vec<Vec<f64>> = lines
        .take_while(|line| !line.starts_with('#'))
        .map(|line| {
            line.split_whitespace()
                .map(|cell| cell.parse().unwrap())
                .collect()
        })
        .collect();
    assert!(rows.windows(2).all(|pair| {
        pair[0]
            .iter()
            .zip(&pair[1])
            .all(|(before, after)| before <= after)
    }));
    values.sort_unstable();
    for row in &rows[..rows.len() - 1] {
        // The third column counts the values up to the first, which is the end of a bucket.
        let counted = values
            .iter()
            .filter(|value| **value as f64 <= row[0] * 1e6 + 0.5)
            .count();
        assert_eq!(counted as f64, row[2], "{row:?}");
    }
    let last = rows.last().unwrap();
    assert_eq!((last[1], last[2]), (1.0, 1_000.0));
    assert!(text.contains("Total count    =         1000]"), "{text}");
}

#[test]
fn prints_percentiles_of_every_measure() {
    let mut set = HistogramSet::new();
    set.record(Measure::RequestInserted, 2_000_000);
    let text = percentiles(&set);
    for measure in Measure::ALL {
        assert_eq!(
            text.lines()
                .filter(|line| line.split(' ').next() == Some(measure.name()))
                .count(),
            1
        );
    }
    let line = text
        .lines()
        .find(|line| line.starts_with("request_inserted"))
        .unwrap();
    let cells: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map(|cell| cell.parse().unwrap())
        .collect();
    assert_eq!(cells[0], 1.0);
    assert!(
        cells[1..].iter().all(|cell| (*cell - 2.0).abs() <= 0.02),
        "{line}"
    );
}

#[test]
fn dumps_a_whole_file_in_place_of_an_older_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringhouse.hlog");
    std::fs::write(&path, "older").unwrap();
    let mut set = HistogramSet::new();
    set.record(Measure::Parse, 1_000);
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    dump(&path, &set, started, Duration::from_secs(2)).unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        log(&set, started, Duration::from_secs(2))
    );
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        1,
        "no partial file stays"
    );
    assert!(dump(&directory.path().join("absent/x"), &set, started, Duration::ZERO).is_err());
}
