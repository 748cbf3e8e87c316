//! On the CPU: normalised while a slab is staged, summed while results are in registers; see [`crate::cpu`].

use super::{FusedConvTranspose3d, FusedConvTranspose3dWgrad};
use crate::{
    cpu::{Epilogue, Statistics, TransposedConvolution},
    ops::sources::Sources,
    session::CpuCall,
    tensor::Spec,
};

fn problem(x: &Spec, y: &Spec) -> TransposedConvolution {
    let [x, y] = [x, y].map(|spec| spec.shape.volume().expect("checked when recorded"));
    TransposedConvolution { batch: x.n, input: x.extent, channels_in: x.c, channels_out: y.c }
}

pub(super) fn fprop(op: &FusedConvTranspose3d, call: &CpuCall<'_>) {
    let ([input, _], _) = Sources::one(op.load).on_cpu(call);
    let (filter, bias) = (call.f32(op.load.operands()), call.f32(op.load.operands() + 1));
    let problem = problem(&call.input_spec(0), &call.output_spec(0));
    let (y, threads) = (call.f32_mut(0), call.threads());
    if !op.statistics {
        let epilogue = Epilogue { bias: Some(bias), ..Epilogue::default() };
        return problem.fprop_fused(threads, input, filter, epilogue, y, call.workspace());
    }
    let (mut statistics, workspace) = Statistics::new(problem.channels_out, call.workspace());
    let epilogue = Epilogue { bias: Some(bias), relu: false, statistics: Some(statistics.sums()) };
    problem.fprop_fused(threads, input, filter, epilogue, y, workspace);
    statistics.finish(threads, y, call.f32_mut(1), call.f32_mut(2), workspace);
}

pub(super) fn wgrad(op: &FusedConvTranspose3dWgrad, call: &CpuCall<'_>) {
    let ([input, _], _) = Sources::one(op.load).on_cpu(call);
    let dy = op.load.operands();
    let problem = problem(&call.input_spec(0), &call.input_spec(dy));
    let (dfilter, dbias) = (call.f32_mut(0), call.f32_mut(1));
    problem.wgrad_fused(call.threads(), input, call.f32(dy), dfilter, Some(dbias), call.workspace());
}
