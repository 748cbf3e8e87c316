//! On the CPU: rows of the small volume over the threads; see [`crate::cpu::pool`].

use crate::{
    cpu::{CpuCall, pool::Halving, with_element},
    tensor::{Spec, Volume},
};

pub(super) fn forward(call: &CpuCall<'_>) {
    let halving = halving(&call.input_spec(0));
    with_element!(call.input_spec(0).dtype, E => {
        halving.upsample::<E>(call.threads(), call.elements(0), call.elements_mut(0));
    });
}

pub(super) fn backward(call: &CpuCall<'_>) {
    let halving = halving(&call.output_spec(0));
    with_element!(call.input_spec(0).dtype, E => {
        halving.upsample_backward::<E>(call.threads(), call.elements(0), call.elements_mut(0));
    });
}

fn halving(small: &Spec) -> Halving {
    let Volume { n, extent, c } = small.shape.volume().expect("checked when recorded");
    Halving { batch: n, coarse: extent, fine: extent.map(|extent| 2 * extent), channels: c }
}
