//! On a GPU: a verdict per CTA, then one for all. Tensors that follow each other without a gap are read as one.

use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
};

const SEARCH: Kernel<NonFiniteArguments> = Kernel::new("non_finite", "non_finite", 256);
const MERGE: Kernel<NonFiniteMergeArguments> = Kernel::new("non_finite", "non_finite_merge", 32);

/// CTAs of a run of tensors at the most: enough to fill any GPU.
const MOST_CTAS: usize = 1024;
/// Elements that a CTA should look at, so that its start does not dominate: four for each thread.
const ELEMENTS_PER_CTA: usize = 4 * 256;

arguments!(NonFiniteArguments { x: u64, verdicts: u64, count: i64 });
arguments!(NonFiniteMergeArguments { verdicts: u64, flag: u64, count: i32, unused: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![SEARCH.abi(), MERGE.abi()]
}

pub(super) fn lower(cx: &mut Lower<'_>) -> Result<()> {
    let tensors = (0..cx.inputs()).map(|index| cx.input(index));
    let runs = join(tensors.map(|tensor| (tensor.address, tensor.spec.shape.elements())));
    let ctas: Vec<usize> = runs.iter().map(|&(_, count)| count.div_ceil(ELEMENTS_PER_CTA).min(MOST_CTAS)).collect();
    let total = ctas.iter().sum::<usize>();
    let verdicts = cx.workspace(4 * total.max(1));
    let mut next = verdicts;
    for ((x, count), ctas) in runs.into_iter().zip(ctas) {
        let arguments = NonFiniteArguments { x, verdicts: next, count: count as i64 };
        cx.launch(&SEARCH, [ctas as u64, 1, 1], &arguments)?;
        next += 4 * ctas as u64;
    }
    let flag = cx.output(0).address;
    cx.launch(&MERGE, [1; 3], &NonFiniteMergeArguments { verdicts, flag, count: total as i32, unused: 0 })
}

/// Joins fp32 tensors, given as address and number of elements, where one ends at the very byte where the next begins. What
/// lies in a gap is nobody's number, and need not be one.
fn join(tensors: impl Iterator<Item = (u64, usize)>) -> Vec<(u64, usize)> {
    let mut runs: Vec<(u64, usize)> = Vec::new();
    for (address, count) in tensors.filter(|&(_, count)| count > 0) {
        match runs.last_mut() {
            Some((start, length)) if *start + 4 * *length as u64 == address => *length += count,
            _ => runs.push((address, count)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_joined_where_no_byte_lies_between() {
        assert_eq!(join([(64, 16), (128, 3), (192, 16), (256, 0), (256, 1)].into_iter()), [(64, 19), (192, 17)]);
        assert_eq!(join(std::iter::empty()), []);
    }
}
