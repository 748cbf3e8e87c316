//! On the CPU: eight small matrix products over the same input rows; see [`crate::cpu`].

use super::{problem, volume};
use crate::{ops::widened::Widened, session::CpuCall};

pub(super) fn fprop(call: &CpuCall<'_>) {
    let problem = problem(volume(&call.input_spec(0)), volume(&call.output_spec(0)).c);
    let mut operands = Widened::new(call);
    let (x, filter) = (operands.input(0), operands.input(1));
    operands.output(0, |y, workspace| problem.fprop(call.threads(), x, filter, Some(call.f32(2)), y, workspace));
}

pub(super) fn dgrad(call: &CpuCall<'_>) {
    let problem = problem(volume(&call.output_spec(0)), volume(&call.input_spec(0)).c);
    let mut operands = Widened::new(call);
    let (dy, filter) = (operands.input(0), operands.input(1));
    operands.output(0, |dx, workspace| problem.dgrad(call.threads(), dy, filter, dx, workspace));
}

pub(super) fn wgrad(call: &CpuCall<'_>) {
    let problem = problem(volume(&call.input_spec(0)), volume(&call.input_spec(1)).c);
    let mut operands = Widened::new(call);
    let (x, dy) = (operands.input(0), operands.input(1));
    operands.output(0, |dfilter, workspace| {
        problem.wgrad(call.threads(), x, dy, dfilter, Some(call.f32_mut(1)), workspace);
    });
}
