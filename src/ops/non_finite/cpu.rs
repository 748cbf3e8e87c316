//! On the CPU: one tensor after the other over the threads; see [`crate::cpu::reduce`].

use crate::cpu::{CpuCall, reduce::all_finite};

pub(super) fn run(call: &CpuCall<'_>) {
    let is_good = (0..call.inputs()).all(|input| all_finite(call.threads(), call.f32(input)));
    call.u32_mut(0)[0] = u32::from(!is_good);
}
