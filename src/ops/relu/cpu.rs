//! On the CPU: runs of elements over the threads; see [`crate::cpu::elementwise`].

use crate::{cpu::elementwise, session::CpuCall};

pub(super) fn forward(call: &CpuCall<'_>) {
    let y = call.f32_mut(0);
    match call.is_in_place(0, 0) {
        true => elementwise::relu_in_place(call.threads(), y),
        false => elementwise::relu(call.threads(), call.f32(0), y),
    }
}

pub(super) fn backward(call: &CpuCall<'_>) {
    let (y, dx) = (call.f32(0), call.f32_mut(0));
    match call.is_in_place(1, 0) {
        true => elementwise::relu_backward_in_place(call.threads(), dx, y),
        false => elementwise::relu_backward(call.threads(), call.f32(1), y, dx),
    }
}
