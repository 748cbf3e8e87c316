//! Odd and real extents.

use super::{Upsample, UpsampleBackward};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::Volume,
};

/// All cases of both passes.
pub fn cases() -> Vec<Case> {
    let volumes = [
        (Volume { n: 1, extent: [1, 1, 1], c: 1 }, false),
        (Volume { n: 2, extent: [3, 1, 5], c: 3 }, false),
        (Volume { n: 1, extent: [2, 3, 4], c: 17 }, false),
        (Volume { n: 1, extent: [6, 8, 6], c: 128 }, true),
    ];
    let mut list = Vec::new();
    for (x, large) in volumes {
        let y = Volume { extent: x.extent.map(|extent| 2 * extent), ..x };
        let operand = |volume: Volume| Operand::new(volume.shape(), Fill::Uniform(-1.0, 1.0));
        for case in
            [Case::new(Upsample, vec![operand(x)]), Case::new(UpsampleBackward, vec![operand(y)]).without_gradient()]
        {
            list.push(Case { large, ..case });
        }
    }
    list
}
