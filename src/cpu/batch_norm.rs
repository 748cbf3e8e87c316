//! Batch norm's backward pass over N D H W C tensors of any [`Element`] type with what follows it, in one walk: bound by memory.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{
    Element,
    elementwise::TASK_LEN,
    simd::{Kernel, Simd, dispatch},
    threads::Threads,
};

/// Voxels over which one vector of channels is walked: the run of all channels stays in the first-level cache.
const RUN: usize = 64;

/// What the pass knows beside the gradients: a tensor and one coefficient per channel each.
#[derive(Clone, Copy)]
pub struct Backward<'a, E> {
    /// What was normalised, `[voxels, channels]`.
    pub x: &'a [E],
    /// Batch mean of `x`.
    pub mean: &'a [f32],
    /// 1 / sqrt(batch variance + epsilon).
    pub rstd: &'a [f32],
    /// Scale.
    pub gamma: &'a [f32],
    /// Sum of `dy` over voxels ([`super::reduce::normalisation_sums`]).
    pub sum: &'a [f32],
    /// Sum of `dy * (x - mean) * rstd` over voxels.
    pub dot: &'a [f32],
    /// Also apply the backward pass of the ReLU that made `x`: 0 where `x` is not positive.
    pub relu: bool,
}

impl<E: Element> Backward<'_, E> {
    /// `dx = gamma rstd (dy - sum / m - (x - mean) rstd dot / m) + addend`, m voxels in the batch.
    ///
    /// Gradients that are `None` are what `dx` holds before: `dy`, or the addend if there is one (`Some(None)`).
    ///
    /// # Panics
    /// If the tensors differ in length, or `dx` would have to hold both gradients.
    pub fn apply(&self, threads: &Threads, dy: Option<&[E]>, addend: Option<Option<&[E]>>, dx: &mut [E]) {
        let channels = self.mean.len();
        let voxels = dx.len() / channels;
        assert_eq!(dx.len(), voxels * channels, "whole voxels");
        let lengths = [Some(self.x), dy, addend.flatten()].into_iter().flatten().map(<[E]>::len);
        assert!({ lengths }.all(|length| length == dx.len()), "lengths of batch norm's tensors");
        let coefficients = [self.mean, self.rstd, self.gamma, self.sum, self.dot];
        assert!(coefficients.iter().all(|values| values.len() == channels), "one coefficient per channel");
        assert!(dy.is_some() || addend != Some(None), "dx holds one gradient");
        let dx = dx.as_mut_ptr();
        let pass = Pass {
            backward: self,
            channels,
            dy: dy.map_or(dx.cast_const(), <[E]>::as_ptr),
            addend: addend.map(|addend| addend.map_or(dx.cast_const(), <[E]>::as_ptr)),
            dx,
            scale: 1.0 / voxels as f32,
        };
        let per_task = (TASK_LEN / channels).max(1);
        threads.run(voxels.div_ceil(per_task), &|task| {
            let part = task * per_task..voxels.min((task + 1) * per_task);
            dispatch(threads.isa(), Part { pass: &pass, voxels: part });
        });
    }
}

struct Pass<'a, E> {
    backward: &'a Backward<'a, E>,
    channels: usize,
    dy: *const E,
    addend: Option<*const E>,
    dx: *mut E,
    /// 1 / number of voxels of the batch.
    scale: f32,
}

// SAFETY: tasks touch disjoint voxels of `dx`; `dy` and `addend` are `dx` at the same element or only read.
unsafe impl<E: Element> Sync for Pass<'_, E> {}

struct Part<'a, E> {
    pass: &'a Pass<'a, E>,
    voxels: Range<usize>,
}

impl<E: Element> Kernel for Part<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.pass.channels;
        for start in self.voxels.clone().step_by(RUN) {
            let run = start..self.voxels.end.min(start + RUN);
            for first in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - first);
                // SAFETY: voxels, channels and coefficients exist: `apply` asserted the lengths.
                unsafe {
                    match (lanes == S::LANES, self.pass.addend) {
                        (true, None) => self.pass.walk::<S, true, false>(run.clone(), first, lanes),
                        (false, None) => self.pass.walk::<S, false, false>(run.clone(), first, lanes),
                        (true, Some(_)) => self.pass.walk::<S, true, true>(run.clone(), first, lanes),
                        (false, Some(_)) => self.pass.walk::<S, false, true>(run.clone(), first, lanes),
                    }
                }
            }
        }
    }
}

impl<E: Element> Pass<'_, E> {
    #[inline(always)]
    unsafe fn walk<S: Simd, const WHOLE: bool, const ADD: bool>(
        &self,
        voxels: Range<usize>,
        first: usize,
        lanes: usize,
    ) {
        // SAFETY: the caller's promise: these voxels and lanes exist.
        unsafe {
            let factors = self.backward.factors::<S>(first, lanes, self.scale);
            let addends = self.addend.unwrap_or(self.dy);
            for voxel in voxels {
                let at = voxel * self.channels + first;
                let x = E::load_lanes::<S, WHOLE>(self.backward.x.as_ptr().add(at), lanes);
                let dy = E::load_lanes::<S, WHOLE>(self.dy.add(at), lanes);
                let addend = if ADD { E::load_lanes::<S, WHOLE>(addends.add(at), lanes) } else { S::zero() };
                E::store_lanes::<S, WHOLE>(self.dx.add(at), factors.apply(dy, x, addend), lanes);
            }
        }
    }
}

/// The formula's factors for one vector of channels.
pub(super) struct Factors<S: Simd> {
    mean: S::V,
    factor: S::V,
    along: S::V,
    centre: S::V,
    above: S::V,
}

impl<E: Element> Backward<'_, E> {
    /// Those of `lanes` channels from `first` on; `scale` is 1 / number of voxels of the batch.
    ///
    /// # Safety
    /// The machine runs `S`, and these coefficients exist.
    #[inline(always)]
    pub(super) unsafe fn factors<S: Simd>(&self, first: usize, lanes: usize, scale: f32) -> Factors<S> {
        // SAFETY: the caller's promise.
        unsafe {
            let rstd = S::load_partial(self.rstd.as_ptr().add(first), lanes);
            let dot = S::load_partial(self.dot.as_ptr().add(first), lanes);
            Factors {
                mean: S::load_partial(self.mean.as_ptr().add(first), lanes),
                factor: S::mul(S::load_partial(self.gamma.as_ptr().add(first), lanes), rstd),
                along: S::mul(S::mul(S::splat(-scale), rstd), dot),
                centre: S::mul(S::splat(scale), S::load_partial(self.sum.as_ptr().add(first), lanes)),
                above: S::splat(if self.relu { 0.0 } else { f32::NEG_INFINITY }),
            }
        }
    }
}

impl<S: Simd> Factors<S> {
    /// `dx` of one voxel.
    ///
    /// # Safety
    /// The machine runs `S`.
    #[inline(always)]
    pub(super) unsafe fn apply(&self, dy: S::V, x: S::V, addend: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            // The factor comes last: what cancels in the sum must not be rounded before it does.
            let centred = S::fma(S::sub(x, self.mean), self.along, S::sub(dy, self.centre));
            S::keep_where_greater(x, self.above, S::fma(self.factor, centred, addend))
        }
    }
}
