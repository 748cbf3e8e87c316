//! Reverse-mode differentiation: walks the tape backwards and lets every operation record its derivative.

use std::sync::Arc;

use super::{Backward, Op, Role, Stage, Tape, ValueId};
use crate::Result;

/// Records the gradients of the parameters, given the gradient of some outputs: `seeds` pairs a value with the value
/// that holds its gradient. Returns (parameter, gradient) in the parameters' order of creation; each gradient becomes
/// a persistent value named `gradient.<parameter>`. Parameters that do not reach a seed are left out. Where a value has several
/// readers, the operation `sum` adds their gradients.
///
/// # Errors
/// If an operation on the way has no derivative.
pub fn differentiate(
    tape: &mut Tape,
    seeds: &[(ValueId, ValueId)],
    sum: &Arc<dyn Op>,
) -> Result<Vec<(ValueId, ValueId)>> {
    tape.set_stage(Stage::Backward);
    let parameters = tape.graph().with_role(Role::Parameter);
    let needs = reached_from(tape, &parameters);
    let mut gradients: Vec<Option<ValueId>> = vec![None; tape.graph().values.len()];
    for &(value, gradient) in seeds {
        gradients[value.0] = Some(gradient);
    }
    for index in (0..tape.graph().nodes.len()).rev() {
        let node = tape.graph().nodes[index].clone();
        let of_outputs: Vec<_> = node.outputs.iter().map(|id| gradients[id.0]).collect();
        let wanted: Vec<_> = node.inputs.iter().map(|id| needs[id.0]).collect();
        if of_outputs.iter().all(Option::is_none) || !wanted.contains(&true) {
            continue;
        }
        let mut cx = Backward::new(tape, &node, &of_outputs, &wanted);
        node.op.backward(&mut cx)?;
        for (&input, gradient) in node.inputs.iter().zip(cx.into_gradients()) {
            let (Some(gradient), true) = (gradient, needs[input.0]) else { continue };
            let sum = match gradients[input.0] {
                None => gradient,
                // A value with several readers gets the sum, in the order in which the walk meets them.
                Some(other) => {
                    let name = format!("{}.gradient_sum", tape.graph().value(input).name);
                    tape.record_dyn(name, sum.clone(), &[other, gradient])?[0]
                }
            };
            gradients[input.0] = Some(sum);
        }
    }
    let mut pairs = Vec::new();
    for parameter in parameters {
        let Some(gradient) = gradients[parameter.0] else { continue };
        let name = format!("gradient.{}", tape.graph().value(parameter).name);
        tape.set_role(gradient, Role::Gradient(parameter), name);
        pairs.push((parameter, gradient));
    }
    Ok(pairs)
}

/// Which values depend on the parameters: only their gradients are ever needed.
fn reached_from(tape: &Tape, parameters: &[ValueId]) -> Vec<bool> {
    let graph = tape.graph();
    let mut reached = vec![false; graph.values.len()];
    for id in parameters {
        reached[id.0] = true;
    }
    for node in &graph.nodes {
        if node.inputs.iter().any(|id| reached[id.0]) {
            for id in &node.outputs {
                reached[id.0] = true;
            }
        }
    }
    reached
}
