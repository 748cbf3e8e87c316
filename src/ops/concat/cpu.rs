//! On the CPU: runs of voxels over the threads; see [`crate::cpu::elementwise`].

use crate::{
    cpu::{CpuCall, Element, elementwise::copy_channels, with_element},
    tensor::Spec,
};

pub(super) fn join(call: &CpuCall<'_>) {
    with_element!(call.output_spec(0).dtype, E => join_on::<E>(call));
}

pub(super) fn split(call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => split_on::<E>(call));
}

fn join_on<E: Element>(call: &CpuCall<'_>) {
    let (y, total) = (call.elements_mut::<E>(0), channels(&call.output_spec(0)));
    let mut first = 0;
    for input in 0..2 {
        let count = channels(&call.input_spec(input));
        copy_channels(call.threads(), call.elements(input), count, 0..count, y, total, first);
        first += count;
    }
}

fn split_on<E: Element>(call: &CpuCall<'_>) {
    let (y, total) = (call.elements::<E>(0), channels(&call.input_spec(0)));
    let mut first = 0;
    for output in 0..2 {
        let count = channels(&call.output_spec(output));
        copy_channels(call.threads(), y, total, first..first + count, call.elements_mut(output), count, 0);
        first += count;
    }
}

fn channels(spec: &Spec) -> usize {
    spec.shape.volume().expect("checked when recorded").c
}
