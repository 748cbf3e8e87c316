//! Feeds a graph with raw batches: where it read images and labels, it reads those that it has augmented itself.

use std::sync::Arc;

use super::names;
use crate::{
    graph::{Graph, Node, NodeId, Role, Stage, Value, ValueId},
    ops::augment::{Augment, numbers_spec},
};

/// The same graph with [`Augment`] before everything else: on a GPU, the loader's workers read and place, and the step does
/// the rest. Images and labels are now what [`Form::Raw`](crate::data::loader::Form::Raw) says, and a row of numbers for each
/// case comes with them. A graph without labels stays as it is.
///
/// Nothing but the augmentation reads the batch, so the host may write the next one from then on, though the first
/// convolution's filter gradient reads the images at the very end of a step. In fp32 that costs the bytes of one batch; rematerialisation takes them back when memory is short.
pub fn feed_raw(graph: Graph) -> Graph {
    let find = |[images, labels, numbers]: [&'static str; 3]| Some((graph.find(images)?, graph.find(labels)?, numbers));
    let found = [names::TRAINING_BATCH, names::VALIDATION_BATCH].into_iter().find_map(find);
    let Some((images, labels, numbers)) = found else { return graph };
    let [images_spec, labels_spec] = [images, labels].map(|id| graph.value(id).spec);
    let volume = images_spec.shape.volume().expect("images have five axes");
    let Graph { mut values, nodes } = graph;
    for value in &mut values {
        value.producer = value.producer.map(|NodeId(index)| NodeId(index + 1));
    }
    let [numbers_id, images_out, labels_out] = [0, 1, 2].map(|index| ValueId(values.len() + index));
    let name = || "augment".to_owned();
    let made =
        Value { name: name(), spec: images_spec, role: Role::Activation, producer: Some(NodeId(0)), updates: None };
    values.extend([
        Value {
            name: numbers.to_owned(),
            spec: numbers_spec(volume),
            role: Role::Batch,
            producer: None,
            updates: None,
        },
        made.clone(),
        Value { name: format!("{}:1", made.name), spec: labels_spec, ..made },
    ]);
    let first = Node {
        name: name(),
        op: Arc::new(Augment { labels: true }),
        inputs: vec![images, labels, numbers_id],
        outputs: vec![images_out, labels_out],
        stage: Stage::Forward,
    };
    let at_hand = |id: ValueId| match id {
        _ if id == images => images_out,
        _ if id == labels => labels_out,
        _ => id,
    };
    let rest = nodes.into_iter().map(|node| {
        let inputs = node.inputs.iter().map(|&id| at_hand(id)).collect();
        Node { inputs, ..node }
    });
    Graph { values, nodes: std::iter::once(first).chain(rest).collect() }
}
