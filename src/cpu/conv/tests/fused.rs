//! Every fused form against the unfused definition, to the tolerance rule.

use super::*;

/// Two inputs side by side, the first of them normalised, and what their concatenation would hold.
struct Joined<E> {
    p: Convolution,
    parts: [(Vec<E>, usize); 2],
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl<E: Element> Joined<E> {
    fn new(p: Convolution, first: usize) -> Self {
        let voxels = p.input_len() / p.channels_in;
        let part = |channels: usize, seed| (values(voxels * channels, seed), channels);
        let parts = [part(first, 5), part(p.channels_in - first, 6)];
        Self { p, parts, scale: values(first, 7), shift: values(first, 8) }
    }

    fn inputs(&self) -> [Input<'_, E>; 2] {
        let [(a, first), (b, second)] = &self.parts;
        [Input { data: a, channels: *first, scale_shift: Some((&self.scale, &self.shift)) }, Input::plain(b, *second)]
    }

    /// Element of the concatenation in f64, and in fp32 as it would have been stored.
    fn element(&self, i: usize) -> (f64, f32) {
        let (voxel, c) = (i / self.p.channels_in, i % self.p.channels_in);
        let [(a, first), (b, second)] = &self.parts;
        if c >= *first {
            let x = b[voxel * second + c - first].widen();
            return (x.into(), x);
        }
        let (x, scale, shift) = (a[voxel * first + c].widen(), self.scale[c], self.shift[c]);
        (f64::from(x) * f64::from(scale) + f64::from(shift), E::narrow(x * scale + shift).widen())
    }
}

fn problems() -> [(Convolution, usize); 6] {
    [
        (same(2, [3, 4, 5], 3, 24, 16), 16),
        (same(1, [2, 3, 13], 3, 7, 40), 3),
        (same(1, [4, 4, 4], 2, 48, 33), 32),
        (same(1, [3, 5, 12], 3, 20, 2), 9),
        (same(1, [2, 2, 2], 3, 300, 33), 150),
        (same(1, [3, 8, 11], 3, 33, 24), 20),
    ]
}

#[test]
fn normalised_inputs_side_by_side_equal_their_concatenation_and_padding_stays_zero() {
    for (p, first) in problems() {
        check_joined::<f32>(p, first);
        check_joined::<bf16>(p, first);
        check_joined::<f16>(p, first);
    }
}

fn check_joined<E: Element>(p: Convolution, first: usize) {
    let joined = Joined::<E>::new(p, first);
    let (f, dy) = (values::<E>(p.filter_len(), 2), values::<E>(p.output_len(), 3));
    let (mut y, mut df) = (Sums::new(dy.len()), Sums::new(f.len()));
    visit(&p, |o, i, k| {
        let (exact, plain) = joined.element(i);
        let (f, dy) = (f[k].widen(), dy[o].widen());
        y.exact[o] += exact * f64::from(f);
        y.plain[o] += plain * f;
        df.exact[k] += exact * f64::from(dy);
        df.plain[k] += plain * dy;
    });
    check::<E, E>(
        &format!("fprop {p:?}"),
        &y,
        |n| p.fprop_workspace(E::DTYPE, n),
        |threads, y, workspace| {
            p.fprop_fused(threads, &joined.inputs(), &f, Epilogue::default(), y, workspace);
        },
    );
    check::<E, f32>(
        &format!("wgrad {p:?}"),
        &df,
        |n| p.wgrad_workspace(E::DTYPE, n),
        |threads, df, workspace| {
            p.wgrad_fused(threads, &joined.inputs(), Gradient::plain(&dy), df, None, workspace);
        },
    );
}

#[test]
fn statistics_are_the_sums_of_what_was_stored() {
    for (p, _) in problems() {
        check_statistics::<f32>(p);
        check_statistics::<bf16>(p);
        check_statistics::<f16>(p);
    }
}

fn check_statistics<E: Element>(p: Convolution) {
    let (x, f) = (values::<E>(p.input_len(), 1), values::<E>(p.filter_len(), 2));
    let bias = values::<f32>(p.channels_out, 4);
    for pools in pools(E::DTYPE) {
        let mut first = None;
        for threads in &pools {
            let mut output = vec![E::narrow(f32::NAN); p.output_len()];
            let (mut sums, mut squares) = (vec![f64::NAN; p.channels_out], vec![f64::NAN; p.channels_out]);
            let epilogue = Epilogue { bias: Some(&bias), relu: true, statistics: Some([&mut sums, &mut squares]) };
            let mut workspace = vec![f32::NAN; p.fprop_workspace(E::DTYPE, threads.count())];
            let input = [Input::plain(&x, p.channels_in)];
            p.fprop_fused(threads, &input, &f, epilogue, &mut output, &mut workspace);
            for c in 0..p.channels_out {
                let channel = || output.iter().skip(c).step_by(p.channels_out).map(|&y| f64::from(y.widen()));
                let exact = [channel().sum::<f64>(), channel().map(|y| y * y).sum::<f64>()];
                for (got, exact) in [sums[c], squares[c]].into_iter().zip(exact) {
                    // All terms are positive: a few roundings of the total.
                    assert!((got - exact).abs() <= 4.0 * f64::from(f32::EPSILON) * exact, "{got} {exact} {p:?}");
                }
            }
            let all = (sums, squares);
            assert_eq!(*first.get_or_insert_with(|| all.clone()), all, "{} threads", threads.count());
        }
    }
}

#[test]
fn gradients_pass_the_relu_while_they_are_loaded() {
    for (p, first) in problems() {
        check_masked::<f32>(p, first);
        check_masked::<bf16>(p, first);
        check_masked::<f16>(p, first);
    }
}

fn check_masked<E: Element>(p: Convolution, first: usize) {
    let (x, f, dy) = (values::<E>(p.input_len(), 1), values::<E>(p.filter_len(), 2), values::<E>(p.output_len(), 3));
    let zero = E::narrow(0.0);
    let relu: Vec<E> = values::<E>(dy.len(), 9).into_iter().map(|y| if y.widen() > 0.0 { y } else { zero }).collect();
    let masked: Vec<E> = dy.iter().zip(&relu).map(|(&dy, &y)| if y.widen() > 0.0 { dy } else { zero }).collect();
    let gradient = Gradient { data: &dy, relu: Some(&relu) };
    let channels = first..p.channels_in;
    let voxels = x.len() / p.channels_in;
    let (mut dx, mut df, mut db) = (Sums::new(voxels * channels.len()), Sums::new(f.len()), Sums::new(p.channels_out));
    visit(&p, |o, i, k| {
        let c = i % p.channels_in;
        if c >= first {
            dx.add(i / p.channels_in * channels.len() + c - first, masked[o], f[k]);
        }
        df.add(k, x[i], masked[o]);
    });
    masked.iter().enumerate().for_each(|(i, &g)| db.add(i % p.channels_out, g, E::narrow(1.0)));
    let workspace = |n| p.dgrad_channels_workspace(channels.len(), E::DTYPE, n);
    check::<E, E>(&format!("dgrad {p:?}"), &dx, workspace, |threads, dx, workspace| {
        p.dgrad_fused(threads, gradient, &f, channels.clone(), dx, workspace);
    });
    let inputs = [Input::plain(&x, p.channels_in)];
    check::<E, f32>(
        &format!("wgrad {p:?}"),
        &df,
        |n| p.wgrad_workspace(E::DTYPE, n),
        |threads, df, workspace| {
            p.wgrad_fused(threads, &inputs, gradient, df, None, workspace);
        },
    );
    check::<E, f32>(
        &format!("dbias {p:?}"),
        &db,
        |n| p.wgrad_workspace(E::DTYPE, n),
        |threads, db, workspace| {
            p.wgrad_fused(threads, &inputs, gradient, &mut vec![f32::NAN; f.len()], Some(db), workspace);
        },
    );
}

#[test]
fn transposed_convolutions_normalise_their_input_and_sum_their_output() {
    check_transposed_fused::<f32>();
    check_transposed_fused::<bf16>();
    check_transposed_fused::<f16>();
}

fn check_transposed_fused<E: Element>() {
    let p = TransposedConvolution { batch: 2, input: [2, 3, 5], channels_in: 20, channels_out: 24 };
    let (x, f) = (values::<E>(p.input_len(), 1), values::<E>(p.filter_len(), 2));
    let (dy, bias) = (values::<E>(p.output_len(), 3), values::<f32>(24, 4));
    let (scale, shift) = (values::<f32>(20, 5), values::<f32>(20, 6));
    let normalise = |(i, x): (usize, &E)| E::narrow(x.widen().mul_add(scale[i % 20], shift[i % 20]));
    let normalised: Vec<E> = x.iter().enumerate().map(normalise).collect();
    // Only the portable variant on a machine without fused multiply-add rounds the normalised input twice: one last place of the
    // input is that of its type.
    let last_place = if E::DTYPE == DType::F32 { f32::EPSILON } else { E::narrow(1.0 / 64.0).widen() };
    for threads in pools(E::DTYPE).iter().flatten() {
        let count = threads.count();
        let need = p.fprop_workspace(E::DTYPE, count).max(p.wgrad_workspace(E::DTYPE, count));
        let mut workspace = vec![f32::NAN; need];
        let nan = E::narrow(f32::NAN);
        let (mut plain, mut fused) = (vec![nan; p.output_len()], vec![nan; p.output_len()]);
        p.fprop(threads, &normalised, &f, Some(&bias), &mut plain, &mut workspace);
        let (mut sums, mut squares) = ([f64::NAN; 24], [f64::NAN; 24]);
        let input = Input { data: &x, channels: 20, scale_shift: Some((&scale, &shift)) };
        let epilogue = Epilogue { bias: Some(&bias), relu: false, statistics: Some([&mut sums, &mut squares]) };
        p.fprop_fused(threads, input, &f, epilogue, &mut fused, &mut workspace);
        let near = |a: f32, b: f32, factor: f32| (a - b).abs() <= factor * last_place;
        assert!(fused.iter().zip(&plain).all(|(a, b)| near(a.widen(), b.widen(), 20.0)), "{threads:?}");
        for c in 0..24 {
            let channel = || fused.iter().skip(c).step_by(24).map(|&y| f64::from(y.widen()));
            let magnitude = channel().map(f64::abs).sum::<f64>();
            assert!((sums[c] - channel().sum::<f64>()).abs() <= f64::from(f32::EPSILON) * magnitude);
            let exact = channel().map(|y| y * y).sum::<f64>();
            assert!((squares[c] - exact).abs() <= 4.0 * f64::from(f32::EPSILON) * exact);
        }
        let (mut plain, mut fused) = (vec![f32::NAN; f.len()], vec![f32::NAN; f.len()]);
        p.wgrad(threads, &normalised, &dy, &mut plain, None, &mut workspace);
        p.wgrad_fused(threads, input, &dy, &mut fused, None, &mut workspace);
        assert!(fused.iter().zip(&plain).all(|(&a, &b)| near(a, b, 60.0)), "{threads:?}");
    }
}
