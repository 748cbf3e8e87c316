//! On the CPU: the direct, register-blocked convolutions of [`crate::cpu`].

use super::{Conv3d, Conv3dDgrad, Conv3dWgrad, problem, volume};
use crate::session::CpuCall;

pub(super) fn fprop(op: &Conv3d, call: &CpuCall<'_>) {
    let problem = problem(op.kernel, volume(&call.input_spec(0)), volume(&call.output_spec(0)).c);
    problem.fprop(
        call.threads(),
        call.f32(0),
        call.f32(1),
        Some(call.f32(2)),
        op.relu,
        call.f32_mut(0),
        call.workspace(),
    );
}

pub(super) fn dgrad(op: &Conv3dDgrad, call: &CpuCall<'_>) {
    let problem = problem(op.kernel, volume(&call.output_spec(0)), volume(&call.input_spec(0)).c);
    problem.dgrad(call.threads(), call.f32(0), call.f32(1), call.f32_mut(0), call.workspace());
}

pub(super) fn wgrad(op: &Conv3dWgrad, call: &CpuCall<'_>) {
    let problem = problem(op.kernel, volume(&call.input_spec(0)), volume(&call.input_spec(1)).c);
    problem.wgrad(call.threads(), call.f32(0), call.f32(1), call.f32_mut(0), Some(call.f32_mut(1)), call.workspace());
}
