//! The sums of one batch, and everything that follows from them.

use super::{EPSILON, LossKind};

/// Sums per class that the loss leaves behind: `p t`, `p^2`, `t`, `p`, voxels that the arg-max gives rightly to the class,
/// voxels that it gives to the class.
pub const SUMS: usize = 6;

/// Sums over one or more samples, in double precision.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    /// One row of [`SUMS`] per class; a single row in binary mode (the foreground).
    pub rows: Vec<[f64; SUMS]>,
    /// Voxels that were summed over.
    pub voxels: f64,
}

impl Sums {
    /// Of every sample, from the device's `[N, C, 6]`, where a sample has this number of voxels.
    pub fn of_samples(device: &[f32], classes: usize, voxels: usize) -> impl Iterator<Item = Self> {
        device.chunks_exact(classes * SUMS).map(move |sample| {
            let rows = sample.chunks_exact(SUMS).map(|row| std::array::from_fn(|i| f64::from(row[i]))).collect();
            Self { rows, voxels: voxels as f64 }
        })
    }

    /// Adds another sample's or batch's.
    pub fn add(&mut self, other: &Self) {
        for (row, more) in self.rows.iter_mut().zip(&other.rows) {
            row.iter_mut().zip(more).for_each(|(a, b)| *a += b);
        }
        self.voxels += other.voxels;
    }

    fn is_binary(&self) -> bool {
        self.rows.len() == 1
    }

    /// The weighted mean D of the soft Dice coefficients.
    pub fn dice(&self, weights: &[f32]) -> f64 {
        mean_dice(&self.rows, weights)
    }

    /// The loss.
    pub fn loss(&self, kind: LossKind, weights: &[f32]) -> f64 {
        loss(&self.rows, kind, weights)
    }

    /// Soft intersection over union as the reference defines it: `(I + 1) / (T + P - I + 1)` with means over classes.
    pub fn iou(&self) -> f64 {
        let mean = |column: usize| self.rows.iter().map(|row| row[column]).sum::<f64>() / self.rows.len() as f64;
        let (intersection, truth, predicted) = (mean(0), mean(2), mean(3));
        (intersection + 1.0) / (truth + predicted - intersection + 1.0)
    }

    /// Share of the voxels whose arg-max is the truth.
    pub fn accuracy(&self) -> f64 {
        let hits: f64 = self.rows.iter().map(|row| row[4]).sum();
        if !self.is_binary() {
            return hits / self.voxels;
        }
        let [.., truth, _, _, predicted] = self.rows[0];
        (self.voxels - truth - predicted + 2.0 * hits) / self.voxels
    }

    /// Dice of the arg-max labels per foreground class; none where truth and prediction lack the class.
    pub fn hard_dice(&self) -> Vec<Option<f64>> {
        let foreground = if self.is_binary() { 0 } else { 1 };
        let dice = |row: &[f64; SUMS]| {
            let total = row[2] + row[5];
            (total > 0.0).then(|| 2.0 * row[4] / total)
        };
        self.rows[foreground..].iter().map(dice).collect()
    }
}

/// Numerator and denominator of a class's Dice coefficient.
fn fraction<T: Copy + Into<f64>>(rows: &[[T; SUMS]], class: usize) -> (f64, f64) {
    let [pt, pp, t, p, ..] = rows[class].map(Into::into);
    let denominator = if rows.len() == 1 { p + t } else { pp + t };
    (2.0 * pt + EPSILON, denominator + EPSILON)
}

fn mean_dice<T: Copy + Into<f64>>(rows: &[[T; SUMS]], weights: &[f32]) -> f64 {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let weighted = |(class, &weight): (usize, &f32)| {
        let (numerator, denominator) = fraction(rows, class);
        f64::from(weight) * numerator / denominator
    };
    weights.iter().enumerate().map(weighted).sum::<f64>() / total
}

/// The loss from rows of sums.
pub(super) fn loss<T: Copy + Into<f64>>(rows: &[[T; SUMS]], kind: LossKind, weights: &[f32]) -> f64 {
    let miss = 1.0 - mean_dice(rows, weights);
    match kind {
        LossKind::Dice => miss,
        LossKind::LogDice => miss.cosh().ln(),
    }
}

/// For one class, the factors (a, b) of the loss's derivative by a probability: `a t + b p` for several classes,
/// `a t + b` in binary mode.
pub(super) fn slopes<T: Copy + Into<f64>>(
    rows: &[[T; SUMS]],
    kind: LossKind,
    weights: &[f32],
    class: usize,
) -> (f64, f64) {
    let outer = match kind {
        LossKind::Dice => -1.0,
        LossKind::LogDice => -(1.0 - mean_dice(rows, weights)).tanh(),
    };
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let share = outer * f64::from(weights[class]) / total;
    let (numerator, denominator) = fraction(rows, class);
    let by_denominator = -numerator / (denominator * denominator);
    (share * 2.0 / denominator, share * by_denominator * if rows.len() == 1 { 1.0 } else { 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_prediction_scores_one_and_an_absent_class_scores_nothing() {
        let sums =
            Sums { rows: vec![[5.0, 5.0, 5.0, 5.0, 5.0, 5.0], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0], [0.0; 6]], voxels: 8.0 };
        assert!((sums.dice(&[1.0; 3]) - 1.0).abs() < 1e-12);
        assert_eq!(sums.accuracy(), 1.0);
        assert_eq!(sums.hard_dice(), [Some(1.0), None]);
    }

    #[test]
    fn binary_accuracy_counts_the_background_too() {
        // 10 voxels, 4 true, 3 predicted, 2 of them rightly: 5 background voxels are right.
        let sums = Sums { rows: vec![[0.0, 0.0, 4.0, 0.0, 2.0, 3.0]], voxels: 10.0 };
        assert!((sums.accuracy() - 0.7).abs() < 1e-12);
        assert_eq!(sums.hard_dice(), [Some(4.0 / 7.0)]);
    }
}
