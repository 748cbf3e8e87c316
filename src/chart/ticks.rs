//! Round numbers for axes.

/// Tick marks at whole multiples of a round step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ticks {
    /// Where they are, rising.
    pub values: Vec<f64>,
    /// Their distance: 1, 2 or 5 times a power of ten.
    pub step: f64,
}

impl Ticks {
    /// About `count` ticks inside `low..=high`.
    pub fn inside(low: f64, high: f64, count: usize) -> Self {
        let step = round_step((high - low) / count.max(1) as f64);
        // A tick that rounding alone puts outside still belongs to the axis.
        let slack = 1e-9 * (high - low);
        let (first, last) = (((low - slack) / step).ceil(), ((high + slack) / step).floor());
        Self { values: multiples(first, last, step), step }
    }

    /// As [`Self::inside`], at whole numbers only.
    pub fn whole(low: f64, high: f64, count: usize) -> Self {
        let ticks = Self::inside(low, high, count);
        if ticks.step >= 1.0 {
            return ticks;
        }
        Self { values: multiples(low.ceil(), high.floor(), 1.0), step: 1.0 }
    }

    /// The fewest ticks of about `count` whose first and last enclose `low..=high`.
    pub fn around(low: f64, high: f64, count: usize) -> Self {
        let step = round_step((high - low) / count.max(1) as f64);
        let slack = 1e-9 * (high - low);
        let (first, last) = (((low + slack) / step).floor(), ((high - slack) / step).ceil());
        Self { values: multiples(first, last.max(first + 1.0), step), step }
    }

    /// A tick's text: as many digits as the step needs, in thousands (k), millions (M) or billions (G) where plain digits
    /// would be long, and in powers of ten beyond.
    pub fn text(&self, value: f64) -> String {
        let largest = self.values.iter().copied().map(f64::abs).fold(0.0, f64::max);
        let (unit, suffix) = match largest {
            1e4..1e6 if self.step >= 500.0 => (1e3, "k"),
            1e6..1e9 => (1e6, "M"),
            1e9..1e12 => (1e9, "G"),
            _ => (1.0, ""),
        };
        let text = number(value / unit, self.step / unit);
        if value == 0.0 { text } else { text + suffix }
    }
}

/// A value to the precision of a step.
pub(super) fn number(value: f64, step: f64) -> String {
    let largest = value.abs().max(step);
    if !(1e-4..1e6).contains(&largest) && value != 0.0 {
        let digits = (largest.log10().floor() - step.log10().floor()).clamp(0.0, 6.0) as usize;
        return format!("{value:.digits$e}").replace('-', "\u{2212}");
    }
    let digits = (-step.log10()).ceil().clamp(0.0, 9.0) as usize;
    let text = format!("{value:.digits$}");
    // A minus sign is as wide as a digit; and nothing rounds to a negative zero.
    match text.strip_prefix('-') {
        Some(positive) if positive.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) => format!("\u{2212}{positive}"),
        Some(positive) => positive.to_owned(),
        None => text,
    }
}

/// A value to four significant digits, without trailing zeros.
pub(crate) fn short_value(value: f64) -> String {
    let step = if value == 0.0 { 1.0 } else { 10f64.powf(value.abs().log10().floor() - 3.0) };
    let text = number(value, step);
    let (digits, exponent) = text.split_at(text.find('e').unwrap_or(text.len()));
    match digits.contains('.') {
        true => format!("{}{exponent}", digits.trim_end_matches('0').trim_end_matches('.')),
        false => text,
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `step`.
pub(super) fn round_step(step: f64) -> f64 {
    if !(step.is_finite() && step > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    // 10^x is not exact, so the next power may be the one that fits.
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

fn multiples(first: f64, last: f64, step: f64) -> Vec<f64> {
    // Ranges of a few steps by construction; the cap guards against a range that is smaller than its numbers' precision.
    (0..100)
        .map(|index| first + f64::from(index))
        .take_while(|&index| index <= last)
        .map(|index| index * step)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ticks: Ticks) -> Vec<String> {
        ticks.values.iter().map(|&value| ticks.text(value)).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(texts(Ticks::inside(0.0, 1.0, 5)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(Ticks::around(0.13, 0.87, 5)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(Ticks::inside(1.0, 5.0, 6)), ["1", "2", "3", "4", "5"]);
        assert_eq!(texts(Ticks::around(-3.2, 4.1, 4)), ["−4", "−2", "0", "2", "4", "6"]);
        assert_eq!(texts(Ticks::around(0.0, 3e7, 3)), ["0", "10M", "20M", "30M"]);
        assert_eq!(texts(Ticks::around(0.0, 13_000.0, 3)), ["0", "5k", "10k", "15k"]);
        assert_eq!(texts(Ticks::around(0.0, 3e20, 3)), ["0", "1e20", "2e20", "3e20"]);
        assert_eq!(texts(Ticks::inside(0.0, 0.3, 3)), ["0.0", "0.1", "0.2", "0.3"]);
    }

    #[test]
    fn values_have_four_digits_and_steps_are_whole() {
        let texts = [0.89384, -0.5, 4e6, 123456.0, 2.5e-7, 0.0, 12.3456].map(short_value);
        assert_eq!(texts, ["0.8938", "−0.5", "4e6", "123456", "2.5e−7", "0", "12.35"]);
        assert_eq!(Ticks::whole(1.0, 3.0, 8).values, [1.0, 2.0, 3.0]);
        assert_eq!(Ticks::whole(0.0, 40.0, 8).values.len(), 9);
    }

    #[test]
    fn a_range_of_nothing_still_has_ticks() {
        assert_eq!(Ticks::around(5.0, 5.0, 5).values, [5.0, 6.0]);
        assert!(Ticks::inside(1e300, 1e300, 5).values.len() <= 100);
        assert_eq!(number(-0.001, 0.1), "0.0");
    }
}
