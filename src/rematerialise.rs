//! Trades computation for memory: forgets forward values after the forward pass and computes them again when the
//! backward pass needs them.
//!
//! A pure pass over a differentiated graph. A forgotten value lives until its last forward reader. Just before a node of
//! the backward pass that reads it, the node that made it is recorded once more, as `<node>.again`, reading what is still
//! there, or again the copies of what is not. The copies are bit-identical: an operation is a pure function of its operands
//! (dropout draws the same mask from the same random-number state), and batch normalisation is applied with the
//! statistics that the forward pass left ([`Op::again`]), so that moving averages move once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::graph::{Graph, Node, NodeId, Op, Role, Stage, Value, ValueId};

/// How long a copy waits for further readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reuse {
    /// Until its last reader: the value is computed again once.
    Shared,
    /// For [`NEAR`] nodes behind its last reader; who reads it later gets another copy. The skip connections need this:
    /// the decoder's backward pass reads them long before the encoder's does.
    Near,
}

/// How many nodes of the recorded backward pass a [`Reuse::Near`] copy waits: the span of one layer's derivative.
pub const NEAR: usize = 3;

/// Which forward values are forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    values: BTreeMap<ValueId, Reuse>,
}

/// A value that could be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The value.
    pub value: ValueId,
    /// Its bytes.
    pub bytes: usize,
    /// Floating-point operations of making it once from its producer's operands. 0: the operation is cheap, it only
    /// moves bytes (normalisation, pooling, concatenation, upsampling, dropout).
    pub flops: u64,
}

impl Forgotten {
    /// These values, each computed again once.
    pub fn shared(values: impl IntoIterator<Item = ValueId>) -> Self {
        Self { values: values.into_iter().map(|value| (value, Reuse::Shared)).collect() }
    }

    /// Forgets one value more, or changes for how long its copies wait.
    pub fn insert(&mut self, value: ValueId, reuse: Reuse) {
        self.values.insert(value, reuse);
    }

    /// How long copies of this value wait; none if it is kept.
    pub fn get(&self, value: ValueId) -> Option<Reuse> {
        self.values.get(&value).copied()
    }

    /// Number of forgotten values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether every value is kept.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The forgotten values, in order of creation.
    pub fn values(&self) -> impl Iterator<Item = ValueId> {
        self.values.keys().copied()
    }
}

/// The forward values that can be computed again, in order of creation.
pub fn candidates(graph: &Graph) -> Vec<Candidate> {
    let forward = graph.nodes.iter().filter(|node| node.stage == Stage::Forward);
    let of_node = |node: &Node| {
        recomputation(node)?;
        let value = node.outputs[0];
        let described = graph.value(value);
        (described.role == Role::Activation && described.updates.is_none()).then(|| Candidate {
            value,
            bytes: described.spec.bytes(),
            flops: node.op.flops(&graph.specs(&node.inputs), &graph.specs(&node.outputs)),
        })
    };
    forward.filter_map(of_node).collect()
}

/// The same computation with these values forgotten. Values keep their ids; copies come behind them.
///
/// # Panics
/// If a value is not one of the graph's [`candidates`].
pub fn rematerialise(graph: &Graph, forgotten: &Forgotten) -> Graph {
    let nodes = Vec::with_capacity(graph.nodes.len() + 2 * forgotten.len());
    let mut pass = Pass {
        source: graph,
        forgotten,
        result: Graph { values: graph.values.clone(), nodes },
        copies: HashMap::new(),
        made: HashMap::new(),
    };
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut node = node.clone();
        if matches!(node.stage, Stage::Backward | Stage::Optimizer) {
            for input in &mut node.inputs {
                *input = pass.at_hand(*input, index);
            }
        }
        pass.push(node);
    }
    pass.result
}

/// The operation that makes a node's first output again, and its operands.
fn recomputation(node: &Node) -> Option<(Arc<dyn Op>, Vec<ValueId>)> {
    let is_plain = node.outputs.len() == 1 && node.op.updates(node.inputs.len()).is_empty();
    let itself = || (node.op.clone(), node.inputs.clone());
    node.op.again(&node.inputs, &node.outputs).or_else(|| is_plain.then(itself))
}

struct Pass<'a> {
    source: &'a Graph,
    forgotten: &'a Forgotten,
    result: Graph,
    /// For each forgotten value its newest copy, and the recorded node that read it last.
    copies: HashMap<ValueId, (ValueId, usize)>,
    /// Number of copies of each forgotten value, for their names.
    made: HashMap<ValueId, usize>,
}

impl Pass<'_> {
    /// The value itself or a copy of it, for a reader at this position of the source.
    fn at_hand(&mut self, value: ValueId, reader: usize) -> ValueId {
        let Some(reuse) = self.forgotten.get(value) else { return value };
        let described = self.source.value(value);
        let producer = described.producer.map(|NodeId(index)| &self.source.nodes[index]);
        let recipe =
            producer.filter(|node| node.outputs[0] == value).and_then(|node| Some((node, recomputation(node)?)));
        let Some((node, (op, operands))) = recipe else { panic!("{} cannot be computed again", described.name) };
        if let Some((copy, last)) = self.copies.get_mut(&value) {
            // A cheap copy is never kept for a later reader: making another costs less than the bytes are worth.
            let is_cheap = node.op.flops(&self.source.specs(&node.inputs), &self.source.specs(&node.outputs)) == 0;
            let waits = match reuse {
                _ if is_cheap => 0,
                Reuse::Near => NEAR,
                Reuse::Shared => usize::MAX,
            };
            if reader - *last <= waits {
                *last = reader;
                return *copy;
            }
        }
        let inputs: Vec<ValueId> = operands.into_iter().map(|operand| self.at_hand(operand, reader)).collect();
        let made = self.made.entry(value).or_default();
        *made += 1;
        let name = if *made == 1 { format!("{}.again", node.name) } else { format!("{}.again.{made}", node.name) };
        let copy = ValueId(self.result.values.len());
        let spec = described.spec;
        self.result.values.push(Value {
            name: name.clone(),
            spec,
            role: Role::Activation,
            producer: None,
            updates: None,
        });
        self.push(Node { name, op, inputs, outputs: vec![copy], stage: Stage::Backward });
        self.copies.insert(value, (copy, reader));
        copy
    }

    fn push(&mut self, node: Node) {
        for output in &node.outputs {
            self.result.values[output.0].producer = Some(NodeId(self.result.nodes.len()));
        }
        self.result.nodes.push(node);
    }
}
