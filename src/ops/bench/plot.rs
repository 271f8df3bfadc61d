//! Plots as SVG: a figure of each setting over the dimension that was swept, a line for each combination of the others.
//! They stand alone and within the page, and are legible in light and dark.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::report::{Cell, Report};
use super::{Contender, Setting};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 58.0;

/// Told apart in light and dark, and by those who see few colours (Okabe and Ito).
const COLORS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:600}\
.quiet{fill:#59636e}.grid{stroke:#d1d9e0;stroke-width:1}.ring{fill:none;stroke:#1f2328;stroke-width:2}\
.ceiling{stroke:#59636e;stroke-width:1.5;stroke-dasharray:6 5}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.quiet{fill:#9198a1}.grid{stroke:#3d444d}\
.ring{stroke:#f0f6fc}.ceiling{stroke:#9198a1}}";

/// What is drawn of a cell.
pub struct Figure {
    pub title: &'static str,
    /// Value, and the ends of its spread.
    pub of: fn(&Cell) -> Option<[f64; 3]>,
    /// Whether the bare loop has a line.
    pub ceiling: bool,
}

/// The plots of a report, by the names of their files.
pub const FIGURES: [(&str, Figure); 2] = [
    (
        "rate.svg",
        Figure {
            title: "Records per second: median, and the range of all runs",
            of: |cell| {
                let rate = cell.records_per_second;
                Some([rate.median, rate.min, rate.max])
            },
            ceiling: true,
        },
    ),
    (
        "cpu.svg",
        Figure {
            title: "Processor time per record, in microseconds: median",
            of: |cell| cell.cpu_us_per_record.map(|us| [us; 3]),
            ceiling: false,
        },
    ),
];

/// One dimension of the settings.
struct Dimension {
    name: &'static str,
    of: fn(&Setting) -> usize,
}

const DIMENSIONS: [Dimension; 4] = [
    Dimension { name: "batch size (records)", of: |setting| setting.batch_size },
    Dimension { name: "workers", of: |setting| setting.workers },
    Dimension { name: "record size (bytes)", of: |setting| setting.record_bytes },
    Dimension { name: "partitions", of: |setting| setting.partitions },
];

/// Draws a figure of a report.
pub fn draw(report: &Report, figure: &Figure) -> String {
    let ours: Vec<&Cell> = report.cells.iter().filter(|cell| cell.contender == Contender::Konekt).collect();
    let varies = |dimension: &Dimension| {
        ours.iter().any(|cell| (dimension.of)(&cell.setting) != (dimension.of)(&ours[0].setting))
    };
    let across = DIMENSIONS.iter().position(varies).unwrap_or(0);
    let beside: Vec<&Dimension> = DIMENSIONS.iter().skip(across + 1).filter(|dimension| varies(dimension)).collect();
    let of_ceilings: Vec<f64> = report
        .cells
        .iter()
        .filter(|cell| figure.ceiling && cell.contender == Contender::Ceiling)
        .filter_map(|cell| (figure.of)(cell).map(|[value, ..]| value))
        .collect();
    let highest = ours.iter().filter_map(|cell| (figure.of)(cell)).map(|[.., max]| max);
    let axes = Axes::new(
        ours.iter().map(|cell| (DIMENSIONS[across].of)(&cell.setting)),
        highest.chain(of_ceilings.iter().copied()).fold(0.0, f64::max),
    );
    let mut drawing = Drawing::new(figure.title);
    drawing.axes(&axes, DIMENSIONS[across].name);
    drawing.text(WIDTH - RIGHT, HEIGHT - 14.0, "end", "quiet", &report.title());
    of_ceilings.iter().for_each(|value| drawing.ceiling(axes.y(*value)));
    let mut lines: BTreeMap<Vec<usize>, Vec<&Cell>> = BTreeMap::new();
    for cell in ours {
        lines.entry(beside.iter().map(|dimension| (dimension.of)(&cell.setting)).collect()).or_default().push(cell);
    }
    let mut legend = Legend::default();
    for ((key, cells), color) in lines.into_iter().zip(COLORS.iter().cycle()) {
        let name = beside.iter().zip(&key).map(|(dimension, value)| format!("{} {value}", dimension.name));
        let name = if beside.is_empty() { "konekt".to_owned() } else { name.collect::<Vec<_>>().join(", ") };
        let mut points: Vec<(usize, [f64; 3], bool)> = cells
            .iter()
            .filter_map(|cell| {
                Some((
                    (DIMENSIONS[across].of)(&cell.setting),
                    (figure.of)(cell)?,
                    report.choices.iter().any(|choice| choice.is(cell)),
                ))
            })
            .collect();
        points.sort_by_key(|(at, ..)| *at);
        drawing.series(&axes, &points, color);
        legend.entry(&mut drawing, &name, Mark::Line(color));
    }
    if !of_ceilings.is_empty() {
        legend.entry(&mut drawing, "ceiling: a bare loop", Mark::Ceiling);
    }
    legend.entry(&mut drawing, "chosen", Mark::Ring);
    drawing.finish()
}

/// Where values lie: logarithmic across, since settings are tried in such steps; from 0 up.
struct Axes {
    across: Vec<usize>,
    top: f64,
    step: f64,
}

impl Axes {
    fn new(across: impl Iterator<Item = usize>, highest: f64) -> Self {
        let mut across: Vec<usize> = across.collect();
        across.sort_unstable();
        across.dedup();
        let step = round_step(highest / 5.0);
        Self { across, top: (highest / step).ceil().max(1.0) * step, step }
    }

    fn x(&self, at: usize) -> f64 {
        let log = |value: usize| (value.max(1) as f64).ln();
        let (first, last) =
            (self.across.first().copied().map_or(0.0, log), self.across.last().copied().map_or(0.0, log));
        let share = if last > first { (log(at) - first) / (last - first) } else { 0.5 };
        let inner = WIDTH - LEFT - RIGHT - 40.0;
        LEFT + 20.0 + share * inner
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)
    }
}

/// The next of 1, 2, 2.5 and 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= least).unwrap_or(10.0);
    factor * power
}

/// `1.25M`, `350k`, `42`, `2.5`.
fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// SVG in the making. Writing into a string cannot fail.
struct Drawing(String);

impl Drawing {
    fn new(title: &str) -> Self {
        let title = escaped(title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\
             <style>{STYLE}</style>\n"
        );
        let _ = writeln!(svg, "<text class=\"title\" x=\"16\" y=\"28\">{title}</text>");
        Self(svg)
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.0,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn axes(&mut self, axes: &Axes, name: &str) {
        let mut value = 0.0;
        while value <= axes.top * 1.001 {
            let y = axes.y(value);
            let _ = writeln!(self.0, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT);
            self.text(LEFT - 10.0, y + 4.5, "end", "quiet", &short(value));
            value += axes.step;
        }
        let below = HEIGHT - BOTTOM + 20.0;
        let mut free_from = f64::MIN;
        for at in &axes.across {
            let x = axes.x(*at);
            // Neighbours that lie too near share one label.
            if x >= free_from {
                self.text(x, below, "middle", "quiet", &at.to_string());
                free_from = x + 34.0;
            }
        }
        self.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14.0, "middle", "quiet", name);
    }

    fn ceiling(&mut self, y: f64) {
        let _ = writeln!(self.0, "<path class=\"ceiling\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT);
    }

    fn series(&mut self, axes: &Axes, points: &[(usize, [f64; 3], bool)], color: &str) {
        let path: Vec<String> =
            points.iter().map(|(at, [value, ..], _)| format!("{:.1} {:.1}", axes.x(*at), axes.y(*value))).collect();
        let _ =
            writeln!(self.0, "<path fill=\"none\" stroke=\"{color}\" stroke-width=\"2.5\" d=\"M{}\"/>", path.join("L"));
        for (at, [value, min, max], chosen) in points {
            let (x, y, low, high) = (axes.x(*at), axes.y(*value), axes.y(*min), axes.y(*max));
            let _ = writeln!(
                self.0,
                "<path stroke=\"{color}\" stroke-width=\"1.5\" d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"><title>{value:.2} ({min:.2} to {max:.2})</title></circle>",
                x - 4.0,
                x - 4.0
            );
            if *chosen {
                let _ = writeln!(self.0, "<circle class=\"ring\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"9\"/>");
            }
        }
    }

    fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// What stands for a line in the legend.
enum Mark<'a> {
    Line(&'a str),
    Ceiling,
    Ring,
}

/// Names beside each other above the plot, in as many rows as there is room for.
#[derive(Default)]
struct Legend {
    x: f64,
    row: f64,
}

impl Legend {
    fn entry(&mut self, drawing: &mut Drawing, name: &str, mark: Mark<'_>) {
        // Letters of this font are some 7 wide.
        let width = 44.0 + 7.0 * name.chars().count() as f64;
        if self.x > 0.0 && 16.0 + self.x + width > WIDTH {
            (self.x, self.row) = (0.0, self.row + 1.0);
        }
        let (x, y) = (16.0 + self.x, 50.0 + 17.0 * self.row);
        self.x += width;
        let _ = match mark {
            Mark::Line(color) => {
                writeln!(drawing.0, "<path stroke=\"{color}\" stroke-width=\"2.5\" d=\"M{x:.1} {y:.1}h20\"/>")
            }
            Mark::Ceiling => writeln!(drawing.0, "<path class=\"ceiling\" d=\"M{x:.1} {y:.1}h20\"/>"),
            Mark::Ring => writeln!(drawing.0, "<circle class=\"ring\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"6\"/>", x + 10.0),
        };
        drawing.text(x + 27.0, y + 4.5, "start", "", name);
    }
}

/// Text as XML and HTML have it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::bench::report::tests::example;

    #[test]
    fn a_plot_has_its_points_and_marks_the_choice() {
        let svg = draw(&example(), &FIGURES[0].1);
        // A dot and a label for each batch size; a ring on the chosen one, and one in the legend.
        for (part, count) in [("<title>", 2), ("class=\"ring\"", 2), ("class=\"ceiling\"", 2), (">1000</text>", 1)] {
            assert_eq!(svg.matches(part).count(), count, "{part} in\n{svg}");
        }
        assert!(svg.contains(">konekt bench end-to-end, sqlite</text>") && svg.contains(">200k</text>"), "{svg}");
        assert!(!draw(&example(), &FIGURES[1].1).contains("class=\"ceiling\" d"), "it has no ceiling");
    }

    #[test]
    fn one_setting_alone_is_drawn_too() {
        let mut report = example();
        report.cells.truncate(1);
        let svg = draw(&report, &FIGURES[0].1);
        assert!(svg.contains("<title>90000.00") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn axes_have_round_numbers() {
        for (least, expected) in [(0.3, 0.5), (1.0, 1.0), (21.0, 25.0), (70_000.0, 100_000.0)] {
            assert!((round_step(least) - expected).abs() < 1e-9 * expected, "{least}: {}", round_step(least));
        }
        for (value, expected) in [(0.0, "0"), (2.5, "2.5"), (350_000.0, "350k"), (1_250_000.0, "1.25M")] {
            assert_eq!(short(value), expected);
        }
    }
}
