//! On the CPU: runs of voxels over the threads; see [`crate::cpu::elementwise`].

use crate::{cpu::elementwise::copy_channels, session::CpuCall, tensor::Spec};

pub(super) fn join(call: &CpuCall<'_>) {
    let (y, total) = (call.f32_mut(0), channels(&call.output_spec(0)));
    let mut first = 0;
    for input in 0..2 {
        let count = channels(&call.input_spec(input));
        copy_channels(call.threads(), call.f32(input), count, 0..count, y, total, first);
        first += count;
    }
}

pub(super) fn split(call: &CpuCall<'_>) {
    let (y, total) = (call.f32(0), channels(&call.input_spec(0)));
    let mut first = 0;
    for output in 0..2 {
        let count = channels(&call.output_spec(output));
        copy_channels(call.threads(), y, total, first..first + count, call.f32_mut(output), count, 0);
        first += count;
    }
}

fn channels(spec: &Spec) -> usize {
    spec.shape.volume().expect("checked when recorded").c
}
