//! On the CPU: eight small matrix products over the same input rows; see [`crate::cpu`].

use super::{problem, volume};
use crate::session::CpuCall;

pub(super) fn fprop(call: &CpuCall<'_>) {
    let problem = problem(volume(&call.input_spec(0)), volume(&call.output_spec(0)).c);
    problem.fprop(call.threads(), call.f32(0), call.f32(1), Some(call.f32(2)), call.f32_mut(0), call.workspace());
}

pub(super) fn dgrad(call: &CpuCall<'_>) {
    let problem = problem(volume(&call.output_spec(0)), volume(&call.input_spec(0)).c);
    problem.dgrad(call.threads(), call.f32(0), call.f32(1), call.f32_mut(0), call.workspace());
}

pub(super) fn wgrad(call: &CpuCall<'_>) {
    let problem = problem(volume(&call.input_spec(0)), volume(&call.input_spec(1)).c);
    let (dfilter, dbias) = (call.f32_mut(0), call.f32_mut(1));
    problem.wgrad(call.threads(), call.f32(0), call.f32(1), dfilter, Some(dbias), call.workspace());
}
