//! One case from its files (or the cache) to its place in a batch.

use super::{Form, LoaderSettings, cache::Cache};
use crate::{
    Error, Result,
    data::{
        augment::{Augmentation, Recipe},
        dataset::Case,
        preprocess::Preprocessing,
    },
    formats::{read_image_into, read_labels_into},
};

/// Buffers that one case needs on its way.
#[derive(Default)]
pub(super) struct Scratch {
    voxels: Vec<f32>,
    labels: Vec<u16>,
    image: Vec<f32>,
    mask: Vec<u8>,
}

/// Where a case goes.
pub(super) struct Place<'a> {
    /// `[D, H, W, C]`.
    pub image: &'a mut [f32],
    /// `[D, H, W]`.
    pub labels: &'a mut [u8],
    /// Its row of numbers; empty where the image comes ready.
    pub numbers: &'a mut [f32],
}

/// Prepares a case and augments it, or says how.
pub(super) fn case(
    settings: &LoaderSettings,
    cache: Option<&Cache>,
    epoch: usize,
    case: &Case,
    scratch: &mut Scratch,
    place: Place<'_>,
) -> Result<()> {
    let Preprocessing { extent, channels, .. } = settings.preprocessing;
    let is_augmented = settings.augmentation != Augmentation::default();
    let recipe = |spacing| match is_augmented {
        true => Recipe::draw(&settings.augmentation, settings.seed, epoch, &case.name, spacing, channels),
        false => Recipe::identity(channels),
    };
    let Place { image, labels, numbers } = place;
    match settings.form {
        Form::Raw => {
            let place = Place { image, labels, numbers: &mut *numbers };
            let spacing = prepared(settings, cache, case, scratch, place)?;
            settings.layout().write_recipe(numbers, &recipe(spacing));
        }
        Form::Ready if is_augmented => {
            let (mut plain, mut mask) = (std::mem::take(&mut scratch.image), std::mem::take(&mut scratch.mask));
            plain.resize(image.len(), 0.0);
            mask.resize(labels.len(), 0);
            let place = Place { image: &mut plain, labels: &mut mask, numbers };
            let spacing = prepared(settings, cache, case, scratch, place)?;
            recipe(spacing).apply(extent, &plain, &mask, image, labels);
            (scratch.image, scratch.mask) = (plain, mask);
        }
        Form::Ready => {
            prepared(settings, cache, case, scratch, Place { image, labels, numbers })?;
        }
    }
    Ok(())
}

/// The case without augmentation, and its spacing along D, H, W on the network's grid.
fn prepared(
    settings: &LoaderSettings,
    cache: Option<&Cache>,
    case: &Case,
    scratch: &mut Scratch,
    mut place: Place<'_>,
) -> Result<[f64; 3]> {
    let Some(cache) = cache else { return read(settings, case, scratch, place) };
    let entry = cache.entry(case)?;
    if let Some(spacing) = entry.load(&mut place) {
        return Ok(spacing);
    }
    let Place { image, labels, numbers } = &mut place;
    let spacing = read(settings, case, scratch, Place { image, labels, numbers })?;
    entry.store(spacing, &place)?;
    Ok(spacing)
}

fn read(settings: &LoaderSettings, case: &Case, scratch: &mut Scratch, place: Place<'_>) -> Result<[f64; 3]> {
    let Some(label_path) = &case.label else {
        return Err(Error::input(&case.image, "an image without labels", "leave it out or add its labels"));
    };
    let mut volume = read_image_into(&case.image, std::mem::take(&mut scratch.voxels))?;
    let mask = read_labels_into(label_path, std::mem::take(&mut scratch.labels))?;
    if volume.header.grid.extents != mask.header.grid.extents {
        // Validation has looked before; but files can change while a training runs.
        let cause =
            format!("{:?} voxels, where its image has {:?}", mask.header.grid.extents, volume.header.grid.extents);
        return Err(Error::input(label_path, cause, "resample the labels to the image's grid"));
    }
    let preprocessing = &settings.preprocessing;
    let placement = match settings.form {
        Form::Ready => preprocessing.image(&mut volume, &case.image, place.image)?,
        Form::Raw => {
            let (placement, pending) = preprocessing.place_image(&mut volume, &case.image, place.image)?;
            settings.layout().write_pending(place.numbers, &pending);
            placement
        }
    };
    preprocessing.labels(&mask, settings.classes, label_path, place.labels)?;
    let [x, y, z] = volume.header.grid.spacing;
    (scratch.voxels, scratch.labels) = (volume.voxels, mask.voxels);
    Ok(placement.spacing([z, y, x]))
}
