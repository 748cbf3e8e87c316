//! Batch norm's backward pass where its result was only max-pooled: the pool's gradient is nowhere but at the largest of each
//! block, so it is found again from `x` instead of being written and read twice.
//!
//! By definition the pool's gradient ([`FusedMaxPoolBackward`]), then [`FusedBatchNormBackward`].

use super::{FusedBatchNormBackward, volume};
use crate::{
    Result,
    cpu::{CpuCall, Element, batch_norm::Backward, pool::Halving, with_element},
    graph::{
        Op,
        reference::{Dense, Precision},
    },
    ops::{max_pool_fused::FusedMaxPoolBackward, sources::Load},
    reference_by_definition,
    tensor::Spec,
};

/// Operands `[x, gamma, mean, variance, scale, shift, dy, (addend)]`, results `[dx, dgamma, dbeta]`. `dy` has half the extents
/// of `x`, which are even; what was pooled is `x * scale + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PooledBatchNormBackward {
    /// What happens behind the pool's gradient.
    pub norm: FusedBatchNormBackward,
}

/// The pool's gradient alone: operands `[x, scale, shift, dy]`.
const POOL: FusedMaxPoolBackward = FusedMaxPoolBackward { load: Load::Normalised, accumulate: false };

impl PooledBatchNormBackward {
    /// The operands of the two operations, but for the gradient between them.
    fn parts<T: Clone>(&self, inputs: &[T]) -> ([T; 4], Vec<T>) {
        let pick = |index: usize| inputs[index].clone();
        let norm = [0, 1, 2, 3].into_iter().chain(7..inputs.len()).map(pick).collect();
        ([0, 4, 5, 6].map(pick), norm)
    }

    fn reference<T: Precision>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let (pool, mut norm) = self.parts(inputs);
        let dy = T::call(&POOL, &pool, &outputs[..1]).swap_remove(0);
        norm.insert(4, dy);
        T::call(&self.norm, &norm, outputs)
    }

    fn run<E: Element>(&self, call: &CpuCall<'_>) {
        let (halving, channels) = (halving(&call.input_spec(0)), volume(&call.input_spec(0)).c);
        let (x, dy) = (call.elements::<E>(0), call.elements::<E>(6));
        let [gamma, mean, variance, scale, shift] = [1, 2, 3, 4, 5].map(|input| call.f32(input));
        let (dx, dgamma, dbeta) = (call.elements_mut::<E>(0), call.f32_mut(1), call.f32_mut(2));
        let (rstd, partials) = call.workspace().split_at_mut(channels);
        super::cpu::reciprocal_deviations(variance, self.norm.epsilon, rstd);
        let addend = super::cpu::addend(self.norm.accumulate, call, 7);
        let affine = [scale, shift];
        let sums = [&mut *dbeta, &mut *dgamma];
        halving.normalisation_sums(call.threads(), dy, x, affine, [mean, rstd], sums, partials);
        let norm = Backward { x, mean, rstd, gamma, sum: dbeta, dot: dgamma, relu: self.norm.relu };
        halving.normalisation_backward(call.threads(), dy, affine, &norm, addend, dx);
    }
}

fn halving(x: &Spec) -> Halving {
    let x = volume(x);
    Halving { batch: x.n, coarse: x.extent.map(|extent| extent / 2), fine: x.extent, channels: x.c }
}

impl Op for PooledBatchNormBackward {
    fn kind(&self) -> &'static str {
        "batch_norm.fused.pooled_backward"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let count = 7 + usize::from(self.norm.accumulate);
        if inputs.len() != count {
            return Err(format!("{} operands, expected {count}", inputs.len()));
        }
        let (pool, mut norm) = self.parts(inputs);
        norm.insert(4, POOL.infer(&pool)?[0]);
        if volume(&inputs[0]).extent.iter().any(|extent| extent % 2 != 0) {
            return Err(format!("input {} has an odd extent", inputs[0].shape));
        }
        self.norm.infer(&norm)
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        if self.norm.accumulate { vec![(7, 0)] } else { Vec::new() }
    }

    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], _threads: usize) -> usize {
        4 * (volume(&inputs[0]).c + halving(&inputs[0]).normalisation_sums_workspace())
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        with_element!(call.input_spec(0).dtype, E => self.run::<E>(call));
    }
}
