//! On the CPU: rows of the result over the threads; see [`crate::cpu::pool`].

use crate::{
    cpu::{CpuCall, pool::Halving, with_element},
    tensor::Volume,
};

pub(super) fn forward(call: &CpuCall<'_>) {
    let x = call.input_spec(0).shape.volume().expect("checked when recorded");
    with_element!(call.input_spec(0).dtype, E => {
        halving(x).max_pool::<E>(call.threads(), call.elements(0), call.elements_mut(0));
    });
}

pub(super) fn backward(call: &CpuCall<'_>) {
    let volume = call.input_spec(0).shape.volume().expect("checked when recorded");
    with_element!(call.input_spec(0).dtype, E => {
        let [x, dy] = [0, 1].map(|input| call.elements::<E>(input));
        halving(volume).max_pool_backward(call.threads(), dy, x, call.elements_mut(0));
    });
}

fn halving(x: Volume) -> Halving {
    Halving { batch: x.n, coarse: super::halved(x).extent, fine: x.extent, channels: x.c }
}
