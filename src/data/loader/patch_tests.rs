//! Patches are cut from cases at their own extents, whoever cuts them and wherever the cases come from.

use std::collections::BTreeSet;

use super::{
    tests::{cases, epoch, settings},
    *,
};
use crate::{
    data::{augment::Augment, preprocess::Fit},
    formats::{read_image, read_labels},
};

/// Smaller than every case along D and W, larger along H.
const PATCH: [usize; 3] = [2, 8, 5];

fn patches(workers: usize) -> LoaderSettings {
    let settings = settings(workers);
    LoaderSettings {
        preprocessing: Preprocessing { extent: PATCH, ..settings.preprocessing.clone() },
        sampler: Sampler::Patch { foreground_share: 0.5 },
        ..settings
    }
}

#[test]
fn patches_do_not_depend_on_workers_nor_on_a_cache_nor_on_where_an_epoch_starts() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 7);
    for form in [Form::Ready, Form::Raw] {
        let settings = |workers| LoaderSettings { form, ..patches(workers) };
        let alone = Loader::new(cases.clone(), settings(0)).unwrap();
        let expected = [epoch(&alone, 0, 0), epoch(&alone, 1, 0)];
        assert_ne!(expected[0], expected[1]);
        let cache = Some(folder.path().join("cache"));
        for (workers, cache) in [(1, None), (3, None), (0, cache.clone()), (3, cache)] {
            let loader = Loader::new(cases.clone(), LoaderSettings { cache, ..settings(workers) }).unwrap();
            assert!(epoch(&loader, 1, 0) == expected[1], "{form:?}, {workers} workers");
            assert!(epoch(&loader, 0, 3) == expected[0][3..], "{form:?}, {workers} workers");
            assert!(epoch(&loader, 0, 0) == expected[0], "{form:?}, {workers} workers");
        }
    }
}

#[test]
fn a_patch_holds_the_volumes_own_voxels_with_their_labels_and_nothing_around_them() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 1);
    let plain = LoaderSettings { augmentation: Augment::None.settings(), batch: 1, ..patches(0) };
    let loader = Loader::new(cases.clone(), plain.clone()).unwrap();
    let mut image = read_image(&cases[0].image).unwrap();
    plain.preprocessing.normalize(&mut image, &cases[0].image).unwrap();
    let labels = read_labels(cases[0].label.as_ref().unwrap()).unwrap().voxels;
    let [x, y, z] = image.header.grid.extents;
    let mut starts = BTreeSet::new();
    for number in 0..40 {
        let batch = loader.epoch(number, 0).next().unwrap().unwrap();
        // Along H the volume lies in the middle, as it would as a whole.
        let shift = (PATCH[1] - y) / 2;
        let value = |d: usize, h: usize, w: usize, c: usize| match h.checked_sub(shift).filter(|h| *h < y) {
            Some(h) => image.voxels[((c * z + d) * y + h) * x + w],
            None => 0.0,
        };
        let label = |d: usize, h: usize, w: usize| match h.checked_sub(shift).filter(|h| *h < y) {
            Some(h) => labels[(d * y + h) * x + w] as u8,
            None => 0,
        };
        let places = (0..=z - PATCH[0]).flat_map(|d| (0..=x - PATCH[2]).map(move |w| (d, w)));
        let found: Vec<_> = places
            .filter(|&(d, w)| {
                (0..PATCH.iter().product()).all(|i: usize| {
                    let at = [i / (PATCH[1] * PATCH[2]), i / PATCH[2] % PATCH[1], i % PATCH[2]];
                    let (d, h, w) = (d + at[0], at[1], w + at[2]);
                    let is_image = (0..2).all(|c| batch.images[2 * i + c] == value(d, h, w, c));
                    is_image && batch.labels[i] == label(d, h, w)
                })
            })
            .collect();
        assert_eq!(found.len(), 1, "a patch is of exactly one place");
        starts.extend(found);
    }
    assert_eq!(starts.len(), (z - PATCH[0] + 1) * (x - PATCH[2] + 1), "not every place comes: {starts:?}");
}

#[test]
fn raw_patches_say_where_the_image_is_and_score_its_own_slices() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 3);
    for normalization in [crate::data::preprocess::Normalization::Slice, crate::data::preprocess::Normalization::Volume]
    {
        let preprocessing = Preprocessing { normalization, ..patches(0).preprocessing };
        let plain = LoaderSettings { preprocessing, augmentation: Augment::None.settings(), ..patches(0) };
        let raw = LoaderSettings { form: Form::Raw, ..plain.clone() };
        let [ready, raw] = [plain, raw].map(|settings| Loader::new(cases.clone(), settings).unwrap());
        for (ready, raw) in ready.epoch(0, 0).zip(raw.epoch(0, 0)) {
            let (ready, raw) = (ready.unwrap(), raw.unwrap());
            assert_eq!(ready.labels, raw.labels);
            let row = raw.numbers.len() / raw.len();
            let layout = Layout { depth: PATCH[0], channels: 2 };
            let voxels: usize = PATCH.iter().product();
            for case in 0..raw.len() {
                let numbers = &raw.numbers[case * row..][..row];
                for i in 0..voxels {
                    let at = [i / (PATCH[1] * PATCH[2]), i / PATCH[2] % PATCH[1], i % PATCH[2]];
                    // The bounds follow the nine numbers of the matrix.
                    let is_inside =
                        (0..3).all(|axis| (numbers[9 + axis]..numbers[12 + axis]).contains(&(at[axis] as f32)));
                    for channel in 0..2 {
                        let score: &[f32] = &numbers[layout.scores() + 4 * (2 * at[0] + channel)..][..4];
                        let index = 2 * (case * voxels + i) + channel;
                        let (value, expected) = (raw.images[index], ready.images[index]);
                        let is_kept = value == 0.0 && score[3] != 0.0;
                        let scored =
                            if is_inside && !is_kept { ((value - score[0]) - score[1]) * score[2] } else { 0.0 };
                        let tolerance = 3.0 * f32::EPSILON * expected.abs();
                        assert!((scored - expected).abs() <= tolerance, "{at:?}: {scored} for {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn patches_of_stretched_volumes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 1);
    let preprocessing = Preprocessing { fit: Fit::Resize, ..patches(0).preprocessing };
    let refused = Loader::new(cases, LoaderSettings { preprocessing, ..patches(0) }).err().unwrap();
    assert!(refused.to_string().contains("not stretched"), "{refused}");
}
