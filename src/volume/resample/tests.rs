use proptest::prelude::*;

use super::*;
use crate::volume::Grid;

fn volume(extents: [usize; 3], channels: usize) -> Volume<f32> {
    let grid = Grid::spaced(extents, [1.0; 3]);
    Volume::new(grid, (0..grid.voxels() * channels).map(|i| ((i * 7919) % 211) as f32 - 100.0).collect())
}

proptest! {
    #[test]
    fn threads_change_no_bit_and_constants_stay_constant(
        extents in proptest::array::uniform3(1usize..40),
        target in proptest::array::uniform3(1usize..40),
        channels in 1usize..3,
        kinds in proptest::array::uniform3(prop::sample::select(vec![
            Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic,
        ])),
    ) {
        let volume = volume(extents, channels);
        let one = volume.clone().resampled(target, Alignment::Edges, kinds, 1);
        prop_assert_eq!(one.voxels.len(), target.iter().product::<usize>() * channels);
        for threads in [2, 5] {
            prop_assert_eq!(&volume.clone().resampled(target, Alignment::Edges, kinds, threads), &one);
        }
        let constant = Volume::new(volume.grid, vec![7.25; volume.voxels.len()]);
        let same = constant.resampled(target, Alignment::Edges, kinds, 2);
        prop_assert!(same.voxels.iter().all(|value| *value == 7.25));
    }

    #[test]
    fn the_nearest_voxel_of_numbers_is_that_of_labels(
        extents in proptest::array::uniform3(1usize..20),
        target in proptest::array::uniform3(1usize..20),
    ) {
        let volume = volume(extents, 2);
        for alignment in [Alignment::Edges, Alignment::FirstCentre { step: [0.5, 1.0, 1.7] }] {
            let labels = volume.resampled_nearest(target, alignment);
            prop_assert_eq!(volume.clone().resampled(target, alignment, [Interpolation::Nearest; 3], 2), labels);
        }
    }
}

#[test]
fn an_axis_that_does_not_change_keeps_its_bits() {
    let volume = volume([5, 6, 7], 1);
    let same = volume.clone().resampled([5, 6, 7], Alignment::Edges, [Interpolation::Cubic; 3], 1);
    assert_eq!(same, volume);
    // Twice as many along y, by the nearest: every voxel is there twice.
    let twice = volume.clone().resampled([5, 12, 7], Alignment::Edges, [Interpolation::Nearest; 3], 1);
    for (index, value) in twice.voxels.iter().enumerate() {
        let [x, y, z] = twice.grid.position(index);
        assert_eq!(*value, volume.voxels[(z * 6 + y / 2) * 5 + x]);
    }
}
