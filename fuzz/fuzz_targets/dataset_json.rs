//! Any text is a dataset inside its folder or a one-line error. `scripts/fuzz 60 dataset_json`
#![no_main]

use std::path::{Component, Path};

use gyrus::data::dataset::parse_decathlon;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let root = Path::new("task");
    match parse_decathlon(root, bytes) {
        Ok(dataset) => {
            for case in dataset.cases.iter().chain(&dataset.test) {
                for path in std::iter::once(&case.image).chain(&case.label) {
                    let inside = path.strip_prefix(root).expect("starts with the root");
                    assert!(inside.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
                }
            }
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
});
