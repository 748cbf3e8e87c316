//! On the CPU: runs of elements over the threads. All of this is bound by memory, so plain loops are enough.

use half::slice::HalfFloatSliceExt;

use crate::{session::CpuCall, tensor::DType};

/// Elements per task.
const TASK: usize = 1 << 14;

pub(super) fn axpy(alpha: f32, call: &CpuCall<'_>) {
    // In place over b only happens for sums, where the order of two operands changes nothing.
    let (base, other) = if call.is_in_place(1, 0) { (1, 0) } else { (0, 1) };
    let source = (!call.is_in_place(base, 0)).then(|| call.f32(base));
    let other = call.f32(other);
    call.threads().for_chunks(call.f32_mut(0), TASK, |task, chunk| {
        let other = &other[task * TASK..][..chunk.len()];
        if let Some(source) = source {
            chunk.copy_from_slice(&source[task * TASK..][..chunk.len()]);
        }
        for (value, b) in chunk.iter_mut().zip(other) {
            *value += alpha * b;
        }
    });
}

pub(super) fn cast(call: &CpuCall<'_>) {
    match (call.input_spec(0).dtype, call.output_spec(0).dtype) {
        (DType::F32, DType::Bf16) => {
            let x = call.f32(0);
            let y = call.bf16_mut(0);
            call.threads().for_chunks(y, TASK, |task, y| y.convert_from_f32_slice(&x[task * TASK..][..y.len()]));
        }
        (DType::F32, DType::F16) => {
            let x = call.f32(0);
            let y = call.f16_mut(0);
            call.threads().for_chunks(y, TASK, |task, y| y.convert_from_f32_slice(&x[task * TASK..][..y.len()]));
        }
        (DType::Bf16, DType::F32) => {
            let x = call.bf16(0);
            let y = call.f32_mut(0);
            call.threads().for_chunks(y, TASK, |task, y| x[task * TASK..][..y.len()].convert_to_f32_slice(y));
        }
        (DType::F16, DType::F32) => {
            let x = call.f16(0);
            let y = call.f32_mut(0);
            call.threads().for_chunks(y, TASK, |task, y| x[task * TASK..][..y.len()].convert_to_f32_slice(y));
        }
        (from, to) => unreachable!("a cast from {from} to {to} is refused when it is recorded"),
    }
}
