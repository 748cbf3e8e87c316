//! On the CPU: runs of elements over the threads.

use crate::session::CpuCall;

/// Elements per task.
const TASK: usize = 1 << 14;

pub(super) fn forward(call: &CpuCall<'_>) {
    let source = (!call.is_in_place(0, 0)).then(|| call.f32(0));
    call.threads().for_chunks(call.f32_mut(0), TASK, |task, chunk| match source {
        Some(source) => chunk.iter_mut().zip(&source[task * TASK..]).for_each(|(y, x)| *y = x.max(0.0)),
        None => chunk.iter_mut().for_each(|y| *y = y.max(0.0)),
    });
}

pub(super) fn backward(call: &CpuCall<'_>) {
    let y = call.f32(0);
    let source = (!call.is_in_place(1, 0)).then(|| call.f32(1));
    call.threads().for_chunks(call.f32_mut(0), TASK, |task, chunk| {
        let y = &y[task * TASK..][..chunk.len()];
        if let Some(source) = source {
            chunk.copy_from_slice(&source[task * TASK..][..chunk.len()]);
        }
        for (dx, &y) in chunk.iter_mut().zip(y) {
            *dx = if y > 0.0 { *dx } else { 0.0 };
        }
    });
}
