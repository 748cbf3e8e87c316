//! Lengths around vector widths.

use super::{Relu, ReluBackward};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::Volume,
};

/// All cases of both passes.
pub fn cases() -> Vec<Case> {
    let volumes = [
        (Volume { n: 1, extent: [1, 1, 1], c: 1 }, false),
        (Volume { n: 2, extent: [3, 1, 5], c: 3 }, false),
        (Volume { n: 1, extent: [5, 7, 3], c: 17 }, false),
        (Volume { n: 1, extent: [24, 32, 24], c: 16 }, true),
    ];
    let mut list = Vec::new();
    for (x, large) in volumes {
        let input = Operand::new(x.shape(), Fill::AwayFromZero);
        let dy = Operand::new(x.shape(), Fill::Uniform(-1.0, 1.0));
        for case in [Case::new(Relu, vec![input]), Case::new(ReluBackward, vec![input, dy]).without_gradient()] {
            list.push(Case { large, ..case });
        }
    }
    list
}
