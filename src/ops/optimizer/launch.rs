//! On a GPU: one launch over as many neighbouring parameters as lie in the same order everywhere, usually all of them.

use super::{Optimizer, Rule, shares};
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    tensor::align,
};

const FAMILY: &str = "optimizer";
const SGD: Kernel<OptimizerArguments> = Kernel::new(FAMILY, "optimizer_sgd", 256);
const NESTEROV: Kernel<OptimizerArguments> = Kernel::new(FAMILY, "optimizer_nesterov", 256);
const ADAM: Kernel<OptimizerArguments> = Kernel::new(FAMILY, "optimizer_adam", 256);
const AMSGRAD: Kernel<OptimizerArguments> = Kernel::new(FAMILY, "optimizer_amsgrad", 256);
const NADAM: Kernel<OptimizerArguments> = Kernel::new(FAMILY, "optimizer_nadam", 256);

arguments!(OptimizerArguments {
    hyper: u64,
    flag: u64,
    parameter: u64,
    gradient: u64,
    first: u64,
    second: u64,
    largest: u64,
    count: i64,
    clip: f32,
    momentum: f32,
    new1: f32,
    new2: f32,
    epsilon: f32,
    unused: i32,
});

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    [SGD, NESTEROV, ADAM, AMSGRAD, NADAM].map(|kernel| kernel.abi()).into()
}

/// Where the tensors of one parameter, or of a run of neighbours, lie: parameter, gradient, state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    addresses: Vec<u64>,
    bytes: u64,
}

pub(super) fn lower(op: &Optimizer, cx: &mut Lower<'_>) -> Result<()> {
    let (kernel, momentum, (new1, new2, epsilon)) = match op.rule {
        Rule::Sgd { momentum, nesterov } => (if nesterov { NESTEROV } else { SGD }, momentum as f32, (0.0, 0.0, 0.0)),
        Rule::Adam { beta1, beta2, epsilon, amsgrad } => {
            (if amsgrad { AMSGRAD } else { ADAM }, 0.0, shares(beta1, beta2, epsilon))
        }
        Rule::Nadam { beta1, beta2, epsilon } => (NADAM, 0.0, shares(beta1, beta2, epsilon)),
    };
    let flag = op.flag(cx.inputs()).map_or(0, |index| cx.input(index).address);
    let parameters = op.parameters(cx.inputs());
    let tensors = (0..parameters).map(|index| {
        let (parameter, gradient, state) = op.positions(parameters, index);
        let addresses = [parameter, gradient].into_iter().chain(state).map(|operand| cx.input(operand).address);
        Run { addresses: addresses.collect(), bytes: cx.input(parameter).spec.bytes() as u64 }
    });
    for run in join_neighbours(tensors) {
        run.addresses.iter().for_each(|&address| cx.cross_padding(address, run.bytes));
        let address = |index: usize| run.addresses.get(index).copied().unwrap_or_default();
        let count = run.bytes / 4;
        let arguments = OptimizerArguments {
            hyper: cx.input(0).address,
            flag,
            parameter: address(0),
            gradient: address(1),
            first: address(2),
            second: address(3),
            largest: address(4),
            count: count as i64,
            clip: op.clip,
            momentum,
            new1,
            new2,
            epsilon,
            unused: 0,
        };
        cx.launch_over(&kernel, count as usize, &arguments)?;
    }
    Ok(())
}

/// Joins tensors that follow each other, with nothing but the planner's padding between, in all of their arrays.
fn join_neighbours(tensors: impl Iterator<Item = Run>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for tensor in tensors {
        if let Some(run) = runs.last_mut() {
            let step = align(run.bytes as usize) as u64;
            if run.addresses.iter().zip(&tensor.addresses).all(|(&start, &next)| start + step == next) {
                run.bytes = step + tensor.bytes;
                continue;
            }
        }
        runs.push(tensor);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_run_unless_one_array_has_a_gap() {
        let tensor = |a, b, bytes| Run { addresses: vec![a, b], bytes };
        let joined = join_neighbours([tensor(0, 640, 4), tensor(64, 704, 128), tensor(192, 832, 8)].into_iter());
        assert_eq!(joined, [tensor(0, 640, 200)]);
        let apart = join_neighbours([tensor(0, 640, 4), tensor(64, 768, 128)].into_iter());
        assert_eq!(apart.len(), 2);
    }
}
