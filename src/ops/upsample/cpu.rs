//! On the CPU: planes of one sample over the threads.

use crate::session::CpuCall;

pub(super) fn forward(call: &CpuCall<'_>) {
    let small = call.input_spec(0).shape.volume().expect("checked when recorded");
    let ([_, h, w], c) = (small.extent, small.c);
    let x = call.f32(0);
    // One task per plane of the result; planes 2z and 2z + 1 of all samples copy plane z.
    let (plane, small_plane) = (4 * h * w * c, h * w * c);
    call.threads().for_chunks(call.f32_mut(0), plane, |task, y| {
        let x = &x[task / 2 * small_plane..][..small_plane];
        for (row, to) in y.chunks_exact_mut(2 * w * c).enumerate() {
            let from = &x[row / 2 * w * c..][..w * c];
            for (pair, voxel) in to.chunks_exact_mut(2 * c).zip(from.chunks_exact(c)) {
                pair[..c].copy_from_slice(voxel);
                pair[c..].copy_from_slice(voxel);
            }
        }
    });
}

pub(super) fn backward(call: &CpuCall<'_>) {
    let small = call.output_spec(0).shape.volume().expect("checked when recorded");
    let ([_, h, w], c) = (small.extent, small.c);
    let dy = call.f32(0);
    let (plane, row) = (4 * h * w * c, 2 * w * c);
    call.threads().for_chunks(call.f32_mut(0), h * w * c, |z, dx| {
        for (y, to) in dx.chunks_exact_mut(w * c).enumerate() {
            // The four rows that meet here; the sums run in the order of the definition.
            let rows: [&[f32]; 4] =
                std::array::from_fn(|i| &dy[(2 * z + i / 2) * plane + (2 * y + i % 2) * row..][..row]);
            for (x, to) in to.chunks_exact_mut(c).enumerate() {
                for (k, to) in to.iter_mut().enumerate() {
                    *to = rows.iter().fold(0.0, |sum, from| sum + from[2 * x * c + k] + from[(2 * x + 1) * c + k]);
                }
            }
        }
    });
}
