//! A compressed image is inflated once, however many channels it has and however often its voxels are looked at.
//!
//! The only test of its binary, because what is inflated is counted for the whole process.

mod common;

use std::path::Path;

use common::tiny;
use gyrus::{
    cpu::Threads,
    data::{
        dataset::Case,
        loader::{Loader, Order},
        preprocess::{Fit, Normalization, Preprocessing},
    },
    formats::{Header, START, Store, inflated_bytes, write_f32, write_labels},
    infer::{self, Predictor},
    train::Trainer,
};

const EXTENTS: [usize; 3] = [40, 36, 30];
const CHANNELS: usize = 4;
/// Bytes of the header and of the four bytes that say that nothing lies between it and the voxels.
const HEADER: usize = 352;
/// Bytes of an image's voxels: f32.
const IMAGE: usize = 40 * 36 * 30 * CHANNELS * 4;
/// Bytes of a label map's: u8.
const LABELS: usize = 40 * 36 * 30;

fn case(folder: &Path, name: &str) -> Case {
    let header = Header::new(EXTENTS, [1.0; 3]);
    let (image, label) = (folder.join(format!("{name}.nii.gz")), folder.join(format!("{name}_labels.nii.gz")));
    let values: Vec<f32> = (0..header.voxels() * CHANNELS).map(|i| ((i * 7919) % 1013) as f32).collect();
    let labels: Vec<u8> = (0..header.voxels()).map(|i| (i % 3) as u8).collect();
    write_f32(&image, &header, CHANNELS, &values).unwrap();
    write_labels(&label, &header, &labels[..]).unwrap();
    Case { name: name.to_owned(), image, label: Some(label) }
}

/// What a piece of work inflates.
fn inflated(work: impl FnOnce()) -> usize {
    let before = inflated_bytes();
    work();
    (inflated_bytes() - before) as usize
}

#[test]
fn four_channels_are_inflated_once_by_prediction_and_by_the_loader() {
    let folder = tempfile::tempdir().unwrap();
    let cases = ["a", "b"].map(|name| case(folder.path(), name));
    let model = folder.path().join("model.safetensors");
    // Scores over the whole image take two passes over it, and labelling a third.
    for (normalization, fit) in
        [(Normalization::Volume, Fit::Pad), (Normalization::Volume, Fit::Resize), (Normalization::Slice, Fit::Pad)]
    {
        let preprocessing = Preprocessing { extent: [16, 32, 32], channels: CHANNELS, normalization, fit, ct: vec![] };
        let config = tiny::config(&preprocessing, 3);
        let labels = ["background", "one", "two"].map(str::to_owned).into();
        Trainer::new(config.clone(), preprocessing.clone(), labels, vec![1.0; 3], Threads::new(2))
            .unwrap()
            .save(&model)
            .unwrap();
        let mut predictor = Predictor::load(&model, infer::PredictOptions::default(), Threads::new(2)).unwrap();
        // Room for both images, for one, for none: what has no room to be kept is inflated when it is examined, and when its
        // turn comes.
        for (limit, times) in [(2 * IMAGE, 2), (IMAGE, 3), (0, 4)] {
            let store = Store::with_limit(folder.path(), limit as u64);
            let found = inflated(|| {
                let examined = cases.each_ref().map(|case| predictor.examine(&case.image, &store).unwrap());
                for (case, examined) in cases.iter().zip(&examined) {
                    let out = folder.path().join("out.nii.gz");
                    predictor.predict_file(&case.image, examined, &store, &out, None).unwrap();
                }
            });
            // Before it is examined, an image's header is looked at.
            assert_eq!(found, times * (HEADER + IMAGE) + 2 * START, "{normalization:?} {fit:?}, room for {limit}");
        }

        let cache = folder.path().join(format!("cache {normalization:?} {fit:?}"));
        for (cache, times) in [(None, 2), (Some(cache), 1)] {
            let cache_is_used = cache.is_some();
            let mut settings = tiny::settings(&config, &preprocessing, Order::Shuffled);
            settings.cache = cache;
            let loader = Loader::new(cases.to_vec(), settings).unwrap();
            let found = inflated(|| {
                for epoch in 0..2 {
                    loader.epoch(epoch, 0).for_each(|batch| loader.recycle(batch.unwrap()));
                }
            });
            // Two epochs of two cases; from the cache on, none.
            assert_eq!(found, times * 2 * (2 * HEADER + IMAGE + LABELS), "{normalization:?} {fit:?} {cache_is_used}");
        }
    }
}
