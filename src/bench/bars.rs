//! Draws bars as SVG: a row for each thing, a panel for each of its figures.

use std::fmt::Write as _;

use super::chart::escaped;

/// Width of the picture and its parts, in pixels.
const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 24.0;
const LABEL_WIDTH: f64 = 390.0;
/// Room for the text behind the longest bar.
const TEXT_WIDTH: f64 = 132.0;

/// Heights, in pixels.
const TOP: f64 = 84.0;
const ROW: f64 = 46.0;
const BAR: f64 = 22.0;
const NOTE: f64 = 16.0;

/// Colours of the panels' bars; told apart also by those who see no red and green.
const COLOURS: [&str; 2] = ["#0072b2", "#d55e00"];

/// What a row is about.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is to know of it, in small print.
    pub note: &'a str,
}

/// One figure of every row.
#[derive(Debug, Clone)]
pub struct Panel<'a> {
    /// What it is.
    pub title: &'a str,
    /// For each row its length, not below zero, and the text behind it.
    pub bars: Vec<(f64, String)>,
}

/// The chart as an SVG document, on white. Each panel has a scale of its own that begins at zero; `notes` stand below, a
/// line each.
pub fn bars(title: &str, labels: &[Label<'_>], panels: &[Panel<'_>], notes: &[String]) -> String {
    let bottom = TOP + ROW * labels.len() as f64;
    let height = bottom + MARGIN + NOTE * notes.len() as f64 + MARGIN / 2.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"14\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"34\" font-size=\"20\">{}</text>\n",
        escaped(title)
    );
    for (row, label) in labels.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        text(&mut svg, (MARGIN, y + 14.0), "", label.name);
        text(
            &mut svg,
            (MARGIN, y + 30.0),
            " font-size=\"11\" fill=\"#555\"",
            label.note,
        );
    }
    let panel_width = (WIDTH - MARGIN - LABEL_WIDTH) / panels.len().max(1) as f64;
    for (at, panel) in panels.iter().enumerate() {
        let left = MARGIN + LABEL_WIDTH + panel_width * at as f64;
        let longest = panel.bars.iter().map(|(value, _)| *value).fold(0.0, f64::max);
        let scale = match longest > 0.0 {
            true => (panel_width - TEXT_WIDTH) / longest,
            false => 0.0,
        };
        text(
            &mut svg,
            (left, TOP - 16.0),
            " font-size=\"12\" fill=\"#555\"",
            panel.title,
        );
        for (row, (value, behind)) in panel.bars.iter().enumerate() {
            let (y, length) = (TOP + ROW * row as f64 + 2.0, value * scale);
            let _ = writeln!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
                COLOURS[at % COLOURS.len()]
            );
            text(&mut svg, (left + length + 6.0, y + 16.0), "", behind);
        }
        let _ = writeln!(
            svg,
            "<line x1=\"{left:.1}\" y1=\"{:.1}\" x2=\"{left:.1}\" y2=\"{:.1}\" stroke=\"#888\"/>",
            TOP - 6.0,
            bottom - ROW + BAR + 10.0
        );
    }
    for (at, note) in notes.iter().enumerate() {
        let y = bottom + MARGIN / 2.0 + NOTE * (at as f64 + 0.5);
        text(&mut svg, (MARGIN, y), " font-size=\"11\" fill=\"#555\"", note);
    }
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, at: (f64, f64), attributes: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\"{attributes}>{}</text>",
        at.0,
        at.1,
        escaped(text)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel<'a>(title: &'a str, values: &[f64]) -> Panel<'a> {
        Panel {
            title,
            bars: values.iter().map(|value| (*value, format!("{value}"))).collect(),
        }
    }

    #[test]
    fn draws_bars_in_proportion_and_within_the_picture() {
        let labels = [("first", "note"), ("second & <odd>", "")].map(|(name, note)| Label { name, note });
        let panels = [panel("left", &[10.0, 40.0]), panel("right", &[3.0, 0.0])];
        let svg = bars("title", &labels, &panels, &["below".into()]);
        assert!(
            svg.contains("second &amp; &lt;odd&gt;") && svg.contains("below"),
            "{svg}"
        );
        let attribute = |line: &str, name: &str| -> f64 {
            let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        let rects: Vec<(f64, f64)> = svg
            .lines()
            .filter(|line| line.starts_with("<rect x="))
            .map(|line| (attribute(line, "x"), attribute(line, "width")))
            .collect();
        assert_eq!(rects.len(), 4);
        assert!((rects[1].1 / rects[0].1 - 4.0).abs() < 0.01, "{rects:?}");
        assert_eq!(rects[3].1, 0.0);
        for (left, length) in rects {
            assert!(left + length + TEXT_WIDTH <= WIDTH + 0.1, "{left} {length}");
        }
    }

    #[test]
    fn draws_a_chart_without_a_bar() {
        let svg = bars("t", &[], &[panel("p", &[])], &[]);
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }
}
