//! Everything about one operation behind one trait: the graph, the planner, the devices and the tests ask only this.

use std::{any::Any, fmt::Debug, sync::Arc};

use super::{
    Backward, ValueId,
    reference::{Dense, Products},
};
use crate::{Error, Result, cpu::CpuCall, machine::lower::Lower, tensor::Spec};

/// One operation: shapes, memory, cost, derivative, definition and CPU implementation.
///
/// Operations are small plain structs of attributes. Operands are values of a graph and come as lists in a fixed
/// order that each operation documents.
pub trait Op: Debug + Send + Sync + Any {
    /// The operation's name, such as `conv3d.wgrad`: the same for all of its shapes.
    fn kind(&self) -> &'static str;

    /// The specs of the outputs.
    ///
    /// # Errors
    /// One sentence, if the inputs do not fit each other.
    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String>;

    /// Records the operations that compute the gradients of the inputs from those of the outputs.
    ///
    /// # Errors
    /// If the operation has no derivative, or a recorded operation refuses its operands.
    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        Err(Error::shape(cx.name(), format_args!("{} has no derivative", self.kind())))
    }

    /// Pairs (input, output) where the output is the input's next version and must occupy its bytes, for a node with
    /// this number of operands.
    fn updates(&self, _operands: usize) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// Pairs (input, output) where the output may take over the input's bytes if nothing reads that input later.
    fn in_place(&self) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// How a node of this operation computes its first output again, bit for bit, when its operands and its small results
    /// are still there: an operation with one output, and its operands. An operation that is not listed here and has one
    /// output is repeated as it is. See [`crate::rematerialise`].
    fn again(&self, _inputs: &[ValueId], _outputs: &[ValueId]) -> Option<(Arc<dyn Op>, Vec<ValueId>)> {
        None
    }

    /// Multiplications and additions, two for each multiply-add. Element-wise work counts as nothing.
    fn flops(&self, _inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        0
    }

    /// Bytes that must be moved at the least: every operand once.
    fn traffic(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        inputs.iter().chain(outputs).map(|spec| spec.bytes() as u64).sum()
    }

    /// Bytes of scratch memory that [`Self::run_cpu`] needs on so many threads.
    fn cpu_workspace(&self, _inputs: &[Spec], _outputs: &[Spec], _threads: usize) -> usize {
        0
    }

    /// The definition, in double precision. See [`super::reference`].
    fn reference64(&self, inputs: &[Dense<f64>], outputs: &[Spec]) -> Vec<Dense<f64>>;

    /// The same plain loops in single precision: the yardstick of the tolerance rule.
    fn reference32(&self, inputs: &[Dense<f32>], outputs: &[Spec]) -> Vec<Dense<f32>>;

    /// The yardstick for operands of these specs. Only an operation that stands for several, which would round in between to a
    /// type that its results do not show, needs to know them.
    fn reference32_of(&self, inputs: &[Dense<f32>], _specs: &[Spec], outputs: &[Spec]) -> Vec<Dense<f32>> {
        self.reference32(inputs, outputs)
    }

    /// The yardstick on a GPU whose tensor cores add the products up: the same plain loops, with their sums of products taken
    /// group by group. Only operations that tensor cores compute differ from [`Op::reference32_of`].
    fn reference_on(
        &self,
        _products: Products,
        inputs: &[Dense<f32>],
        specs: &[Spec],
        outputs: &[Spec],
    ) -> Vec<Dense<f32>> {
        self.reference32_of(inputs, specs, outputs)
    }

    /// Computes the outputs on the CPU. Allocates nothing.
    fn run_cpu(&self, call: &CpuCall<'_>);

    /// Turns itself into launches of GPU kernels; what it asks for as workspace is planned.
    ///
    /// # Errors
    /// If there is no kernel for these operands.
    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        let cause = format!("{} has no GPU kernel yet; use `device = cpu`", self.kind());
        Err(Error::shape(cx.name(), cause))
    }
}
