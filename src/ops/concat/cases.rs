//! Equal and unequal halves.

use super::{Concat, Split};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::Volume,
};

/// All cases of both directions.
pub fn cases() -> Vec<Case> {
    let pairs = [
        (Volume { n: 1, extent: [1, 1, 1], c: 1 }, 1, false),
        (Volume { n: 2, extent: [3, 1, 5], c: 3 }, 4, false),
        (Volume { n: 1, extent: [5, 7, 3], c: 17 }, 2, false),
        (Volume { n: 1, extent: [24, 32, 24], c: 16 }, 8, true),
    ];
    let mut list = Vec::new();
    for (a, other, large) in pairs {
        let operand = |volume: Volume| Operand::new(volume.shape(), Fill::Uniform(-1.0, 1.0));
        let joined = operand(a.with_channels(a.c + other));
        for case in [
            Case::new(Concat, vec![operand(a), operand(a.with_channels(other))]),
            Case::new(Split { first: a.c }, vec![joined]).without_gradient(),
        ] {
            list.push(Case { large, ..case });
        }
    }
    list
}
