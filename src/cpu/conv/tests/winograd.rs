//! Minimal filtering against the definition, by force: also where the direct sum would be chosen.

use super::*;

fn check_by_force(p: Convolution) {
    let (x, f, dy) =
        (values::<f32>(p.input_len(), 1), values::<f32>(p.filter_len(), 2), values::<f32>(p.output_len(), 3));
    let bias = values::<f32>(p.channels_out, 4);
    let (mut y, mut dx, mut df) = (Sums::new(dy.len()), Sums::new(x.len()), Sums::new(f.len()));
    visit(&p, |o, i, k| {
        y.add(o, x[i], f[k]);
        dx.add(i, dy[o], f[k]);
        df.add(k, x[i], dy[o]);
    });
    y.add_all(&bias);
    y.exact.iter_mut().for_each(|y| *y = y.max(0.0));
    y.plain.iter_mut().for_each(|y| *y = y.max(0.0));
    let room = |workspace: &dyn Fn(usize, Isa) -> usize, threads: usize| {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(|isa| workspace(threads, isa)).max().unwrap()
    };
    let forward = p.forward(DType::F32);
    let source = p.source(&[Input::plain(&x, p.channels_in)]);
    check::<f32, f32>(
        &format!("minimal fprop {p:?}"),
        &y,
        |threads| room(&|threads, isa| forward.minimal_workspace(threads, isa), threads),
        |threads, y, workspace| {
            let epilogue = Epilogue { bias: Some(&bias), relu: true, statistics: None };
            let strides = dense_strides(p.output, p.channels_out);
            let target = Target { output: y, strides, group_offsets: [0; PHASES], epilogue };
            forward.run_minimal(threads, &source, (&f, &p.layout()), target, workspace);
        },
    );
    let gradient = p.gradient_source(Gradient::plain(&dy));
    if p.channels_in > 4 {
        let backward = p.backward(p.channels_in, DType::F32);
        check::<f32, f32>(
            &format!("minimal dgrad {p:?}"),
            &dx,
            |threads| room(&|threads, isa| backward.minimal_workspace(threads, isa), threads),
            |threads, dx, workspace| {
                let strides = dense_strides(p.input, p.channels_in);
                let target = Target { output: dx, strides, group_offsets: [0; PHASES], epilogue: Epilogue::default() };
                backward.run_minimal(threads, &gradient, (&f, &p.exchanged_layout()), target, workspace);
            },
        );
    }
    let extents = p.gradient(DType::F32);
    if p.input != p.output || extents.scattered {
        return;
    }
    check::<f32, f32>(
        &format!("minimal wgrad {p:?}"),
        &df,
        |threads| room(&|threads, isa| extents.minimal_workspace(threads, isa), threads),
        |threads, df, workspace| {
            extents.run_minimal(threads, [&source, &gradient], df, &p.layout(), None, workspace);
        },
    );
}

#[test]
fn minimal_filtering_of_odd_prime_and_tiny_rows_equals_the_definition() {
    // Of a single row or voxel most taps meet zeros only, which the plain loops skip; it is never taken (see the last test).
    for extents in [[1, 2, 2], [2, 2, 5], [1, 2, 3], [3, 5, 7], [2, 4, 13], [1, 3, 31]] {
        for (channels_in, channels_out) in [(1, 16), (3, 5), (5, 17), (17, 33), (8, 8), (16, 24)] {
            check_by_force(same(2, extents, 3, channels_in, channels_out));
        }
    }
}

#[test]
fn minimal_filtering_with_any_halo_equals_the_definition() {
    let p = same(1, [4, 5, 9], 3, 7, 18);
    check_by_force(Convolution { pad_before: [2, 0, 2], ..p });
    check_by_force(Convolution { pad_before: [0, 2, 0], ..p });
    check_by_force(Convolution { pad_before: [0; 3], output: [2, 3, 7], ..p });
    check_by_force(Convolution { pad_before: [2; 3], output: [6, 7, 11], ..p });
    // One plane of taps, and five.
    check_by_force(Convolution { kernel: [1, 3, 3], pad_before: [0, 1, 1], ..p });
    check_by_force(Convolution { kernel: [5, 3, 3], pad_before: [2, 1, 1], ..p });
}

#[test]
fn minimal_filtering_sums_channels_in_chunks_and_voxels_in_slabs() {
    check_by_force(same(1, [2, 3, 2], 3, 300, 40));
    check_by_force(same(1, [9, 14, 18], 3, 48, 32));
}

#[test]
fn minimal_filtering_is_chosen_where_it_saves_products_and_only_there() {
    let passes = |p: Convolution, dtype| {
        let backward = p.backward(p.channels_in, dtype);
        [p.forward(dtype).is_minimal(), backward.is_minimal(), p.gradient(dtype).is_minimal()]
    };
    let layer = |extents, channels_in, channels_out| same(1, extents, 3, channels_in, channels_out);
    for p in [layer([48, 64, 48], 16, 16), layer([6, 8, 6], 192, 128), layer([3, 4, 3], 256, 256)] {
        assert_eq!(passes(p, DType::F32), [true; 3], "{p:?}");
        assert_eq!(passes(p, DType::Bf16), [false; 3], "{p:?}");
    }
    for p in [
        layer([48, 64, 48], 1, 16),
        layer([64, 1, 64], 64, 64),
        layer([64, 64, 1], 64, 64),
        same(1, [8, 8, 8], 1, 64, 64),
    ] {
        assert_eq!(passes(p, DType::F32), [false; 3], "{p:?}");
    }
}
