//! How an operation whose CPU code knows fp32 alone runs on 16-bit operands: on fp32 copies in its planned workspace, which
//! are exact; results are rounded once, when they are copied back.

use crate::{
    cpu::{Element, elementwise::convert, with_element},
    plan::align,
    session::CpuCall,
    tensor::{DType, Spec},
};

/// fp32 elements of a copy, so that the next begins at a cache line.
fn elements(spec: &Spec) -> usize {
    align(4 * spec.shape.elements()) / 4
}

fn is_narrow(spec: &Spec) -> bool {
    spec.dtype.is_float() && spec.dtype != DType::F32
}

/// Bytes of the copies: none for fp32 operands.
pub(super) fn workspace(inputs: &[Spec], outputs: &[Spec]) -> usize {
    inputs.iter().chain(outputs).filter(|spec| is_narrow(spec)).map(|spec| 4 * elements(spec)).sum()
}

/// The operands of a call as fp32, and the rest of its workspace.
pub(super) struct Widened<'c, 'a> {
    call: &'c CpuCall<'a>,
    rest: &'a mut [f32],
}

impl<'c, 'a> Widened<'c, 'a> {
    /// Takes the call's workspace.
    pub(super) fn new(call: &'c CpuCall<'a>) -> Self {
        Self { call, rest: call.workspace() }
    }

    /// An input: itself if it is fp32, else a copy.
    pub(super) fn input(&mut self, index: usize) -> &'a [f32] {
        let spec = self.call.input_spec(index);
        if !is_narrow(&spec) {
            return self.call.f32(index);
        }
        let copy = self.take(&spec);
        with_element!(spec.dtype, E => convert::<E, f32>(self.call.threads(), self.call.elements(index), copy));
        copy
    }

    /// Lets `compute` fill an output, given the rest of the workspace.
    pub(super) fn output(mut self, index: usize, compute: impl FnOnce(&mut [f32], &mut [f32])) {
        let spec = self.call.output_spec(index);
        if !is_narrow(&spec) {
            return compute(self.call.f32_mut(index), self.rest);
        }
        let copy = self.take(&spec);
        compute(copy, self.rest);
        with_element!(spec.dtype, E => round_into::<E>(self.call, copy, index));
    }

    fn take(&mut self, spec: &Spec) -> &'a mut [f32] {
        let (copy, rest) = std::mem::take(&mut self.rest).split_at_mut(elements(spec));
        self.rest = rest;
        &mut copy[..spec.shape.elements()]
    }
}

fn round_into<E: Element>(call: &CpuCall<'_>, copy: &[f32], output: usize) {
    convert::<f32, E>(call.threads(), copy, call.elements_mut(output));
}
