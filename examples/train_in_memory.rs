//! Trains a small network on arrays in memory: no dataset on the disk, no command line.
//!
//! `cargo run --release --example train_in_memory`

use std::path::{Path, PathBuf};

use gyrus::{
    Result,
    data::dataset::Case,
    formats::{
        Header,
        memory::{Held, hold_image, hold_labels},
    },
    nn::Architecture,
    run::{self, LearningRate, Silent, Source, TrainRecipe, Trained},
};

/// Extents D, H, W: multiples of 16, as the networks need.
const EXTENTS: [usize; 3] = [16, 32, 16];

fn main() -> Result<()> {
    let trained = train(Path::new("model-in-memory"), 15)?;
    let (dice, epoch) = trained.best.expect("an epoch is done");
    println!("{}: soft validation Dice {dice:.3} in epoch {epoch}", trained.best_checkpoint.display());
    Ok(())
}

/// Trains on ten bright balls in noise; a run is left in `folder`.
pub fn train(folder: &Path, epochs: usize) -> Result<Trained> {
    // The volumes can be read for as long as these live.
    let held: Vec<[Held; 2]> = (0..10).map(ball).collect::<Result<_>>()?;
    let case = |[image, labels]: &[Held; 2]| Case {
        name: image.path().display().to_string(),
        image: image.path().to_owned(),
        label: Some(labels.path().to_owned()),
    };
    let cases: Vec<Case> = held.iter().map(case).collect();
    let source = Source {
        train: cases[..8].to_vec(),
        validation: cases[8..].to_vec(),
        channels: Some(1),
        labels: ["background", "ball", "shell"].map(str::to_owned).to_vec(),
    };
    let mut recipe = TrainRecipe::default();
    // Without batch normalisation, whose moving averages need more steps than this takes.
    recipe.network.model_architecture = Architecture::UpsamplingDropout;
    recipe.network.unet_resize_factor = 8;
    recipe.network.head_filters = 0;
    [recipe.network.mri_depth, recipe.network.mri_width, recipe.network.mri_height] = EXTENTS;
    (recipe.training.training_epochs, recipe.training.lr) = (epochs, 0.003);
    recipe.training.weighted_classes = false;
    recipe.training.lr_schedule = LearningRate::Cosine;
    recipe.output.model_path = PathBuf::from(folder);
    run::prepare_cases(&recipe, source, &mut Silent)?.train(&|| false, &mut Silent)
}

/// A ball with a shell at its own place, as an image and as labels.
fn ball(number: usize) -> Result<[Held; 2]> {
    let [depth, height, width] = EXTENTS;
    let centre = [6 + number % 4, 10 + number, 6 + number % 3];
    let (mut image, mut labels) = (Vec::new(), Vec::new());
    let mut state = number as u32 + 1;
    for voxel in 0..depth * height * width {
        let place = [voxel / (height * width), voxel / width % height, voxel % width];
        let squares = place.iter().zip(&centre).map(|(a, b)| a.abs_diff(*b).pow(2));
        let label = match squares.sum::<usize>() {
            0..=12 => 1,
            13..=24 => 2,
            _ => 0,
        };
        // A few bits of noise from a linear congruence.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image.push(100.0 + [0.0, 60.0, -40.0][usize::from(label)] + (state >> 27) as f32);
        labels.push(label);
    }
    // Extents x, y, z and spacing in mm.
    let like = Header::new([width, height, depth], [1.0, 1.0, 1.5]);
    Ok([
        hold_image(&format!("ball-{number}"), &like, 1, &image)?,
        hold_labels(&format!("ball-{number}"), &like, &labels)?,
    ])
}
