//! Counts the voxels that two label maps share, class by class.

/// A voxel's class number, as it lies in memory (`u8` or `u16`).
pub trait Label: Copy + Send + Sync + Into<u16> {}

impl<L: Copy + Send + Sync + Into<u16>> Label for L {}

/// How many voxels of one class the prediction has, the truth has, and both have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Voxels of the class in both.
    pub intersection: u64,
    /// Voxels of the class in the prediction.
    pub prediction: u64,
    /// Voxels of the class in the truth.
    pub truth: u64,
}

impl Overlap {
    /// The counts of classes `0..classes` (0 is the background) in two label maps of the same length.
    ///
    /// Labels of `classes` or more count for no class; who reads files refuses them first.
    ///
    /// # Panics
    /// If the two maps differ in length.
    pub fn count<P: Label, T: Label>(prediction: &[P], truth: &[T], classes: usize) -> Vec<Self> {
        assert_eq!(prediction.len(), truth.len(), "label maps of different lengths");
        let mut counts = vec![Self::default(); classes];
        for (&predicted, &true_class) in prediction.iter().zip(truth) {
            let (predicted, true_class): (u16, u16) = (predicted.into(), true_class.into());
            if let Some(count) = counts.get_mut(usize::from(predicted)) {
                count.prediction += 1;
                count.intersection += u64::from(predicted == true_class);
            }
            if let Some(count) = counts.get_mut(usize::from(true_class)) {
                count.truth += 1;
            }
        }
        counts
    }

    /// Hard Dice of these counts; see [`dice_from_counts`].
    pub fn dice(&self) -> Option<f64> {
        dice_from_counts(self.intersection, self.prediction, self.truth)
    }
}

impl std::ops::AddAssign for Overlap {
    fn add_assign(&mut self, other: Self) {
        self.intersection += other.intersection;
        self.prediction += other.prediction;
        self.truth += other.truth;
    }
}

/// Hard Dice, `2 |P and T| / (|P| + |T|)`: 0 if only one has the class, undefined if neither has.
///
/// An absent class that was rightly not predicted is neither a hit nor a miss: counted as 1 it would reward a case for
/// being easy, counted as 0 it would punish a perfect answer.
pub fn dice_from_counts(intersection: u64, prediction: u64, truth: u64) -> Option<f64> {
    let total = prediction as f64 + truth as f64;
    (total > 0.0).then(|| 2.0 * intersection as f64 / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_class_has_no_dice_and_a_missed_one_has_zero() {
        assert_eq!(dice_from_counts(0, 0, 0), None);
        assert_eq!(dice_from_counts(0, 3, 0), Some(0.0));
        assert_eq!(dice_from_counts(0, 0, 3), Some(0.0));
        assert_eq!(dice_from_counts(2, 3, 5), Some(0.5));
    }

    #[test]
    fn counts_add_up_over_classes_and_pieces() {
        let (prediction, truth) = ([0u8, 1, 1, 2, 2, 0], [0u16, 1, 2, 2, 1, 1]);
        let whole = Overlap::count(&prediction, &truth, 3);
        assert_eq!(whole[1], Overlap { intersection: 1, prediction: 2, truth: 3 });
        assert_eq!(whole[2], Overlap { intersection: 1, prediction: 2, truth: 2 });
        assert_eq!(whole.iter().map(|count| count.truth).sum::<u64>(), 6);

        let mut sum = Overlap::count(&prediction[..2], &truth[..2], 3);
        for (left, right) in sum.iter_mut().zip(Overlap::count(&prediction[2..], &truth[2..], 3)) {
            *left += right;
        }
        assert_eq!(sum, whole);
    }
}
