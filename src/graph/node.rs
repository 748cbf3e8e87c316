//! The graph itself: plain data that can be printed.

use std::sync::Arc;

use super::Op;
use crate::tensor::Spec;

/// Names a value within its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) usize);

/// Names a node within its graph: its position in the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

/// What a value is for, which decides how long its bytes live and in which region of the arena they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Trained. Survives runs.
    Parameter,
    /// The derivative of the loss by this parameter. Laid out in the parameters' order.
    Gradient(ValueId),
    /// Kept by the optimizer. Survives runs.
    OptimizerState,
    /// Moving averages that inference uses. Survives runs.
    Running,
    /// Written by the host, and there until it is written again.
    Input,
    /// Written by the host before every run of this graph. The first such values of a program's graphs share their bytes, as
    /// do the second, and so on: no two graphs run at once.
    Batch,
    /// Read by the host after a run.
    Output,
    /// Lives from the node that makes it to the last node that reads it.
    Activation,
}

impl Role {
    /// Whether the bytes belong to this value during the whole run, and so have a fixed address.
    pub fn is_persistent(self) -> bool {
        self != Self::Activation
    }
}

/// The part of a training step that a node belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The network.
    Forward,
    /// The loss and the metrics.
    Loss,
    /// Derivatives.
    Backward,
    /// Clipping and the weight update.
    Optimizer,
}

/// A tensor that some node makes or the host provides.
#[derive(Clone, Debug)]
pub struct Value {
    /// Unique among the persistent values: the name under which sessions and checkpoints know it.
    pub name: String,
    /// Extents and element type.
    pub spec: Spec,
    /// What it is for.
    pub role: Role,
    /// The node that makes it; the host provides it if there is none.
    pub producer: Option<NodeId>,
    /// The value whose bytes this one overwrites: it is that value's next version.
    pub updates: Option<ValueId>,
}

/// One operation with its operands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where in the network it stands, such as `encoder.2.conv_a.dgrad`.
    pub name: String,
    /// What it does.
    pub op: Arc<dyn Op>,
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it writes.
    pub outputs: Vec<ValueId>,
    /// The part of the step it belongs to.
    pub stage: Stage,
}

/// Nodes in the order of execution, and the values between them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All values, by id.
    pub values: Vec<Value>,
    /// All nodes, in order.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// The ids of all values, in the order of [`Self::values`].
    pub fn ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len()).map(ValueId)
    }

    /// The value of this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The specs of several values, in order.
    pub fn specs(&self, ids: &[ValueId]) -> Vec<Spec> {
        ids.iter().map(|&id| self.value(id).spec).collect()
    }

    /// The ids of all values of a role, in order of creation. Next versions of a value are not listed: they are it.
    pub fn with_role(&self, role: Role) -> Vec<ValueId> {
        (0..self.values.len())
            .map(ValueId)
            .filter(|&id| self.value(id).role == role && self.value(id).updates.is_none())
            .collect()
    }

    /// The first version of a value: where its bytes were first named.
    pub fn origin(&self, mut id: ValueId) -> ValueId {
        while let Some(earlier) = self.value(id).updates {
            id = earlier;
        }
        id
    }

    /// A persistent value by name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        (0..self.values.len()).map(ValueId).find(|&id| {
            self.value(id).name == name && self.value(id).role.is_persistent() && self.value(id).updates.is_none()
        })
    }

    /// The kind of the first operation that computes with a value; casts only pass it on. Empty if there is none.
    pub fn first_use(&self, id: ValueId) -> &'static str {
        match self.nodes.iter().find(|node| node.inputs.contains(&id)) {
            Some(node) if node.op.kind() == "cast" => self.first_use(node.outputs[0]),
            Some(node) => node.op.kind(),
            None => "",
        }
    }

    /// Floating-point operations of one run.
    pub fn flops(&self) -> u64 {
        self.nodes.iter().map(|node| node.op.flops(&self.specs(&node.inputs), &self.specs(&node.outputs))).sum()
    }
    /// Bytes that one run must move at the least: every operand of every node once.
    pub fn traffic(&self) -> u64 {
        self.nodes.iter().map(|node| node.op.traffic(&self.specs(&node.inputs), &self.specs(&node.outputs))).sum()
    }
}
