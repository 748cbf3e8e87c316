//! On the CPU: runs of elements over the threads; see [`crate::cpu::elementwise`].

use crate::cpu::{CpuCall, elementwise, with_element};

pub(super) fn axpy(alpha: f32, call: &CpuCall<'_>) {
    with_element!(call.output_spec(0).dtype, E => {
        let y = call.elements_mut::<E>(0);
        // In place over b only happens for sums, where the order of two operands changes nothing.
        match (call.is_in_place(0, 0), call.is_in_place(1, 0)) {
            (false, false) => elementwise::axpy(call.threads(), call.elements(0), alpha, call.elements(1), y),
            (true, _) => elementwise::axpy_in_place(call.threads(), y, alpha, call.elements(1)),
            (false, true) => elementwise::axpy_in_place(call.threads(), y, alpha, call.elements(0)),
        }
    });
}

pub(super) fn cast(call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, A => with_element!(call.output_spec(0).dtype, E => {
        elementwise::convert::<A, E>(call.threads(), call.elements(0), call.elements_mut(0));
    }));
}
