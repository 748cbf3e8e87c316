//! Percentiles of any number of values in fixed memory, whatever their order.

/// Significant bits that are kept of a value: 10, so that whole numbers up to 1024 (all of the usual CT range) are
/// exact and everything else is within 0.1 %.
const DROPPED_BITS: u32 = 14;
const BINS: usize = 1 << (32 - DROPPED_BITS);
const SIGN: u32 = 1 << (31 - DROPPED_BITS);

/// Counts of f32 values rounded to ten significant bits: 2 MiB, exact to merge, the same in any order.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BINS], total: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// Counts a finite value.
    pub(super) fn add(&mut self, value: f32) {
        self.counts[bin(value)] += 1;
        self.total += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The percentiles asked for, in rising order, each 0..=100; linear between neighbouring ranks, as numpy does.
    /// Zeros when nothing was counted.
    pub(super) fn percentiles<const N: usize>(&self, percents: [f64; N]) -> [f32; N] {
        if self.total == 0 {
            return [0.0; N];
        }
        let mut walk = Walk { counts: &self.counts, bin: 0, passed: 0 };
        percents.map(|percent| {
            let rank = percent / 100.0 * (self.total - 1) as f64;
            let lower = walk.value_at(rank as u64);
            let mut beyond = Walk { ..walk };
            let upper = beyond.value_at((rank as u64 + 1).min(self.total - 1));
            (lower + (upper - lower) * rank.fract()) as f32
        })
    }

    /// Counts in `bins` bins of equal width from `low` to `high`; what lies outside goes to the first and last.
    pub(super) fn coarse(&self, low: f32, high: f32, bins: usize) -> Vec<u64> {
        let mut coarse = vec![0; bins];
        let width = (f64::from(high) - f64::from(low)) / bins as f64;
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let place = if width > 0.0 { (representative(index) - f64::from(low)) / width } else { 0.0 };
            // A float that is negative or too large saturates when it is cast.
            coarse[(place as usize).min(bins - 1)] += count;
        }
        coarse
    }
}

/// A walk along the bins that only goes forwards.
struct Walk<'a> {
    counts: &'a [u64],
    bin: usize,
    passed: u64,
}

impl Walk<'_> {
    fn value_at(&mut self, rank: u64) -> f64 {
        while self.passed + self.counts[self.bin] <= rank {
            self.passed += self.counts[self.bin];
            self.bin += 1;
        }
        representative(self.bin)
    }
}

/// The bin of a value: its bits rounded to nearest even and arranged so that they rise with the value.
fn bin(value: f32) -> usize {
    let bits = value.to_bits();
    let half = (1 << (DROPPED_BITS - 1)) - 1;
    // The sign is the highest bit and the largest finite value rounds at most to infinity, so this cannot overflow.
    let rounded = (bits + half + ((bits >> DROPPED_BITS) & 1)) >> DROPPED_BITS;
    let rising = if rounded & SIGN != 0 { !rounded & (2 * SIGN - 1) } else { rounded | SIGN };
    rising as usize
}

fn representative(bin: usize) -> f64 {
    let rising = bin as u32;
    let rounded = if rising & SIGN != 0 { rising & !SIGN } else { !rising & (2 * SIGN - 1) };
    let value = f32::from_bits(rounded << DROPPED_BITS);
    f64::from(value.clamp(f32::MIN, f32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn whole_numbers_of_the_ct_range_have_exact_percentiles() {
        let mut stream = Stream::new(3, "histogram");
        let mut values: Vec<f32> = (0..5003).map(|_| stream.between(-1024.0, 1024.0).round() as f32).collect();
        let mut histogram = Histogram::new();
        values.iter().for_each(|value| histogram.add(*value));
        values.sort_by(f32::total_cmp);
        let percents = [0.0, 0.5, 25.0, 50.0, 99.5, 100.0];
        for (percent, found) in percents.into_iter().zip(histogram.percentiles(percents)) {
            let rank = percent / 100.0 * 5002.0f64;
            let (lower, upper) = (values[rank as usize], values[(rank as usize + 1).min(5002)]);
            assert_eq!(found, (f64::from(lower) + f64::from(upper - lower) * rank.fract()) as f32, "{percent} %");
        }
        assert_eq!(histogram.coarse(-1024.0, 1024.0, 8).iter().sum::<u64>(), 5003);
    }

    #[test]
    fn every_value_lands_within_a_thousandth_of_itself() {
        for value in [0.0, 1e-30, -3.7, 12345.678, -9.9e30, f32::MAX, f32::MIN, 0.1, -0.0] {
            let found = representative(bin(value)) as f32;
            assert!((found - value).abs() <= value.abs() * 0.001, "{value} -> {found}");
        }
        assert!(bin(-2.0) < bin(-1.0) && bin(-1.0) < bin(-0.0) && bin(0.0) < bin(1e-9) && bin(1.0) < bin(2.0));
    }
}
