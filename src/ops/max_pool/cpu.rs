//! On the CPU: rows of the result over the threads; see [`crate::cpu::pool`].

use crate::{cpu::pool::Halving, session::CpuCall, tensor::Volume};

pub(super) fn forward(call: &CpuCall<'_>) {
    let x = call.input_spec(0).shape.volume().expect("checked when recorded");
    halving(x).max_pool(call.threads(), call.f32(0), call.f32_mut(0));
}

pub(super) fn backward(call: &CpuCall<'_>) {
    let x = call.input_spec(0).shape.volume().expect("checked when recorded");
    halving(x).max_pool_backward(call.threads(), call.f32(1), call.f32(0), call.f32_mut(0));
}

fn halving(x: Volume) -> Halving {
    Halving { batch: x.n, coarse: super::halved(x).extent, fine: x.extent, channels: x.c }
}
