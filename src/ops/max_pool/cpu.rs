//! On the CPU: planes over the threads.

use crate::{session::CpuCall, tensor::Volume};

pub(super) fn forward(call: &CpuCall<'_>) {
    let large = call.input_spec(0).shape.volume().expect("checked when recorded");
    let small = super::halved(large);
    let x = call.f32(0);
    let ([d, h, w], c) = (small.extent, small.c);
    call.threads().for_chunks(call.f32_mut(0), w * c, |task, y| {
        let (n, z, row) = (task / (d * h), task / h % d, task % h);
        let rows = block_rows(large, x, n, z, row);
        for (x0, y) in y.chunks_exact_mut(c).enumerate() {
            for (k, y) in y.iter_mut().enumerate() {
                *y = rows.iter().fold(f32::NEG_INFINITY, |best, row| {
                    let (a, b) = (row[2 * x0 * c + k], row[(2 * x0 + 1) * c + k]);
                    let best = if a > best { a } else { best };
                    if b > best { b } else { best }
                });
            }
        }
    });
}

pub(super) fn backward(call: &CpuCall<'_>) {
    let large = call.output_spec(0).shape.volume().expect("checked when recorded");
    let small = super::halved(large);
    let (x, dy) = (call.f32(0), call.f32(1));
    let ([d, h, w], c) = (small.extent, small.c);
    let [large_d, large_h, large_w] = large.extent;
    let row_length = large_w * c;
    // One task per plane of the input: it sees the gradients of the blocks that the plane takes part in.
    call.threads().for_chunks(call.f32_mut(0), large_h * row_length, |task, dx| {
        dx.fill(0.0);
        let (n, plane) = (task / large_d, task % large_d);
        let z = plane / 2;
        if z >= d {
            return;
        }
        for row in 0..h {
            let rows = block_rows(large, x, n, z, row);
            let dy = &dy[((n * d + z) * h + row) * w * c..][..w * c];
            for x0 in 0..w {
                for k in 0..c {
                    let (mut best, mut at) = (rows[0][2 * x0 * c + k], 0);
                    for tap in 1..8 {
                        let value = rows[tap / 2][(2 * x0 + tap % 2) * c + k];
                        if value > best {
                            (best, at) = (value, tap);
                        }
                    }
                    if at / 4 == plane % 2 {
                        dx[(2 * row + at / 2 % 2) * row_length + (2 * x0 + at % 2) * c + k] = dy[x0 * c + k];
                    }
                }
            }
        }
    });
}

/// The four rows of the input that a row of the result looks at, in scan order.
fn block_rows(large: Volume, x: &[f32], n: usize, z: usize, row: usize) -> [&[f32]; 4] {
    let [d, h, w] = large.extent;
    std::array::from_fn(|i| &x[((n * d + 2 * z + i / 2) * h + 2 * row + i % 2) * w * large.c..][..w * large.c])
}
