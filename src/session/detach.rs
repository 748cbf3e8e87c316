//! Lets the host write the next batch while a step is still under way.

use std::sync::Arc;

use crate::{
    graph::{Graph, Node, NodeId, Role, Stage, Value, ValueId},
    ops::copy::Copy,
    tensor::DType,
};

/// The same graph with a copy, before everything else, of each fp32 volume that the host provides and that the backward
/// pass still reads: the first convolution's filter gradient reads the images at the very end of a step, and as long the
/// next ones could not be uploaded ([`super::DeviceSession::write_ahead`]). It costs the bytes of one batch, and
/// rematerialisation takes them back when memory is short.
pub fn detach_inputs(graph: &Graph) -> Graph {
    let is_read_late =
        |id: ValueId| graph.nodes.iter().any(|node| matches!(node.stage, Stage::Backward) && node.inputs.contains(&id));
    let is_volume = |value: &Value| value.spec.dtype == DType::F32 && value.spec.shape.volume().is_some();
    let inputs: Vec<ValueId> = graph.with_role(Role::Batch);
    let detached: Vec<ValueId> =
        inputs.into_iter().filter(|&id| is_volume(graph.value(id)) && is_read_late(id)).collect();
    let mut result = Graph { values: graph.values.clone(), nodes: Vec::new() };
    for value in &mut result.values {
        value.producer = value.producer.map(|NodeId(index)| NodeId(index + detached.len()));
    }
    for (index, &id) in detached.iter().enumerate() {
        let Value { name, spec, .. } = graph.value(id);
        let name = format!("{name}.copy");
        result.nodes.push(Node {
            name: name.clone(),
            op: Arc::new(Copy),
            inputs: vec![id],
            outputs: vec![ValueId(graph.values.len() + index)],
            stage: Stage::Forward,
        });
        let producer = Some(NodeId(index));
        result.values.push(Value { name, spec: *spec, role: Role::Activation, producer, updates: None });
    }
    let at_hand = |id: ValueId| match detached.iter().position(|&other| other == id) {
        Some(index) => ValueId(graph.values.len() + index),
        None => id,
    };
    result.nodes.extend(graph.nodes.iter().map(|node| {
        let inputs = node.inputs.iter().map(|&id| at_hand(id)).collect();
        Node { inputs, ..node.clone() }
    }));
    result
}
