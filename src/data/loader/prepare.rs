//! One case from its files (or the cache) to its place in a batch.

use std::ops::Range;

use super::{
    Form, LoaderSettings,
    cache::{Cache, Entry, Stored},
};
use crate::{
    Error, Result,
    data::{
        augment::{Augmentation, Recipe},
        dataset::Case,
        preprocess::{Pending, Placement, Preprocessing},
        sampler::{Census, Spot, Turn},
    },
    formats::{read_image_into, read_labels_into},
    volume::Grid,
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

/// What is known of a case at its own extents, beside its voxels.
pub(super) struct Prepared {
    /// Extents D, H, W.
    pub shape: [usize; 3],
    /// Spacing along them.
    pub spacing: [f64; 3],
    /// What is left to do to the image.
    pub pending: Pending,
    /// Voxels of each class.
    pub census: Census,
}

/// Prepares a case and augments it, or says how.
pub(super) fn case(
    settings: &LoaderSettings,
    cache: Option<&Cache>,
    turn: Turn,
    case: &Case,
    scratch: &mut Scratch,
    place: Place<'_>,
) -> Result<()> {
    let Preprocessing { extent, channels, .. } = settings.preprocessing;
    let is_augmented = settings.augmentation != Augmentation::default();
    let recipe = |spacing| match is_augmented {
        true => Recipe::draw(&settings.augmentation, settings.seed, turn.epoch, &case.name, spacing, channels),
        false => Recipe::identity(channels),
    };
    let Place { image, labels, numbers } = place;
    match settings.form {
        Form::Raw => {
            let mut place = Place { image, labels, numbers: &mut *numbers };
            let spacing = sample(settings, cache, turn, case, scratch, &mut place)?;
            settings.layout().write_recipe(numbers, &recipe(spacing));
        }
        Form::Ready if is_augmented => {
            let (mut plain, mut mask) = (std::mem::take(&mut scratch.image), std::mem::take(&mut scratch.mask));
            plain.resize(image.len(), 0.0);
            mask.resize(labels.len(), 0);
            let mut place = Place { image: &mut plain, labels: &mut mask, numbers };
            let spacing = sample(settings, cache, turn, case, scratch, &mut place)?;
            recipe(spacing).apply(extent, &plain, &mask, image, labels);
            (scratch.image, scratch.mask) = (plain, mask);
        }
        Form::Ready => {
            sample(settings, cache, turn, case, scratch, &mut Place { image, labels, numbers })?;
        }
    }
    Ok(())
}

/// The part of the case that the sampler shows, without augmentation, and its spacing along D, H, W on the network's grid.
fn sample(
    settings: &LoaderSettings,
    cache: Option<&Cache>,
    turn: Turn,
    case: &Case,
    scratch: &mut Scratch,
    place: &mut Place<'_>,
) -> Result<[f64; 3]> {
    let entry = cache.map(|cache| cache.entry(case)).transpose()?;
    let found = entry.as_ref().and_then(Entry::find);
    if let Some(spacing) = found.and_then(|found| from_cache(settings, turn, found, scratch, place)) {
        return Ok(spacing);
    }
    let prepared = read(settings, case, scratch)?;
    let Scratch { voxels, labels, .. } = scratch;
    if let Some(entry) = entry {
        entry.store(&prepared, voxels, labels)?;
    }
    let [depth, h, w] = prepared.shape;
    let find = |spot: Spot| spot.find(&labels[spot.slice * h * w..][..h * w]).ok_or(());
    let placement = prepared.placement(settings, turn, find).expect("the census was taken of these labels");
    prepared.fit(settings, &placement, &(0..depth), voxels, labels, place);
    Ok(placement.spacing(prepared.spacing))
}

/// The same from an entry. None where it is damaged; the place may then hold anything.
fn from_cache(
    settings: &LoaderSettings,
    turn: Turn,
    (prepared, mut stored): (Prepared, Stored),
    scratch: &mut Scratch,
    place: &mut Place<'_>,
) -> Option<[f64; 3]> {
    let Scratch { voxels, labels, .. } = scratch;
    let find =
        |spot: Spot| stored.labels(&(spot.slice..spot.slice + 1), labels).and_then(|()| spot.find(labels)).ok_or(());
    let placement = prepared.placement(settings, turn, find).ok()?;
    let slices = placement.slices();
    stored.image(&slices, voxels)?;
    stored.labels(&slices, labels)?;
    prepared.fit(settings, &placement, &slices, voxels, labels, place);
    Some(placement.spacing(prepared.spacing))
}

impl Prepared {
    /// Where the sample lies.
    fn placement<E>(
        &self,
        settings: &LoaderSettings,
        turn: Turn,
        find: impl FnOnce(Spot) -> Result<usize, E>,
    ) -> Result<Placement, E> {
        let Preprocessing { extent, fit, .. } = settings.preprocessing;
        let whole = Placement::whole(self.shape, extent, fit);
        settings.sampler.place(whole, &self.census, settings.seed, turn, find)
    }

    /// Puts the sample into its place, from these axial slices of the case.
    fn fit(
        &self,
        settings: &LoaderSettings,
        placement: &Placement,
        slices: &Range<usize>,
        image: &[f32],
        labels: &[u16],
        place: &mut Place<'_>,
    ) {
        let of_slices = placement.of_slices(slices);
        of_slices.fit_planar(image, settings.preprocessing.channels, place.image);
        of_slices.fit_labels(labels, place.labels);
        if settings.form == Form::Raw {
            settings.layout().write_pending(place.numbers, &self.pending.placed(placement));
        }
    }
}

/// Reads a case into the scratch space and normalises it, or says what is left to do.
fn read(settings: &LoaderSettings, case: &Case, scratch: &mut Scratch) -> Result<Prepared> {
    let Some(label_path) = &case.label else {
        return Err(Error::input(&case.image, "an image without labels", "leave it out or add its labels"));
    };
    let mut volume = read_image_into(&case.image, std::mem::take(&mut scratch.voxels))?;
    let mask = read_labels_into(label_path, std::mem::take(&mut scratch.labels))?;
    let Grid { extents, spacing: [x, y, z], .. } = volume.header.grid;
    if extents != mask.header.grid.extents {
        // Validation has looked before; but files can change while a training runs.
        let cause = format!("{:?} voxels, where its image has {extents:?}", mask.header.grid.extents);
        return Err(Error::input(label_path, cause, "resample the labels to the image's grid"));
    }
    let preprocessing = &settings.preprocessing;
    let shape = volume.header.grid.shape();
    let pending = match settings.form {
        Form::Ready => {
            preprocessing.normalize(&mut volume, &case.image)?;
            Pending::nothing(shape, preprocessing.channels)
        }
        Form::Raw => preprocessing.pending(&mut volume, &case.image)?,
    };
    preprocessing.check_labels(&mask, settings.classes, label_path)?;
    let census = Census::of(&mask.voxels, shape[0], settings.classes);
    (scratch.voxels, scratch.labels) = (volume.voxels, mask.voxels);
    Ok(Prepared { shape, spacing: [z, y, x], pending, census })
}
