//! Dropout: each element is zeroed with probability `rate`, the others grow by `1 / (1 - rate)`.
//!
//! The mask is not kept: it is a pure function of (seed, step, layer, element) through Philox, so the backward pass and
//! a rematerialised forward pass draw it again, and so does every other device. Four neighbouring elements share one
//! Philox call: counter `[element / 4, layer, step low, step high]`, key the seed.

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use super::{activation, operands};
use crate::{
    Result,
    cpu::CpuCall,
    graph::{Backward, Op},
    machine::lower::Lower,
    random, reference_by_definition,
    tensor::{DType, Shape, Spec},
};

/// Operands `[x, rng]`, result `[y]`; `rng` holds four words: seed low, seed high, step low, step high.
/// It is its own derivative: applied to `dy` with the same `rng` it gives `dx`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of the elements that are dropped, below 1.
    pub rate: f32,
    /// Tells the network's dropout layers apart.
    pub layer: u32,
}

/// The spec of the random-number state.
pub fn rng_spec() -> Spec {
    Spec::new(Shape::vector(4), DType::U32)
}

impl Dropout {
    /// Factors for the four elements of a block: 0 or `1 / (1 - rate)`.
    fn factors(&self, rng: [u32; 4], block: u32) -> [f32; 4] {
        let scale = 1.0 / (1.0 - self.rate);
        let words = random::philox([rng[0], rng[1]], [block, self.layer, rng[2], rng[3]]);
        words.map(|word| if random::unit(word) >= self.rate { scale } else { 0.0 })
    }
}

impl Op for Dropout {
    fn kind(&self) -> &'static str {
        "dropout"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x, rng] = operands(inputs)?;
        activation(&x, "the input")?;
        if rng != rng_spec() {
            return Err(format!("the random-number state is {rng}, expected {}", rng_spec()));
        }
        if !(0.0..1.0).contains(&self.rate) {
            return Err(format!("rate {} is outside [0, 1)", self.rate));
        }
        Ok(vec![x])
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        if let Some(dy) = cx.gradient(0) {
            let dx = cx.record1("backward", *self, &[dy, cx.input(1)])?;
            cx.set(0, dx);
        }
        Ok(())
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::run(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::lower(self, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dropped_share_is_the_rate_and_masks_change_with_step_and_layer() {
        let op = Dropout { rate: 0.3, layer: 1 };
        let mask = |op: Dropout, step| -> Vec<f32> {
            (0..10_000).flat_map(|block| op.factors([1, 2, step, 0], block)).collect()
        };
        let first = mask(op, 0);
        let dropped = first.iter().filter(|&&factor| factor == 0.0).count() as f64 / 40_000.0;
        // Standard error of a share of 0.3 among 40 000: 0.0023; five of them.
        assert!((dropped - 0.3).abs() < 0.0115, "{dropped}");
        assert_ne!(first, mask(op, 1));
        assert_ne!(first, mask(Dropout { layer: 2, ..op }, 0));
    }
}
