//! Draws latency distributions as SVG: percentiles by their nines, latencies by their magnitude.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Size of the picture and its margins, in pixels.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 90.0;

/// A line of the chart.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// What it shows.
    pub name: &'a str,
    /// Its values, in nanoseconds.
    pub histogram: &'a Histogram<u64>,
}

/// Colours of the first series, the second, and so on; told apart also by those who see no red and green.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// The chart of `series` as an SVG document. `notes` stand below it, a line each; a series without values is left out.
pub fn percentiles(title: &str, series: &[Series<'_>], notes: &[String]) -> String {
    let series: Vec<&Series<'_>> = series.iter().filter(|one| !one.histogram.is_empty()).collect();
    let count = series.iter().map(|one| one.histogram.len()).max().unwrap_or(1);
    let nines = (count as f64).log10().ceil().clamp(1.0, 9.0);
    let extent = |pick: fn(&Histogram<u64>) -> u64, fold: fn(f64, f64) -> f64, start: f64| {
        let values = series
            .iter()
            .map(|one| milliseconds(pick(one.histogram).max(1_000)));
        values.fold(start, fold)
    };
    let lowest = extent(|h| h.value_at_quantile(0.0), f64::min, f64::MAX)
        .log10()
        .floor();
    let highest = extent(Histogram::max, f64::max, 0.001).log10().ceil();
    let (lowest, highest) = if series.is_empty() {
        (0.0, 1.0)
    } else {
        (lowest, highest.max(lowest + 1.0))
    };
    let x = |nines_of: f64| LEFT + nines_of.clamp(0.0, nines) / nines * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| {
        HEIGHT - BOTTOM - (ms.log10() - lowest).max(0.0) / (highest - lowest) * (HEIGHT - TOP - BOTTOM)
    };

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
        escaped(title)
    );
    for nine in 0..=nines as i32 {
        let (at, percent) = (x(f64::from(nine)), 100.0 - 100.0 * 10_f64.powi(-nine));
        let digits = (nine - 2).max(0) as usize;
        grid(&mut svg, (at, TOP), (at, HEIGHT - BOTTOM));
        label(
            &mut svg,
            (at, HEIGHT - BOTTOM + 18.0),
            "middle",
            &format!("{percent:.digits$} %"),
        );
    }
    for decade in lowest as i32..=highest as i32 {
        let ms = 10_f64.powi(decade);
        grid(&mut svg, (LEFT, y(ms)), (WIDTH - RIGHT, y(ms)));
        label(&mut svg, (LEFT - 6.0, y(ms) + 4.0), "end", &format!("{ms} ms"));
    }
    for (at, one) in series.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let mut points = String::new();
        for step in one.histogram.iter_quantiles(20) {
            let below = 1.0 - step.quantile();
            // The largest value stands at the right edge of what that many values can tell.
            let nines_of = if below > 0.0 {
                -below.log10()
            } else {
                (one.histogram.len() as f64).log10()
            };
            let ms = milliseconds(
                step.value_iterated_to()
                    .clamp(1_000, one.histogram.max().max(1_000)),
            );
            let _ = write!(points, "{:.1},{:.1} ", x(nines_of), y(ms));
        }
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.trim_end()
        );
        let name = format!("{} ({} values)", one.name, one.histogram.len());
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"46\" fill=\"{colour}\">{}</text>",
            LEFT + 300.0 * at as f64,
            escaped(&name)
        );
    }
    for (at, note) in notes.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\" font-size=\"11\" fill=\"#555\">{}</text>",
            HEIGHT - BOTTOM + 42.0 + 15.0 * at as f64,
            escaped(note)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn grid(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn label(svg: &mut String, at: (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>",
        at.0, at.1
    );
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Text as an element may hold it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::measured::histogram;
    use super::*;

    #[test]
    fn draws_each_series_within_the_picture() {
        let (mut fast, mut slow) = (histogram(), histogram());
        for n in 1..=10_000_u64 {
            fast.record(n * 1_000).unwrap();
            slow.record(n * 400_000).unwrap();
        }
        let empty = histogram();
        let series = [("fast", &fast), ("slow & <odd>", &slow), ("empty", &empty)];
        let series = series.map(|(name, histogram)| Series { name, histogram });
        let svg = percentiles("title", &series, &["note".into()]);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(
            svg.contains("99.99 %") && svg.contains("slow &amp; &lt;odd&gt; (10000 values)"),
            "{svg}"
        );
        for line in svg.lines().filter(|line| line.starts_with("<polyline")) {
            let points = line.split("points=\"").nth(1).unwrap().trim_end_matches("\"/>");
            for point in points.split(' ') {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{point}");
                assert!((TOP..=HEIGHT - BOTTOM).contains(&y), "{point}");
            }
        }
    }

    #[test]
    fn draws_a_chart_without_values() {
        let empty = histogram();
        let svg = percentiles(
            "t",
            &[Series {
                name: "n",
                histogram: &empty,
            }],
            &[],
        );
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }
}
