//! Whatever the tiling, what a network says about a voxel is what comes out.

use proptest::prelude::*;

use super::*;
use crate::random::Stream;

/// A volume in memory: D H W C, the channel innermost, already normalised.
#[derive(Clone, Copy)]
struct Image<'a> {
    /// Voxels.
    voxels: &'a [f32],
    /// Extents D, H, W.
    extent: [usize; 3],
    /// Channels.
    channels: usize,
}

/// Segments a volume in memory.
fn segment(
    image: &Image,
    classes: usize,
    patch: [usize; 3],
    options: &PredictOptions,
    network: &mut Network,
    sink: &mut Sink,
) -> Result<()> {
    let &Image { voxels, extent, channels } = image;
    let volume = Segmentation { extent, channels, classes };
    volume.check(patch)?;
    let mut slices = voxels.chunks_exact(extent[1] * extent[2] * channels);
    let mut read = |out: &mut [f32]| {
        out.copy_from_slice(slices.next().expect("no more slices than there are"));
        Ok(())
    };
    segment_stream(volume, patch, options, &mut read, network, sink)
}

/// Collected slices: labels, probabilities, and how often each slice came.
#[derive(Debug, Default, PartialEq)]
struct Whole {
    labels: Vec<u8>,
    probabilities: Vec<f32>,
    slices: Vec<usize>,
}

fn collect(
    image: &Image,
    classes: usize,
    patch: [usize; 3],
    options: &PredictOptions,
    mut network: impl FnMut(&[f32], &mut [f32]),
) -> Whole {
    let mut whole = Whole::default();
    let mut run = |window: &[f32], probabilities: &mut [f32]| {
        network(window, probabilities);
        Ok(())
    };
    segment(image, classes, patch, options, &mut run, &mut |slice: Slice| {
        whole.slices.push(slice.d);
        whole.labels.extend(slice.labels);
        whole.probabilities.extend(slice.probabilities);
        Ok(())
    })
    .unwrap();
    whole
}

/// Probabilities of three classes that depend on a voxel's two channels alone.
fn per_voxel(voxel: &[f32]) -> [f32; 3] {
    let e = [voxel[0], voxel[1], 0.1].map(|x| (x * 0.7).exp());
    let sum: f32 = e.iter().sum();
    e.map(|x| x / sum)
}

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, "voxels");
    (0..count).map(|_| stream.normal() as f32).collect()
}

fn apply(window: &[f32], probabilities: &mut [f32]) {
    for (voxel, out) in window.chunks_exact(2).zip(probabilities.chunks_exact_mut(3)) {
        out.copy_from_slice(&per_voxel(voxel));
    }
}

/// A network that sees its window's borders: each voxel's answer depends on where in the window it lies.
fn with_position(window: &[f32], probabilities: &mut [f32]) {
    apply(window, probabilities);
    for (i, p) in probabilities.iter_mut().enumerate() {
        *p *= 1.0 + (i % 101) as f32 / 101.0;
    }
}

/// The whole volume in memory, windows in the same order: weights and running means for every voxel.
fn in_memory(image: &Image, patch: [usize; 3], options: &PredictOptions) -> (Vec<f32>, Vec<f32>) {
    let [d, h, w] = image.extent;
    let (mut mean, mut total) = (vec![0f32; d * h * w * 3], vec![0f32; d * h * w]);
    visit(image, patch, options, |voxel, weight, p| {
        total[voxel] += weight;
        let share = weight / total[voxel];
        for c in 0..3 {
            mean[voxel * 3 + c] += (p[c] - mean[voxel * 3 + c]) * share;
        }
    });
    (mean, total)
}

/// Every voxel of every window in its plainest form: (voxel of the volume, weight, probabilities).
fn visit(image: &Image, patch: [usize; 3], options: &PredictOptions, mut f: impl FnMut(usize, f32, &[f32])) {
    let [depth, height, width] = image.extent;
    let weights = patch.map(gaussian);
    let pad = [0, 1, 2].map(|axis| padding_before(image.extent[axis], patch[axis]) as isize);
    let voxels: usize = patch.iter().product();
    for start in windows(image.extent, patch, options.overlap) {
        let place = |i: usize| {
            let at = [i / (patch[1] * patch[2]), i / patch[2] % patch[1], i % patch[2]];
            let [z, y, x] = [0, 1, 2].map(|axis| (start[axis] + at[axis]) as isize - pad[axis]);
            let inside = |v: isize, extent: usize| (0..extent as isize).contains(&v);
            let inside = inside(z, depth) && inside(y, height) && inside(x, width);
            (at, inside.then(|| ((z as usize * height) + y as usize) * width + x as usize))
        };
        let (mut window, mut out) = (vec![options.fill; voxels * 2], vec![0.0; voxels * 3]);
        for i in 0..voxels {
            if let (_, Some(voxel)) = place(i) {
                window[i * 2..i * 2 + 2].copy_from_slice(&image.voxels[voxel * 2..voxel * 2 + 2]);
            }
        }
        with_position(&window, &mut out);
        for i in 0..voxels {
            if let ([z, y, x], Some(voxel)) = place(i) {
                f(voxel, weights[0][z] * weights[1][y] * weights[2][x], &out[i * 3..i * 3 + 3]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_depends_on_the_voxel_alone_comes_back_exactly(
        extent in proptest::array::uniform3(1usize..19),
        patch in proptest::array::uniform3(1usize..9),
        tenths in 0u32..9,
        mirror in any::<[bool; 3]>(),
    ) {
        let voxels = random(extent.iter().product::<usize>() * 2, 1);
        let image = Image { voxels: &voxels, extent, channels: 2 };
        let options = PredictOptions { overlap: f64::from(tenths) / 10.0, mirror, ..PredictOptions::default() };
        let mut runs = 0;
        let whole = collect(&image, 3, patch, &options, |window, out| {
            runs += 1;
            apply(window, out);
        });
        let expected: Vec<f32> = voxels.chunks_exact(2).flat_map(per_voxel).collect();
        prop_assert_eq!(whole.probabilities, expected);
        prop_assert_eq!(whole.slices, (0..extent[0]).collect::<Vec<_>>());
        prop_assert_eq!(runs, options.runs(extent, patch));
    }

    #[test]
    fn slices_are_bit_for_bit_what_the_whole_volume_in_memory_gives(
        extent in proptest::array::uniform3(1usize..19),
        patch in proptest::array::uniform3(1usize..9),
        tenths in 0u32..9,
    ) {
        let voxels = random(extent.iter().product::<usize>() * 2, 2);
        let image = Image { voxels: &voxels, extent, channels: 2 };
        let options = PredictOptions { overlap: f64::from(tenths) / 10.0, fill: -1.5, ..PredictOptions::default() };
        let whole = collect(&image, 3, patch, &options, with_position);
        let (mean, _) = in_memory(&image, patch, &options);
        let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&whole.probabilities), bits(&mean));
    }
}

#[test]
fn a_constant_network_gives_its_constant_for_every_extent() {
    let constant = [0.1f32, 0.2, 0.7];
    // Smaller, equal, a multiple, a prime multiple, one more, one less.
    for extent in [[3, 2, 1], [4, 4, 4], [8, 8, 8], [28, 20, 12], [5, 9, 13], [7, 11, 3]] {
        for overlap in [0.0, 0.5, 0.75] {
            let voxels = vec![0.0; extent.iter().product()];
            let image = Image { voxels: &voxels, extent, channels: 1 };
            let options = PredictOptions { overlap, mirror: [true, true, false], ..PredictOptions::default() };
            let whole = collect(&image, 3, [4; 3], &options, |_, out| {
                out.chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&constant));
            });
            assert!(whole.probabilities.chunks_exact(3).all(|p| p == constant), "{extent:?} {overlap}");
            assert_eq!(whole.labels, vec![2; voxels.len()]);
        }
    }
}

#[test]
fn blending_is_as_exact_as_the_two_sums_would_be() {
    let extent = [17, 13, 11];
    let voxels = random(extent.iter().product::<usize>() * 2, 3);
    let image = Image { voxels: &voxels, extent, channels: 2 };
    let (patch, options) = ([8, 6, 5], PredictOptions { overlap: 0.7, ..PredictOptions::default() });
    let count = extent.iter().product::<usize>();
    let (mut sums, mut plain) = (vec![[0f64; 4]; count], vec![[0f32; 4]; count]);
    visit(&image, patch, &options, |voxel, weight, p| {
        for c in 0..3 {
            sums[voxel][c] += f64::from(weight) * f64::from(p[c]);
            plain[voxel][c] += weight * p[c];
        }
        sums[voxel][3] += f64::from(weight);
        plain[voxel][3] += weight;
    });
    let whole = collect(&image, 3, patch, &options, with_position);
    let (mut ours, mut straightforward) = (0f64, 0f64);
    for (voxel, (sum, plain)) in sums.iter().zip(&plain).enumerate() {
        for c in 0..3 {
            let truth = sum[c] / sum[3];
            ours = ours.max((f64::from(whole.probabilities[voxel * 3 + c]) - truth).abs());
            straightforward = straightforward.max((f64::from(plain[c] / plain[3]) - truth).abs());
        }
    }
    assert!(ours <= 2.0 * straightforward, "{ours:e} {straightforward:e}");
}

#[test]
fn the_chosen_fill_surrounds_a_small_volume_and_nothing_else() {
    let image = Image { voxels: &[1.0, 2.0], extent: [1, 1, 2], channels: 1 };
    let mut seen = Vec::new();
    let options = PredictOptions { fill: 9.0, ..PredictOptions::default() };
    collect(&image, 1, [1, 2, 4], &options, |window, out| {
        seen.extend_from_slice(window);
        out.fill(0.75);
    });
    assert_eq!(seen, [9.0, 1.0, 2.0, 9.0, 9.0, 9.0, 9.0, 9.0]);
}

#[test]
fn impossible_requests_are_errors_and_failures_pass_through() {
    let run = |voxels: &[f32], extent, channels, classes, patch, options: &PredictOptions| {
        let image = Image { voxels, extent, channels };
        segment(&image, classes, patch, options, &mut |_, _| Err(Error::Stopped), &mut |_| Ok(())).unwrap_err()
    };
    let good = PredictOptions::default();
    let (two, vast) = ([2; 3], [usize::MAX; 3]);
    for overlap in [1.0, -0.1, f64::NAN] {
        assert_eq!(run(&[0.0; 8], two, 1, 2, two, &PredictOptions { overlap, ..good.clone() }).exit_code(), 2);
    }
    for (extent, channels, classes, patch) in
        [(two, 1, 0, two), (two, 1, 257, two), (two, 1, 2, [0, 1, 1]), (two, 1, 2, vast)]
    {
        assert_eq!(run(&[0.0; 8], extent, channels, classes, patch, &good).exit_code(), 2);
    }
    assert!(matches!(run(&[0.0; 8], two, 1, 2, two, &good), Error::Stopped));
}
