//! Max pooling of a tensor that is normalised while it is loaded, and its gradient, added to another one if asked.
//!
//! Scale and shift are applied before values are compared: a negative scale turns the largest into the smallest.

#![allow(unsafe_code)]

use super::{
    Element, Halving, Kernel, SharedMut, Simd, Threads, dispatch, eight, elementwise, largest_of, load, store,
};

/// `x * scale + shift`, one coefficient per channel each.
pub type Affine<'a> = [&'a [f32]; 2];

impl Halving {
    /// Max pool of `fine * scale + shift`.
    pub fn max_pool_normalised<E: Element>(&self, threads: &Threads, fine: &[E], affine: Affine<'_>, coarse: &mut [E]) {
        self.check(fine.len(), coarse.len());
        self.check_affine(affine);
        self.for_rows(threads, coarse, |row, coarse| {
            let rows = self.fine_rows(row).map(|start| &fine[start..start + 2 * coarse.len()]);
            dispatch(threads.isa(), Largest { rows, affine, coarse, channels: self.channels });
        });
    }

    /// Its gradient by the normalised tensor: `d_coarse` at the first of the largest of `fine * scale + shift` in scan order
    /// (d, h, w), else 0. With `accumulate` it is added to what `d_fine` holds.
    pub fn max_pool_backward_fused<E: Element>(
        &self,
        threads: &Threads,
        d_coarse: &[E],
        fine: &[E],
        affine: Option<Affine<'_>>,
        accumulate: bool,
        d_fine: &mut [E],
    ) {
        self.check(fine.len(), d_coarse.len());
        self.check(d_fine.len(), d_coarse.len());
        if let Some(affine) = affine {
            self.check_affine(affine);
        }
        if !accumulate && self.fine.iter().any(|extent| extent % 2 != 0) {
            // The planes that no coarse voxel sees get no gradient.
            elementwise::fill(threads, d_fine, E::zeroed());
        }
        let length = self.coarse[2] * self.channels;
        let d_fine = SharedMut::new(d_fine);
        threads.run(self.rows(), &|row| {
            let starts = self.fine_rows(row);
            let rows = starts.map(|start| &fine[start..start + 2 * length]);
            // SAFETY: the four fine rows of a coarse row belong to this task alone.
            let d_rows = starts.map(|start| unsafe { d_fine.slice(start, 2 * length) });
            let gradients = &d_coarse[row * length..(row + 1) * length];
            let work = Distribute { rows, affine, d_rows, gradients, channels: self.channels, accumulate };
            dispatch(threads.isa(), work);
        });
    }

    fn check_affine(&self, affine: Affine<'_>) {
        assert!(affine.iter().all(|values| values.len() == self.channels), "one coefficient per channel");
    }
}

/// One coarse row from the four fine rows over it.
struct Largest<'a, E> {
    rows: [&'a [E]; 4],
    affine: Affine<'a>,
    coarse: &'a mut [E],
    channels: usize,
}

impl<E: Element> Kernel for Largest<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { rows, affine, coarse, channels } = self;
        assert!(rows.iter().all(|row| row.len() == 2 * coarse.len()), "fine rows are twice as long");
        for (voxel, coarse) in coarse.chunks_exact_mut(channels).enumerate() {
            for c in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - c);
                // SAFETY: `lanes` channels from `c` on exist in the coarse voxel, in both fine voxels of each row, and among the
                // coefficients, whose number was asserted.
                unsafe {
                    let values = eight::<S, E>(&rows, 2 * voxel * channels + c, channels, lanes);
                    let values = normalised::<S>(values, Some(affine), c, lanes);
                    store::<S, E>(coarse.as_mut_ptr().add(c), largest_of::<S>(&values), lanes);
                }
            }
        }
    }
}

/// Four fine gradient rows from the coarse one.
struct Distribute<'a, E> {
    rows: [&'a [E]; 4],
    affine: Option<Affine<'a>>,
    d_rows: [&'a mut [E]; 4],
    gradients: &'a [E],
    channels: usize,
    accumulate: bool,
}

impl<E: Element> Kernel for Distribute<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { rows, affine, d_rows, gradients, channels, accumulate } = self;
        let long = 2 * gradients.len();
        assert!(rows.iter().all(|row| row.len() == long) && d_rows.iter().all(|row| row.len() == long), "fine rows");
        for (voxel, gradient) in gradients.chunks_exact(channels).enumerate() {
            for c in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - c);
                let at = 2 * voxel * channels + c;
                // SAFETY: `lanes` channels from `c` on exist in the coarse voxel, in both fine voxels of each row, and among the
                // coefficients, whose number was asserted.
                unsafe {
                    let values = normalised::<S>(eight::<S, E>(&rows, at, channels, lanes), affine, c, lanes);
                    let top = largest_of::<S>(&values);
                    let mut left = load::<S, E>(gradient.as_ptr().add(c), lanes);
                    for (i, value) in values.into_iter().enumerate() {
                        let to = d_rows[i / 2].as_mut_ptr().add(at + i % 2 * channels);
                        let mut d = S::keep_where_not_greater(top, value, left);
                        if accumulate {
                            d = S::add(load::<S, E>(to, lanes), d);
                        }
                        store::<S, E>(to, d, lanes);
                        left = S::keep_where_greater(top, value, left);
                    }
                }
            }
        }
    }
}

/// `x * scale + shift` of one vector of channels.
#[inline(always)]
pub(super) unsafe fn normalised<S: Simd>(
    mut values: [S::V; 8],
    affine: Option<Affine<'_>>,
    c: usize,
    lanes: usize,
) -> [S::V; 8] {
    let Some([scale, shift]) = affine else { return values };
    // SAFETY: the caller's promise: `lanes` coefficients from `c` on exist.
    unsafe {
        let (scale, shift) =
            (load::<S, f32>(scale.as_ptr().add(c), lanes), load::<S, f32>(shift.as_ptr().add(c), lanes));
        for i in 0..8 {
            values[i] = S::fma(values[i], scale, shift);
        }
    }
    values
}
