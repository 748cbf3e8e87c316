//! On a GPU: gather, then what the intensities need to know of the channels, then the intensities.

use super::{Augment, layout, volume};
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    ops::{by_type::run, slices::slices},
    tensor::Volume,
};

const GATHER: Kernel<AugmentGatherArguments> = Kernel::new("augment", "augment_gather", 256);
const CHANGES: Kernel<AugmentChangesArguments> = Kernel::new("augment", "augment_changes", 32);
const INTENSITY: Kernel<AugmentIntensityArguments> = Kernel::new("augment", "augment_intensity", 256);

/// Voxels below which a slice is not worth its CTA: four for each thread.
const SMALLEST_SLICE: usize = 1024;

/// Bytes of what a channel goes through: eight numbers.
const CHANGE: usize = 32;

arguments!(AugmentGatherArguments {
    images: u64,
    labels: u64,
    numbers: u64,
    images_out: u64,
    labels_out: u64,
    bounds: u64,
    slice: i64,
    d: i32,
    h: i32,
    w: i32,
    c: i32,
    row: i32,
    scores: i32,
});
arguments!(AugmentChangesArguments { numbers: u64, bounds: u64, changes: u64, slices: i32, row: i32 });
arguments!(AugmentIntensityArguments { images: u64, numbers: u64, changes: u64, count: i64, c: i32, row: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![GATHER.abi(), CHANGES.abi(), INTENSITY.abi()]
}

pub(super) fn lower(op: &Augment, cx: &mut Lower<'_>) -> Result<()> {
    let (images, numbers, result) = (cx.input(0), cx.input(cx.inputs() - 1).address, cx.output(0));
    let shape @ Volume { n, extent, c, .. } = volume(&images.spec);
    let layout = layout(shape);
    let voxels: usize = extent.iter().product();
    // As the kernels choose it: requests of sixteen bytes where no voxel, and no case, begins within one.
    let width = run(images);
    let groups = if c.is_multiple_of(width) { c / width } else { c };
    let slice = voxels.div_ceil(slices(voxels, n * groups, SMALLEST_SLICE));
    let slices = voxels.div_ceil(slice);
    let bounds = cx.workspace(n * c * slices * 2 * size_of::<f32>());
    let changes = cx.workspace(n * c * CHANGE);
    let [labels, labels_out] = if op.labels { [cx.input(1).address, cx.output(1).address] } else { [0; 2] };
    let [d, h, w] = extent.map(|extent| extent as i32);
    let row = layout.row() as i32;
    let gather = AugmentGatherArguments {
        images: images.address,
        labels,
        numbers,
        images_out: result.address,
        labels_out,
        bounds,
        slice: slice as i64,
        d,
        h,
        w,
        c: c as i32,
        row,
        scores: layout.scores() as i32,
    };
    cx.launch(&GATHER, [slices as u64, n as u64, groups as u64], &gather)?;
    let of_channels = AugmentChangesArguments { numbers, bounds, changes, slices: slices as i32, row };
    cx.launch(&CHANGES, [c as u64, n as u64, 1], &of_channels)?;
    let count = voxels * c;
    let intensity =
        AugmentIntensityArguments { images: result.address, numbers, changes, count: count as i64, c: c as i32, row };
    let runs = if count.is_multiple_of(width) { count / width } else { count };
    let ctas = runs.div_ceil(INTENSITY.threads() as usize).clamp(1, MOST_CTAS);
    cx.launch(&INTENSITY, [ctas as u64, n as u64, 1], &intensity)
}

/// CTAs of a case whose threads stride over its elements: enough for any GPU, few enough that those of a case without
/// changes, which end at once, cost nothing.
const MOST_CTAS: usize = 1 << 12;
