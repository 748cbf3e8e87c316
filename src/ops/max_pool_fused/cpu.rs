//! On the CPU: rows of the result over the threads; see [`crate::cpu::pool`].

use super::{FusedMaxPoolBackward, volume};
use crate::{
    cpu::{elementwise, pool::Halving},
    ops::sources::Load,
    session::CpuCall,
};

fn halving(call: &CpuCall<'_>) -> Halving {
    let x = volume(&call.input_spec(0));
    Halving { batch: x.n, coarse: x.extent.map(|extent| extent / 2), fine: x.extent, channels: x.c }
}

pub(super) fn forward(call: &CpuCall<'_>) {
    let affine = [call.f32(1), call.f32(2)];
    halving(call).max_pool_normalised(call.threads(), call.f32(0), affine, call.f32_mut(0));
}

pub(super) fn backward(op: &FusedMaxPoolBackward, call: &CpuCall<'_>) {
    let affine = (op.load == Load::Normalised).then(|| [call.f32(1), call.f32(2)]);
    let (dy, dx) = (op.dy(), call.f32_mut(0));
    if op.accumulate && !call.is_in_place(dy + 1, 0) {
        elementwise::copy(call.threads(), call.f32(dy + 1), dx);
    }
    halving(call).max_pool_backward_fused(call.threads(), call.f32(dy), call.f32(0), affine, op.accumulate, dx);
}
