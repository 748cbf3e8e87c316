//! Volumes are turned, cropped, padded and resampled as SciPy, SimpleITK and nibabel do it.

mod common;

use common::fixture::Fixture;
use gyrus::volume::{Affine, Alignment, Grid, Interpolation, Orientation, Volume};
use serde_json::Value;

fn fixture() -> Fixture {
    Fixture::open("volume/volume")
}

/// A JSON list as x, y, z: the fixture counts z, y, x.
fn reversed<T>(list: &Value, read: impl Fn(&Value) -> T) -> [T; 3] {
    [2, 1, 0].map(|axis| read(&list[axis]))
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn affine(values: &[f64]) -> Affine {
    [0, 1, 2].map(|row| [0, 1, 2, 3].map(|column| values[4 * row + column]))
}

/// Equal but for the rounding of a handful of operations in double precision on numbers of this size.
fn same_affine(found: &Affine, expected: &Affine, what: &str) {
    let largest = expected.as_flattened().iter().fold(0.0f64, |most, value| most.max(value.abs()));
    for (found, expected) in found.as_flattened().iter().zip(expected.as_flattened()) {
        assert!((found - expected).abs() <= 16.0 * f64::EPSILON * largest, "{what}: {found} for {expected}");
    }
}

#[test]
fn resampling_errs_at_most_twice_as_much_from_scipy_as_plain_single_precision_does() {
    let fixture = fixture();
    let mut seen = 0;
    for (name, case) in fixture.entries("cases") {
        let given = fixture.shape(&format!("{name}.given"));
        let grid = Grid::spaced([given[3], given[2], given[1]], [1.0; 3]);
        let volume = Volume::new(grid, fixture.f32(&format!("{name}.given")));
        let extents = reversed(&case["shape"], count);
        let interpolation = reversed(&case["orders"], |kind| match kind.as_str().unwrap() {
            "nearest" => Interpolation::Nearest,
            "linear" => Interpolation::Linear,
            _ => Interpolation::Cubic,
        });
        let alignment = match &case["steps"] {
            Value::Null => Alignment::Edges,
            steps => Alignment::FirstCentre { step: reversed(steps, |step| step.as_f64().unwrap()) },
        };
        let expected = fixture.f64(&format!("{name}.found"));
        let found = volume.resampled(extents, alignment, interpolation, 2);
        assert_eq!(found.voxels.len(), expected.len(), "{name}");
        let error = found.voxels.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        let straightforward = fixture.f32_error(&format!("{name}.found"))[0];
        assert!(error <= 2.0 * straightforward, "{name}: {error:e}, plain single precision {straightforward:e}");
        seen += 1;
    }
    assert_eq!(seen, 22);
}

#[test]
fn a_tilted_grid_is_cropped_padded_and_resampled_to_where_simpleitk_puts_it() {
    let fixture = fixture();
    let case = fixture.json("grid");
    let shape = fixture.shape("grid.given");
    let grid = Grid::new([shape[2], shape[1], shape[0]], affine(&fixture.f64("grid.affine")));
    let volume = Volume::new(grid, fixture.f32("grid.given"));
    let list = |key: &str| [0, 1, 2].map(|axis| count(&case[key][axis]));
    let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
    let placed = |key: &str| affine(&fixture.f64(&format!("grid.{key}_affine")));

    let region = volume.region(list("start").map(|n| n as isize), list("extents"), f32::NAN);
    assert_eq!(wide(&region.voxels), fixture.f64("grid.region"));
    same_affine(&region.grid.affine, &placed("region"), "region");
    let padded = volume.padded(list("before"), list("behind"), -7.0);
    assert_eq!(wide(&padded.voxels), fixture.f64("grid.padded"));
    same_affine(&padded.grid.affine, &placed("padded"), "padded");
    assert_eq!(padded.cropped(list("before"), list("behind")).voxels, volume.voxels);

    let resampled = volume.resampled(reversed(&case["shape"], count), Alignment::Edges, [Interpolation::Linear; 3], 1);
    same_affine(&resampled.grid.affine, &placed("resampled"), "resampled");
    let expected = fixture.f64("grid.resampled");
    let inside: Vec<usize> = (0..expected.len()).filter(|&i| expected[i] < 1e8).collect();
    // Samples beyond the outermost centres, where SimpleITK says nothing, are fewer than the others.
    assert!(inside.len() * 2 > expected.len());
    for i in inside {
        // Values to 100: three roundings in single precision, and SimpleITK's of where the samples lie.
        let (found, expected) = (f64::from(resampled.voxels[i]), expected[i]);
        assert!((found - expected).abs() <= 100.0 * 3.0 * f64::from(f32::EPSILON), "{i}: {found} for {expected}");
    }
}

#[test]
fn all_48_orientations_come_to_ras_as_nibabel_brings_them_and_back_bit_for_bit() {
    let fixture = fixture();
    let codes: Vec<String> = serde_json::from_value(fixture.json("codes")).unwrap();
    let given = fixture.f32("turn.given");
    let (affines, canonical) = (fixture.f64("turn.affines"), fixture.f32("turn.canonical"));
    let canonical_affines = fixture.f64("turn.canonical_affines");
    assert_eq!(codes.len(), 48);
    for (index, code) in codes.iter().enumerate() {
        let grid = Grid::new([3, 4, 5], affine(&affines[12 * index..]));
        assert_eq!(grid.orientation().to_string(), *code);
        let volume = Volume::new(grid, given.clone());
        let turned = volume.clone().reoriented(Orientation::RAS);
        assert_eq!(turned.voxels, canonical[60 * index..][..60], "{code}");
        same_affine(&turned.grid.affine, &affine(&canonical_affines[12 * index..]), code);
        let back = turned.reoriented(code.parse().unwrap());
        assert_eq!(back.voxels, given, "{code}");
        same_affine(&back.grid.affine, &grid.affine, code);
    }
}
