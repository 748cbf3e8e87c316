//! GFLOP/s of every convolution of two whole networks, in fp32 and in bf16, and the machine's own peaks to compare with.
//!
//! `cargo bench --bench cpu_kernels [-- FILTER]`. A: 48x64x48, 1 channel, factor 4; B: 64x64x64, 4 channels, factor 2.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use gyrus::cpu::{
    Convolution, Element, Threads, TransposedConvolution, channelwise, elementwise,
    peak::{Products, multiply_adds},
    pool::Halving,
    reduce,
};
use half::bf16;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .configure_from_args();
    let threads = Threads::new(0);
    let [single, half] = [Products::Single, Products::Half].map(|products| multiply_adds(&threads, products));
    println!("{threads:?}: {single:.0} GFLOP/s in fp32, {half:.0} in bf16");
    for (name, extents, channels, classes, factor) in [("A", [48, 64, 48], 1, 3, 4), ("B", [64, 64, 64], 4, 4, 2)] {
        for (layer, convolution) in convolutions(extents, channels, classes, factor) {
            bench_convolution::<f32>(&mut criterion, &threads, &format!("{name}/{layer}"), &convolution);
            bench_convolution::<bf16>(&mut criterion, &threads, &format!("{name}/{layer}"), &convolution);
        }
        for (layer, convolution) in transposed(extents, factor) {
            bench_transposed::<f32>(&mut criterion, &threads, &format!("{name}/{layer}"), &convolution);
            bench_transposed::<bf16>(&mut criterion, &threads, &format!("{name}/{layer}"), &convolution);
        }
    }
    bench_passes(&mut criterion, &threads);
}

/// Every convolution of the transposed-convolution network.
fn convolutions(extents: [usize; 3], channels: usize, classes: usize, factor: usize) -> Vec<(String, Convolution)> {
    let level = |l: usize| extents.map(|extent| extent >> l);
    let filters = |l: usize| (64 << l) / factor;
    let same = |l: usize, kernel: usize, channels_in: usize, channels_out: usize| Convolution {
        batch: 1,
        input: level(l),
        output: level(l),
        kernel: [kernel; 3],
        pad_before: [(kernel - 1) / 2; 3],
        channels_in,
        channels_out,
    };
    let mut all = Vec::new();
    for l in 0..5 {
        let before = if l == 0 { channels } else { filters(l - 1) };
        all.push((format!("encoder{l}a"), same(l, 3, before, filters(l))));
        all.push((format!("encoder{l}b"), same(l, 3, filters(l), filters(l))));
    }
    for l in (0..4).rev() {
        let up = if l == 3 { filters(3) } else { filters(l) / 2 };
        all.push((format!("decoder{l}a"), same(l, 3, filters(l) + up, filters(l))));
        // The second convolution of a decoder level has the same extents as the encoder's.
    }
    all.push(("head3".into(), same(0, 3, filters(0), 2)));
    all.push(("head1".into(), same(0, 1, 2, classes)));
    all
}

fn transposed(extents: [usize; 3], factor: usize) -> Vec<(String, TransposedConvolution)> {
    let filters = |l: usize| (64 << l) / factor;
    (0..4)
        .rev()
        .map(|l| {
            let input = extents.map(|extent| extent >> (l + 1));
            let channels_out = if l == 3 { filters(3) } else { filters(l) / 2 };
            (format!("up{l}"), TransposedConvolution { batch: 1, input, channels_in: filters(l + 1), channels_out })
        })
        .collect()
}

fn values<E: Element>(count: usize) -> Vec<E> {
    (0..count).map(|i| E::narrow((i % 1013) as f32 / 512.0 - 1.0)).collect()
}

fn bench_convolution<E: Element>(criterion: &mut Criterion, threads: &Threads, name: &str, p: &Convolution) {
    let (x, f, dy) = (values::<E>(p.input_len()), values::<E>(p.filter_len()), values::<E>(p.output_len()));
    let bias = values(p.channels_out);
    let (mut y, mut dx, mut df) = (values::<E>(dy.len()), values::<E>(x.len()), vec![0.0; f.len()]);
    let (dtype, n) = (E::DTYPE, threads.count());
    let need = p.fprop_workspace(dtype, n).max(p.dgrad_workspace(dtype, n)).max(p.wgrad_workspace(dtype, n));
    let mut workspace = vec![0.0; need];
    let mut group = criterion.benchmark_group(format!("{name}/{dtype}"));
    group.throughput(Throughput::Elements(p.flops() as u64));
    group.bench_function("fprop", |b| {
        b.iter(|| p.fprop(threads, black_box(&x), &f, Some(&bias), true, &mut y, &mut workspace));
    });
    group.bench_function("dgrad", |b| b.iter(|| p.dgrad(threads, black_box(&dy), &f, &mut dx, &mut workspace)));
    group.bench_function("wgrad", |b| b.iter(|| p.wgrad(threads, black_box(&x), &dy, &mut df, None, &mut workspace)));
    group.finish();
}

fn bench_transposed<E: Element>(criterion: &mut Criterion, threads: &Threads, name: &str, p: &TransposedConvolution) {
    let (x, f, dy) = (values::<E>(p.input_len()), values::<E>(p.filter_len()), values::<E>(p.output_len()));
    let bias = values(p.channels_out);
    let (mut y, mut dx, mut df) = (values::<E>(dy.len()), values::<E>(x.len()), vec![0.0; f.len()]);
    let (dtype, n) = (E::DTYPE, threads.count());
    let need = p.fprop_workspace(dtype, n).max(p.dgrad_workspace(dtype, n)).max(p.wgrad_workspace(dtype, n));
    let mut workspace = vec![0.0; need];
    let mut group = criterion.benchmark_group(format!("{name}/{dtype}"));
    group.throughput(Throughput::Elements(p.flops() as u64));
    group.bench_function("fprop", |b| {
        b.iter(|| p.fprop(threads, black_box(&x), &f, Some(&bias), &mut y, &mut workspace));
    });
    group.bench_function("dgrad", |b| b.iter(|| p.dgrad(threads, black_box(&dy), &f, &mut dx, &mut workspace)));
    group.bench_function("wgrad", |b| b.iter(|| p.wgrad(threads, black_box(&x), &dy, &mut df, None, &mut workspace)));
    group.finish();
}

/// Bytes per second of the memory-bound passes at 64x64x64, 32 channels.
fn bench_passes(criterion: &mut Criterion, threads: &Threads) {
    let (channels, fine) = (32, 64 * 64 * 64 * 32);
    let (x, mut y) = (values::<f32>(fine), vec![0.0; fine]);
    let (coarse, mut d_coarse) = (values::<f32>(fine / 8), vec![0.0; fine / 8]);
    let (scale, shift) = (values(channels), values(channels));
    let mut workspace = vec![0.0; reduce::sums_workspace(fine / channels, channels)];
    let halving = Halving { batch: 1, coarse: [32; 3], fine: [64; 3], channels };
    let mut group = criterion.benchmark_group("passes");
    let mut pass = |name: &str, bytes: usize, run: &mut dyn FnMut()| bench_pass(&mut group, name, bytes, run);
    pass("copy", 8 * fine, &mut || elementwise::copy(threads, black_box(&x), &mut y));
    pass("relu", 8 * fine, &mut || elementwise::relu(threads, black_box(&x), &mut y));
    pass("scale_shift", 8 * fine, &mut || channelwise::scale_shift(threads, black_box(&x), &scale, &shift, &mut y));
    pass("sum_and_squares", 4 * fine, &mut || {
        let (mut sum, mut squares) = ([0.0; 32], [0.0; 32]);
        reduce::sum_and_squares(threads, black_box(&x), channels, &mut sum, &mut squares, &mut workspace);
        black_box((sum, squares));
    });
    pass("max_pool", 4 * fine + fine / 2, &mut || halving.max_pool(threads, black_box(&x), &mut d_coarse));
    pass("max_pool_backward", 8 * fine + fine / 2, &mut || {
        halving.max_pool_backward(threads, black_box(&coarse), &x, &mut y);
    });
    pass("upsample", 4 * fine + fine / 2, &mut || halving.upsample(threads, black_box(&coarse), &mut y));
    pass("upsample_backward", 4 * fine + fine / 2, &mut || {
        halving.upsample_backward(threads, black_box(&x), &mut d_coarse);
    });
    group.finish();
}

fn bench_pass(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, bytes: usize, run: &mut dyn FnMut()) {
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(&mut *run));
}
