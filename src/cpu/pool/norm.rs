//! Batch norm's backward pass where its result was only max-pooled: the pool's gradient is never made.
//!
//! A fine voxel's gradient is the coarse one where the voxel was the first of the largest of its block, else 0; both
//! passes find that again from `x` while they walk it, so they read `x` and an eighth of a gradient.

#![allow(unsafe_code)]

use super::{
    Element, Halving, Kernel, SharedMut, Simd, Threads, dispatch, eight,
    fused::{Affine, normalised},
    largest_of, load, store,
};
use crate::cpu::batch_norm::Backward;

/// The most slices that the sums are cut into; by the number of rows alone.
const SLICES: usize = 256;

impl Halving {
    fn rows_per_slice(&self) -> usize {
        self.rows().div_ceil(SLICES)
    }

    /// Workspace elements of [`Halving::normalisation_sums`].
    pub fn normalisation_sums_workspace(&self) -> usize {
        2 * self.rows().div_ceil(self.rows_per_slice()) * self.channels
    }

    /// Batch norm backward's two sums, over all fine voxels: of the gradients, and of the gradients times `(x - mean) * rstd`.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    #[expect(clippy::too_many_arguments, reason = "the operation's tensors")]
    pub fn normalisation_sums<E: Element>(
        &self,
        threads: &Threads,
        d_coarse: &[E],
        x: &[E],
        affine: Affine<'_>,
        [mean, rstd]: [&[f32]; 2],
        [sum, dot]: [&mut [f32]; 2],
        workspace: &mut [f32],
    ) {
        self.check(x.len(), d_coarse.len());
        let channels = self.channels;
        assert!([mean, rstd, affine[0], affine[1]].iter().all(|values| values.len() == channels), "coefficients");
        let rows_per_slice = self.rows_per_slice();
        let partials = &mut workspace[..self.normalisation_sums_workspace()];
        threads.for_chunks(partials, 2 * channels, |slice, sums| {
            sums.fill(0.0);
            for row in slice * rows_per_slice..self.rows().min((slice + 1) * rows_per_slice) {
                let gradients = &d_coarse[row * self.coarse[2] * channels..][..self.coarse[2] * channels];
                let rows = self.fine_rows(row).map(|start| &x[start..start + 2 * gradients.len()]);
                dispatch(threads.isa(), RowSums { rows, affine, mean, gradients, sums });
            }
        });
        for channel in 0..channels {
            let total = |half: usize| -> f64 {
                partials.chunks_exact(2 * channels).map(|sums| f64::from(sums[half * channels + channel])).sum()
            };
            sum[channel] = total(0) as f32;
            dot[channel] = (total(1) * f64::from(rstd[channel])) as f32;
        }
    }

    /// [`Backward::apply`] with the pool's gradient as `dy`. The addend that is `None` is what `dx` holds before.
    ///
    /// # Panics
    /// If a tensor does not have its length, or an extent is odd: planes that no coarse voxel sees are not walked.
    pub fn normalisation_backward<E: Element>(
        &self,
        threads: &Threads,
        d_coarse: &[E],
        affine: Affine<'_>,
        norm: &Backward<'_, E>,
        addend: Option<Option<&[E]>>,
        dx: &mut [E],
    ) {
        self.check(norm.x.len(), d_coarse.len());
        assert!(self.fine.iter().all(|extent| extent % 2 == 0), "even extents");
        assert!(dx.len() == norm.x.len() && addend.flatten().is_none_or(|a| a.len() == dx.len()), "lengths");
        let coefficients = [norm.mean, norm.rstd, norm.gamma, norm.sum, norm.dot, affine[0], affine[1]];
        assert!(coefficients.iter().all(|values| values.len() == self.channels), "one coefficient per channel");
        let (length, scale) = (self.coarse[2] * self.channels, 8.0 * (self.rows() * self.coarse[2]) as f64);
        let dx = SharedMut::new(dx);
        threads.run(self.rows(), &|row| {
            let starts = self.fine_rows(row);
            let rows = starts.map(|start| &norm.x[start..start + 2 * length]);
            // SAFETY: the four fine rows of a coarse row belong to this task alone.
            let d_rows = starts.map(|start| unsafe { dx.slice(start, 2 * length) });
            let addends = match addend {
                None => Addends::None,
                Some(None) => Addends::Own,
                Some(Some(addend)) => Addends::Rows(starts.map(|start| &addend[start..start + 2 * length])),
            };
            let gradients = &d_coarse[row * length..(row + 1) * length];
            let scale = (1.0 / scale) as f32;
            dispatch(threads.isa(), RowBackward { norm, rows, affine, gradients, addends, d_rows, scale });
        });
    }
}

/// The sums of one coarse row.
struct RowSums<'a, E> {
    rows: [&'a [E]; 4],
    affine: Affine<'a>,
    mean: &'a [f32],
    gradients: &'a [E],
    /// Gradients, then gradients times `x - mean`.
    sums: &'a mut [f32],
}

impl<E: Element> Kernel for RowSums<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { rows, affine, mean, gradients, sums } = self;
        let channels = mean.len();
        assert!(rows.iter().all(|row| row.len() == 2 * gradients.len()) && sums.len() == 2 * channels, "lengths");
        for c in (0..channels).step_by(S::LANES) {
            let lanes = S::LANES.min(channels - c);
            // SAFETY: `lanes` channels from `c` on exist in every voxel of the rows, in the coefficients and in both sums.
            unsafe {
                let centre = load::<S, f32>(mean.as_ptr().add(c), lanes);
                let mut total = [S::zero(); 2];
                for voxel in 0..gradients.len() / channels {
                    let values = eight::<S, E>(&rows, 2 * voxel * channels + c, channels, lanes);
                    let compared = normalised::<S>(values, Some(affine), c, lanes);
                    let top = largest_of::<S>(&compared);
                    let gradient = load::<S, E>(gradients.as_ptr().add(voxel * channels + c), lanes);
                    total[0] = S::add(total[0], gradient);
                    let mut left = gradient;
                    for i in 0..8 {
                        let d = S::keep_where_not_greater(top, compared[i], left);
                        left = S::keep_where_greater(top, compared[i], left);
                        total[1] = S::fma(d, S::sub(values[i], centre), total[1]);
                    }
                }
                for (half, total) in total.into_iter().enumerate() {
                    let to = sums.as_mut_ptr().add(half * channels + c);
                    let sum = S::add(load::<S, f32>(to, lanes), total);
                    store::<S, f32>(to, sum, lanes);
                }
            }
        }
    }
}

/// What is added to four rows of gradients.
enum Addends<'a, E> {
    None,
    /// What the rows hold before.
    Own,
    Rows([&'a [E]; 4]),
}

/// The gradients of the four fine rows of one coarse row.
struct RowBackward<'a, E> {
    norm: &'a Backward<'a, E>,
    rows: [&'a [E]; 4],
    affine: Affine<'a>,
    gradients: &'a [E],
    addends: Addends<'a, E>,
    d_rows: [&'a mut [E]; 4],
    /// 1 / number of voxels of the batch.
    scale: f32,
}

impl<E: Element> Kernel for RowBackward<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.norm.mean.len();
        let long = 2 * self.gradients.len();
        let fits = self.rows.iter().all(|row| row.len() == long) && self.d_rows.iter().all(|row| row.len() == long);
        assert!(fits, "fine rows are twice as long");
        for c in (0..channels).step_by(S::LANES) {
            let lanes = S::LANES.min(channels - c);
            // SAFETY: `lanes` channels from `c` on exist in every voxel of the rows and among the coefficients; addends are as long.
            unsafe {
                let factors = self.norm.factors::<S>(c, lanes, self.scale);
                for voxel in 0..self.gradients.len() / channels {
                    let at = 2 * voxel * channels + c;
                    let values = eight::<S, E>(&self.rows, at, channels, lanes);
                    let compared = normalised::<S>(values, Some(self.affine), c, lanes);
                    let top = largest_of::<S>(&compared);
                    let mut left = load::<S, E>(self.gradients.as_ptr().add(voxel * channels + c), lanes);
                    for i in 0..8 {
                        let d = S::keep_where_not_greater(top, compared[i], left);
                        left = S::keep_where_greater(top, compared[i], left);
                        let place = at + i % 2 * channels;
                        let addend = match &self.addends {
                            Addends::None => S::zero(),
                            Addends::Own => load::<S, E>(self.d_rows[i / 2].as_ptr().add(place), lanes),
                            Addends::Rows(rows) => load::<S, E>(rows[i / 2].as_ptr().add(place), lanes),
                        };
                        let dx = factors.apply(d, values[i], addend);
                        store::<S, E>(self.d_rows[i / 2].as_mut_ptr().add(place), dx, lanes);
                    }
                }
            }
        }
    }
}
