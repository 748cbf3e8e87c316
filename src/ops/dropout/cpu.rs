//! On the CPU: blocks of elements over the threads.

use super::Dropout;
use crate::session::CpuCall;

/// Elements per task, a multiple of four: a Philox call must not be split.
const TASK: usize = 1 << 14;

pub(super) fn run(op: &Dropout, call: &CpuCall<'_>) {
    let rng: [u32; 4] = call.u32(1).try_into().expect("four words, checked when recorded");
    let source = (!call.is_in_place(0, 0)).then(|| call.f32(0));
    call.threads().for_chunks(call.f32_mut(0), TASK, |task, chunk| {
        if let Some(source) = source {
            chunk.copy_from_slice(&source[task * TASK..task * TASK + chunk.len()]);
        }
        for (index, block) in chunk.chunks_mut(4).enumerate() {
            let factors = op.factors(rng, (task * TASK / 4 + index) as u32);
            for (value, factor) in block.iter_mut().zip(factors) {
                *value *= factor;
            }
        }
    });
}
