//! On the CPU, case by case: scores into the workspace, then what a loader's worker does. Training on the CPU leaves both to
//! the workers, beside the step; this is for who wants the same graph on both.

use super::{Augment, layout, volume};
use crate::{cpu::CpuCall, data::augment::numbers::Row, tensor::Volume};

pub(super) fn run(op: &Augment, call: &CpuCall<'_>) {
    let shape @ Volume { extent: [d, h, w], c, .. } = volume(&call.input_spec(0));
    let (voxels, length) = (d * h * w, layout(shape).row());
    let images = call.f32(0).chunks_exact(voxels * c).zip(call.f32_mut(0).chunks_exact_mut(voxels * c));
    let numbers = call.f32(call.inputs() - 1).chunks_exact(length);
    let (scored, masks) = call.workspace().split_at_mut(voxels * c);
    let (blank, unread) = bytemuck::cast_slice_mut(masks).split_at_mut(if op.labels { 0 } else { voxels });
    let mut labels = op.labels.then(|| call.u8(1).chunks_exact(voxels).zip(call.u8_mut(1).chunks_exact_mut(voxels)));
    for ((image, result), numbers) in images.zip(numbers) {
        let row = Row::new(layout(shape), numbers);
        score(row, shape, image, scored);
        let (labels, labels_out) = match &mut labels {
            Some(labels) => labels.next().expect("as many as images"),
            None => (&*blank, &mut unread[..voxels]),
        };
        row.changes().apply(shape.extent, scored, labels, result, labels_out);
    }
}

/// Scores a case `[D, H, W, C]`.
fn score(row: Row<'_>, Volume { extent: [_, h, w], c, .. }: Volume, image: &[f32], scored: &mut [f32]) {
    let bounds = row.bounds();
    let is_inside = |at: [usize; 3]| bounds.iter().zip(at).all(|(bounds, at)| bounds.contains(&at));
    for (index, (from, to)) in image.iter().zip(scored).enumerate() {
        let (voxel, channel) = (index / c, index % c);
        let at = [voxel / (h * w), voxel / w % h, voxel % w];
        let [low, high] = row.limits(channel);
        *to = if is_inside(at) { row.score(at[0], channel).of(from.max(low).min(high)) } else { 0.0 };
    }
}
