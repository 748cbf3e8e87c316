//! On the CPU: blocks of elements over the threads.

use super::Dropout;
use crate::cpu::{CpuCall, Element, with_element};

/// Elements per task, a multiple of four: a Philox call must not be split.
const TASK: usize = 1 << 14;

pub(super) fn run(op: &Dropout, call: &CpuCall<'_>) {
    with_element!(call.output_spec(0).dtype, E => run_on::<E>(op, call));
}

fn run_on<E: Element>(op: &Dropout, call: &CpuCall<'_>) {
    let rng: [u32; 4] = call.u32(1).try_into().expect("four words, checked when recorded");
    let source = (!call.is_in_place(0, 0)).then(|| call.elements::<E>(0));
    call.threads().for_chunks(call.elements_mut::<E>(0), TASK, |task, chunk| {
        if let Some(source) = source {
            chunk.copy_from_slice(&source[task * TASK..task * TASK + chunk.len()]);
        }
        for (index, block) in chunk.chunks_mut(4).enumerate() {
            let factors = op.factors(rng, (task * TASK / 4 + index) as u32);
            for (value, factor) in block.iter_mut().zip(factors) {
                *value = E::narrow(value.widen() * factor);
            }
        }
    });
}
