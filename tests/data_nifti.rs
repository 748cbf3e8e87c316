//! The NIfTI reader against files made by nibabel, with the `nifti` crate as a second opinion on what it can read.

use std::{collections::BTreeMap, path::PathBuf};

use gyrus::formats::{read_header, read_image, read_labels, write_f32, write_labels};
use nifti::{NiftiObject, NiftiVolume, RandomAccessNiftiVolume, ReaderOptions};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    shape: [usize; 3],
    channels: usize,
    affine: [[f64; 4]; 3],
    spacing: [f64; 3],
    orientation: String,
    values: Vec<f64>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nifti")
}

fn expected() -> BTreeMap<String, Expected> {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Single precision of the header's fields, with a few operations on them.
fn is_near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 8.0 * f64::from(f32::EPSILON) * expected.abs().max(1.0)
}

#[test]
fn every_fixture_reads_as_nibabel_reads_it() {
    let expected = expected();
    assert_eq!(expected.len(), 32, "fixtures are missing: run make.py");
    for (name, expected) in expected {
        let image = read_image(&folder().join(&name)).unwrap();
        let header = &image.header;
        assert_eq!((header.grid.extents, header.channels), (expected.shape, expected.channels), "{name}");
        assert_eq!(header.grid.orientation().to_string(), expected.orientation, "{name}");
        let affine = header.grid.affine;
        for (found, expected) in affine.as_flattened().iter().zip(expected.affine.as_flattened()) {
            assert!(is_near(*found, *expected), "{name}: {affine:?}");
        }
        assert!(header.grid.spacing.iter().zip(expected.spacing).all(|(a, b)| is_near(*a, b)), "{name}");
        let rounded: Vec<f32> = expected.values.iter().map(|value| *value as f32).collect();
        assert_eq!(image.voxels, rounded, "{name}");
        assert_eq!(read_header(&folder().join(&name)).unwrap(), image.header, "{name}");
    }
}

#[test]
fn the_nifti_crate_agrees_on_what_it_can_read() {
    let mut compared = 0;
    for (name, expected) in expected() {
        // What it cannot: NIfTI-2, several gzip members, an offset without an extension, a slope that is not a number.
        if ["nifti2", "members", "offset", "slope_nan"].iter().any(|cannot| name.starts_with(cannot)) {
            continue;
        }
        let theirs = ReaderOptions::new().read_file(folder().join(&name)).unwrap();
        let volume = theirs.volume();
        let ours = read_image(&folder().join(&name)).unwrap();
        let dim = volume.dim().to_vec();
        for (index, value) in ours.voxels.iter().enumerate() {
            let mut rest = index;
            let place: Vec<u16> = dim
                .iter()
                .map(|extent| {
                    let coordinate = rest % usize::from(*extent);
                    rest /= usize::from(*extent);
                    coordinate as u16
                })
                .collect();
            assert_eq!(volume.get_f64(&place).unwrap() as f32, *value, "{name} at {place:?}");
        }
        assert_eq!(ours.voxels.len(), expected.values.len());
        compared += 1;
    }
    assert_eq!(compared, 27);
}

#[test]
fn what_we_write_the_nifti_crate_reads_with_the_same_geometry() {
    let scratch = tempfile::tempdir().unwrap();
    for source in ["qform.nii", "u1_be.nii", "metres.nii"] {
        let like = read_header(&folder().join(source)).unwrap();
        let original = nifti::NiftiHeader::from_file(folder().join(source)).unwrap();
        let labels: Vec<u8> = (0..like.voxels()).map(|i| i as u8).collect();
        for name in ["labels.nii", "labels.nii.gz"] {
            let path = scratch.path().join(name);
            write_labels(&path, &like, &labels[..]).unwrap();
            let theirs = ReaderOptions::new().read_file(&path).unwrap();
            let header = theirs.header();
            assert_eq!(header.dim, original.dim);
            assert_eq!((header.qform_code, header.sform_code), (original.qform_code, original.sform_code));
            assert_eq!((header.pixdim, header.xyzt_units), (original.pixdim, original.xyzt_units));
            assert_eq!(
                (header.srow_x, header.srow_y, header.srow_z),
                (original.srow_x, original.srow_y, original.srow_z)
            );
            assert_eq!(
                (header.quatern_b, header.quatern_c, header.quatern_d, header.quatern_x),
                (original.quatern_b, original.quatern_c, original.quatern_d, original.quatern_x)
            );
            assert_eq!(theirs.volume().raw_data(), labels);
            let read = read_labels(&path).unwrap();
            assert!(read.voxels.iter().zip(&labels).all(|(a, b)| *a == u16::from(*b)));
            assert_eq!(read.header.grid, like.grid);
        }
        let path = scratch.path().join("probabilities.nii.gz");
        let values: Vec<f32> = (0..2 * like.voxels()).map(|i| i as f32 / 7.0).collect();
        write_f32(&path, &like, 2, &values).unwrap();
        let theirs = ReaderOptions::new().read_file(&path).unwrap();
        assert_eq!(theirs.volume().dim().last(), Some(&2));
        assert_eq!(read_image(&path).unwrap().voxels, values);
    }
}
