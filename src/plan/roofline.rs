//! Predicts how long a step takes at the least: each node at the card's peak, bound by arithmetic or by memory.

use super::budget::Fitted;
use crate::{
    graph::{Graph, Node},
    tensor::DType,
};

/// What a device does per second at its peak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Operations on fp32 operands.
    pub fp32: f64,
    /// Operations of matrix products of 16-bit operands.
    pub tensor: f64,
    /// Bytes to and from memory.
    pub bandwidth: f64,
}

/// Bytes per second between host and device: what the slowest link in use, sixteen lanes of PCIe 3, gives in practice.
const LINK: f64 = 12e9;

impl Default for Rates {
    /// A desktop card of the middle class: for comparing plans where no card is named.
    fn default() -> Self {
        Self { fp32: 30e12, tensor: 60e12, bandwidth: 600e9 }
    }
}

impl Rates {
    /// The least seconds that a training step takes, copies to the host and back included.
    pub fn step_seconds(&self, fitted: &Fitted) -> f64 {
        let step = self.seconds(&fitted.graphs[0]);
        let Some(staged) = fitted.plan.staged else { return step };
        step + self.seconds(&fitted.graphs[staged.entry]) + 2.0 * staged.place.bytes as f64 / LINK
    }

    /// The least seconds that a node takes: its arithmetic and its traffic overlap.
    pub fn node_seconds(&self, graph: &Graph, node: &Node) -> f64 {
        let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
        let is_narrow = inputs.first().is_some_and(|spec| matches!(spec.dtype, DType::Bf16 | DType::F16));
        let rate = if is_narrow { self.tensor } else { self.fp32 };
        let arithmetic = node.op.flops(&inputs, &outputs) as f64 / rate;
        arithmetic.max(node.op.traffic(&inputs, &outputs) as f64 / self.bandwidth)
    }

    /// The least seconds that a run of the graph takes.
    pub fn seconds(&self, graph: &Graph) -> f64 {
        graph.nodes.iter().map(|node| self.node_seconds(graph, node)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::{Role, Tape},
        ops::elementwise::Axpy,
        tensor::Spec,
    };

    #[test]
    fn a_node_without_arithmetic_takes_the_time_of_its_bytes() {
        let mut tape = Tape::new();
        let [a, b] = ["a", "b"].map(|name| tape.source(name, Spec::f32_vector(1000), Role::Input));
        let y = tape.record1("sum", Axpy { alpha: 2.0 }, &[a, b]).unwrap();
        tape.keep_output(y, "y");
        let rates = Rates { fp32: 1e9, tensor: 1e9, bandwidth: 1e6 };
        approx::assert_relative_eq!(rates.seconds(&tape.finish()), 12e-3, max_relative = 1e-12);
    }
}
