//! On the CPU: rows of the result over the threads; see [`crate::cpu::pool`].

use super::{FusedMaxPoolBackward, volume};
use crate::{
    cpu::{CpuCall, Element, elementwise, pool::Halving, with_element},
    ops::sources::Load,
};

fn halving(call: &CpuCall<'_>) -> Halving {
    let x = volume(&call.input_spec(0));
    Halving { batch: x.n, coarse: x.extent.map(|extent| extent / 2), fine: x.extent, channels: x.c }
}

pub(super) fn forward(call: &CpuCall<'_>) {
    let affine = [call.f32(1), call.f32(2)];
    with_element!(call.input_spec(0).dtype, E => {
        halving(call).max_pool_normalised::<E>(call.threads(), call.elements(0), affine, call.elements_mut(0));
    });
}

pub(super) fn backward(op: &FusedMaxPoolBackward, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => backward_on::<E>(op, call));
}

fn backward_on<E: Element>(op: &FusedMaxPoolBackward, call: &CpuCall<'_>) {
    let affine = (op.load == Load::Normalised).then(|| [call.f32(1), call.f32(2)]);
    let (dy, dx) = (op.dy(), call.elements_mut::<E>(0));
    if op.accumulate && !call.is_in_place(dy + 1, 0) {
        elementwise::copy(call.threads(), call.elements(dy + 1), dx);
    }
    let (dy, x) = (call.elements(dy), call.elements(0));
    halving(call).max_pool_backward_fused(call.threads(), dy, x, affine, op.accumulate, dx);
}
