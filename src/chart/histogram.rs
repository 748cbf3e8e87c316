//! Histograms: how values are spread, in bins of equal, round width.

use super::{
    Canvas, Chart,
    canvas::{Anchor, GRID, HUES, text_width},
    ticks::{Ticks, number, round_step, short_value},
};

const WIDTH: f64 = 344.0;
const PLOT_HEIGHT: f64 = 120.0;
const TOP: f64 = 50.0;
const RIGHT: f64 = 16.0;
const TEXT: f64 = 11.0;

/// Counts in bins of equal width.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Heading.
    pub title: String,
    /// What is counted along x, with its unit.
    pub x_label: String,
    /// What a count counts, such as "cases".
    pub y_label: String,
    /// Where the first bin begins.
    pub low: f64,
    /// Where the last bin ends; more than `low`.
    pub high: f64,
    /// The counts.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// Counts of values in about `bins` bins, whose width is a round number and whose edges are multiples of it. Whole
    /// numbers get bins around whole numbers. Values that are not finite are left out.
    pub fn of(title: &str, x_label: &str, y_label: &str, values: &[f64], bins: usize) -> Self {
        let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let are_whole = values.iter().all(|value| value.fract() == 0.0);
        let mut width = round_step((high - low) / bins.max(1) as f64);
        let mut shift = 0.0;
        if are_whole {
            width = width.max(1.0);
            shift = 0.5;
        } else if high - low <= 1e-9 * high.abs().max(low.abs()) {
            // One value: a bin around it whose width suits it.
            width = round_step(0.1 * high.abs());
            shift = 0.5 * width;
        }
        let bin = |value: f64| ((value + shift) / width).floor();
        let (first, last) = if values.is_empty() { (0.0, 0.0) } else { (bin(low), bin(high)) };
        let mut counts = vec![0; ((last - first) as usize).min(10_000) + 1];
        for value in values {
            let place = (bin(value) - first) as usize;
            let place = place.min(counts.len() - 1);
            counts[place] += 1;
        }
        let edge = |bin: f64| bin * width - shift;
        let [title, x_label, y_label] = [title, x_label, y_label].map(str::to_owned);
        Self { title, x_label, y_label, low: edge(first), high: edge(last + 1.0), counts }
    }
}

impl Chart for Histogram {
    fn size(&self) -> (f64, f64) {
        (WIDTH, TOP + PLOT_HEIGHT + 42.0)
    }

    fn description(&self) -> String {
        let total: u64 = self.counts.iter().sum();
        let most = self.counts.iter().enumerate().max_by_key(|(_, count)| **count);
        let most = most.map(|(bin, count)| format!(", most ({count}) in {}", self.bin_text(bin))).unwrap_or_default();
        format!("{}: histogram of {} over {total} {}{most}.", self.title, self.x_label, self.y_label)
    }

    fn draw(&self, canvas: &mut Canvas) {
        let highest = self.counts.iter().copied().max().unwrap_or(0).max(1) as f64;
        let ticks = Ticks::around(0.0, highest, 4);
        // Counts are whole: no ticks between them.
        let ticks = if ticks.step < 1.0 { Ticks { values: vec![0.0, 1.0], step: 1.0 } } else { ticks };
        let widest = ticks.values.iter().map(|&value| text_width(&ticks.text(value), TEXT)).fold(0.0, f64::max);
        let (left, right, bottom) = (12.0 + widest + 6.0, WIDTH - RIGHT, TOP + PLOT_HEIGHT);
        let top_value = ticks.values[ticks.values.len() - 1];
        let y = |count: f64| bottom - count / top_value * PLOT_HEIGHT;

        canvas.heading((12.0, 18.0), &self.title);
        canvas.label((12.0, TOP - 13.0), TEXT, Anchor::Start, &self.y_label);
        for &value in &ticks.values {
            canvas.line((left, y(value)), (right, y(value)), GRID, if value > 0.0 { 0.25 } else { 0.8 });
            canvas.label((left - 6.0, y(value) + 4.0), TEXT, Anchor::End, &ticks.text(value));
        }
        let slot = (right - left) / self.counts.len().max(1) as f64;
        let gap = (0.08 * slot).min(2.0);
        // A single bin as wide as the plot would look like a wall.
        let width = (slot - gap).min(48.0);
        for (bin, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let x = left + (bin as f64 + 0.5) * slot - width / 2.0;
            // What is there must be seen, if only as a hair.
            let height = (bottom - y(count as f64)).max(1.0);
            let bar = canvas.element("rect").number("x", x).number("y", bottom - height).number("width", width);
            let bar = bar.number("height", height).text("fill", HUES[0]);
            bar.tooltip(&format!("{}: {count} {}", self.bin_text(bin), self.y_label));
        }
        let ticks = self.x_ticks();
        for &value in &ticks.values {
            let x = left + (value - self.low) / (self.high - self.low) * (right - left);
            canvas.line((x, bottom), (x, bottom + 4.0), GRID, 0.8);
            canvas.label((x, bottom + 16.0), TEXT, Anchor::Middle, &ticks.text(value));
        }
        canvas.label(((left + right) / 2.0, bottom + 33.0), TEXT, Anchor::Middle, &self.x_label);
    }
}

impl Histogram {
    fn x_ticks(&self) -> Ticks {
        if self.counts.len() == 1 {
            // The only bin stands for its middle, which gets the digits that it needs.
            let middle = (self.low + self.high) / 2.0;
            let decimals = short_value(middle).split('.').nth(1).map_or(0, str::len) as i32;
            return Ticks { values: vec![middle], step: 10f64.powi(-decimals) };
        }
        match self.has_whole_bins() {
            true => Ticks::whole(self.low, self.high, 5),
            false => Ticks::inside(self.low, self.high, 5),
        }
    }

    /// A bin in words: its edges, or the whole number in its middle.
    fn bin_text(&self, bin: usize) -> String {
        let edge = |bin: usize| self.low + bin as f64 * self.bin_width();
        if self.has_whole_bins() {
            return number((edge(bin) + edge(bin + 1)) / 2.0, 1.0);
        }
        format!("{} to {}", short_value(edge(bin)), short_value(edge(bin + 1)))
    }

    /// Whether each bin holds one whole number, in its middle.
    fn has_whole_bins(&self) -> bool {
        self.bin_width() == 1.0 && (self.low + 0.5).fract() == 0.0
    }

    fn bin_width(&self) -> f64 {
        (self.high - self.low) / self.counts.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64], bins: usize) -> (f64, f64, Vec<u64>) {
        let histogram = Histogram::of("", "", "", values, bins);
        (histogram.low, histogram.high, histogram.counts)
    }

    #[test]
    fn bins_are_round_and_hold_every_value() {
        assert_eq!(of(&[0.1, 0.15, 0.52, 0.99], 10), (0.1, 1.0, vec![2, 0, 0, 0, 1, 0, 0, 0, 1]));
        assert_eq!(of(&[3.0, 3.0, 5.0], 10), (2.5, 5.5, vec![2, 0, 1]));
        assert_eq!(of(&[-7.0], 10), (-7.5, -6.5, vec![1]));
        let (low, high, counts) = of(&[0.7; 9], 10);
        assert!(low < 0.7 && 0.7 < high && counts == [9]);
        assert_eq!(of(&[f64::NAN], 10).2, [0]);
        let values: Vec<f64> = (0..1000).map(|i| 1e-3 * f64::from(i * i)).collect();
        assert_eq!(of(&values, 25).2.iter().sum::<u64>(), 1000);
    }

    #[test]
    fn bins_say_what_they_hold() {
        assert_eq!(Histogram::of("", "", "", &[3.0, 5.0], 10).bin_text(1), "4");
        assert_eq!(Histogram::of("", "", "", &[0.1, 0.99], 10).bin_text(1), "0.2 to 0.3");
    }
}
