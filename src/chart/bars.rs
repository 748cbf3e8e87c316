//! Horizontal bars: one number per name.

use super::{
    Canvas, Chart,
    canvas::{Anchor, GRID, HUES, fitted, text_width},
};

const WIDTH: f64 = 720.0;
const ROW: f64 = 24.0;
const THICKNESS: f64 = 14.0;
const TOP: f64 = 36.0;
const TEXT: f64 = 12.0;
const WIDEST_NAME: f64 = 220.0;

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Its length. What is negative or not finite is drawn without one.
    pub value: f64,
    /// The value in words, written behind the bar.
    pub text: String,
}

/// Bars from one common line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarChart {
    /// Heading.
    pub title: String,
    /// The bars, from the top.
    pub bars: Vec<Bar>,
}

impl Chart for BarChart {
    fn size(&self) -> (f64, f64) {
        (WIDTH, TOP + ROW * self.bars.len() as f64 + 12.0)
    }

    fn description(&self) -> String {
        let bars: Vec<String> = self.bars.iter().map(|bar| format!("{} {}", bar.name, bar.text)).collect();
        format!("{}: {}.", self.title, bars.join(", "))
    }

    fn draw(&self, canvas: &mut Canvas) {
        let widest =
            |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text_width(text, TEXT)).fold(0.0, f64::max);
        let names = widest(&mut self.bars.iter().map(|bar| &bar.name)).min(WIDEST_NAME);
        let texts = widest(&mut self.bars.iter().map(|bar| &bar.text)).min(WIDEST_NAME);
        let (left, right) = (16.0 + names + 10.0, WIDTH - 16.0 - texts - 8.0);
        let length = |bar: &Bar| if bar.value.is_finite() { bar.value.max(0.0) } else { 0.0 };
        let longest = self.bars.iter().map(length).fold(0.0, f64::max);

        canvas.heading((16.0, 22.0), &self.title);
        for (row, bar) in self.bars.iter().enumerate() {
            let middle = TOP + ROW * (row as f64 + 0.5);
            let width = if longest > 0.0 { length(bar) / longest * (right - left) } else { 0.0 };
            canvas.label((left - 10.0, middle + 4.0), TEXT, Anchor::End, &fitted(&bar.name, TEXT, WIDEST_NAME));
            if width > 0.0 {
                let rect = canvas.element("rect").number("x", left).number("y", middle - THICKNESS / 2.0);
                let rect = rect.number("width", width.max(1.0)).number("height", THICKNESS).text("fill", HUES[0]);
                rect.tooltip(&format!("{}: {}", bar.name, bar.text));
            }
            canvas.label((left + width + 8.0, middle + 4.0), TEXT, Anchor::Start, &bar.text);
        }
        canvas.line((left, TOP), (left, TOP + ROW * self.bars.len() as f64), GRID, 0.8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::svg;

    #[test]
    fn names_are_escaped_and_only_lengths_are_drawn() {
        let values = [0.5, 0.0, -1.0, f64::NAN, f64::INFINITY];
        let bars = values.map(|value| Bar { name: "<a & b>".into(), value, text: "x".into() });
        let text = svg(&BarChart { title: "</svg>".into(), bars: bars.to_vec() });
        assert_eq!((text.matches("<rect").count(), text.matches("</svg>").count()), (1, 1));
        assert!(text.contains("&lt;a &amp; b&gt;") && !text.contains("NaN"));
        assert!(svg(&BarChart::default()).ends_with("</svg>\n"));
    }
}
