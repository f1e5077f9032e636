//! Writes histograms as percentiles for people, as `hgrm` and as interval log for the HdrHistogram tools.

use super::{HistogramSet, Measure};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Percentiles of every measure, one line each, in milliseconds.
pub fn percentiles(set: &HistogramSet) -> String {
    let mut text = format!(
        "{:<17}{:>12}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}  (milliseconds since start)\n",
        "", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    );
    for measure in Measure::ALL {
        let histogram = set.get(measure);
        write!(text, "{:<17}{:>12}", measure.name(), histogram.len()).expect("a String takes all");
        for quantile in [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
            // The bucket's upper end may lie above the largest value recorded; the Java tools cut it likewise.
            let value_ns = histogram.value_at_quantile(quantile).min(histogram.max());
            write!(text, "{:>11.3}", milliseconds(value_ns)).expect("a String takes all");
        }
        text.push('\n');
    }
    text
}

/// The percentile distribution of one measure in the text form HdrHistogram plotters read, in milliseconds.
///
/// Source: `HdrHistogram.outputPercentileDistribution` of the Java implementation, five ticks per half distance.
pub fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut below = 0;
    for step in histogram.iter_quantiles(5) {
        below += step.count_since_last_iteration();
        let value = milliseconds(step.value_iterated_to());
        let quantile = step.quantile_iterated_to();
        if quantile < 1.0 {
            writeln!(
                text,
                "{value:12.6} {quantile:1.12} {below:10} {:14.2}",
                1.0 / (1.0 - quantile)
            )
        } else {
            writeln!(text, "{value:12.6} {quantile:1.12} {below:10}")
        }
        .expect("a String takes all");
    }
    write!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram.mean() / 1e6,
        histogram.stdev() / 1e6,
        milliseconds(histogram.max()),
        histogram.len(),
        histogram.buckets(),
        // As many as tell apart twice the numbers of so many digits, rounded up to a power of two.
        (2 * 10_u32.pow(u32::from(histogram.sigfig()))).next_power_of_two(),
    )
    .expect("a String takes all");
    text
}

/// Every measure as a tagged line of an HdrHistogram interval log (V2, base64), values in nanoseconds, the one
/// interval being the time since `started`. The percentiles stand above it as comments.
pub fn log(set: &HistogramSet, started: SystemTime, uptime: Duration) -> String {
    let mut bytes = Vec::new();
    let mut serializer = V2Serializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[Ringhouse latencies: nanoseconds since start]");
    for line in percentiles(set).lines() {
        builder.add_comment(line);
    }
    let mut writer = builder
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut bytes, &mut serializer)
        .expect("a Vec takes all");
    for measure in Measure::ALL {
        let tag = Tag::new(measure.name()).expect("no measure's name holds a separator");
        writer
            .write_histogram(set.get(measure), Duration::ZERO, uptime, Some(tag))
            .expect("a Vec takes all and the histogram has a valid layout");
    }
    String::from_utf8(bytes).expect("an interval log is ASCII")
}

/// Writes [`log`] to a file, replacing it whole, so that a reader never sees half a dump.
///
/// # Errors
/// What the file system says.
pub fn dump(path: &Path, set: &HistogramSet, started: SystemTime, uptime: Duration) -> io::Result<()> {
    let beside = path.with_extension("partial");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(log(set, started, uptime).as_bytes())?;
    std::fs::rename(&beside, path)
}

fn milliseconds(value_ns: u64) -> f64 {
    value_ns as f64 / 1e6
}
