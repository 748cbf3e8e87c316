//! Draws charts as SVG (lines, histograms, horizontal bars) and tables as text.
//!
//! An own small writer instead of a plotting crate: the pictures are self-contained (no script, no font, no link), their
//! text is real text that can be searched and read aloud, and everything that comes from files is escaped. Backgrounds
//! are transparent and greys and hues of middle lightness, so that a picture reads on white and on black; the hues stay
//! apart for colour-blind readers, and lines differ by dashes as well.
//!
//! ```
//! use gyrus::chart::{LineChart, Series, svg};
//!
//! let points = vec![(1.0, 0.61), (2.0, 0.78), (3.0, 0.83)];
//! let dice = Series { name: "validation".into(), points, highlight: Some(2) };
//! let chart = LineChart { title: "Dice".into(), x_label: "epoch".into(), y_label: "Dice".into(), series: vec![dice] };
//! assert!(svg(&chart).starts_with("<svg"));
//! ```

mod bars;
mod canvas;
mod histogram;
mod line;
mod text_table;
mod ticks;

pub use bars::{Bar, BarChart};
pub use canvas::{Canvas, escape};
pub use histogram::Histogram;
pub use line::{LineChart, Series};
pub use text_table::text_table;
pub(crate) use ticks::short_value;

/// Something that can be drawn at the origin of a canvas.
pub trait Chart {
    /// Width and height in pixels.
    fn size(&self) -> (f64, f64);
    /// What the picture shows, in a sentence, for those who cannot see it.
    fn description(&self) -> String;
    /// Draws the chart with its upper left corner at the canvas's origin.
    fn draw(&self, canvas: &mut Canvas);
}

/// One chart as an SVG document, which may also be put into HTML as it is.
pub fn svg(chart: &dyn Chart) -> String {
    stacked(&[chart])
}

/// Charts below one another in one SVG document.
pub fn stacked(charts: &[&dyn Chart]) -> String {
    let width = charts.iter().map(|chart| chart.size().0).fold(0.0, f64::max);
    let mut canvas = Canvas::new();
    let mut top = 0.0;
    for chart in charts {
        canvas.group(0.0, top, |canvas| chart.draw(canvas));
        top += chart.size().1;
    }
    let description: Vec<String> = charts.iter().map(|chart| chart.description()).collect();
    canvas.document(width, top, &description.join(" "))
}
