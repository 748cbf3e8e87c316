//! Cuts a training step in two before its optimizer, so that something can happen in between.
//!
//! Two graphs over the same persistent values do what one did, to the last bit. What the optimizer reads of the step's own
//! making must outlive the step, so it becomes an output.

use super::{Graph, Node, NodeId, Role, Stage, Value, ValueId};

/// The step without its optimizer, and the optimizer alone.
pub fn split_optimizer(graph: &Graph) -> [Graph; 2] {
    let (update, step): (Vec<Node>, Vec<Node>) =
        graph.nodes.iter().cloned().partition(|node| node.stage == Stage::Optimizer);
    let mut values = graph.values.clone();
    let made_before = |id: ValueId| {
        graph.value(id).producer.is_some_and(|NodeId(index)| graph.nodes[index].stage != Stage::Optimizer)
    };
    for &id in update.iter().flat_map(|node| &node.inputs).filter(|&&id| made_before(id)) {
        let value = &mut values[id.0];
        if !value.role.is_persistent() {
            value.role = Role::Output;
        }
    }
    // What the host writes although nobody reads it (such as the random-number state of a network without dropout) stays.
    let is_read = |id: &ValueId| graph.nodes.iter().any(|node| node.inputs.contains(id));
    let unread: Vec<ValueId> = graph.ids().filter(|id| graph.value(*id).producer.is_none() && !is_read(id)).collect();
    [part(&values, step, &unread), part(&values, update, &[])]
}

/// A graph of these nodes and of the values that they read or make, or that a gradient among them belongs to, and others.
fn part(values: &[Value], nodes: Vec<Node>, others: &[ValueId]) -> Graph {
    let mut is_used = vec![false; values.len()];
    others.iter().for_each(|id| is_used[id.0] = true);
    for id in nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs)) {
        is_used[id.0] = true;
        if let Role::Gradient(parameter) = values[id.0].role {
            is_used[parameter.0] = true;
        }
    }
    let kept: Vec<usize> = (0..values.len()).filter(|&index| is_used[index]).collect();
    let mut new_id = vec![None; values.len()];
    kept.iter().enumerate().for_each(|(new, &old)| new_id[old] = Some(ValueId(new)));
    let renamed = |id: ValueId| new_id[id.0].expect("every value of a node is kept");
    let nodes: Vec<Node> = nodes
        .into_iter()
        .map(|mut node| {
            node.inputs.iter_mut().chain(&mut node.outputs).for_each(|id| *id = renamed(*id));
            node
        })
        .collect();
    let mut values: Vec<Value> = kept
        .iter()
        .map(|&index| {
            let mut value = values[index].clone();
            value.producer = None;
            // A version whose predecessor was made by the other part is that part's last: here it is the first.
            value.updates = value.updates.and_then(|earlier| new_id[earlier.0]);
            if let Role::Gradient(parameter) = value.role {
                value.role = Role::Gradient(renamed(parameter));
            }
            value
        })
        .collect();
    for (index, node) in nodes.iter().enumerate() {
        node.outputs.iter().for_each(|output| values[output.0].producer = Some(NodeId(index)));
    }
    Graph { values, nodes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        nn::{Architecture, StepConfig, UNetConfig, record_training},
        ops::{
            dice::LossKind,
            optimizer::{Optimizer, Rule},
        },
        plan,
    };

    #[test]
    fn both_parts_together_are_the_step_and_share_what_lasts() {
        let architecture = Architecture::Conv3dTransposeBatchNormalization;
        let network = UNetConfig {
            architecture,
            resize_factor: 16,
            channels: 2,
            classes: 3,
            head_filters: 2,
            ..UNetConfig::default()
        };
        let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: false };
        let optimizer = Optimizer { rule, clip: 50.0 };
        let config = StepConfig { network, batch: 1, extent: [16; 3], loss: LossKind::Dice, optimizer };
        let whole = record_training(&config).unwrap();
        let parts = split_optimizer(&whole);
        assert_eq!(parts[0].nodes.len() + parts[1].nodes.len(), whole.nodes.len());
        assert!(parts[0].with_role(Role::OptimizerState).is_empty());
        assert_eq!(parts[1].with_role(Role::OptimizerState).len(), whole.with_role(Role::OptimizerState).len());
        assert_eq!(parts[0].flops(), whole.flops());
        let persistent = |graphs: &[Graph]| -> usize {
            let plan = plan::plan(graphs, plan::Options::for_gpu());
            plan::verify(graphs, &plan).unwrap();
            plan.persistent_bytes
        };
        assert_eq!(persistent(&parts), persistent(std::slice::from_ref(&whole)));
    }
}
