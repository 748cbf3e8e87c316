//! What a plan says to a person: bytes by role and layer, and where the peak is.

use serde::Serialize;

use super::MemoryPlan;
use crate::graph::{Graph, Stage};

/// Bytes of one role.
#[derive(Clone, Debug, Serialize)]
pub struct RoleLine {
    /// The role's name.
    pub role: String,
    /// Number of values.
    pub values: usize,
    /// Bytes in the arena.
    pub bytes: usize,
}

/// Work and activation bytes of one layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerLine {
    /// The layer's name.
    pub layer: String,
    /// Extents of its first output.
    pub output: String,
    /// Floating-point operations of its forward pass.
    pub forward_flops: u64,
    /// Floating-point operations of its backward pass.
    pub backward_flops: u64,
    /// Bytes of its forward outputs.
    pub activation_bytes: usize,
}

/// The summary of one graph within a plan.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Trained numbers.
    pub parameters: usize,
    /// Floating-point operations of one run.
    pub flops: u64,
    /// Bytes of the arena for this graph: persistent and transient.
    pub peak_bytes: usize,
    /// The least that the transient region could be.
    pub transient_lower_bound: usize,
    /// Bytes of the transient region.
    pub transient_bytes: usize,
    /// The node at which most transient bytes are alive.
    pub peak_at: String,
    /// Bytes by role.
    pub roles: Vec<RoleLine>,
    /// Work and bytes by layer, in order of the forward pass.
    pub layers: Vec<LayerLine>,
}

impl Report {
    /// Summarises the graph at `entry` of a planned program.
    pub fn new(graphs: &[Graph], plan: &MemoryPlan, entry: usize) -> Self {
        let (graph, layout) = (&graphs[entry], &plan.entries[entry]);
        let mut roles: Vec<RoleLine> = Vec::new();
        let mut covered = 0;
        for value in &plan.persistent {
            // Batches of different graphs share bytes, which count once.
            let end = super::align(value.place.end());
            let bytes = end.saturating_sub(value.place.offset.max(covered));
            covered = covered.max(end);
            let role = if plan.is_staged(value) { "optimizer state, on the host" } else { value.role };
            match roles.last_mut() {
                Some(line) if line.role == role => {
                    line.values += 1;
                    line.bytes += bytes;
                }
                _ => roles.push(RoleLine { role: role.to_owned(), values: 1, bytes }),
            }
        }
        let values = layout.values.iter().filter(|place| place.offset >= plan.persistent_bytes).count();
        roles.push(RoleLine { role: "activations and workspaces".to_owned(), values, bytes: layout.transient });
        let parameters = graph
            .with_role(crate::graph::Role::Parameter)
            .iter()
            .map(|&id| graph.value(id).spec.shape.elements())
            .sum();
        Self {
            parameters,
            flops: graph.flops(),
            peak_bytes: plan.persistent_bytes + layout.transient,
            transient_lower_bound: layout.lower_bound,
            transient_bytes: layout.transient,
            peak_at: graph.nodes.get(layout.peak_node).map(|node| node.name.clone()).unwrap_or_default(),
            roles,
            layers: layers(graph),
        }
    }
}

/// One line for each forward node; backward nodes are named after the forward node that they differentiate.
fn layers(graph: &Graph) -> Vec<LayerLine> {
    let mut lines: Vec<LayerLine> = Vec::new();
    for node in &graph.nodes {
        let outputs = graph.specs(&node.outputs);
        let flops = node.op.flops(&graph.specs(&node.inputs), &outputs);
        if node.stage == Stage::Forward {
            let output = outputs.first().map(|spec| spec.to_string()).unwrap_or_default();
            let activation_bytes = outputs.iter().map(|spec| spec.bytes()).sum();
            lines.push(LayerLine {
                layer: node.name.clone(),
                output,
                forward_flops: flops,
                backward_flops: 0,
                activation_bytes,
            });
            continue;
        }
        let owner = node.name.rsplit_once('.').map_or("", |(owner, _)| owner);
        if let Some(line) = lines.iter_mut().find(|line| line.layer == owner) {
            line.backward_flops += flops;
        }
    }
    lines
}
