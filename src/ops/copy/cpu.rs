//! On the CPU; see [`crate::cpu::elementwise`].

use crate::{cpu::elementwise, session::CpuCall};

pub(super) fn copy(call: &CpuCall<'_>) {
    elementwise::copy(call.threads(), call.f32(0), call.f32_mut(0));
}
