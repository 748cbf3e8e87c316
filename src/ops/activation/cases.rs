//! Small and large logits.

use super::{Sigmoid, Softmax};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::Volume,
};

/// All cases of both functions.
pub fn cases() -> Vec<Case> {
    let volumes = [
        (Volume { n: 1, extent: [1, 1, 1], c: 1 }, 1.0, false),
        (Volume { n: 2, extent: [3, 1, 5], c: 3 }, 100.0, false),
        (Volume { n: 1, extent: [5, 7, 3], c: 17 }, 5.0, false),
        (Volume { n: 1, extent: [24, 32, 24], c: 4 }, 5.0, true),
    ];
    let mut list = Vec::new();
    for (x, range, large) in volumes {
        let logits = Operand::new(x.shape(), Fill::Uniform(-range, range));
        for case in [Case::new(Softmax, vec![logits]), Case::new(Sigmoid, vec![logits])] {
            list.push(Case { large, ..case.without_gradient() });
        }
    }
    list
}
