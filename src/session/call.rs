//! What an operation sees while it runs on the CPU: slices of the arena, checked against each other.

use std::{cell::Cell, sync::Arc};

use super::arena::Arena;
use crate::{
    cpu::{Element, Threads},
    graph::{Graph, Op},
    plan::{EntryPlan, Place},
    tensor::{DType, Spec},
};

#[derive(Clone, Copy, Debug)]
struct Operand {
    spec: Spec,
    place: Place,
}

/// A node whose operands have addresses.
#[derive(Debug)]
pub(super) struct BoundNode {
    op: Arc<dyn Op>,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    workspace: Place,
    /// For each input, the output that shares its bytes.
    shared_with: Vec<Option<usize>>,
    taken: Vec<Cell<bool>>,
    workspace_taken: Cell<bool>,
}

impl BoundNode {
    pub(super) fn new(graph: &Graph, entry: &EntryPlan, index: usize) -> Self {
        let node = &graph.nodes[index];
        let bind = |ids: &[crate::graph::ValueId]| -> Vec<Operand> {
            ids.iter().map(|&id| Operand { spec: graph.value(id).spec, place: entry.values[id.0] }).collect()
        };
        let (inputs, outputs) = (bind(&node.inputs), bind(&node.outputs));
        let workspace = entry.workspaces[index];
        for (position, output) in outputs.iter().enumerate() {
            let overlaps = outputs[..position].iter().any(|other| other.place.overlaps(&output.place));
            assert!(!overlaps && !output.place.overlaps(&workspace), "{}: outputs overlap", node.name);
        }
        assert!(!inputs.iter().any(|input| input.place.overlaps(&workspace)), "{}: the workspace overlaps", node.name);
        let shared_with =
            inputs.iter().map(|input| outputs.iter().position(|output| output.place.overlaps(&input.place))).collect();
        let taken = vec![Cell::new(false); outputs.len()];
        Self { op: node.op.clone(), inputs, outputs, workspace, shared_with, taken, workspace_taken: Cell::new(false) }
    }

    pub(super) fn run(&self, arena: &Arena, threads: &Threads) {
        self.taken.iter().for_each(|flag| flag.set(false));
        self.workspace_taken.set(false);
        self.op.run_cpu(&CpuCall { node: self, arena, threads });
    }
}

/// The operands of one node while it runs. Each output can be taken once; an input whose bytes have passed to an output
/// can only be reached through that output.
#[derive(Debug)]
pub struct CpuCall<'a> {
    node: &'a BoundNode,
    arena: &'a Arena,
    threads: &'a Threads,
}

impl<'a> CpuCall<'a> {
    /// The threads to run on.
    pub fn threads(&self) -> &'a Threads {
        self.threads
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.node.inputs.len()
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.node.outputs.len()
    }

    /// Extents and element type of an input.
    pub fn input_spec(&self, index: usize) -> Spec {
        self.node.inputs[index].spec
    }

    /// Extents and element type of an output.
    pub fn output_spec(&self, index: usize) -> Spec {
        self.node.outputs[index].spec
    }

    /// Whether this output holds this input's bytes, to be overwritten.
    pub fn is_in_place(&self, input: usize, output: usize) -> bool {
        self.node.shared_with[input] == Some(output)
    }

    /// A floating-point input of this type.
    pub fn elements<E: Element>(&self, input: usize) -> &'a [E] {
        bytemuck::cast_slice(self.input(input, E::DTYPE))
    }

    /// A floating-point output of this type. Where it is the next version of an input, or took over its bytes, it holds
    /// that input's elements.
    pub fn elements_mut<E: Element>(&self, output: usize) -> &'a mut [E] {
        bytemuck::cast_slice_mut(self.output(output, E::DTYPE))
    }

    /// An fp32 input.
    pub fn f32(&self, input: usize) -> &'a [f32] {
        self.elements(input)
    }

    /// An fp32 output; see [`Self::elements_mut`].
    pub fn f32_mut(&self, output: usize) -> &'a mut [f32] {
        self.elements_mut(output)
    }

    /// A u8 input.
    pub fn u8(&self, input: usize) -> &'a [u8] {
        self.input(input, DType::U8)
    }

    /// A u8 output.
    pub fn u8_mut(&self, output: usize) -> &'a mut [u8] {
        self.output(output, DType::U8)
    }

    /// A u32 input.
    pub fn u32(&self, input: usize) -> &'a [u32] {
        bytemuck::cast_slice(self.input(input, DType::U32))
    }

    /// A u32 output.
    pub fn u32_mut(&self, output: usize) -> &'a mut [u32] {
        bytemuck::cast_slice_mut(self.output(output, DType::U32))
    }

    /// The workspace that the operation asked for, as fp32 elements. Its contents are undefined.
    pub fn workspace(&self) -> &'a mut [f32] {
        assert!(!self.node.workspace_taken.replace(true), "workspace of {} taken twice", self.node.op.kind());
        // SAFETY: binding has asserted that the workspace overlaps no operand, and it is taken once.
        bytemuck::cast_slice_mut(unsafe { self.arena.slice_mut(self.node.workspace) })
    }

    fn output(&self, index: usize, dtype: DType) -> &'a mut [u8] {
        let operand = &self.node.outputs[index];
        assert_eq!(operand.spec.dtype, dtype, "output {index} of {}", self.node.op.kind());
        assert!(!self.node.taken[index].replace(true), "output {index} of {} taken twice", self.node.op.kind());
        // SAFETY: binding has asserted that this output overlaps no other output and not the workspace; it is taken
        // once (flag above); inputs that overlap it cannot be taken at all (`input`). `Session::run` holds
        // `&mut Session`, so nobody outside this call has a slice of the arena.
        unsafe { self.arena.slice_mut(operand.place) }
    }

    fn input(&self, index: usize, dtype: DType) -> &'a [u8] {
        let operand = &self.node.inputs[index];
        assert_eq!(operand.spec.dtype, dtype, "input {index} of {}", self.node.op.kind());
        let shared = self.node.shared_with[index];
        assert!(shared.is_none(), "input {index} of {} passed its bytes to output {shared:?}", self.node.op.kind());
        // SAFETY: the input overlaps neither an output nor the workspace (asserted here and at binding), which are the
        // only mutable slices that exist during a call.
        unsafe { self.arena.slice(operand.place) }
    }
}
