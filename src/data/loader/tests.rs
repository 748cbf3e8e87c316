use std::{fs, path::Path};

use super::*;
use crate::{
    data::{
        augment::{Augment, Recipe},
        preprocess::{Fit, Normalization},
    },
    formats::{Header, write_f32, write_labels},
};

const EXTENT: [usize; 3] = [4, 6, 8];
const VOXELS: usize = 4 * 6 * 8;

/// Two-channel cases of different extents, whose first voxels say which case they are.
pub(super) fn cases(folder: &Path, count: usize) -> Vec<Case> {
    let case = |index: usize| {
        let header = Header::new([7 + index % 3, 6, 3 + index % 2], [1.0, 1.0, 2.0]);
        let (image, label) = (folder.join(format!("i{index}.nii.gz")), folder.join(format!("l{index}.nii")));
        let values: Vec<f32> = (0..2 * header.voxels()).map(|i| ((i * (index + 3)) % 17 + 1) as f32).collect();
        let labels: Vec<u8> = (0..header.voxels()).map(|i| ((i + index) % 3) as u8).collect();
        write_f32(&image, &header, 2, &values).unwrap();
        write_labels(&label, &header, &labels[..]).unwrap();
        Case { name: format!("case {index}"), image, label: Some(label) }
    };
    (0..count).map(case).collect()
}

pub(super) fn settings(workers: usize) -> LoaderSettings {
    LoaderSettings {
        preprocessing: Preprocessing {
            extent: EXTENT,
            channels: 2,
            normalization: Normalization::Volume,
            fit: Fit::Pad,
            ct: vec![],
        },
        sampler: Sampler::Whole,
        classes: 3,
        augmentation: Augment::Full.settings(),
        seed: 11,
        order: Order::Shuffled,
        form: Form::Ready,
        batch: 2,
        workers,
        cache: None,
    }
}

pub(super) type Content = (usize, Vec<String>, Vec<f32>, Vec<u8>, Vec<f32>);

fn content(batch: Batch) -> Content {
    (batch.step, batch.cases, batch.images, batch.labels, batch.numbers)
}

pub(super) fn epoch(loader: &Loader, epoch: usize, first: usize) -> Vec<Content> {
    let batches = loader.epoch(epoch, first).map(|batch| {
        let batch = batch.unwrap();
        loader.recycle(batch.clone());
        content(batch)
    });
    batches.collect()
}

#[test]
fn batches_do_not_depend_on_workers_nor_on_where_an_epoch_starts() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 7);
    for form in [Form::Ready, Form::Raw] {
        let settings = |workers| LoaderSettings { form, ..settings(workers) };
        let alone = Loader::new(cases.clone(), settings(0)).unwrap();
        let expected = [epoch(&alone, 0, 0), epoch(&alone, 1, 0)];
        assert_eq!(expected[0].len(), 4);
        assert_ne!(expected[0], expected[1]);
        for workers in [1, 3, 8] {
            let loader = Loader::new(cases.clone(), settings(workers)).unwrap();
            assert!(epoch(&loader, 1, 0) == expected[1], "{form:?}, {workers} workers");
            assert!(epoch(&loader, 0, 3) == expected[0][3..], "{form:?}, {workers} workers");
            assert!(epoch(&loader, 0, 0) == expected[0], "{form:?}, {workers} workers");
            assert!(epoch(&loader, 0, 4).is_empty());
        }
    }
}

#[test]
fn raw_batches_hold_placed_files_with_the_recipe_and_the_scores_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 2);
    let raw = LoaderSettings { order: Order::Fixed, form: Form::Raw, ..settings(1) };
    let batch = Loader::new(cases.clone(), raw.clone()).unwrap().epoch(5, 0).next().unwrap().unwrap();
    for (index, case) in cases.iter().enumerate() {
        let mut image = crate::formats::read_image(&case.image).unwrap();
        let mut voxels = vec![0.0; 2 * VOXELS];
        let (placement, pending) = raw.preprocessing.place_image(&mut image, &case.image, &mut voxels).unwrap();
        assert_eq!(batch.images[index * 2 * VOXELS..][..2 * VOXELS], voxels);
        let [x, y, z] = image.header.grid.spacing;
        let spacing = placement.spacing([z, y, x]);
        let recipe = Recipe::draw(&raw.augmentation, raw.seed, 5, &case.name, spacing, 2);
        let mut row = vec![0.0; raw.layout().row()];
        raw.layout().write(&mut row, &recipe, &pending);
        assert_eq!(batch.numbers[index * row.len()..][..row.len()], row);
    }
}

#[test]
fn training_batches_are_full_and_validation_shows_each_case_once() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 5);
    let names = |order, batch| {
        let loader = Loader::new(cases.clone(), LoaderSettings { order, batch, ..settings(2) }).unwrap();
        loader.epoch(3, 0).map(|batch| batch.unwrap().cases).collect::<Vec<_>>()
    };
    let training = names(Order::Shuffled, 3);
    assert_eq!(training.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(training[1][2], training[0][0]);
    let mut seen: Vec<_> = training.concat();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    assert_eq!(names(Order::Shuffled, 12)[0].len(), 12);
    assert_eq!(names(Order::Fixed, 3), [vec!["case 0", "case 1", "case 2"], vec!["case 3", "case 4"]]);
}

#[test]
fn without_augmentation_a_batch_holds_the_preprocessed_files() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 2);
    let plain = LoaderSettings { order: Order::Fixed, augmentation: Augment::None.settings(), ..settings(1) };
    let loader = Loader::new(cases.clone(), plain.clone()).unwrap();
    let batch = loader.epoch(0, 0).next().unwrap().unwrap();
    assert_eq!((batch.len(), batch.is_empty()), (2, false));
    for (index, case) in cases.iter().enumerate() {
        let mut image = crate::formats::read_image(&case.image).unwrap();
        let labels = crate::formats::read_labels(case.label.as_ref().unwrap()).unwrap();
        let (mut voxels, mut mask) = (vec![0.0; 2 * VOXELS], vec![0; VOXELS]);
        plain.preprocessing.image(&mut image, &case.image, &mut voxels).unwrap();
        plain.preprocessing.labels(&labels, 3, &case.image, &mut mask).unwrap();
        assert_eq!(batch.images[index * 2 * VOXELS..][..2 * VOXELS], voxels);
        assert_eq!(batch.labels[index * VOXELS..][..VOXELS], mask);
    }
}

#[test]
fn an_error_comes_in_its_turn_and_ends_the_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 6);
    fs::write(&cases[3].image, "no longer an image").unwrap();
    for workers in [0, 1, 4] {
        let settings = LoaderSettings { order: Order::Fixed, batch: 1, ..settings(workers) };
        let loader = Loader::new(cases.clone(), settings).unwrap();
        let mut batches = loader.epoch(0, 0);
        (0..3).for_each(|step| assert_eq!(batches.next().unwrap().unwrap().step, step));
        let message = batches.next().unwrap().unwrap_err().to_string();
        assert!(message.contains("i3.nii.gz: not a NIfTI file"), "{message}");
        assert!(batches.next().is_none() && batches.next().is_none());
    }
}

#[test]
fn an_epoch_can_be_left_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let loader = Loader::new(cases(folder.path(), 9), settings(3)).unwrap();
    for taken in 0..4 {
        let mut batches = loader.epoch(0, 0);
        batches.by_ref().take(taken).for_each(|batch| loader.recycle(batch.unwrap()));
        assert!(taken == 0 || batches.waited() > Duration::ZERO);
    }
}

#[test]
fn buffers_given_back_are_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let loader = Loader::new(cases(folder.path(), 8), settings(0)).unwrap();
    let mut buffers = std::collections::HashSet::new();
    for batch in loader.epoch(0, 0) {
        let batch = batch.unwrap();
        buffers.insert(batch.images.as_ptr());
        loader.recycle(batch);
    }
    assert_eq!(buffers.len(), 1);
}

#[test]
fn a_cache_changes_nothing_and_mends_itself() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 4);
    let cache = folder.path().join("cache");
    let expected = epoch(&Loader::new(cases.clone(), settings(0)).unwrap(), 2, 0);
    let cached = LoaderSettings { cache: Some(cache.clone()), ..settings(2) };
    let loader = || Loader::new(cases.clone(), cached.clone()).unwrap();
    assert!(epoch(&loader(), 2, 0) == expected, "first pass");
    let entries = || fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(entries().len(), 4);

    // A flipped bit, a cut, and a stranger's file, each under an entry's name.
    let good: Vec<Vec<u8>> = entries().iter().map(|path| fs::read(path).unwrap()).collect();
    let mut flipped = good[0].clone();
    flipped[700] ^= 4;
    fs::write(&entries()[0], &flipped).unwrap();
    fs::write(&entries()[1], &good[1][..300]).unwrap();
    fs::write(&entries()[2], vec![b'x'; good[2].len()]).unwrap();
    assert!(epoch(&loader(), 2, 0) == expected, "after damage");
    assert!(entries().iter().zip(&good).all(|(path, good)| fs::read(path).unwrap() == *good));

    // The cache is really read: labels that were changed behind its back do not show.
    let label = cases[3].label.as_ref().unwrap();
    let (mut bytes, modified) = (fs::read(label).unwrap(), fs::metadata(label).unwrap().modified().unwrap());
    bytes[352..].iter_mut().for_each(|label| *label = (*label + 1) % 3);
    fs::write(label, bytes).unwrap();
    fs::File::options().write(true).open(label).unwrap().set_modified(modified).unwrap();
    assert!(epoch(&loader(), 2, 0) == expected, "read anew");
    assert!(epoch(&Loader::new(cases.clone(), settings(0)).unwrap(), 2, 0) != expected);

    // What is kept does not depend on the network's extents.
    let preprocessing = Preprocessing { extent: [2, 9, 5], ..cached.preprocessing.clone() };
    epoch(&Loader::new(cases.clone(), LoaderSettings { preprocessing, ..cached.clone() }).unwrap(), 0, 0);
    assert_eq!(entries().len(), 4);

    // So is one that is not normalised.
    let raw = LoaderSettings { form: Form::Raw, cache: None, ..cached.clone() };
    let expected = epoch(&Loader::new(cases.clone(), raw.clone()).unwrap(), 2, 0);
    for pass in ["first pass", "second pass"] {
        let loader = Loader::new(cases.clone(), LoaderSettings { cache: cached.cache.clone(), ..raw.clone() }).unwrap();
        assert!(epoch(&loader, 2, 0) == expected, "raw, {pass}");
        assert_eq!(entries().len(), 8);
    }

    // Another image under the same name is another entry.
    fs::copy(&cases[1].image, &cases[0].image).unwrap();
    fs::copy(cases[1].label.as_ref().unwrap(), cases[0].label.as_ref().unwrap()).unwrap();
    epoch(&loader(), 2, 0);
    assert_eq!(entries().len(), 9);
}

#[test]
fn what_cannot_be_loaded_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), 1);
    let refused = |cases, settings| Loader::new(cases, settings).err().unwrap().to_string();
    assert!(refused(vec![], settings(0)).contains("no cases"));
    assert!(refused(vec![Case { label: None, ..cases[0].clone() }], settings(0)).contains("without labels"));
    assert!(refused(cases.clone(), LoaderSettings { batch: 0, ..settings(0) }).contains("batch"));
    assert!(refused(cases.clone(), LoaderSettings { batch: usize::MAX / 8, ..settings(0) }).contains("batch"));
    assert!(refused(cases.clone(), LoaderSettings { classes: 257, ..settings(0) }).contains("257 classes"));
    let loader = Loader::new(cases, LoaderSettings { classes: 2, ..settings(0) }).unwrap();
    let message = loader.epoch(0, 0).next().unwrap().unwrap_err().to_string();
    assert!(message.contains("l0.nii: label 2, where 2 classes"), "{message}");
}
