use std::{io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::*;
use crate::{
    formats::{decode_image, decode_labels, read_header, read_image, read_labels, write_f32, write_labels},
    volume::{Grid, Orientation},
};

const NAME: &str = "case.nii";

fn bytes_of(like: &Header, labels: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    write_labels(&path, like, labels).unwrap();
    std::fs::read(&path).unwrap()
}

fn sample() -> Vec<u8> {
    bytes_of(&Header::new([2, 3, 4], [1.0, 2.0, 3.0]), &(0..24).collect::<Vec<u8>>())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn changed(at: usize, field: &[u8]) -> Vec<u8> {
    let mut bytes = sample();
    bytes[at..at + field.len()].copy_from_slice(field);
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    decode_image(Path::new(NAME), bytes).unwrap_err().to_string()
}

/// A file whose fields about space say more than a grid can: a qform, its handedness, directions, a spacing of its own.
fn eloquent(path: &Path) -> Header {
    let mut bytes = bytes_of(&Header::new([3, 2, 2], [0.5, 0.5, 2.0]), &[0; 12]);
    bytes[39] = 57; // directions
    bytes[76..80].copy_from_slice(&(-1f32).to_le_bytes());
    bytes[252..254].copy_from_slice(&2i16.to_le_bytes());
    for (index, value) in [0.1f32, -0.2, 0.3].into_iter().enumerate() {
        bytes[256 + 4 * index..][..4].copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
    read_header(path).unwrap()
}

/// A file's fields about space, as it stores them.
fn fields(header: &Header) -> Geometry {
    Fields::parse(&header.native.as_ref().unwrap().bytes).unwrap().geometry
}

#[test]
fn what_is_written_is_read_back_with_its_geometry_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let like = eloquent(&folder.path().join("like.nii"));
    assert_eq!((fields(&like).qform_code, fields(&like).dim_info, fields(&like).pixdim[0]), (2, 57, -1.0));
    for name in ["a.nii", "a.nii.gz"] {
        let path = folder.path().join(name);
        let values: Vec<f32> = (0..36).map(|i| i as f32 * 0.3 - 4.0).collect();
        write_f32(&path, &like, 3, &values).unwrap();
        let image = read_image(&path).unwrap();
        assert_eq!((image.header.grid, image.header.channels), (like.grid, 3));
        assert_eq!((fields(&image.header), image.voxels), (fields(&like), values));

        let labels: Vec<u16> = (0..12).map(|i| i * 5000).collect();
        write_labels(&path, &like, &labels[..]).unwrap();
        let read = read_labels(&path).unwrap();
        assert_eq!((read.header.encoding.voxel_type, read.voxels), (VoxelType::U16, labels));
        assert_eq!((read.header.grid, fields(&read.header)), (like.grid, fields(&like)));
    }
}

#[test]
fn another_grid_is_not_written_with_the_words_of_the_file_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let like = eloquent(&folder.path().join("like.nii"));
    let turned = Header { grid: like.grid.reoriented("SLA".parse::<Orientation>().unwrap()), ..like };
    let path = folder.path().join("turned.nii");
    write_labels(&path, &turned, &[1u8; 12][..]).unwrap();
    let read = read_header(&path).unwrap();
    assert_eq!(read.grid, turned.grid);
    assert_eq!((fields(&read).qform_code, fields(&read).sform_code), (0, 1));
}

#[test]
fn headers_that_cannot_be_true_are_refused_with_their_cause() {
    for (at, field, cause) in [
        (40, &9i16.to_le_bytes()[..], "number of axes"),
        (40, &2i16.to_le_bytes(), "2 axes (2 x 3)"),
        (42, &0i16.to_le_bytes(), "extents 0 x 3 x 4"),
        (42, &(-2i16).to_le_bytes(), "extents -2 x 3 x 4"),
        (42, &3i16.to_le_bytes(), "truncated"),
        (70, &128i16.to_le_bytes(), "rgb24"),
        (70, &32i16.to_le_bytes(), "complex64"),
        (70, &1536i16.to_le_bytes(), "float128"),
        (70, &3i16.to_le_bytes(), "unknown voxel type code 3"),
        (108, &f32::NAN.to_le_bytes(), "offset"),
        (108, &100f32.to_le_bytes(), "offset"),
        (108, &1e30f32.to_le_bytes(), "offset"),
        (108, &1e9f32.to_le_bytes(), "truncated"),
        (116, &f32::INFINITY.to_le_bytes(), "intercept inf"),
        (344, b"ni1", ".hdr/.img"),
        (344, b"\0\0\0", "ANALYZE"),
        (344, b"abc", "not a NIfTI file"),
        (0, &7i32.to_le_bytes(), "not a NIfTI file"),
    ] {
        let message = refusal(&changed(at, field));
        assert!(message.starts_with("case.nii: ") && message.contains(cause), "{at}: {message}");
    }
    assert!(refusal(&sample()[..300]).contains("not a NIfTI file"));
    assert!(refusal(&sample()[..370]).contains("truncated"));
    assert!(refusal(b"").contains("not a NIfTI file"));
}

#[test]
fn a_header_alone_cannot_make_us_allocate() {
    // 32767^3 voxels of 8 bytes, claimed by a file of a few hundred bytes, plain and compressed.
    let mut bytes = changed(42, &[0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f]);
    bytes[70..72].copy_from_slice(&64i16.to_le_bytes());
    assert!(refusal(&bytes).contains("truncated"));
    assert!(refusal(&gzip(&bytes)).contains("truncated"));
}

#[test]
fn damaged_gzip_data_is_never_an_image() {
    let good = gzip(&sample());
    assert_eq!(decode_image(Path::new(NAME), &good).unwrap().voxels[23], 23.0);
    let mut wrong_sum = good.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    assert!(refusal(&wrong_sum).contains("damaged gzip data"), "{}", refusal(&wrong_sum));
    for length in 0..good.len() {
        assert!(decode_image(Path::new(NAME), &good[..length]).is_err(), "cut at {length}");
    }
    let padded = gzip(&[sample(), vec![0; 2 << 20]].concat());
    assert!(refusal(&padded).contains("more data"));
}

#[test]
fn labels_must_be_whole_numbers_in_range() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.nii");
    let like = Header::new([2, 2, 2], [1.0; 3]);
    let mut values = vec![1.0; 8];
    write_f32(&path, &like, 1, &values).unwrap();
    assert_eq!(read_labels(&path).unwrap().voxels, [1; 8]);
    for stray in [0.5, -1.0, 65536.0, f32::NAN] {
        values[5] = stray;
        write_f32(&path, &like, 1, &values).unwrap();
        let message = read_labels(&path).unwrap_err().to_string();
        assert!(message.contains(&format!("label {stray} at voxel (1, 0, 1)")), "{message}");
    }
    write_f32(&path, &like, 2, &[0.0; 16]).unwrap();
    assert!(read_labels(&path).unwrap_err().to_string().contains("2 channels"));
}

#[test]
fn a_broken_sform_gives_way_to_the_next_source_of_geometry() {
    let mut bytes = sample();
    bytes[280..328].fill(0); // sform all zero, though its code is set
    let header = decode_image(Path::new(NAME), &bytes).unwrap().header;
    assert_eq!(header.grid, Grid::spaced([2, 3, 4], [1.0, 2.0, 3.0]));
    bytes[76..108].fill(0); // and no spacing either
    assert!(refusal(&bytes).contains("voxel spacing 0 x 0 x 0"));
}

#[test]
fn an_extent_beyond_nifti_1_is_refused_before_a_file_appears() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.nii");
    let message = write_labels(&path, &Header::new([40_000, 1, 1], [1.0; 3]), &[0u8; 40_000][..]).unwrap_err();
    assert!(message.to_string().contains("32767"));
    assert!(!path.exists());
}

/// The byte offsets of the header fields that decide how much is read and how.
const DECISIVE: [usize; 12] = [0, 40, 42, 44, 46, 48, 50, 70, 108, 112, 116, 344];

proptest! {
    #[test]
    fn no_mutation_of_a_file_panics_or_says_more_than_a_line(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        field in prop::collection::vec((prop::sample::select(&DECISIVE[..]), any::<[u8; 4]>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
        is_compressed in any::<bool>(),
        is_edited_compressed in any::<bool>(),
    ) {
        let mut bytes = sample();
        for (at, value) in field {
            bytes[at..at + 4].copy_from_slice(&value);
        }
        if is_compressed && is_edited_compressed {
            bytes = gzip(&bytes);
        }
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if is_compressed && !is_edited_compressed {
            bytes = gzip(&bytes);
        }
        // Whatever is read has been in the file: a few hundred bytes, inflated by at most a thousand.
        match decode_image(Path::new(NAME), &bytes) {
            Ok(image) => prop_assert!(image.voxels.len() <= bytes.len() * 1032),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
        if let Err(error) = decode_labels(Path::new(NAME), &bytes) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }
}
