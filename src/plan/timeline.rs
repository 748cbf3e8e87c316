//! A plan as a picture needs it: when each node runs, and which bytes belong to whom from when to when.

use serde::Serialize;

use super::{MemoryPlan, ladder};
use crate::{
    graph::{Graph, Stage},
    tensor::Place,
};

/// One node on the time axis.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The node's name.
    pub name: String,
    /// Forward, loss, backward or optimizer.
    pub stage: &'static str,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes moved.
    pub traffic: u64,
    /// Where it starts, as a share of the whole step's predicted time.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
}

/// Bytes of the arena that belong to one value, one workspace or one role for some time.
#[derive(Clone, Debug, Serialize)]
pub struct Block {
    /// The value's, node's or role's name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub offset: usize,
    /// Number of bytes.
    pub bytes: usize,
    /// The first node during which it exists.
    pub first: usize,
    /// The last node during which it exists.
    pub last: usize,
}

/// What bytes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Parameters, their gradients, optimizer state, inputs and outputs: there during the whole run.
    Persistent,
    /// What the forward pass made.
    Activation,
    /// An activation that was computed again.
    Again,
    /// What the backward pass made.
    Gradient,
    /// A node's scratch memory.
    Workspace,
}

/// One graph of a plan over time.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// The nodes, in order of execution.
    pub steps: Vec<Step>,
    /// Who owns which bytes when.
    pub blocks: Vec<Block>,
    /// Bytes of the arena for this graph.
    pub peak_bytes: usize,
    /// The node during which most of them are in use.
    pub peak_node: usize,
}

impl Timeline {
    /// The graph at `entry` of a planned program over time.
    pub fn new(graphs: &[Graph], plan: &MemoryPlan, entry: usize) -> Self {
        let (graph, layout) = (&graphs[entry], &plan.entries[entry]);
        let mut blocks = persistent(plan, graph.nodes.len());
        let mut last: Vec<usize> = graph.values.iter().map(|value| value.producer.map_or(0, |node| node.0)).collect();
        for (index, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| last[input.0] = index);
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            let block = |name: &str, kind, place: Place, last| {
                let (name, Place { offset, bytes }) = (name.to_owned(), place);
                Block { name, kind, offset, bytes, first: index, last }
            };
            for &output in &node.outputs {
                let value = graph.value(output);
                if !value.role.is_persistent() {
                    blocks.push(block(
                        &value.name,
                        kind(node.stage, &value.name),
                        layout.values[output.0],
                        last[output.0],
                    ));
                }
            }
            if layout.workspaces[index].bytes > 0 {
                blocks.push(block(&node.name, Kind::Workspace, layout.workspaces[index], index));
            }
        }
        Self {
            steps: steps(graph),
            blocks,
            peak_bytes: plan.persistent_bytes + layout.transient,
            peak_node: layout.peak_node,
        }
    }
}

/// The persistent region, one block per role.
fn persistent(plan: &MemoryPlan, nodes: usize) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for value in plan.persistent.iter().filter(|value| !plan.is_staged(value)) {
        let end = super::align(value.place.end());
        match blocks.last_mut() {
            Some(block) if block.name == value.role => block.bytes = block.bytes.max(end - block.offset),
            _ => blocks.push(Block {
                name: value.role.to_owned(),
                kind: Kind::Persistent,
                offset: value.place.offset,
                bytes: end - value.place.offset,
                first: 0,
                last: nodes.saturating_sub(1),
            }),
        }
    }
    blocks
}

fn kind(stage: Stage, name: &str) -> Kind {
    match stage {
        Stage::Forward | Stage::Loss => Kind::Activation,
        Stage::Backward if name.contains(".again") => Kind::Again,
        Stage::Backward | Stage::Optimizer => Kind::Gradient,
    }
}

fn steps(graph: &Graph) -> Vec<Step> {
    let total: f64 = graph.nodes.iter().map(|node| ladder::cost(graph, node)).sum();
    let mut before = 0.0;
    let step = |node: &crate::graph::Node| {
        let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
        let start = before;
        before += ladder::cost(graph, node);
        Step {
            name: node.name.clone(),
            stage: match node.stage {
                Stage::Forward => "forward",
                Stage::Loss => "loss",
                Stage::Backward => "backward",
                Stage::Optimizer => "optimizer",
            },
            flops: node.op.flops(&inputs, &outputs),
            traffic: node.op.traffic(&inputs, &outputs),
            start: start / total,
            end: before / total,
        }
    };
    graph.nodes.iter().map(step).collect()
}
