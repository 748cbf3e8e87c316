//! What an operation sees while it records its derivative.

use super::{Node, Op, Tape, ValueId};
use crate::{Result, tensor::Spec};

/// One node's operands, the gradients of its outputs, and a place for those of its inputs.
#[derive(Debug)]
pub struct Backward<'a> {
    tape: &'a mut Tape,
    node: &'a Node,
    output_gradients: &'a [Option<ValueId>],
    wanted: &'a [bool],
    input_gradients: Vec<Option<ValueId>>,
}

impl<'a> Backward<'a> {
    pub(super) fn new(
        tape: &'a mut Tape,
        node: &'a Node,
        output_gradients: &'a [Option<ValueId>],
        wanted: &'a [bool],
    ) -> Self {
        let input_gradients = vec![None; node.inputs.len()];
        Self { tape, node, output_gradients, wanted, input_gradients }
    }

    pub(super) fn into_gradients(self) -> Vec<Option<ValueId>> {
        self.input_gradients
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// An operand of the node.
    pub fn input(&self, index: usize) -> ValueId {
        self.node.inputs[index]
    }

    /// A result of the node.
    pub fn output(&self, index: usize) -> ValueId {
        self.node.outputs[index]
    }

    /// Extents and element type of a value.
    pub fn spec(&self, id: ValueId) -> Spec {
        self.tape.graph().value(id).spec
    }

    /// The gradient of an output, if the loss depends on it.
    pub fn gradient(&self, output: usize) -> Option<ValueId> {
        self.output_gradients[output]
    }

    /// Whether anybody needs the gradient of this input. The network's first layer needs none for the image.
    pub fn wants(&self, input: usize) -> bool {
        self.wanted[input]
    }

    /// Records an operation, named after the node with a suffix.
    ///
    /// # Errors
    /// If the operation refuses its operands.
    pub fn record(&mut self, suffix: &str, op: impl Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        self.tape.record(format!("{}.{suffix}", self.node.name), op, inputs)
    }

    /// Like [`Self::record`], for an operation with one output.
    ///
    /// # Errors
    /// If the operation refuses its operands.
    pub fn record1(&mut self, suffix: &str, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.record(suffix, op, inputs)?[0])
    }

    /// Says where the gradient of an input is.
    pub fn set(&mut self, input: usize, gradient: ValueId) {
        self.input_gradients[input] = Some(gradient);
    }
}
