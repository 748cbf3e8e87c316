//! Each change alone and all together; extents that are no multiples of anything; images that fill their grid and others.

use std::sync::LazyLock;

use super::{Augment, layout, numbers_spec};
use crate::{
    data::{
        augment::{Augmentation, PointWise, Recipe},
        preprocess::{Pending, Score},
    },
    ops::case::{Case, Fill, Operand},
    tensor::{DType, Volume},
};

const ODD: Volume = Volume { n: 1, extent: [5, 6, 7], c: 2 };

/// A recipe, and what is left to do to the image.
struct Sample {
    name: &'static str,
    volume: Volume,
    /// Of all cases of the batch.
    numbers: Vec<f64>,
    labels: bool,
    large: bool,
}

/// Made once: operands borrow from it.
static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let mut samples = vec![Sample::of("nothing", Volume { n: 2, extent: [3, 4, 5], c: 1 }, raw, still)];
    for (axis, name) in ["flip D", "flip H", "flip W"].into_iter().enumerate() {
        samples.push(Sample::of(name, ODD, scored, move |_, volume| {
            let mut recipe = Recipe::identity(volume.c);
            recipe.matrix[axis][axis] = -1.0;
            recipe
        }));
    }
    let point = |points: &'static [PointWise]| {
        move |_: usize, volume: Volume| {
            let channels = points.iter().copied().cycle().take(volume.c).collect();
            Recipe { channels, ..Recipe::identity(volume.c) }
        }
    };
    let rgb = Volume { n: 2, extent: [3, 5, 7], c: 3 };
    const LINE: &[PointWise] = &[PointWise { gamma: 1.0, scale: 1.2, shift: -0.3 }, PointWise::NONE];
    const BENT: &[PointWise] = &[
        PointWise { gamma: 1.4, ..PointWise::NONE },
        PointWise { gamma: 0.7, scale: 0.9, shift: 0.1 },
        PointWise::NONE,
    ];
    let noisy = |case: usize, volume: Volume| Recipe {
        noise: 0.2,
        noise_key: [0x89ab_cdef, 0xf000_0001 + case as u32],
        ..Recipe::identity(volume.c)
    };
    samples.extend([
        Sample::of("rotation and zoom", Volume { n: 2, extent: [9, 8, 11], c: 4 }, scored, turned),
        Sample::of("rotation and zoom", Volume { n: 1, extent: [7, 5, 13], c: 3 }, scored, turned),
        Sample::of("scale and shift", ODD, scored, point(LINE)),
        Sample::of("gamma", rgb, scored, point(BENT)),
        Sample::of("gamma without contrast", rgb, blank, point(BENT)),
        Sample::of("noise", rgb, scored, noisy),
        Sample::of("noise", Volume { c: 4, ..ODD }, scored, noisy),
        Sample::of("everything", Volume { n: 2, extent: [6, 10, 8], c: 5 }, scored, everything),
        Sample { labels: false, ..Sample::of("images alone", ODD, scored, everything) },
        Sample {
            large: true,
            ..Sample::of("everything", Volume { n: 1, extent: [32, 48, 48], c: 4 }, scored, everything)
        },
    ]);
    samples
});

/// All cases.
pub fn cases() -> Vec<Case> {
    let case = |sample: &'static Sample| {
        let volume = sample.volume;
        // Whole numbers, a seventh of them background.
        let images = Operand::fixed(volume.shape(), Fill::Integers(7));
        let labels = Operand::integers(volume.with_channels(1).shape(), DType::U8, 4);
        let numbers = Operand::fixed(numbers_spec(volume).shape, Fill::Listed(&sample.numbers));
        let operands = if sample.labels { vec![images, labels, numbers] } else { vec![images, numbers] };
        let case = Case::new(Augment { labels: sample.labels }, operands).without_gradient();
        Case { name: format!("{} {}", case.name, sample.name), narrows: false, large: sample.large, ..case }
    };
    SAMPLES.iter().map(case).collect()
}

impl Sample {
    fn of(
        name: &'static str,
        volume: Volume,
        pending: fn(Volume) -> Pending,
        recipe: impl Fn(usize, Volume) -> Recipe,
    ) -> Self {
        let layout = layout(volume);
        let row = |case| {
            let mut row = vec![0.0; layout.row()];
            layout.write(&mut row, &recipe(case, volume), &pending(volume));
            row.into_iter().map(f64::from)
        };
        Self { name, volume, numbers: (0..volume.n).flat_map(row).collect(), labels: true, large: false }
    }
}

fn still(_: usize, volume: Volume) -> Recipe {
    Recipe::identity(volume.c)
}

fn turned(case: usize, volume: Volume) -> Recipe {
    let settings = Augmentation { flip: [true; 3], rotation: 30.0, zoom: 0.3, ..Augmentation::default() };
    let is_turned = |recipe: &Recipe| recipe.matrix[0][1] != 0.0;
    let mut recipes = (0..).map(|epoch| Recipe::draw(&settings, 1, epoch, "a", [1.5, 1.0, 1.0], volume.c));
    recipes.by_ref().filter(is_turned).nth(case).expect("half of all recipes rotate")
}

fn everything(case: usize, volume: Volume) -> Recipe {
    let point = |channel: usize| PointWise { gamma: [1.0, 1.3, 0.8][channel % 3], scale: 1.1, shift: 0.2 };
    let channels = (0..volume.c).map(point).collect();
    Recipe { channels, noise: 0.1, noise_key: [7, case as u32], ..turned(case, volume) }
}

/// An image that is normalised and fills its grid.
fn raw(volume: Volume) -> Pending {
    Pending::nothing(volume.extent, volume.c)
}

/// An image that does not fill its grid, each slice of each channel with a score of its own; every other channel has no
/// background.
fn scored(volume: Volume) -> Pending {
    let bounds = volume.extent.map(|extent| 1..extent - usize::from(extent > 5));
    let score = |index: usize| Score {
        mean: 2.5 + index as f32 / 16.0,
        rest: 1e-3,
        scale: 0.6 + (index % 5) as f32 / 8.0,
        keeps_zero: (index % volume.c % 2) as f32,
    };
    let limits = (0..volume.c).map(|channel| [f32::NEG_INFINITY, if channel == 0 { 5.5 } else { f32::INFINITY }]);
    Pending { bounds, limits: limits.collect(), scores: (0..volume.extent[0] * volume.c).map(score).collect() }
}

/// An image without contrast.
fn blank(volume: Volume) -> Pending {
    let score = Score { mean: 0.0, rest: 0.0, scale: 0.0, keeps_zero: 1.0 };
    Pending { scores: vec![score; volume.extent[0] * volume.c], ..raw(volume) }
}
