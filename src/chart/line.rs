//! Line charts: several series over one axis, as for training curves.

use super::{
    Canvas, Chart,
    canvas::{Anchor, GRID, HUES, short, text_width},
    ticks::{Ticks, short_value},
};

const WIDTH: f64 = 720.0;
const PLOT_HEIGHT: f64 = 240.0;
const RIGHT: f64 = 20.0;
const TEXT: f64 = 12.0;
/// Baseline of the heading, and height of a row of the legend.
const HEADING: f64 = 22.0;
const LEGEND_ROW: f64 = 18.0;
/// Length of the sample of a line in the legend.
const SAMPLE: f64 = 22.0;

/// Dash patterns, so that lines differ in print and for colour-blind readers. A second round of hues is dashed.
const DASHES: [&str; 4] = ["none", "7 4", "2 3", "9 3 2 3"];

/// A named line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Points (x, y) by rising x. A point that is not finite, or beyond 1e100, interrupts the line.
    pub points: Vec<(f64, f64)>,
    /// The index of a point to mark with its value, such as the best epoch.
    pub highlight: Option<usize>,
}

/// Lines over one pair of axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// Heading.
    pub title: String,
    /// What x is, with its unit.
    pub x_label: String,
    /// What y is, with its unit.
    pub y_label: String,
    /// The lines, drawn in this order.
    pub series: Vec<Series>,
}

/// Where the data lie on the picture.
struct Frame {
    left: f64,
    top: f64,
    x: (f64, f64),
    y: (f64, f64),
    x_ticks: Ticks,
    y_ticks: Ticks,
}

impl Frame {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let part = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        let width = WIDTH - RIGHT - self.left;
        (self.left + part(x, self.x) * width, self.top + (1.0 - part(y, self.y)) * PLOT_HEIGHT)
    }
}

impl Chart for LineChart {
    fn size(&self) -> (f64, f64) {
        (WIDTH, self.top() + PLOT_HEIGHT + 46.0)
    }

    fn description(&self) -> String {
        let last = |series: &Series| {
            let last = series.points.iter().rev().find(|point| is_drawable(point));
            last.map(|(x, y)| format!("; {} ends at {} for {}", series.name, short_value(*y), short_value(*x)))
        };
        let ends: String = self.series.iter().filter_map(last).collect();
        format!("{}: {} against {}{ends}.", self.title, self.y_label, self.x_label)
    }

    fn draw(&self, canvas: &mut Canvas) {
        let frame = self.frame();
        canvas.heading((16.0, HEADING), &self.title);
        self.draw_legend(canvas);
        self.draw_axes(canvas, &frame);
        for (index, series) in self.series.iter().enumerate() {
            draw_series(canvas, &frame, series, index);
        }
        // Over all lines, so that none hides a mark.
        for (index, series) in self.series.iter().enumerate() {
            draw_highlight(canvas, &frame, series, index);
        }
    }
}

impl LineChart {
    /// Places of the legend's entries (x, row), and how many rows there are. A lone line needs no legend.
    fn legend(&self) -> (Vec<(f64, usize)>, usize) {
        if self.series.len() < 2 {
            return (Vec::new(), 0);
        }
        let (mut x, mut row) = (16.0, 0);
        let places = self.series.iter().map(|series| {
            let width = SAMPLE + 6.0 + text_width(&series.name, TEXT) + 18.0;
            if x > 16.0 && x + width > WIDTH - RIGHT {
                (x, row) = (16.0, row + 1);
            }
            let place = (x, row);
            x += width;
            place
        });
        (places.collect(), row + 1)
    }

    /// The plot's upper edge: below heading, legend and the label of the y axis.
    fn top(&self) -> f64 {
        HEADING + 12.0 + self.legend().1 as f64 * LEGEND_ROW + if self.y_label.is_empty() { 6.0 } else { 28.0 }
    }

    fn frame(&self) -> Frame {
        let points = || self.series.iter().flat_map(|series| &series.points).copied().filter(is_drawable);
        let (x_low, x_high) = range(points().map(|point| point.0));
        let (y_low, y_high) = range(points().map(|point| point.1));
        let y_ticks = Ticks::around(y_low, y_high, 5);
        // Epochs and steps are whole: no ticks between them.
        let x_ticks = match points().all(|point| point.0.fract() == 0.0) {
            true => Ticks::whole(x_low, x_high, 8),
            false => Ticks::inside(x_low, x_high, 8),
        };
        let widest = y_ticks.values.iter().map(|&value| text_width(&y_ticks.text(value), TEXT)).fold(0.0, f64::max);
        Frame {
            left: 16.0 + widest + 8.0,
            top: self.top(),
            x: (x_low, x_high),
            y: (y_ticks.values[0], y_ticks.values[y_ticks.values.len() - 1]),
            x_ticks,
            y_ticks,
        }
    }

    fn draw_legend(&self, canvas: &mut Canvas) {
        for (index, (series, (x, row))) in self.series.iter().zip(self.legend().0).enumerate() {
            let y = HEADING + 20.0 + row as f64 * LEGEND_ROW;
            let (hue, dash) = style(index);
            let sample = canvas.element("line").number("x1", x).number("y1", y - 4.0).number("x2", x + SAMPLE);
            let sample = sample.number("y2", y - 4.0).text("stroke", hue).number("stroke-width", 2.0);
            sample.text("stroke-dasharray", dash).close();
            canvas.label((x + SAMPLE + 6.0, y), TEXT, Anchor::Start, &series.name);
        }
    }

    fn draw_axes(&self, canvas: &mut Canvas, frame: &Frame) {
        let (right, bottom) = (WIDTH - RIGHT, frame.top + PLOT_HEIGHT);
        for &value in &frame.y_ticks.values {
            let (_, y) = frame.place((frame.x.0, value));
            canvas.line((frame.left, y), (right, y), GRID, if y < bottom - 0.5 { 0.25 } else { 0.8 });
            canvas.label((frame.left - 8.0, y + 4.0), TEXT, Anchor::End, &frame.y_ticks.text(value));
        }
        for &value in &frame.x_ticks.values {
            let (x, _) = frame.place((value, frame.y.0));
            canvas.line((x, bottom), (x, bottom + 4.0), GRID, 0.8);
            canvas.label((x, bottom + 17.0), TEXT, Anchor::Middle, &frame.x_ticks.text(value));
        }
        canvas.label((16.0, frame.top - 14.0), TEXT, Anchor::Start, &self.y_label);
        canvas.label(((frame.left + right) / 2.0, bottom + 35.0), TEXT, Anchor::Middle, &self.x_label);
    }
}

fn draw_series(canvas: &mut Canvas, frame: &Frame, series: &Series, index: usize) {
    let (hue, dash) = style(index);
    for piece in series.points.split(|point| !is_drawable(point)) {
        match piece {
            [] => {}
            // A line of one point would be invisible.
            [point] => {
                let (x, y) = frame.place(*point);
                canvas.element("circle").number("cx", x).number("cy", y).number("r", 2.5).text("fill", hue).close();
            }
            piece => {
                let place = |&point: &(f64, f64)| {
                    let (x, y) = frame.place(point);
                    format!("{},{}", short(x), short(y))
                };
                let points: Vec<String> = piece.iter().map(place).collect();
                let line = canvas.element("polyline").text("points", &points.join(" ")).text("fill", "none");
                let line = line.text("stroke", hue).number("stroke-width", 2.0).text("stroke-dasharray", dash);
                line.text("stroke-linejoin", "round").text("stroke-linecap", "round").tooltip(&series.name);
            }
        }
    }
}

fn draw_highlight(canvas: &mut Canvas, frame: &Frame, series: &Series, index: usize) {
    let Some(&point) = series.highlight.and_then(|place| series.points.get(place)).filter(|point| is_drawable(point))
    else {
        return;
    };
    let (hue, _) = style(index);
    let (x, y) = frame.place(point);
    let ring = canvas.element("circle").number("cx", x).number("cy", y).number("r", 4.5).text("fill", "none");
    ring.text("stroke", hue).number("stroke-width", 2.0).close();
    let text = short_value(point.1);
    // Above the mark, or below it where the plot ends; and within the plot's sides.
    let half = text_width(&text, TEXT) / 2.0;
    let x = x.clamp(frame.left + half, WIDTH - RIGHT - half);
    let y = if y - 12.0 > frame.top + 8.0 { y - 10.0 } else { y + 20.0 };
    let label = canvas.element("text").number("x", x).number("y", y).number("font-size", TEXT);
    label.text("text-anchor", "middle").text("font-weight", "600").text("fill", hue).content(&text);
}

fn style(index: usize) -> (&'static str, &'static str) {
    (HUES[index % HUES.len()], DASHES[(index / HUES.len() + index % 2) % DASHES.len()])
}

/// The smallest and the largest; a range around a lone value; 0 to 1 without any.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0);
    }
    // Two numbers that are equal to a part in a billion would leave no room between ticks.
    let magnitude = low.abs().max(high.abs());
    if high - low > (1e-9 * magnitude).max(1e-100) {
        return (low, high);
    }
    let room = (0.1 * magnitude).max(1e-99);
    if low == high && magnitude == 0.0 { (-0.5, 0.5) } else { (low - room, high + room) }
}

/// Whether the axis arithmetic can place the point; beyond this, sums and quotients of coordinates overflow.
fn is_drawable(point: &(f64, f64)) -> bool {
    point.0.abs() < 1e100 && point.1.abs() < 1e100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::svg;

    fn chart(points: &[(f64, f64)]) -> LineChart {
        let series = Series { name: "loss".into(), points: points.to_vec(), highlight: Some(points.len()) };
        LineChart { title: "a".into(), x_label: "epoch".into(), y_label: "y".into(), series: vec![series] }
    }

    #[test]
    fn a_gap_interrupts_the_line_and_a_lone_point_is_seen() {
        let text = svg(&chart(&[(1.0, 1.0), (2.0, 2.0), (3.0, f64::NAN), (4.0, 1.0), (5.0, f64::INFINITY)]));
        assert_eq!((text.matches("<polyline").count(), text.matches("<circle").count()), (1, 1));
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }

    #[test]
    fn no_data_make_no_bad_coordinates() {
        for points in [
            &[][..],
            &[(1.0, 5.0)],
            &[(0.0, 0.0), (0.0, 0.0)],
            &[(f64::NAN, 1.0)],
            &[(1.0, f64::MAX), (2.0, f64::MIN)],
            &[(1.0, 1e-320), (2.0, 0.0)],
            &[(1e18, 1.0), (1e18 + 256.0, 2.0)],
        ] {
            // The canvas refuses coordinates that are no numbers.
            let text = svg(&chart(points));
            assert!(text.len() < 20_000, "{points:?}");
        }
    }

    #[test]
    fn the_description_says_where_the_lines_end() {
        assert_eq!(chart(&[(1.0, 0.5), (2.0, 0.25)]).description(), "a: y against epoch; loss ends at 0.25 for 2.");
    }
}
