//! Dice, HD95, surface Dice and volumes of every class of a label map against the truth.
//!
//! # Definitions
//!
//! With P and T the voxels of one class in prediction and truth, outside the volume counting as background:
//!
//! - **Dice** is `2 |P and T| / (|P| + |T|)`.
//! - **HD95** is the larger of the two directed 95th percentiles, in mm: the distances from each border voxel of P to the
//!   nearest border voxel of T, and the other way round. A border voxel has at least one of its six face neighbours
//!   outside the mask. Distances are Euclidean between voxel centres; percentiles interpolate linearly between ranks.
//! - **Surface Dice** at a tolerance is the share of the two surfaces' area that lies within the tolerance of the other
//!   surface: `(area of P near T + area of T near P) / (area of P + area of T)`. Surface elements sit at the corners
//!   that 2x2x2 voxels share, their areas come from marching cubes, "near" is a distance of at most the tolerance between
//!   surface elements. This is DeepMind's definition.
//! - **Volume** is the number of voxels times a voxel's volume, in ml.
//!
//! A class that is in neither map has no Dice, HD95 or surface Dice. A class that is in one of them has Dice 0 and
//! surface Dice 0 (nothing overlaps), and no HD95 (there is nothing to measure a distance to).
//!
//! ```
//! use gyrus::evaluate::{LabelVolume, score_classes};
//!
//! let (extents, spacing) = ([1, 1, 4], [3.0, 1.0, 1.0]);
//! let prediction = LabelVolume::new(&[0u8, 1, 1, 0], extents, spacing);
//! let truth = LabelVolume::new(&[0u8, 0, 1, 1], extents, spacing);
//! let scores = score_classes(prediction, truth, 2, 1.0);
//! assert_eq!((scores[0].dice, scores[0].surface_dice), (Some(0.5), Some(1.0)));
//! ```

use super::{
    distance::squared_distances,
    mask::{Bounds, Mask},
    overlap::{Label, Overlap},
    surface::areas_by_code,
};

/// A label map on a grid of voxels.
#[derive(Clone, Copy, Debug)]
pub struct LabelVolume<'a, L> {
    /// The class of every voxel, `[D, H, W]`, W innermost.
    pub voxels: &'a [L],
    /// Extents D, H, W in voxels.
    pub extents: [usize; 3],
    /// Distance between voxel centres along D, H, W in mm.
    pub spacing: [f64; 3],
}

/// The scores of one class in one case. What is undefined is `None`; the default is a class that is in neither map.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassScores {
    /// Voxels of the class in prediction, truth and both.
    pub overlap: Overlap,
    /// Hard Dice, 0 to 1.
    pub dice: Option<f64>,
    /// The larger directed 95th percentile of border distances, in mm.
    pub hd95_mm: Option<f64>,
    /// Surface Dice at the tolerance asked for, 0 to 1.
    pub surface_dice: Option<f64>,
    /// Volume of the class in the prediction, in ml.
    pub prediction_ml: f64,
    /// Volume of the class in the truth, in ml.
    pub truth_ml: f64,
}

impl<'a, L: Label> LabelVolume<'a, L> {
    /// A label map from its parts.
    ///
    /// # Panics
    /// If there is not exactly one label per voxel, or a spacing is not a positive finite number.
    pub fn new(voxels: &'a [L], extents: [usize; 3], spacing: [f64; 3]) -> Self {
        let count = extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        assert_eq!(count, Some(voxels.len()), "one label per voxel of {extents:?}");
        assert!(spacing.iter().all(|&step| step.is_finite() && step > 0.0), "spacing {spacing:?} mm");
        Self { voxels, extents, spacing }
    }
}

/// Scores of the classes `1..classes` (0 is the background and has no score), with the surface Dice's tolerance in mm.
///
/// # Panics
/// If the two volumes differ in extents or spacing, or the tolerance is negative or not a number.
pub fn score_classes<P: Label, T: Label>(
    prediction: LabelVolume<'_, P>,
    truth: LabelVolume<'_, T>,
    classes: usize,
    tolerance_mm: f64,
) -> Vec<ClassScores> {
    assert_eq!(prediction.extents, truth.extents, "label maps of different extents");
    assert_eq!(prediction.spacing, truth.spacing, "label maps of different spacing");
    assert!(tolerance_mm >= 0.0, "a tolerance of {tolerance_mm} mm");
    let spacing = truth.spacing;
    let voxel_ml = spacing.iter().product::<f64>() / 1000.0;
    let areas = areas_by_code(spacing);
    let overlaps = Overlap::count(prediction.voxels, truth.voxels, classes);
    let bounds = Bounds::joint(prediction.voxels, truth.voxels, truth.extents, classes);

    let score = |class: usize| {
        let overlap = overlaps[class];
        let mut scores = ClassScores {
            overlap,
            dice: overlap.dice(),
            hd95_mm: None,
            surface_dice: overlap.dice().map(|_| 0.0),
            prediction_ml: overlap.prediction as f64 * voxel_ml,
            truth_ml: overlap.truth as f64 * voxel_ml,
        };
        if let Some(bounds) = bounds[class].filter(|_| overlap.prediction > 0 && overlap.truth > 0) {
            // Nearest voxels lie inside the joint box, so the small masks give the same distances as the whole volume.
            let prediction = Mask::cut(prediction.voxels, prediction.extents, class as u16, bounds);
            let truth = Mask::cut(truth.voxels, truth.extents, class as u16, bounds);
            scores.hd95_mm = Some(hd95(&prediction, &truth, spacing));
            scores.surface_dice = Some(surface_dice(&prediction, &truth, spacing, &areas, tolerance_mm));
        }
        scores
    };
    (1..classes).map(score).collect()
}

/// The larger directed 95th percentile of border-to-border distances, in mm. Neither mask may be empty.
fn hd95(prediction: &Mask, truth: &Mask, spacing: [f64; 3]) -> f64 {
    let (prediction_border, truth_border) = (prediction.border(), truth.border());
    let directed = |from: &[bool], to: &[bool]| {
        let squared = squared_distances(to, truth.extents, spacing);
        let mut distances: Vec<f64> = pick(&squared, from).map(f64::sqrt).collect();
        percentile(&mut distances, 0.95)
    };
    directed(&prediction_border, &truth_border).max(directed(&truth_border, &prediction_border))
}

/// The share of both surfaces' area within the tolerance of the other surface. Neither mask may be empty.
fn surface_dice(prediction: &Mask, truth: &Mask, spacing: [f64; 3], areas: &[f64; 256], tolerance_mm: f64) -> f64 {
    let (prediction_codes, extents) = prediction.neighbour_codes();
    let (truth_codes, _) = truth.neighbour_codes();
    let surface = |codes: &[u8]| -> Vec<bool> { codes.iter().map(|&code| code != 0 && code != 255).collect() };
    let (prediction_surface, truth_surface) = (surface(&prediction_codes), surface(&truth_codes));
    // (area within the tolerance, whole area)
    let directed = |codes: &[u8], from: &[bool], to: &[bool]| {
        let squared = squared_distances(to, extents, spacing);
        let areas = codes.iter().zip(from).filter(|&(_, &from)| from).map(|(&code, _)| areas[usize::from(code)]);
        areas.zip(pick(&squared, from)).fold((0.0, 0.0), |(near, whole), (area, squared)| {
            (if squared.sqrt() <= tolerance_mm { near + area } else { near }, whole + area)
        })
    };
    let (prediction_near, prediction_whole) = directed(&prediction_codes, &prediction_surface, &truth_surface);
    let (truth_near, truth_whole) = directed(&truth_codes, &truth_surface, &prediction_surface);
    (prediction_near + truth_near) / (prediction_whole + truth_whole)
}

fn pick<'a>(values: &'a [f64], chosen: &'a [bool]) -> impl Iterator<Item = f64> + 'a {
    values.iter().zip(chosen).filter(|&(_, &chosen)| chosen).map(|(&value, _)| value)
}

/// The value at rank `quantile * (n - 1)` of the sorted values, linear between ranks (numpy's default). Reorders them.
///
/// # Panics
/// Without values.
pub fn percentile(values: &mut [f64], quantile: f64) -> f64 {
    let last = values.len().checked_sub(1).expect("a percentile of at least one value");
    let rank = (quantile * last as f64).clamp(0.0, last as f64);
    let (_, &mut low, above) = values.select_nth_unstable_by(rank as usize, f64::total_cmp);
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    let part = rank.fract();
    // From the nearer end, as numpy does: each end is then met exactly, and so are numpy's own bits.
    if part < 0.5 { low + (high - low) * part } else { high - (high - low) * (1.0 - part) }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    /// A volume with a box of class 1 at `low`, of the given size.
    fn boxed(extents: [usize; 3], low: [usize; 3], size: [usize; 3]) -> Vec<u8> {
        let [_, height, width] = extents;
        (0..extents.iter().product())
            .map(|index: usize| {
                let place = [index / (height * width), index / width % height, index % width];
                u8::from((0..3).all(|axis| (low[axis]..low[axis] + size[axis]).contains(&place[axis])))
            })
            .collect()
    }

    fn score(prediction: &[u8], truth: &[u8], extents: [usize; 3], spacing: [f64; 3], tolerance: f64) -> ClassScores {
        let volume = |voxels| LabelVolume::new(voxels, extents, spacing);
        score_classes(volume(prediction), volume(truth), 2, tolerance)[0]
    }

    #[test]
    fn two_voxels_apart_measure_the_distance_in_mm_along_each_axis() {
        let (extents, spacing) = ([9, 8, 7], [3.0, 0.5, 1.25]);
        let left = boxed(extents, [1, 1, 1], [1, 1, 1]);
        for axis in 0..3 {
            let mut low = [1, 1, 1];
            low[axis] += 4;
            let right = boxed(extents, low, [1, 1, 1]);
            let distance = 4.0 * spacing[axis];
            let near = score(&left, &right, extents, spacing, distance);
            assert_eq!((near.dice, near.hd95_mm, near.surface_dice), (Some(0.0), Some(distance), Some(1.0)));
            // The elements that face each other are only three voxels apart, those at the far side four.
            let far = score(&left, &right, extents, spacing, 2.999 * spacing[axis]);
            assert_eq!(far.surface_dice, Some(0.0));
            assert_relative_eq!(far.truth_ml, 3.0 * 0.5 * 1.25 / 1000.0, max_relative = 1e-15);
        }
    }

    #[test]
    fn classes_in_one_map_or_none_are_not_measured() {
        let (extents, spacing) = ([4, 4, 4], [1.0; 3]);
        let (empty, full) = (vec![0; 64], boxed(extents, [1, 1, 1], [2, 2, 2]));
        let none = score(&empty, &empty, extents, spacing, 1.0);
        assert_eq!((none.dice, none.hd95_mm, none.surface_dice, none.truth_ml), (None, None, None, 0.0));
        for (prediction, truth) in [(&empty, &full), (&full, &empty)] {
            let one = score(prediction, truth, extents, spacing, 1.0);
            assert_eq!((one.dice, one.hd95_mm, one.surface_dice), (Some(0.0), None, Some(0.0)));
        }
    }

    #[test]
    fn percentile_is_numpys() {
        // numpy.percentile(values, 95), its bits.
        assert_eq!(percentile(&mut [3.0], 0.95), 3.0);
        assert_eq!(percentile(&mut [4.0, 1.0, 2.0], 0.95), 3.8);
        assert_eq!(percentile(&mut [0.1, 0.7, 0.2, 0.4, 0.9], 0.95), 0.86);
        assert_eq!(percentile(&mut [2.0, 1.0], 0.0), 1.0);
        assert_eq!(percentile(&mut [2.0, 1.0], 1.0), 2.0);
    }

    fn maps() -> impl Strategy<Value = ([usize; 3], [f64; 3], Vec<u8>, Vec<u8>)> {
        let extents = (1usize..7, 1usize..7, 1usize..7).prop_map(|(d, h, w)| [d, h, w]);
        let spacing = prop::array::uniform3(0.3f64..4.0);
        (extents, spacing).prop_flat_map(|(extents, spacing)| {
            let voxels = || {
                prop::collection::vec(prop::bool::weighted(0.4).prop_map(u8::from), extents.iter().product::<usize>())
            };
            (Just(extents), Just(spacing), voxels(), voxels())
        })
    }

    fn close(left: Option<f64>, right: Option<f64>) -> bool {
        match (left, right) {
            (Some(left), Some(right)) => (left - right).abs() <= 1e-12 * left.abs().max(1.0),
            (left, right) => left == right,
        }
    }

    proptest! {
        #[test]
        fn scores_do_not_depend_on_which_map_is_the_truth((extents, spacing, left, right) in maps()) {
            let forth = score(&left, &right, extents, spacing, 1.0);
            let back = score(&right, &left, extents, spacing, 1.0);
            prop_assert_eq!((forth.dice, forth.hd95_mm), (back.dice, back.hd95_mm));
            prop_assert!(close(forth.surface_dice, back.surface_dice));
            prop_assert_eq!(forth.truth_ml, back.prediction_ml);
        }

        #[test]
        fn a_map_against_itself_is_perfect((extents, spacing, map, _) in maps()) {
            let scores = score(&map, &map, extents, spacing, 0.0);
            let present = map.contains(&1);
            prop_assert_eq!(scores.dice, present.then_some(1.0));
            prop_assert_eq!(scores.hd95_mm, present.then_some(0.0));
            prop_assert_eq!(scores.surface_dice, present.then_some(1.0));
        }

        #[test]
        fn spacing_and_tolerance_scale_together((extents, spacing, left, right) in maps(), factor in 0.25f64..4.0) {
            let small = score(&left, &right, extents, spacing, 1.5);
            let large = score(&left, &right, extents, spacing.map(|step| step * factor), 1.5 * factor);
            prop_assert!(close(small.hd95_mm.map(|mm| mm * factor), large.hd95_mm));
            prop_assert!(close(small.dice, large.dice));
            prop_assert!(close(small.surface_dice, large.surface_dice));
            prop_assert!(close(Some(small.truth_ml * factor.powi(3)), Some(large.truth_ml)));
        }

        #[test]
        fn a_shifted_map_is_as_far_as_the_shift_at_most((extents, spacing, map, _) in maps(), shift in prop::array::uniform3(0usize..4)) {
            let wide: [usize; 3] = std::array::from_fn(|axis| extents[axis] + shift[axis]);
            let placed = |at: [usize; 3]| {
                let mut placed = vec![0; wide.iter().product()];
                for (row, line) in map.chunks(extents[2]).enumerate() {
                    let (z, y) = (row / extents[1] + at[0], row % extents[1] + at[1]);
                    placed[(z * wide[1] + y) * wide[2] + at[2]..][..line.len()].copy_from_slice(line);
                }
                placed
            };
            let distance = (0..3).map(|axis| (shift[axis] as f64 * spacing[axis]).powi(2)).sum::<f64>().sqrt();
            let slack = 1.0 + 1e-12;
            let scores = score(&placed([0; 3]), &placed(shift), wide, spacing, distance * slack);
            prop_assert!(scores.hd95_mm.is_none_or(|mm| mm <= distance * slack));
            prop_assert_eq!(scores.surface_dice, map.contains(&1).then_some(1.0));
        }

        #[test]
        fn empty_space_around_both_maps_changes_nothing((extents, spacing, left, right) in maps()) {
            let padded_extents = extents.map(|extent| extent + 5);
            let padded = |map: &[u8]| {
                let mut padded = vec![0; padded_extents.iter().product()];
                for (row, line) in map.chunks(extents[2]).enumerate() {
                    let (z, y) = (row / extents[1] + 3, row % extents[1] + 2);
                    let start = (z * padded_extents[1] + y) * padded_extents[2] + 1;
                    padded[start..start + line.len()].copy_from_slice(line);
                }
                padded
            };
            let bare = score(&left, &right, extents, spacing, 1.0);
            prop_assert_eq!(bare, score(&padded(&left), &padded(&right), padded_extents, spacing, 1.0));
        }
    }
}
