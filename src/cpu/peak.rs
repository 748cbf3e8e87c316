//! What this machine can do right now: the yardsticks that benchmarks are read against.

use std::time::Instant;

use super::{Convolution, Threads};
use crate::tensor::DType;

/// GFLOP/s of a matrix product: the best of five convolutions with a single tap, 256 to 256 channels, large enough to
/// hide all edges.
pub fn matrix_product(threads: &Threads) -> f64 {
    const EXTENTS: [usize; 3] = [8, 32, 64];
    const CHANNELS: usize = 256;
    let product = Convolution {
        batch: 1,
        input: EXTENTS,
        output: EXTENTS,
        kernel: [1; 3],
        pad_before: [0; 3],
        channels_in: CHANNELS,
        channels_out: CHANNELS,
    };
    let (x, filter) = (vec![0.5f32; product.input_len()], vec![0.25; product.filter_len()]);
    let mut y = vec![0.0; product.output_len()];
    let mut workspace = vec![0.0; product.fprop_workspace(DType::F32, threads.count())];
    let seconds = best_of(5, || product.fprop(threads, &x, &filter, None, false, &mut y, &mut workspace));
    product.flops() as f64 / seconds / 1e9
}

/// GB/s of a copy of 256 MiB, bytes read and written both counted: the best of five.
pub fn copy(threads: &Threads) -> f64 {
    let from = vec![1.0f32; 64 << 20];
    let mut to = vec![0.0f32; from.len()];
    let seconds = best_of(5, || super::elementwise::copy(threads, &from, &mut to));
    8.0 * from.len() as f64 / seconds / 1e9
}

fn best_of(runs: usize, mut work: impl FnMut()) -> f64 {
    work();
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}
