//! On the CPU: rows of the small volume over the threads; see [`crate::cpu::pool`].

use crate::{
    cpu::pool::Halving,
    session::CpuCall,
    tensor::{Spec, Volume},
};

pub(super) fn forward(call: &CpuCall<'_>) {
    halving(&call.input_spec(0)).upsample(call.threads(), call.f32(0), call.f32_mut(0));
}

pub(super) fn backward(call: &CpuCall<'_>) {
    halving(&call.output_spec(0)).upsample_backward(call.threads(), call.f32(0), call.f32_mut(0));
}

fn halving(small: &Spec) -> Halving {
    let Volume { n, extent, c } = small.shape.volume().expect("checked when recorded");
    Halving { batch: n, coarse: extent, fine: extent.map(|extent| 2 * extent), channels: c }
}
