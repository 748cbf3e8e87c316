//! On the CPU; see [`crate::cpu::elementwise`].

use crate::cpu::{CpuCall, elementwise};

pub(super) fn copy(call: &CpuCall<'_>) {
    elementwise::copy(call.threads(), call.f32(0), call.f32_mut(0));
}
