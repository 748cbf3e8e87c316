//! Records operations as data.

use std::sync::Arc;

use super::{Graph, Node, NodeId, Op, Role, Stage, Value, ValueId};
use crate::{Error, Result, tensor::Spec};

/// A graph under construction. Shapes are checked as each operation is recorded.
#[derive(Debug)]
pub struct Tape {
    graph: Graph,
    stage: Stage,
}

impl Default for Tape {
    fn default() -> Self {
        Self::new()
    }
}

impl Tape {
    /// An empty tape, recording the forward stage.
    pub fn new() -> Self {
        Self { graph: Graph::default(), stage: Stage::Forward }
    }

    /// What was recorded so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Ends the recording.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// Nodes recorded from here on belong to this stage.
    pub fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// A value that the host provides or that survives from the run before.
    ///
    /// # Panics
    /// If the name is taken: persistent values are known by their names.
    pub fn source(&mut self, name: impl Into<String>, spec: Spec, role: Role) -> ValueId {
        let name = name.into();
        assert!(role.is_persistent(), "{name}: an activation needs a node that makes it");
        assert!(self.graph.find(&name).is_none(), "{name}: recorded twice");
        self.push(Value { name, spec, role, producer: None, updates: None })
    }

    /// Records an operation and returns its outputs.
    ///
    /// # Errors
    /// If the operation refuses the shapes of its inputs.
    pub fn record(&mut self, name: impl Into<String>, op: impl Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        self.record_dyn(name, Arc::new(op), inputs)
    }

    /// Like [`Self::record`], for an operation behind the trait.
    ///
    /// # Errors
    /// If the operation refuses the shapes of its inputs.
    pub fn record_dyn(&mut self, name: impl Into<String>, op: Arc<dyn Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let name = name.into();
        let specs = self.graph.specs(inputs);
        let outputs =
            op.infer(&specs).map_err(|cause| Error::shape(format_args!("{} \"{name}\"", op.kind()), cause))?;
        let updates = op.updates(inputs.len());
        let node = NodeId(self.graph.nodes.len());
        let outputs: Vec<ValueId> = (0..outputs.len())
            .map(|index| {
                let updated = updates.iter().find(|(_, output)| *output == index).map(|(input, _)| inputs[*input]);
                let role = updated.map_or(Role::Activation, |id| self.graph.value(id).role);
                let name = match (updated, index) {
                    (Some(id), _) => self.graph.value(id).name.clone(),
                    (None, 0) => name.clone(),
                    (None, _) => format!("{name}:{index}"),
                };
                self.push(Value { name, spec: outputs[index], role, producer: Some(node), updates: updated })
            })
            .collect();
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), outputs: outputs.clone(), stage: self.stage });
        Ok(outputs)
    }

    /// Like [`Self::record`], for an operation with one output.
    ///
    /// # Errors
    /// If the operation refuses the shapes of its inputs.
    pub fn record1(&mut self, name: impl Into<String>, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.record(name, op, inputs)?[0])
    }

    /// Makes a recorded value one that the host reads after the run.
    pub fn keep_output(&mut self, id: ValueId, name: impl Into<String>) {
        self.set_role(id, Role::Output, name.into());
    }

    pub(super) fn set_role(&mut self, id: ValueId, role: Role, name: String) {
        assert!(self.graph.find(&name).is_none(), "{name}: recorded twice");
        let value = &mut self.graph.values[id.0];
        value.role = role;
        value.name = name;
    }

    fn push(&mut self, value: Value) -> ValueId {
        self.graph.values.push(value);
        ValueId(self.graph.values.len() - 1)
    }
}
