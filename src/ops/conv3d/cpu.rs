//! On the CPU: the direct, register-blocked convolutions of [`crate::cpu`].

use super::{Conv3d, Conv3dDgrad, Conv3dWgrad, problem, volume};
use crate::cpu::{CpuCall, with_element};

pub(super) fn fprop(op: &Conv3d, call: &CpuCall<'_>) {
    let problem = problem(op.kernel, volume(&call.input_spec(0)), volume(&call.output_spec(0)).c);
    let bias = Some(call.f32(2));
    with_element!(call.input_spec(0).dtype, E => {
        let (x, filter, y) = (call.elements::<E>(0), call.elements(1), call.elements_mut(0));
        problem.fprop(call.threads(), x, filter, bias, op.relu, y, call.workspace());
    });
}

pub(super) fn dgrad(op: &Conv3dDgrad, call: &CpuCall<'_>) {
    let problem = problem(op.kernel, volume(&call.output_spec(0)), volume(&call.input_spec(0)).c);
    with_element!(call.input_spec(0).dtype, E => {
        let (dy, filter, dx) = (call.elements::<E>(0), call.elements(1), call.elements_mut(0));
        problem.dgrad(call.threads(), dy, filter, dx, call.workspace());
    });
}

pub(super) fn wgrad(op: &Conv3dWgrad, call: &CpuCall<'_>) {
    let problem = problem(op.kernel, volume(&call.input_spec(0)), volume(&call.input_spec(1)).c);
    let (dfilter, dbias) = (call.f32_mut(0), call.f32_mut(1));
    with_element!(call.input_spec(0).dtype, E => {
        let (x, dy) = (call.elements::<E>(0), call.elements(1));
        problem.wgrad(call.threads(), x, dy, dfilter, Some(dbias), call.workspace());
    });
}
