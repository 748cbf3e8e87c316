//! One case from its files (or the cache) to its place in a batch.

use super::{LoaderSettings, cache::Cache};
use crate::{
    Error, Result,
    data::{
        augment::{Augmentation, Recipe},
        dataset::Case,
        nifti::{read_image_into, read_labels_into},
    },
};

/// Buffers that one case needs on its way.
#[derive(Default)]
pub(super) struct Scratch {
    voxels: Vec<f32>,
    labels: Vec<u16>,
    image: Vec<f32>,
    mask: Vec<u8>,
}

/// Prepares and augments a case into `image` `[D, H, W, C]` and `labels` `[D, H, W]`.
pub(super) fn case(
    settings: &LoaderSettings,
    cache: Option<&Cache>,
    epoch: usize,
    case: &Case,
    scratch: &mut Scratch,
    image: &mut [f32],
    labels: &mut [u8],
) -> Result<()> {
    if settings.augmentation == Augmentation::default() {
        return prepared(settings, cache, case, scratch, image, labels).map(|_| ());
    }
    let (mut plain, mut mask) = (std::mem::take(&mut scratch.image), std::mem::take(&mut scratch.mask));
    plain.resize(image.len(), 0.0);
    mask.resize(labels.len(), 0);
    let spacing = prepared(settings, cache, case, scratch, &mut plain, &mut mask)?;
    let channels = settings.preprocessing.channels;
    let recipe = Recipe::draw(&settings.augmentation, settings.seed, epoch, &case.name, spacing, channels);
    recipe.apply(settings.preprocessing.extent, &plain, &mask, image, labels);
    (scratch.image, scratch.mask) = (plain, mask);
    Ok(())
}

/// The case without augmentation, and its spacing along D, H, W on the network's grid.
fn prepared(
    settings: &LoaderSettings,
    cache: Option<&Cache>,
    case: &Case,
    scratch: &mut Scratch,
    image: &mut [f32],
    labels: &mut [u8],
) -> Result<[f64; 3]> {
    let Some(cache) = cache else { return read(settings, case, scratch, image, labels) };
    let entry = cache.entry(case)?;
    if let Some(spacing) = entry.load(image, labels) {
        return Ok(spacing);
    }
    let spacing = read(settings, case, scratch, image, labels)?;
    entry.store(spacing, image, labels)?;
    Ok(spacing)
}

fn read(
    settings: &LoaderSettings,
    case: &Case,
    scratch: &mut Scratch,
    image: &mut [f32],
    labels: &mut [u8],
) -> Result<[f64; 3]> {
    let Some(label_path) = &case.label else {
        return Err(Error::input(&case.image, "an image without labels", "leave it out or add its labels"));
    };
    let mut volume = read_image_into(&case.image, std::mem::take(&mut scratch.voxels))?;
    let mask = read_labels_into(label_path, std::mem::take(&mut scratch.labels))?;
    if volume.header.extents != mask.header.extents {
        // Validation has looked before; but files can change while a training runs.
        let cause = format!("{:?} voxels, where its image has {:?}", mask.header.extents, volume.header.extents);
        return Err(Error::input(label_path, cause, "resample the labels to the image's grid"));
    }
    let placement = settings.preprocessing.image(&mut volume, &case.image, image)?;
    settings.preprocessing.labels(&mask, settings.classes, label_path, labels)?;
    let [x, y, z] = volume.header.spacing();
    (scratch.voxels, scratch.labels) = (volume.voxels, mask.voxels);
    Ok(placement.spacing([z, y, x]))
}
