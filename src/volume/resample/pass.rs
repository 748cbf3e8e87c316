//! One axis of a resampling.
//!
//! Lines along the axis are gathered into a panel, `LANES` of them side by side, in double precision: that is where a
//! spline is fitted and samples are taken, with neighbouring lines in neighbouring lanes of the processor's registers,
//! whichever axis it is. A panel of 512 voxels takes 137 KiB, within a core's second-level cache.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
    thread,
};

use super::{Interpolation, Line, spline};

/// Lines in a panel.
pub(super) const LANES: usize = 32;

/// How far a line is continued beyond its ends for a spline: its influence falls by 0.27 per voxel, 1e-7 in twelve.
const CONTINUED: usize = 12;

/// Lines of voxels that one task takes where they lie one behind the other.
const LINES_PER_TASK: usize = 8 * LANES;

/// Samples values `[channels, z, y, x]` of extents x, y, z along one of these axes.
pub(super) fn along(
    values: &[f32],
    extents: [usize; 3],
    channels: usize,
    axis: usize,
    line: Line,
    interpolation: Interpolation,
    threads: usize,
) -> Vec<f32> {
    let sampler = Sampler::new(line, interpolation);
    let (source, target) = (line.source, line.target);
    let mut out = vec![0.0; values.len() / source * target];
    if axis == 0 {
        let tasks = values.chunks(LINES_PER_TASK * source).zip(out.chunks_mut(LINES_PER_TASK * target));
        in_parallel(tasks, threads, Vec::new, |panel, (values, out)| {
            for (values, out) in values.chunks(LANES * source).zip(out.chunks_mut(LANES * target)) {
                sampler.fill(panel, |k, lane| values.get(lane * source + k).copied().unwrap_or(0.0));
                sampler.samples(panel, |sample, row| {
                    out.iter_mut().skip(sample).step_by(target).zip(row).for_each(|(out, value)| *out = *value as f32);
                });
            }
        });
        return out;
    }
    // Neighbouring lines begin at neighbouring elements: `inner` of them, `outer` times.
    let inner: usize = extents[..axis].iter().product();
    let outer = extents[axis + 1..].iter().product::<usize>() * channels;
    let columns = inner.div_ceil(threads.div_ceil(outer)).next_multiple_of(LANES);
    let blocks = values.chunks_exact(inner * source).zip(out.chunks_exact_mut(inner * target));
    let tasks = blocks.flat_map(|(values, out)| by_columns(out, inner, columns).map(move |task| (values, task)));
    in_parallel(tasks, threads, Vec::new, |panel, (values, (range, mut rows))| {
        for start in range.clone().step_by(LANES) {
            let lanes = LANES.min(range.end - start);
            sampler.fill(panel, |k, lane| if lane < lanes { values[k * inner + start + lane] } else { 0.0 });
            let place = start - range.start;
            sampler.samples(panel, |sample, row| {
                let out = &mut rows[sample][place..place + lanes];
                out.iter_mut().zip(row).for_each(|(out, value)| *out = *value as f32);
            });
        }
    });
    out
}

/// Columns of a block with their part of each row.
type Columns<'a> = (Range<usize>, Vec<&'a mut [f32]>);

/// Cuts a block of rows into tasks of so many columns.
fn by_columns(block: &mut [f32], width: usize, columns: usize) -> impl Iterator<Item = Columns<'_>> {
    let mut tasks: Vec<Columns<'_>> =
        (0..width).step_by(columns).map(|start| (start..width.min(start + columns), Vec::new())).collect();
    for row in block.chunks_exact_mut(width) {
        row.chunks_mut(columns).zip(&mut tasks).for_each(|(part, (_, rows))| rows.push(part));
    }
    tasks.into_iter()
}

/// Which rows of a panel make which sample.
struct Sampler {
    source: usize,
    /// Rows of outermost values before and behind the line.
    before: usize,
    behind: usize,
    is_spline: bool,
    /// The first row of each sample, and the weights from there on.
    taps: Vec<(usize, [f64; 4])>,
    /// How many of the weights are used.
    count: usize,
}

impl Sampler {
    fn new(line: Line, interpolation: Interpolation) -> Self {
        let (before, behind, count) = match interpolation {
            Interpolation::Nearest => (0, 0, 1),
            Interpolation::Linear => (0, 1, 2),
            Interpolation::Cubic => (CONTINUED, CONTINUED, 4),
        };
        let last = line.source as f64 - 1.0;
        let tap = |sample| match interpolation {
            Interpolation::Nearest => (line.nearest(sample), [1.0, 0.0, 0.0, 0.0]),
            Interpolation::Linear => {
                let place = line.place(sample).clamp(0.0, last);
                let t = place.fract();
                (place as usize, [1.0 - t, t, 0.0, 0.0])
            }
            Interpolation::Cubic => {
                // Farther out there is only the outermost value, to single precision.
                let reach = CONTINUED as f64 - 2.0;
                let place = line.place(sample).clamp(-reach, last + reach) + CONTINUED as f64;
                (place as usize - 1, spline::weights(place.fract()))
            }
        };
        let taps = (0..line.target).map(tap).collect();
        let is_spline = interpolation == Interpolation::Cubic;
        Self { source: line.source, before, behind, is_spline, taps, count }
    }

    /// Fills a panel with the lines' values, `value(voxel, lane)`, and makes them coefficients where it takes some.
    fn fill(&self, panel: &mut Vec<[f64; LANES]>, value: impl Fn(usize, usize) -> f32) {
        panel.clear();
        panel.resize(self.before, [0.0; LANES]);
        panel.extend((0..self.source).map(|k| std::array::from_fn(|lane| f64::from(value(k, lane)))));
        let (first, last) = (panel[self.before], panel[self.before + self.source - 1]);
        panel[..self.before].fill(first);
        panel.resize(self.before + self.source + self.behind, last);
        if self.is_spline {
            spline::prefilter(panel);
        }
    }

    /// Hands over the samples of all lanes, one after the other.
    fn samples(&self, panel: &[[f64; LANES]], mut take: impl FnMut(usize, &[f64; LANES])) {
        for (sample, (first, weights)) in self.taps.iter().enumerate() {
            let mut sum = [0.0; LANES];
            for (row, weight) in panel[*first..][..self.count].iter().zip(weights) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
            take(sample, &sum);
        }
    }
}

/// Does tasks, each once, on so many threads, the caller's among them; each thread has scratch space of its own.
fn in_parallel<T: Send, S>(
    tasks: impl Iterator<Item = T> + Send,
    threads: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) + Sync,
) {
    let tasks = Mutex::new(tasks);
    let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        let mut scratch = scratch();
        while let Some(task) = next() {
            work(&mut scratch, task);
        }
    };
    thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(run)));
        run();
    });
}
