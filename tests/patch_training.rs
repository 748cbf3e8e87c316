//! A network is trained on patches around foreground and anywhere, and then labels whole volumes.

mod common;

use std::path::Path;

use common::tiny;
use gyrus::{
    cpu::Threads,
    data::{
        augment::Augment,
        loader::{Loader, LoaderSettings, Order},
        preprocess::{Fit, Normalization, Preprocessing},
        sampler::{FOREGROUND_SHARE, Sampler},
        validate::{Expectation, survey},
    },
    demo,
    formats::{Store, read_header, read_labels},
    infer::{self, Predictor},
    train::{TrainConfig, trainer::BEST},
};

#[test]
fn patches_train_with_the_same_losses_for_any_workers_and_cache_and_the_network_labels_whole_volumes() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = demo::synthesize(&folder.path().join("blobs"), 6, 5).unwrap();
    let (training, validation) = blobs.cases.split_at(4);
    let fingerprint = survey(training, validation, &Expectation::default(), &|| ()).unwrap();
    // Volumes are 32 x 48 x 32.
    let preprocessing = Preprocessing::new([16, 32, 16], Normalization::Volume, Fit::Pad, &fingerprint).unwrap();
    let config = TrainConfig { epochs: 2, augmentation: Augment::Full.settings(), ..tiny::config(&preprocessing, 3) };
    let cache = folder.path().join("cache");
    let run = |sampler, workers, cache: Option<&Path>, name: &str| {
        let settings = |order| LoaderSettings {
            workers,
            cache: cache.map(Path::to_owned),
            ..tiny::settings(&config, &preprocessing, order)
        };
        let shuffled = LoaderSettings { sampler, augmentation: config.augmentation, ..settings(Order::Shuffled) };
        let training = Loader::new(training.to_vec(), shuffled).unwrap();
        let validation = Loader::new(validation.to_vec(), settings(Order::Fixed)).unwrap();
        tiny::train(&config, &preprocessing, &blobs.labels, [&training, &validation], &folder.path().join(name))
    };
    let patch = Sampler::Patch { foreground_share: FOREGROUND_SHARE };
    let losses = run(patch, 1, None, "model");
    assert_eq!(losses.len(), 4);
    assert!(losses.iter().all(|loss| loss.is_finite()));
    assert_eq!(run(patch, 3, Some(&cache), "filling a cache"), losses);
    assert_eq!(run(patch, 0, Some(&cache), "from the cache"), losses);
    assert_ne!(run(Sampler::Whole, 1, None, "whole"), losses);
    // The same entries serve whole cases.
    assert_eq!(run(Sampler::Whole, 1, Some(&cache), "whole from the cache"), run(Sampler::Whole, 0, None, "again"));

    let mut predictor =
        Predictor::load(&folder.path().join("model").join(BEST), infer::PredictOptions::default(), Threads::new(2))
            .unwrap();
    let (image, out) = (&validation[0].image, folder.path().join("out.nii.gz"));
    let store = Store::beside(folder.path());
    let examined = predictor.examine(image, &store).unwrap();
    predictor.predict_file(image, &examined, &store, &out, None).unwrap();
    assert_eq!(read_labels(&out).unwrap().header.grid, read_header(image).unwrap().grid);
}
