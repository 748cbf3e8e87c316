//! A graph under change: nodes are replaced, removed and added, and the processor is asked about each.

use crate::{
    graph::{Graph, Node, NodeId, Role, Value, ValueId},
    lowering::Processor,
    tensor::Spec,
};

/// The changed graph so far.
#[derive(Clone)]
pub(super) struct Editor {
    graph: Graph,
    processor: Processor,
}

impl Editor {
    pub(super) fn new(graph: Graph, processor: Processor) -> Self {
        Self { graph, processor }
    }

    /// Tries a change at every node. A trial that gives up leaves no trace. Returns how many did not.
    pub(super) fn everywhere(&mut self, trial: impl Fn(&mut Self, usize) -> Option<()>) -> usize {
        let (mut count, mut index) = (0, 0);
        while index < self.graph.nodes.len() {
            let mut changed = self.clone();
            match trial(&mut changed, index) {
                // Another node may be here now.
                Some(()) => (*self, count) = (changed, count + 1),
                None => index += 1,
            }
        }
        count
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.graph.nodes[index]
    }

    pub(super) fn spec(&self, id: ValueId) -> Spec {
        self.graph.value(id).spec
    }

    pub(super) fn name(&self, id: ValueId) -> &str {
        &self.graph.value(id).name
    }

    /// Whether nobody outside the graph looks at this value, so that it need not exist.
    pub(super) fn is_private(&self, id: ValueId) -> bool {
        let value = self.graph.value(id);
        value.role == Role::Activation && value.updates.is_none()
    }

    /// Who reads a value: nodes with the position among their operands.
    pub(super) fn readers(&self, id: ValueId) -> Vec<(usize, usize)> {
        let of_node = |(index, node): (usize, &Node)| -> Vec<(usize, usize)> {
            let operands = node.inputs.iter().enumerate().filter(|(_, input)| **input == id);
            operands.map(|(operand, _)| (index, operand)).collect()
        };
        self.graph.nodes.iter().enumerate().flat_map(of_node).collect()
    }

    /// The only place where a private value is read.
    pub(super) fn only_reader(&self, id: ValueId) -> Option<(usize, usize)> {
        let readers = self.readers(id);
        (self.is_private(id) && readers.len() == 1).then(|| readers[0])
    }

    /// The node that makes a value, with the position among its results.
    pub(super) fn maker(&self, id: ValueId) -> Option<(usize, usize)> {
        let result = |node: &Node| node.outputs.iter().position(|output| *output == id);
        self.graph.nodes.iter().enumerate().find_map(|(index, node)| Some((index, result(node)?)))
    }

    /// A value of its own.
    pub(super) fn add_value(&mut self, name: String, spec: Spec) -> ValueId {
        self.graph.values.push(Value { name, spec, role: Role::Activation, producer: None, updates: None });
        ValueId(self.graph.values.len() - 1)
    }

    /// Puts another node in a node's place, if the processor runs it.
    pub(super) fn replace(&mut self, index: usize, node: Node) -> Option<()> {
        self.accepts(&node)?;
        self.graph.nodes[index] = node;
        Some(())
    }

    /// Puts a node before another one, if the processor runs it.
    pub(super) fn insert(&mut self, index: usize, node: Node) -> Option<()> {
        self.accepts(&node)?;
        self.graph.nodes.insert(index, node);
        Some(())
    }

    pub(super) fn remove(&mut self, index: usize) {
        self.graph.nodes.remove(index);
    }

    /// The changed graph.
    pub(super) fn finish(mut self) -> Graph {
        self.graph.values.iter_mut().for_each(|value| value.producer = None);
        for (index, node) in self.graph.nodes.iter().enumerate() {
            for output in &node.outputs {
                self.graph.values[output.0].producer = Some(NodeId(index));
            }
        }
        self.graph
    }

    /// A fused form need not exist for every element type, nor on every processor.
    fn accepts(&self, node: &Node) -> Option<()> {
        let (inputs, outputs) = (self.graph.specs(&node.inputs), self.graph.specs(&node.outputs));
        let fits = node.op.infer(&inputs).is_ok_and(|specs| specs == outputs);
        (fits && self.processor.runs(&*node.op, &inputs)).then_some(())
    }
}
