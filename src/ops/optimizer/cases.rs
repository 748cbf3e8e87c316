//! Every rule, with gradients beyond the clipping bound, over several parameters of awkward lengths, with and without a flag.

use super::{Optimizer, Rule, hyper_spec};
use crate::{
    ops::{
        case::{Case, Fill, Operand},
        non_finite::flag_spec,
    },
    tensor::Shape,
};

/// All cases.
pub fn cases() -> Vec<Case> {
    let adam = |amsgrad| Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad };
    let rules = [
        Rule::Sgd { momentum: 0.9, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: true },
        adam(false),
        adam(true),
        Rule::Nadam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
    ];
    let mut list = Vec::new();
    for (lengths, large, flag) in [
        (vec![1, 1023, 64], false, None),
        (vec![1, 1023, 64], false, Some(0.0)),
        (vec![1, 1023, 64], false, Some(1.0)),
        (vec![1 << 20], true, None),
    ] {
        for rule in rules {
            let tensors = |fill| lengths.iter().map(move |&length| Operand::fixed(Shape::vector(length), fill));
            let mut operands = vec![Operand::fixed(hyper_spec().shape, Fill::Uniform(0.1, 1.0))];
            operands.extend(tensors(Fill::Uniform(-1.0, 1.0)));
            operands.extend(tensors(Fill::Uniform(-90.0, 90.0)));
            // Second moments are positive.
            rule.state().iter().for_each(|_| operands.extend(tensors(Fill::Uniform(0.1, 1.0))));
            let fill = flag.map(Fill::Constant);
            operands.extend(fill.map(|fill| Operand { spec: flag_spec(), fill, differentiable: false }));
            let case = Case::new(Optimizer { rule, clip: 50.0 }, operands).without_gradient();
            let name = flag.map_or(case.name.clone(), |flag| format!("{} guarded by {flag}", case.name));
            list.push(Case { large, name, ..case });
        }
    }
    list
}
