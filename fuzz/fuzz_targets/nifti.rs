//! Any bytes are an image or a one-line error. `scripts/fuzz 60 nifti`
#![no_main]

use std::path::Path;

use gyrus::formats::{decode_image, decode_labels};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let name = Path::new("fuzz.nii");
    match decode_image(name, bytes) {
        Ok(image) => {
            assert_eq!(image.voxels.len(), image.header.voxels() * image.header.channels);
            assert!(image.header.grid.affine.as_flattened().iter().all(|value| !value.is_nan()));
            assert_eq!(image.header.grid.orientation().to_string().len(), 3);
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
    if let Err(error) = decode_labels(name, bytes) {
        assert_eq!(error.to_string().lines().count(), 1);
    }
});
