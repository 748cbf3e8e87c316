//! On the CPU: normalised while a slab is staged, summed while results are in registers; see [`crate::cpu`].

use super::{FusedConvTranspose3d, FusedConvTranspose3dWgrad};
use crate::{
    cpu::{CpuCall, Element, Epilogue, Statistics, TransposedConvolution, with_element},
    ops::sources::Sources,
    tensor::Spec,
};

fn problem(x: &Spec, y: &Spec) -> TransposedConvolution {
    let [x, y] = [x, y].map(|spec| spec.shape.volume().expect("checked when recorded"));
    TransposedConvolution { batch: x.n, input: x.extent, channels_in: x.c, channels_out: y.c }
}

pub(super) fn fprop(op: &FusedConvTranspose3d, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => fprop_on::<E>(op, call));
}

pub(super) fn wgrad(op: &FusedConvTranspose3dWgrad, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => wgrad_on::<E>(op, call));
}

fn fprop_on<E: Element>(op: &FusedConvTranspose3d, call: &CpuCall<'_>) {
    let ([input, _], _) = Sources::one(op.load).on_cpu::<E>(call);
    let (filter, bias) = (call.elements(op.load.operands()), call.f32(op.load.operands() + 1));
    let problem = problem(&call.input_spec(0), &call.output_spec(0));
    let (y, threads) = (call.elements_mut(0), call.threads());
    if !op.statistics {
        let epilogue = Epilogue { bias: Some(bias), ..Epilogue::default() };
        return problem.fprop_fused(threads, input, filter, epilogue, y, call.workspace());
    }
    let (mut statistics, workspace) = Statistics::new(problem.channels_out, call.workspace());
    let epilogue = Epilogue { bias: Some(bias), relu: false, statistics: Some(statistics.sums()) };
    problem.fprop_fused(threads, input, filter, epilogue, y, workspace);
    statistics.finish(threads, y, call.f32_mut(1), call.f32_mut(2), workspace);
}

fn wgrad_on<E: Element>(op: &FusedConvTranspose3dWgrad, call: &CpuCall<'_>) {
    let ([input, _], _) = Sources::one(op.load).on_cpu::<E>(call);
    let dy = op.load.operands();
    let problem = problem(&call.input_spec(0), &call.input_spec(dy));
    let (dfilter, dbias) = (call.f32_mut(0), call.f32_mut(1));
    problem.wgrad_fused(call.threads(), input, call.elements(dy), dfilter, Some(dbias), call.workspace());
}
