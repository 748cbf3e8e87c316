//! Even, odd and real extents; and ties, which the rule must resolve in the same way everywhere.

use super::{MaxPool, MaxPoolBackward, halved};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::Volume,
};

/// All cases of both passes.
pub fn cases() -> Vec<Case> {
    let volumes = [
        (Volume { n: 1, extent: [2, 2, 2], c: 1 }, false),
        (Volume { n: 2, extent: [3, 5, 4], c: 3 }, false),
        (Volume { n: 1, extent: [4, 6, 7], c: 17 }, false),
        (Volume { n: 1, extent: [24, 32, 24], c: 32 }, true),
    ];
    let mut list = Vec::new();
    for (x, large) in volumes {
        let input = Operand::new(x.shape(), Fill::Distinct);
        let dy = Operand::new(halved(x).shape(), Fill::Uniform(-1.0, 1.0));
        for case in [Case::new(MaxPool, vec![input]), Case::new(MaxPoolBackward, vec![input, dy]).without_gradient()] {
            list.push(Case { large, ..case });
        }
    }
    let x = Volume { n: 1, extent: [4, 4, 4], c: 5 };
    let tied = Operand::fixed(x.shape(), Fill::Constant(0.5));
    let dy = Operand::new(halved(x).shape(), Fill::Uniform(-1.0, 1.0));
    list.push(Case::new(MaxPoolBackward, vec![tied, dy]).without_gradient());
    list
}
