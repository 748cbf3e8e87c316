//! A small synthetic dataset to try everything on: blobs in noise, in the decathlon's layout.
//!
//! Each case shows a bright ellipsoid-like body that a dark one bites into, both barely visible against noise and a
//! smooth bias field. Single voxels say little (no intensity threshold comes near a good Dice), neighbourhoods say
//! enough, so a small U-Net learns it quickly. The voxels are anisotropic and the affine is rotated and reflected,
//! so that whoever confuses axes or drops geometry sees it here.

mod phantom;

use std::{fs, path::Path};

use serde_json::json;

use self::phantom::Phantom;
use crate::{
    Error, Result,
    data::dataset::Dataset,
    files::{self, Existing},
    formats,
};

/// Names of the labels 0, 1 and 2 of the synthetic dataset.
pub const LABELS: [&str; 3] = ["background", "body", "bite"];

/// Extents D, H, W of each synthetic volume in voxels: multiples of 16, as the networks need.
pub const EXTENTS: [usize; 3] = phantom::EXTENTS;

/// Writes `cases` labelled cases into `folder`: `imagesTr`, `labelsTr` and, last, `dataset.json`. The same seed gives
/// the same files; case 7 of a small dataset is case 7 of a large one.
///
/// # Errors
/// A folder that exists and is not empty; no cases or more than 9999; the operating system's.
pub fn synthesize(folder: &Path, seed: u64, cases: usize) -> Result<Dataset> {
    if !(1..=9999).contains(&cases) {
        return Err(Error::usage("cases", format!("{cases} cases"), "give a number from 1 to 9999"));
    }
    if folder.exists() && fs::read_dir(folder).map_err(|source| Error::io(folder, source))?.next().is_some() {
        return Err(Error::input(folder, "exists and is not empty", "give a new folder, or remove this one"));
    }
    let (images, labels) = (folder.join("imagesTr"), folder.join("labelsTr"));
    for folder in [&images, &labels] {
        fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    }
    let mut training = Vec::with_capacity(cases);
    for case in 0..cases {
        let name = format!("blob_{:04}.nii.gz", case + 1);
        let phantom = Phantom::draw(seed, case);
        formats::write_f32(&images.join(&name), &phantom.header, 1, &phantom.image)?;
        formats::write_labels(&labels.join(&name), &phantom.header, &phantom.labels[..])?;
        training.push(json!({"image": format!("./imagesTr/{name}"), "label": format!("./labelsTr/{name}")}));
    }
    let description = json!({
        "name": "Blobs",
        "description": "Synthetic: a bright body and a dark bite, in noise and a bias field",
        "reference": "made by gyrus demo",
        "licence": "CC0-1.0",
        "release": "1.0",
        "seed": seed,
        "tensorImageSize": "3D",
        "modality": {"0": "synthetic"},
        "labels": {"0": LABELS[0], "1": LABELS[1], "2": LABELS[2]},
        "numTraining": cases,
        "numTest": 0,
        "training": training,
        "test": [],
    });
    // Written last: a folder that was left half made is not a dataset.
    let text = serde_json::to_string_pretty(&description).expect("plain JSON");
    files::write(&folder.join("dataset.json"), Existing::Keep, |file| writeln!(file, "{text}"))?;
    Dataset::open(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_a_decathlon_dataset_whose_files_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = (folder.path().join("left"), folder.path().join("right"));
        let dataset = synthesize(&left, 3, 2).unwrap();
        assert_eq!((dataset.labels.len(), dataset.cases.len()), (3, 2));
        assert_eq!(dataset.labels, LABELS);
        synthesize(&right, 3, 1).unwrap();
        for file in ["imagesTr/blob_0001.nii.gz", "labelsTr/blob_0001.nii.gz"] {
            assert_eq!(fs::read(left.join(file)).unwrap(), fs::read(right.join(file)).unwrap());
        }
        for case in &dataset.cases {
            let image = formats::read_image(&case.image).unwrap();
            let labels = formats::read_labels(case.label.as_ref().unwrap()).unwrap();
            assert_eq!(image.header.grid, labels.header.grid);
            assert_eq!(image.header.grid.shape(), EXTENTS);
            assert!((0..3).all(|class| labels.voxels.contains(&class)));
        }
    }

    #[test]
    fn nothing_is_written_into_a_folder_in_use() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "").unwrap();
        let message = synthesize(folder.path(), 3, 2).unwrap_err().to_string();
        assert!(message.contains("not empty"), "{message}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(synthesize(&folder.path().join("none"), 3, 0).unwrap_err().exit_code(), 2);
    }
}
