//! On the CPU: runs of voxels over the threads.

use crate::session::CpuCall;

/// Voxels per task.
const TASK: usize = 1 << 12;

pub(super) fn join(call: &CpuCall<'_>) {
    let channels = |input: usize| call.input_spec(input).shape.volume().expect("checked when recorded").c;
    let (ca, cb) = (channels(0), channels(1));
    let (a, b) = (call.f32(0), call.f32(1));
    call.threads().for_chunks(call.f32_mut(0), TASK * (ca + cb), |task, chunk| {
        let voxels = chunk.chunks_exact_mut(ca + cb).zip(a[task * TASK * ca..].chunks_exact(ca));
        for ((y, a), b) in voxels.zip(b[task * TASK * cb..].chunks_exact(cb)) {
            y[..ca].copy_from_slice(a);
            y[ca..].copy_from_slice(b);
        }
    });
}

pub(super) fn split(call: &CpuCall<'_>) {
    let y = call.f32(0);
    let total = call.input_spec(0).shape.volume().expect("checked when recorded").c;
    let mut first = 0;
    for output in 0..2 {
        let channels = call.output_spec(output).shape.volume().expect("checked when recorded").c;
        call.threads().for_chunks(call.f32_mut(output), TASK * channels, |task, chunk| {
            let voxels = y[task * TASK * total..].chunks_exact(total);
            for (part, voxel) in chunk.chunks_exact_mut(channels).zip(voxels) {
                part.copy_from_slice(&voxel[first..first + channels]);
            }
        });
        first += channels;
    }
}
