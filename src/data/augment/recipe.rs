//! Draws what will be done to one case in one epoch.

use serde::{Deserialize, Serialize};

use super::Augmentation;
use crate::random::Stream;

/// What is done to one case, in this order: gather through `matrix`; per channel gamma, scale, shift; noise. Voxels
/// that are exactly 0 (background and padding) stay 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Takes a target voxel's offset from the centre to the source voxel's, D H W in voxels.
    pub matrix: [[f32; 3]; 3],
    /// One entry per channel.
    pub channels: Vec<PointWise>,
    /// Deviation of the noise; 0: none.
    pub noise: f32,
    /// Key of the noise: element `e` of the volume gets lane `e % 4` of the Philox block `e / 4` under this key.
    pub noise_key: [u32; 2],
}

/// Changes of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct PointWise {
    /// Exponent applied to the non-zero voxels' range, mapped to 0..=1 and back; 1: none.
    pub gamma: f32,
    /// Factor.
    pub scale: f32,
    /// Summand.
    pub shift: f32,
}

/// A recipe whose channels lie elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes<'a> {
    /// As [`Recipe::matrix`].
    pub matrix: [[f32; 3]; 3],
    /// As [`Recipe::channels`].
    pub channels: &'a [PointWise],
    /// As [`Recipe::noise`].
    pub noise: f32,
    /// As [`Recipe::noise_key`].
    pub noise_key: [u32; 2],
}

impl PointWise {
    /// No change.
    pub const NONE: Self = Self { gamma: 1.0, scale: 1.0, shift: 0.0 };
}

impl Recipe {
    /// The recipe that changes nothing.
    pub fn identity(channels: usize) -> Self {
        let matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        Self { matrix, channels: vec![PointWise::NONE; channels], noise: 0.0, noise_key: [0; 2] }
    }

    /// The recipe of a case in an epoch. `spacing` is the spacing along D, H, W of the grid to be changed, so that
    /// bodies are rotated and not sheared.
    pub fn draw(
        settings: &Augmentation,
        seed: u64,
        epoch: usize,
        case: &str,
        spacing: [f64; 3],
        channels: usize,
    ) -> Self {
        let mut stream = Stream::new(seed, &format!("augment {epoch} {case}"));
        // Everything is drawn, used or not: switching one change on or off leaves the others as they were.
        let flip = settings.flip.map(|flip| stream.chance(0.5) && flip);
        let is_rotated = stream.chance(0.5);
        let angles = [0; 3].map(|_| stream.between(-1.0, 1.0) * settings.rotation.to_radians() * f64::from(is_rotated));
        let is_zoomed = stream.chance(0.5);
        let zoom = (stream.between(-1.0, 1.0) * settings.zoom.ln_1p() * f64::from(is_zoomed)).exp();
        let noise = stream.between(0.0, settings.noise) * f64::from(stream.chance(1.0 / 3.0));
        let noise_key = [stream.word(), stream.word()];
        let channels = (0..channels).map(|_| {
            let bend = stream.between(-1.0, 1.0) * settings.gamma.ln_1p() * f64::from(stream.chance(1.0 / 3.0));
            let scale = 1.0 + stream.between(-1.0, 1.0) * settings.scale;
            let shift = stream.between(-1.0, 1.0) * settings.shift;
            PointWise { gamma: bend.exp() as f32, scale: scale as f32, shift: shift as f32 }
        });
        let channels = channels.collect();
        Self { matrix: matrix(flip, angles, zoom, spacing), channels, noise: noise as f32, noise_key }
    }

    /// The same, borrowed.
    pub(super) fn changes(&self) -> Changes<'_> {
        let Self { matrix, ref channels, noise, noise_key } = *self;
        Changes { matrix, channels, noise, noise_key }
    }
}

impl Changes<'_> {
    /// The axes that are mirrored, when the gather does nothing else.
    pub(super) fn only_flips(&self) -> Option<[bool; 3]> {
        let [[d, a, b], [c, h, e], [f, g, w]] = self.matrix;
        let is_plain = [d, h, w].iter().all(|x| x.abs() == 1.0) && [a, b, c, e, f, g].iter().all(|x| *x == 0.0);
        is_plain.then_some([d < 0.0, h < 0.0, w < 0.0])
    }
}

/// Voxels to mm, mirrored, shrunk, rotated about W, then H, then D, and back to voxels.
fn matrix(flip: [bool; 3], angles: [f64; 3], zoom: f64, spacing: [f64; 3]) -> [[f32; 3]; 3] {
    let mut matrix = [0, 1, 2].map(|row| [0, 1, 2].map(|column| f64::from(row == column)));
    for (axis, angle) in angles.into_iter().enumerate() {
        let (i, j) = ((axis + 1) % 3, (axis + 2) % 3);
        let (sine, cosine) = angle.sin_cos();
        for row in &mut matrix {
            (row[i], row[j]) = (row[i] * cosine + row[j] * sine, row[j] * cosine - row[i] * sine);
        }
    }
    let factor = |row: usize, column: usize| {
        let mirror = if flip[column] { -1.0 } else { 1.0 };
        mirror * spacing[column] / spacing[row] / zoom
    };
    [0, 1, 2].map(|row| [0, 1, 2].map(|column| (matrix[row][column] * factor(row, column)) as f32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augment::Augment;

    fn draw(settings: &Augmentation, epoch: usize, case: &str) -> Recipe {
        Recipe::draw(settings, 5, epoch, case, [1.0; 3], 2)
    }

    #[test]
    fn a_recipe_is_named_by_seed_epoch_and_case() {
        let full = Augment::Full.settings();
        assert_eq!(draw(&full, 3, "a"), draw(&full, 3, "a"));
        assert_ne!(draw(&full, 3, "a"), draw(&full, 4, "a"));
        assert_ne!(draw(&full, 3, "a"), draw(&full, 3, "b"));
        assert_ne!(draw(&full, 3, "a"), Recipe::draw(&full, 6, 3, "a", [1.0; 3], 2));
        let none = Recipe { noise_key: [0; 2], ..draw(&Augment::None.settings(), 3, "a") };
        assert_eq!(none, Recipe::identity(2));
    }

    #[test]
    fn switching_noise_off_leaves_the_rest_as_it_was() {
        let quiet = Augmentation { noise: 0.0, ..Augment::Full.settings() };
        for epoch in 0..20 {
            let with = draw(&Augment::Full.settings(), epoch, "a");
            assert_eq!(draw(&quiet, epoch, "a"), Recipe { noise: 0.0, ..with });
        }
    }

    #[test]
    fn rotations_keep_lengths_in_millimetres_and_zooms_stay_in_range() {
        let spacing = [5.0, 0.5, 1.0];
        let turned = Augmentation { zoom: 0.0, ..Augment::Full.settings() };
        let mut is_oblique = false;
        for epoch in 0..50 {
            let recipe = Recipe::draw(&turned, 1, epoch, "a", spacing, 1);
            is_oblique |= recipe.changes().only_flips().is_none();
            for column in 0..3 {
                // A step of one voxel along an axis stays a step of that many mm.
                let length =
                    (0..3).map(|row| (f64::from(recipe.matrix[row][column]) * spacing[row]).powi(2)).sum::<f64>();
                assert!((length.sqrt() / spacing[column] - 1.0).abs() < 1e-6);
            }
            let zoomed = Augmentation { rotation: 0.0, ..Augment::Full.settings() };
            let recipe = Recipe::draw(&zoomed, 1, epoch, "a", spacing, 1);
            assert!(recipe.matrix[1][1].abs() <= 1.2001 && recipe.matrix[1][1].abs() >= 1.0 / 1.2001);
        }
        assert!(is_oblique);
    }

    #[test]
    fn each_axis_is_mirrored_in_about_half_of_the_cases() {
        let flips = Augment::Flip.settings();
        let mut counts = [0; 3];
        for case in 0..400 {
            let flip = draw(&flips, 0, &case.to_string()).changes().only_flips().unwrap();
            (0..3).for_each(|axis| counts[axis] += usize::from(flip[axis]));
        }
        // Four standard deviations of 10 around 200.
        assert!(counts.iter().all(|count| (160..=240).contains(count)), "{counts:?}");
    }
}
