//! On the CPU: the direct, register-blocked convolutions of [`crate::cpu`].

use super::{Conv3d, Conv3dDgrad, Conv3dWgrad, problem, volume};
use crate::{ops::widened::Widened, session::CpuCall};

pub(super) fn fprop(op: &Conv3d, call: &CpuCall<'_>) {
    let problem = problem(op.kernel, volume(&call.input_spec(0)), volume(&call.output_spec(0)).c);
    let mut operands = Widened::new(call);
    let (x, filter) = (operands.input(0), operands.input(1));
    operands.output(0, |y, workspace| {
        problem.fprop(call.threads(), x, filter, Some(call.f32(2)), op.relu, y, workspace);
    });
}

pub(super) fn dgrad(op: &Conv3dDgrad, call: &CpuCall<'_>) {
    let problem = problem(op.kernel, volume(&call.output_spec(0)), volume(&call.input_spec(0)).c);
    let mut operands = Widened::new(call);
    let (dy, filter) = (operands.input(0), operands.input(1));
    operands.output(0, |dx, workspace| problem.dgrad(call.threads(), dy, filter, dx, workspace));
}

pub(super) fn wgrad(op: &Conv3dWgrad, call: &CpuCall<'_>) {
    let problem = problem(op.kernel, volume(&call.input_spec(0)), volume(&call.input_spec(1)).c);
    let mut operands = Widened::new(call);
    let (x, dy) = (operands.input(0), operands.input(1));
    operands.output(0, |dfilter, workspace| {
        problem.wgrad(call.threads(), x, dy, dfilter, Some(call.f32_mut(1)), workspace);
    });
}
