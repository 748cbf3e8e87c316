//! Every fused form against the unfused definition, to the tolerance rule.

use super::*;

/// Two inputs side by side, the first of them normalised, and what their concatenation would hold.
struct Joined {
    p: Convolution,
    parts: [(Vec<f32>, usize); 2],
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Joined {
    fn new(p: Convolution, first: usize) -> Self {
        let voxels = p.input_len() / p.channels_in;
        let part = |channels: usize, seed| (values(voxels * channels, seed), channels);
        let parts = [part(first, 5), part(p.channels_in - first, 6)];
        Self { p, parts, scale: values(first, 7), shift: values(first, 8) }
    }

    fn inputs(&self) -> [Input<'_>; 2] {
        let [(a, first), (b, second)] = &self.parts;
        [Input { data: a, channels: *first, scale_shift: Some((&self.scale, &self.shift)) }, Input::plain(b, *second)]
    }

    /// Element of the concatenation in f64 and in fp32.
    fn element(&self, i: usize) -> (f64, f32) {
        let (voxel, c) = (i / self.p.channels_in, i % self.p.channels_in);
        let [(a, first), (b, second)] = &self.parts;
        if c >= *first {
            let x = b[voxel * second + c - first];
            return (x.into(), x);
        }
        let (x, scale, shift) = (a[voxel * first + c], self.scale[c], self.shift[c]);
        (f64::from(x) * f64::from(scale) + f64::from(shift), x * scale + shift)
    }
}

fn problems() -> [(Convolution, usize); 5] {
    [
        (same(2, [3, 4, 5], 3, 24, 16), 16),
        (same(1, [2, 3, 13], 3, 7, 40), 3),
        (same(1, [4, 4, 4], 2, 48, 33), 32),
        (same(1, [3, 5, 12], 3, 20, 2), 9),
        (same(1, [2, 2, 2], 3, 300, 33), 150),
    ]
}

#[test]
fn normalised_inputs_side_by_side_equal_their_concatenation_and_padding_stays_zero() {
    for (p, first) in problems() {
        let joined = Joined::new(p, first);
        let (f, dy) = (values(p.filter_len(), 2), values(p.output_len(), 3));
        let (mut y, mut df) = (Sums::new(dy.len()), Sums::new(f.len()));
        visit(&p, |o, i, k| {
            let (exact, plain) = joined.element(i);
            y.exact[o] += exact * f64::from(f[k]);
            y.plain[o] += plain * f[k];
            df.exact[k] += exact * f64::from(dy[o]);
            df.plain[k] += plain * dy[o];
        });
        check(
            &format!("fprop {p:?}"),
            &y,
            |n| p.fprop_workspace(n),
            |threads, y, workspace| {
                p.fprop_fused(threads, &joined.inputs(), &f, Epilogue::default(), y, workspace);
            },
        );
        check(
            &format!("wgrad {p:?}"),
            &df,
            |n| p.wgrad_workspace(n),
            |threads, df, workspace| {
                p.wgrad_fused(threads, &joined.inputs(), Gradient::plain(&dy), df, None, workspace);
            },
        );
    }
}

#[test]
fn statistics_are_the_sums_of_what_was_stored() {
    for (p, _) in problems() {
        let (x, f, bias) = (values(p.input_len(), 1), values(p.filter_len(), 2), values(p.channels_out, 4));
        for pools in pools() {
            let mut first = None;
            for threads in &pools {
                let mut output = vec![f32::NAN; p.output_len()];
                let (mut sums, mut squares) = (vec![f64::NAN; p.channels_out], vec![f64::NAN; p.channels_out]);
                let epilogue = Epilogue { bias: Some(&bias), relu: true, statistics: Some([&mut sums, &mut squares]) };
                let mut workspace = vec![f32::NAN; p.fprop_workspace(threads.count())];
                let input = [Input::plain(&x, p.channels_in)];
                p.fprop_fused(threads, &input, &f, epilogue, &mut output, &mut workspace);
                for c in 0..p.channels_out {
                    let channel = || output.iter().skip(c).step_by(p.channels_out).map(|&y| f64::from(y));
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
}

#[test]
fn gradients_pass_the_relu_while_they_are_loaded() {
    for (p, first) in problems() {
        let (x, f, dy) = (values(p.input_len(), 1), values(p.filter_len(), 2), values(p.output_len(), 3));
        let relu: Vec<f32> = values(dy.len(), 9).into_iter().map(|y| y.max(0.0)).collect();
        let masked: Vec<f32> = dy.iter().zip(&relu).map(|(&dy, &y)| if y > 0.0 { dy } else { 0.0 }).collect();
        let gradient = Gradient { data: &dy, relu: Some(&relu) };
        let channels = first..p.channels_in;
        let voxels = x.len() / p.channels_in;
        let (mut dx, mut df, mut db) =
            (Sums::new(voxels * channels.len()), Sums::new(f.len()), Sums::new(p.channels_out));
        visit(&p, |o, i, k| {
            let c = i % p.channels_in;
            if c >= first {
                dx.add(i / p.channels_in * channels.len() + c - first, masked[o], f[k]);
            }
            df.add(k, x[i], masked[o]);
        });
        masked.iter().enumerate().for_each(|(i, &g)| db.add(i % p.channels_out, g, 1.0));
        let workspace = |n| p.dgrad_channels_workspace(channels.len(), n);
        check(&format!("dgrad {p:?}"), &dx, workspace, |threads, dx, workspace| {
            p.dgrad_fused(threads, gradient, &f, channels.clone(), dx, workspace);
        });
        let inputs = [Input::plain(&x, p.channels_in)];
        check(
            &format!("wgrad {p:?}"),
            &df,
            |n| p.wgrad_workspace(n),
            |threads, df, workspace| {
                p.wgrad_fused(threads, &inputs, gradient, df, None, workspace);
            },
        );
        check(
            &format!("dbias {p:?}"),
            &db,
            |n| p.wgrad_workspace(n),
            |threads, db, workspace| {
                p.wgrad_fused(threads, &inputs, gradient, &mut vec![f32::NAN; f.len()], Some(db), workspace);
            },
        );
    }
}

#[test]
fn transposed_convolutions_normalise_their_input_and_sum_their_output() {
    let p = TransposedConvolution { batch: 2, input: [2, 3, 5], channels_in: 20, channels_out: 24 };
    let (x, f, bias) = (values(p.input_len(), 1), values(p.filter_len(), 2), values(24, 4));
    let (scale, shift) = (values(20, 5), values(20, 6));
    let normalised: Vec<f32> = x.iter().enumerate().map(|(i, x)| x.mul_add(scale[i % 20], shift[i % 20])).collect();
    let dy = values(p.output_len(), 3);
    for threads in pools().iter().flatten() {
        let mut workspace = vec![f32::NAN; p.fprop_workspace(threads.count()).max(p.wgrad_workspace(threads.count()))];
        let (mut plain, mut fused) = (vec![f32::NAN; p.output_len()], vec![f32::NAN; p.output_len()]);
        p.fprop(threads, &normalised, &f, Some(&bias), &mut plain, &mut workspace);
        let (mut sums, mut squares) = ([f64::NAN; 24], [f64::NAN; 24]);
        let input = Input { data: &x, channels: 20, scale_shift: Some((&scale, &shift)) };
        let epilogue = Epilogue { bias: Some(&bias), relu: false, statistics: Some([&mut sums, &mut squares]) };
        p.fprop_fused(threads, input, &f, epilogue, &mut fused, &mut workspace);
        // Only the portable variant on a machine without fused multiply-add rounds the normalised input twice.
        assert!(fused.iter().zip(&plain).all(|(a, b)| (a - b).abs() <= 20.0 * f32::EPSILON));
        for c in 0..24 {
            let channel = || fused.iter().skip(c).step_by(24).map(|&y| f64::from(y));
            let magnitude = channel().map(f64::abs).sum::<f64>();
            assert!((sums[c] - channel().sum::<f64>()).abs() <= f64::from(f32::EPSILON) * magnitude);
            let exact = channel().map(|y| y * y).sum::<f64>();
            assert!((squares[c] - exact).abs() <= 4.0 * f64::from(f32::EPSILON) * exact);
        }
        let (mut plain, mut fused) = (vec![f32::NAN; f.len()], vec![f32::NAN; f.len()]);
        p.wgrad(threads, &normalised, &dy, &mut plain, None, &mut workspace);
        p.wgrad_fused(threads, input, &dy, &mut fused, None, &mut workspace);
        assert!(fused.iter().zip(&plain).all(|(a, b)| (a - b).abs() <= 60.0 * f32::EPSILON));
    }
}
