//! One and two sources, each of them plain or normalised, with every epilogue; awkward shapes and the layers of the network.

use super::{FusedConv3d, FusedConv3dDgrad, FusedConv3dWgrad};
use crate::{
    ops::{
        case::{Case, Fill, Operand},
        conv3d::filter_shape,
        sources::{Load, Sources},
    },
    tensor::{Shape, Volume},
};

const CUBE: [usize; 3] = [3, 3, 3];
const UNIFORM: Fill = Fill::Uniform(-1.0, 1.0);

/// A problem: kernel, samples, extents, channels of the sources, filters.
#[derive(Clone, Copy)]
struct Problem {
    kernel: [usize; 3],
    n: usize,
    extent: [usize; 3],
    sources: [(usize, Load); 2],
    channels_out: usize,
}

/// All cases of the three passes.
pub fn cases() -> Vec<Case> {
    use Load::{Normalised, Plain};
    // No channels in the second source: there is one.
    let small = [
        (CUBE, 1, [1, 1, 1], [(1, Normalised), (0, Plain)], 1),
        (CUBE, 2, [3, 5, 7], [(3, Normalised), (0, Plain)], 2),
        (CUBE, 1, [2, 1, 17], [(5, Plain), (0, Plain)], 17),
        (CUBE, 1, [4, 4, 15], [(16, Plain), (8, Normalised)], 16),
        (CUBE, 2, [3, 4, 6], [(31, Normalised), (2, Normalised)], 33),
        (CUBE, 1, [5, 3, 9], [(7, Plain), (9, Plain)], 3),
        (CUBE, 1, [3, 4, 5], [(12, Normalised), (20, Plain)], 24),
        ([2, 2, 2], 2, [3, 5, 4], [(7, Normalised), (0, Plain)], 5),
        ([2, 2, 2], 1, [4, 6, 9], [(16, Plain), (0, Plain)], 8),
        ([1, 1, 1], 2, [3, 2, 5], [(2, Normalised), (0, Plain)], 4),
        ([1, 1, 1], 1, [1, 7, 11], [(19, Normalised), (3, Plain)], 3),
        ([1, 3, 2], 1, [3, 4, 5], [(3, Normalised), (2, Normalised)], 4),
    ];
    let real = [
        (CUBE, 1, [24, 16, 24], [(16, Normalised), (0, Plain)], 16),
        (CUBE, 1, [16, 16, 16], [(16, Plain), (8, Normalised)], 16),
        (CUBE, 1, [3, 4, 3], [(128, Normalised), (0, Plain)], 128),
        ([1, 1, 1], 1, [16, 16, 16], [(2, Normalised), (0, Plain)], 3),
    ];
    let problem = |(kernel, n, extent, sources, channels_out)| Problem { kernel, n, extent, sources, channels_out };
    let mut list: Vec<Case> = small.into_iter().flat_map(|each| problem(each).passes()).collect();
    list.extend(real.into_iter().flat_map(|each| problem(each).all_fused()).map(Case::large));
    // Far from zero, where sums of squares cancel: a large bias in front of the statistics.
    let far = problem((CUBE, 1, [5, 7, 9], [(2, Normalised), (0, Plain)], 3));
    list.push(far.fprop(true, Fill::Uniform(90.0, 110.0)));
    list
}

impl Problem {
    fn sources(&self) -> Sources {
        let [(_, first), (channels, second)] = self.sources;
        Sources { first, second: (channels > 0).then_some(second) }
    }

    fn channels_in(&self) -> usize {
        self.sources[0].0 + self.sources[1].0
    }

    fn tensor(&self, channels: usize) -> Shape {
        Volume { n: self.n, extent: self.extent, c: channels }.shape()
    }

    fn source_operands(&self) -> Vec<Operand> {
        let mut operands = Vec::new();
        for (channels, load) in self.sources.into_iter().filter(|(channels, _)| *channels > 0) {
            operands.push(Operand::new(self.tensor(channels), UNIFORM));
            if load == Load::Normalised {
                operands.extend([Operand::new(Shape::vector(channels), UNIFORM); 2]);
            }
        }
        operands
    }

    fn fprop(&self, statistics: bool, bias: Fill) -> Case {
        let op = FusedConv3d { kernel: self.kernel, sources: self.sources(), relu: true, statistics };
        let mut operands = self.source_operands();
        operands.push(Operand::new(filter_shape(self.kernel, self.channels_in(), self.channels_out), UNIFORM));
        operands.push(Operand::new(Shape::vector(self.channels_out), bias));
        Case::new(op, operands).named_by_all_operands().without_gradient()
    }

    /// Every combination of what can be fused.
    fn passes(&self) -> Vec<Case> {
        let mut list = vec![self.fprop(true, UNIFORM), self.fprop(false, UNIFORM)];
        list.extend([false, true].into_iter().flat_map(|relu| self.gradients(relu)));
        list
    }

    /// Everything fused that can be.
    fn all_fused(&self) -> Vec<Case> {
        [self.fprop(true, UNIFORM)].into_iter().chain(self.gradients(true)).collect()
    }

    fn gradients(&self, relu: bool) -> [Case; 2] {
        let (kernel, sources) = (self.kernel, self.sources());
        let filter = Operand::new(filter_shape(kernel, self.channels_in(), self.channels_out), UNIFORM);
        let y = Operand::new(self.tensor(self.channels_out), UNIFORM);
        // The ReLU's result has zeros where it clamped; any tensor with both signs masks alike.
        let gradient = vec![y; 1 + usize::from(relu)];
        let wgrad: Vec<Operand> = self.source_operands().into_iter().chain(gradient.iter().copied()).collect();
        let dgrad: Vec<Operand> = gradient.into_iter().chain([filter]).collect();
        let first = sources.second.map(|_| self.sources[0].0);
        [
            Case::new(FusedConv3dWgrad { kernel, sources, relu }, wgrad),
            Case::new(FusedConv3dDgrad { kernel, first, relu }, dgrad),
        ]
        .map(|case| case.named_by_all_operands().without_gradient())
    }
}
