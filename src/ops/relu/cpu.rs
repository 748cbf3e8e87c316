//! On the CPU: runs of elements over the threads; see [`crate::cpu::elementwise`].

use crate::cpu::{CpuCall, elementwise, with_element};

pub(super) fn forward(call: &CpuCall<'_>) {
    with_element!(call.output_spec(0).dtype, E => {
        let y = call.elements_mut::<E>(0);
        match call.is_in_place(0, 0) {
            true => elementwise::relu_in_place(call.threads(), y),
            false => elementwise::relu(call.threads(), call.elements(0), y),
        }
    });
}

pub(super) fn backward(call: &CpuCall<'_>) {
    with_element!(call.output_spec(0).dtype, E => {
        let (y, dx) = (call.elements::<E>(0), call.elements_mut(0));
        match call.is_in_place(1, 0) {
            true => elementwise::relu_backward_in_place(call.threads(), dx, y),
            false => elementwise::relu_backward(call.threads(), call.elements(1), y, dx),
        }
    });
}
