//! Lengths that are and are not multiples of a Philox block, and the two real layers.

use super::{Dropout, rng_spec};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::{DType, Volume},
};

/// All cases.
pub fn cases() -> Vec<Case> {
    let rng = Operand::integers(rng_spec().shape, DType::U32, 1000);
    [
        (Volume { n: 1, extent: [1, 1, 1], c: 1 }, 0.5, false),
        (Volume { n: 2, extent: [3, 1, 5], c: 3 }, 0.3, false),
        (Volume { n: 1, extent: [3, 4, 5], c: 7 }, 0.0, false),
        (Volume { n: 1, extent: [6, 8, 6], c: 128 }, 0.3, true),
    ]
    .map(|(x, rate, large)| {
        let operands = vec![Operand::new(x.shape(), Fill::Uniform(-1.0, 1.0)), rng];
        Case { large, ..Case::new(Dropout { rate, layer: 3 }, operands) }
    })
    .into()
}
