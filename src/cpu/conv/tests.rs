use half::{bf16, f16};

use super::*;
use crate::cpu::Isa;

mod fused;
mod winograd;

/// Reproducible values in (-1, 1).
fn values<E: Element>(count: usize, seed: u32) -> Vec<E> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        E::narrow((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..count).map(|_| next()).collect()
}

/// Calls `visit(output element, input element, filter element)` for every multiply-add of the definition.
fn visit(p: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
    let index = |n: usize, at: [usize; 3], extents: [usize; 3], channels: usize, c: usize| {
        (((n * extents[0] + at[0]) * extents[1] + at[1]) * extents[2] + at[2]) * channels + c
    };
    let count = |extents: [usize; 3]| extents.iter().product::<usize>();
    let at = |i: usize, e: [usize; 3]| [i / (e[1] * e[2]), i / e[2] % e[1], i % e[2]];
    for n in 0..p.batch {
        for voxel in 0..count(p.output) {
            for tap in 0..count(p.kernel) {
                let (o, k) = (at(voxel, p.output), at(tap, p.kernel));
                let i: [isize; 3] = std::array::from_fn(|a| (o[a] + k[a]) as isize - p.pad_before[a] as isize);
                if (0..3).any(|a| i[a] < 0 || i[a] >= p.input[a] as isize) {
                    continue;
                }
                let i = i.map(|x| x as usize);
                for ci in 0..p.channels_in {
                    for co in 0..p.channels_out {
                        visit(
                            index(n, o, p.output, p.channels_out, co),
                            index(n, i, p.input, p.channels_in, ci),
                            (tap * p.channels_in + ci) * p.channels_out + co,
                        );
                    }
                }
            }
        }
    }
}

/// `got` must be as near to the f64 sums as a straightforward loop is, times two: fp32 sums, rounded once to the result's type.
/// That is the mean error; the largest of few is a matter of luck, and may be four times as large.
fn assert_as_accurate<O: Element>(got: &[O], exact: &[f64], plain: &[f32], what: &str) {
    assert_eq!(got.len(), exact.len());
    assert!(got.iter().all(|value| value.widen().is_finite()), "{what}: not finite");
    let errors = |value: &dyn Fn(usize) -> f32| {
        let squares = || exact.iter().enumerate().map(|(i, exact)| (f64::from(value(i)) - exact).powi(2));
        [squares().sum::<f64>() / exact.len() as f64, squares().fold(0.0, f64::max)].map(f64::sqrt)
    };
    let epsilon = match O::DTYPE {
        DType::Bf16 => bf16::EPSILON.widen(),
        DType::F16 => f16::EPSILON.widen(),
        _ => f32::EPSILON,
    };
    // A plain sum of one or two terms may be exact by luck: one rounding of the largest value is always granted, or on average,
    // where there are enough for one, half of it.
    let ulp = exact.iter().fold(0.0f64, |a, b| a.max(b.abs())) * f64::from(epsilon) / 2.0;
    let (got, plain) = (errors(&|i| got[i].widen()), errors(&|i| O::narrow(plain[i]).widen()));
    let mean_ulp = if exact.len() < 8 { ulp } else { ulp / 2.0 };
    let near = got[0] <= 2.0 * plain[0].max(mean_ulp) && got[1] <= 4.0 * plain[1].max(ulp);
    assert!(near, "{what}: mean and largest errors {got:?}, straightforward {plain:?}");
}

struct Sums {
    exact: Vec<f64>,
    plain: Vec<f32>,
}

impl Sums {
    fn new(count: usize) -> Self {
        Self { exact: vec![0.0; count], plain: vec![0.0; count] }
    }

    fn add<E: Element>(&mut self, at: usize, a: E, b: E) {
        self.exact[at] += f64::from(a.widen()) * f64::from(b.widen());
        self.plain[at] += a.widen() * b.widen();
    }

    /// Adds `term[i]` to element `i`, the terms repeating.
    fn add_all(&mut self, terms: &[f32]) {
        for (i, (exact, plain)) in self.exact.iter_mut().zip(&mut self.plain).enumerate() {
            *exact += f64::from(terms[i % terms.len()]);
            *plain += terms[i % terms.len()];
        }
    }
}

/// Every instruction set that this machine has and that treats the type in its own way, with 1 to 3 threads.
fn pools(dtype: DType) -> Vec<Vec<Threads>> {
    let differs = |isa: Isa| isa != Isa::Avx512Bf16 || dtype == DType::Bf16 || !Isa::Avx512.is_available();
    let available = Isa::ALL.into_iter().filter(|isa| isa.is_available() && differs(*isa));
    available.map(|isa| (1..4).map(|count| Threads::with_isa(count, isa)).collect()).collect()
}

/// Runs `compute` for tensors of type `E` on every pool, its output and workspace full of NaN, and compares.
fn check<E: Element, O: Element>(
    what: &str,
    sums: &Sums,
    workspace: impl Fn(usize) -> usize,
    compute: impl Fn(&Threads, &mut [O], &mut [f32]),
) {
    for pools in pools(E::DTYPE) {
        let mut first: Option<Vec<O>> = None;
        for threads in &pools {
            let mut output = vec![O::narrow(f32::NAN); sums.exact.len()];
            compute(threads, &mut output, &mut vec![f32::NAN; workspace(threads.count())]);
            let what = format!("{what} {} {:?}", E::DTYPE, threads.isa());
            assert_as_accurate(&output, &sums.exact, &sums.plain, &what);
            let first = first.get_or_insert_with(|| output.clone());
            let same = bytemuck::cast_slice::<O, u8>(first) == bytemuck::cast_slice::<O, u8>(&output);
            assert!(same, "{what}: {} threads give other bits", threads.count());
        }
    }
}

fn check_convolution(p: Convolution) {
    check_convolution_of::<f32>(p);
    check_convolution_of::<bf16>(p);
    check_convolution_of::<f16>(p);
}

fn check_convolution_of<E: Element>(p: Convolution) {
    let (x, f, dy) = (values::<E>(p.input_len(), 1), values::<E>(p.filter_len(), 2), values::<E>(p.output_len(), 3));
    let bias = values::<f32>(p.channels_out, 4);
    let (mut y, mut dx, mut df) = (Sums::new(dy.len()), Sums::new(x.len()), Sums::new(f.len()));
    visit(&p, |o, i, k| {
        y.add(o, x[i], f[k]);
        dx.add(i, dy[o], f[k]);
        df.add(k, x[i], dy[o]);
    });
    let mut db = Sums::new(p.channels_out);
    for (i, &g) in dy.iter().enumerate() {
        db.add(i % p.channels_out, g, E::narrow(1.0));
    }
    y.add_all(&bias);
    y.exact.iter_mut().for_each(|y| *y = y.max(0.0));
    y.plain.iter_mut().for_each(|y| *y = y.max(0.0));
    check::<E, E>(
        &format!("fprop {p:?}"),
        &y,
        |n| p.fprop_workspace(E::DTYPE, n),
        |threads, y, workspace| {
            p.fprop(threads, &x, &f, Some(&bias), true, y, workspace);
        },
    );
    check::<E, E>(
        &format!("dgrad {p:?}"),
        &dx,
        |n| p.dgrad_workspace(E::DTYPE, n),
        |threads, dx, workspace| {
            p.dgrad(threads, &dy, &f, dx, workspace);
        },
    );
    check::<E, f32>(
        &format!("wgrad {p:?}"),
        &df,
        |n| p.wgrad_workspace(E::DTYPE, n),
        |threads, df, workspace| {
            p.wgrad(threads, &x, &dy, df, None, workspace);
        },
    );
    check::<E, f32>(
        &format!("dbias {p:?}"),
        &db,
        |n| p.wgrad_workspace(E::DTYPE, n),
        |threads, db, workspace| {
            p.wgrad(threads, &x, &dy, &mut vec![f32::NAN; f.len()], Some(db), workspace);
        },
    );
}

fn same(batch: usize, extents: [usize; 3], kernel: usize, channels_in: usize, channels_out: usize) -> Convolution {
    Convolution {
        batch,
        input: extents,
        output: extents,
        kernel: [kernel; 3],
        pad_before: [(kernel - 1) / 2; 3],
        channels_in,
        channels_out,
    }
}

#[test]
fn convolutions_of_tiny_and_prime_extents_equal_the_definition() {
    for extents in [[1, 1, 1], [1, 2, 3], [3, 3, 3], [2, 5, 7], [4, 4, 4], [5, 1, 13]] {
        for (channels_in, channels_out) in [(1, 1), (1, 16), (3, 5), (17, 33), (2, 3), (24, 2), (17, 1)] {
            for kernel in 1..4 {
                check_convolution(same(2, extents, kernel, channels_in, channels_out));
            }
        }
    }
}

#[test]
fn convolutions_one_off_the_tile_equal_the_definition() {
    for width in [11, 12, 14, 15, 16, 17, 27, 29] {
        check_convolution(same(1, [2, 3, width], 3, 5, 31));
        check_convolution(same(1, [2, 3, width], 3, 16, 15));
    }
}

#[test]
fn convolutions_of_real_levels_equal_the_definition() {
    check_convolution(same(1, [6, 8, 6], 3, 48, 32));
    check_convolution(same(1, [3, 4, 3], 3, 130, 80));
    check_convolution(same(1, [6, 12, 24], 3, 16, 16));
    check_convolution(same(1, [4, 6, 48], 3, 4, 32));
}

#[test]
fn a_filter_too_large_for_the_cache_is_summed_in_chunks() {
    check_convolution(same(1, [2, 3, 2], 3, 300, 40));
    // With pairs too, over several slabs.
    check_convolution(same(1, [2, 3, 2], 3, 561, 40));
    check_convolution(same(1, [4, 8, 12], 3, 560, 5));
}

#[test]
fn valid_wide_and_lopsided_convolutions_equal_the_definition() {
    let p = Convolution {
        batch: 1,
        input: [5, 6, 9],
        output: [3, 5, 8],
        kernel: [3, 2, 5],
        pad_before: [0, 0, 2],
        channels_in: 3,
        channels_out: 18,
    };
    check_convolution(p);
    check_convolution(Convolution { kernel: [1, 3, 2], pad_before: [0, 2, 0], output: [5, 8, 8], ..p });
    // Rows of taps in the place of channels, and in the volume's place none of some of them.
    let p = Convolution { kernel: [2, 3, 3], channels_in: 1, ..p };
    check_convolution(Convolution { pad_before: [1, 2, 0], output: [5, 8, 7], channels_out: 40, ..p });
    check_convolution(Convolution { pad_before: [0, 0, 2], output: [4, 4, 11], ..p });
    check_convolution(Convolution { input: [3, 1, 1], pad_before: [1, 1, 1], output: [3, 1, 1], ..p });
}

#[test]
fn transposed_convolutions_equal_the_definition() {
    for (batch, input, channels_in, channels_out) in [
        (1, [1, 1, 1], 1, 1),
        (2, [1, 2, 3], 3, 5),
        (1, [3, 4, 3], 64, 16),
        (1, [5, 3, 13], 33, 17),
        (1, [2, 3, 7], 70, 48),
    ] {
        let p = TransposedConvolution { batch, input, channels_in, channels_out };
        check_transposed::<f32>(p);
        check_transposed::<bf16>(p);
        check_transposed::<f16>(p);
    }
}

fn check_transposed<E: Element>(p: TransposedConvolution) {
    let TransposedConvolution { input, channels_in, channels_out, .. } = p;
    let (x, f, dy) = (values::<E>(p.input_len(), 1), values::<E>(p.filter_len(), 2), values::<E>(p.output_len(), 3));
    let bias = values::<f32>(channels_out, 4);
    let (mut y, mut dx, mut df) = (Sums::new(dy.len()), Sums::new(x.len()), Sums::new(f.len()));
    let mut db = Sums::new(channels_out);
    let fine = input.map(|extent| 2 * extent);
    for voxel in 0..dy.len() / channels_out {
        let (w, rest) = (voxel % fine[2], voxel / fine[2]);
        let (h, rest) = (rest % fine[1], rest / fine[1]);
        let (d, n) = (rest % fine[0], rest / fine[0]);
        let coarse = ((n * input[0] + d / 2) * input[1] + h / 2) * input[2] + w / 2;
        let phase = d % 2 * 4 + h % 2 * 2 + w % 2;
        for co in 0..channels_out {
            let o = voxel * channels_out + co;
            db.add(co, dy[o], E::narrow(1.0));
            for ci in 0..channels_in {
                let (i, k) = (coarse * channels_in + ci, (phase * channels_in + ci) * channels_out + co);
                y.add(o, x[i], f[k]);
                dx.add(i, dy[o], f[k]);
                df.add(k, x[i], dy[o]);
            }
        }
    }
    y.add_all(&bias);
    check::<E, E>(
        &format!("fprop {p:?}"),
        &y,
        |n| p.fprop_workspace(E::DTYPE, n),
        |threads, y, workspace| {
            p.fprop(threads, &x, &f, Some(&bias), y, workspace);
        },
    );
    check::<E, E>(
        &format!("dgrad {p:?}"),
        &dx,
        |n| p.dgrad_workspace(E::DTYPE, n),
        |threads, dx, workspace| {
            p.dgrad(threads, &dy, &f, dx, workspace);
        },
    );
    check::<E, f32>(
        &format!("wgrad {p:?}"),
        &df,
        |n| p.wgrad_workspace(E::DTYPE, n),
        |threads, df, workspace| {
            p.wgrad(threads, &x, &dy, df, None, workspace);
        },
    );
    check::<E, f32>(
        &format!("dbias {p:?}"),
        &db,
        |n| p.wgrad_workspace(E::DTYPE, n),
        |threads, db, workspace| {
            p.wgrad(threads, &x, &dy, &mut vec![f32::NAN; f.len()], Some(db), workspace);
        },
    );
}
