//! Labels one volume with a trained network and counts what it found.
//!
//! `cargo run --release --example predict_volume -- MODEL IMAGE FOLDER`

use std::path::{Path, PathBuf};

use gyrus::{
    Error, Result,
    formats::read_labels,
    run::{self, PredictRecipe, Silent},
};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, image, folder] = &arguments[..] else {
        return Err(Error::usage("arguments", "three are needed", "give MODEL IMAGE FOLDER"));
    };
    for (name, voxels) in predict(model, image, folder)? {
        println!("{name:<20} {voxels:>10} voxels");
    }
    Ok(())
}

/// Writes the label map of `image` into `folder`; returns each class with its number of voxels.
pub fn predict(model: &Path, image: &Path, folder: &Path) -> Result<Vec<(String, usize)>> {
    let recipe = PredictRecipe {
        model_path: model.to_owned(),
        images: vec![image.to_owned()],
        output: folder.to_owned(),
        ..PredictRecipe::default()
    };
    let predicted = run::predict(&recipe, &mut Silent)?;
    let labels = read_labels(&predicted.label_maps[0])?;
    let count = |value| labels.voxels.iter().filter(|&&label| usize::from(label) == value).count();
    Ok(predicted.labels.iter().enumerate().map(|(value, name)| (name.clone(), count(value))).collect())
}
