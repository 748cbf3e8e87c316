//! The whole way from files to batches on a real decathlon task, where it is at hand.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, Instant},
};

use gyrus::{
    data::{
        augment::Augment,
        dataset::Dataset,
        loader::{Form, Loader, LoaderSettings, Order},
        preprocess::{Fit, Normalization, Preprocessing},
        sampler::Sampler,
        validate::{Expectation, survey},
    },
    formats::{Header, read_header, read_image, read_labels, write_labels},
};

/// The task's folder, or a line that says why the test does nothing.
fn task() -> Option<PathBuf> {
    let folder = std::env::var_os("GYRUS_TEST_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let task = folder.join("Task04_Hippocampus");
    if !task.is_dir() {
        println!("skipped: {} is not there (set GYRUS_TEST_DATA to the folder that holds it)", task.display());
        return None;
    }
    Some(task)
}

/// The bytes of a NIfTI-1 header that say where voxels lie: directions, spacings, units, and both transformations.
fn space(header: &Header) -> Vec<u8> {
    let bytes = &header.native.as_ref().unwrap().bytes;
    [39..40, 76..108, 123..124, 252..328].into_iter().flat_map(|range| bytes[range].to_vec()).collect()
}

#[test]
fn hippocampus_is_valid_and_loads_fast_enough_for_any_step() {
    let Some(task) = task() else { return };
    let dataset = Dataset::open(&task).unwrap();
    assert_eq!((dataset.cases.len(), dataset.channels.len(), dataset.labels.len()), (220, 1, 3));
    let split = dataset.split_by_file(&task.join("splits.json"), 0).unwrap();
    assert_eq!(split.train.len() + split.validation.len(), 220);

    let start = Instant::now();
    let expectation = Expectation {
        channels: Some(1),
        classes: Some(3),
        class_names: dataset.labels.clone(),
        ..Expectation::default()
    };
    let fingerprint = survey(&split.train, &split.validation, &expectation, &|| {}).unwrap();
    println!("survey of 220 cases: {:.2} s", start.elapsed().as_secs_f64());
    let alone = Expectation { threads: NonZeroUsize::new(1), ..expectation };
    assert!(fingerprint == survey(&split.train, &split.validation, &alone, &|| {}).unwrap());
    assert_eq!(fingerprint.median_spacing(), [1.0; 3]);
    let weights = fingerprint.class_weights();
    assert!(weights[0] < 0.5 && weights[1] > 5.0 && weights[2] > 5.0, "{weights:?}");

    let preprocessing = Preprocessing::new([48, 64, 48], Normalization::Volume, Fit::Pad, &fingerprint).unwrap();
    for (augment, cache) in
        [(Augment::None, false), (Augment::Flip, false), (Augment::Full, false), (Augment::Full, true)]
    {
        let folder = tempfile::tempdir().unwrap();
        let settings = LoaderSettings {
            preprocessing: preprocessing.clone(),
            sampler: Sampler::Whole,
            classes: 3,
            augmentation: augment.settings(),
            seed: 1,
            order: Order::Shuffled,
            form: Form::Ready,
            batch: 2,
            workers: 0,
            cache: cache.then(|| folder.path().to_owned()),
        };
        let loader = Loader::new(split.train.clone(), settings).unwrap();
        let mut time = Duration::ZERO;
        for epoch in 0..1 + usize::from(cache) {
            let mut batches = loader.epoch(epoch, 0);
            for batch in &mut batches {
                let batch = batch.unwrap();
                assert!(
                    batch.images.iter().all(|value| value.is_finite()) && batch.labels.iter().all(|label| *label < 3)
                );
                loader.recycle(batch);
            }
            time = batches.waited();
        }
        let per_case = time.as_secs_f64() * 1e3 / split.train.len() as f64;
        println!("{augment:?}, {} cache: {per_case:.2} ms of one core per case", if cache { "warm" } else { "no" });
    }
}

#[test]
fn a_label_map_survives_the_network_grid_and_a_file() {
    let Some(task) = task() else { return };
    let dataset = Dataset::open(&task).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    for case in dataset.cases.iter().step_by(40) {
        let label_path = case.label.as_ref().unwrap();
        let (image, labels) = (read_image(&case.image).unwrap(), read_labels(label_path).unwrap());
        let preprocessing = Preprocessing {
            extent: [64; 3],
            channels: 1,
            normalization: Normalization::None,
            fit: Fit::Pad,
            ct: vec![],
        };
        let mut fitted = vec![0; 64 * 64 * 64];
        let placement = preprocessing.labels(&labels, 3, label_path, &mut fitted).unwrap();
        let path = scratch.path().join(format!("{}.nii.gz", case.name));
        write_labels(&path, &image.header, &placement.unfit_labels(&fitted)[..]).unwrap();
        assert_eq!(read_labels(&path).unwrap().voxels, labels.voxels);
        assert_eq!(space(&read_header(&path).unwrap()), space(&image.header));
    }
}
