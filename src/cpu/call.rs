//! What an operation sees while it runs on the CPU: slices of the arena, checked against each other.

#![allow(unsafe_code)]

use std::cell::Cell;

use super::{Arena, Element, Threads};
use crate::tensor::{DType, Place, Spec};

/// An operand and where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Extents and element type.
    pub spec: Spec,
    /// Its bytes in the arena.
    pub place: Place,
}

/// Everything that one operation reads and writes, in one arena.
#[derive(Debug)]
pub struct Frame {
    /// For messages.
    kind: &'static str,
    inputs: Vec<Placed>,
    outputs: Vec<Placed>,
    workspace: Place,
    /// For each input, the output that shares its bytes.
    shared_with: Vec<Option<usize>>,
    taken: Vec<Cell<bool>>,
    workspace_taken: Cell<bool>,
}

impl Frame {
    /// The operands of an operation of this kind.
    ///
    /// # Panics
    /// If outputs overlap each other, or the workspace overlaps anything: running would corrupt results.
    pub fn new(kind: &'static str, inputs: Vec<Placed>, outputs: Vec<Placed>, workspace: Place) -> Self {
        for (position, output) in outputs.iter().enumerate() {
            let overlaps = outputs[..position].iter().any(|other| other.place.overlaps(&output.place));
            assert!(!overlaps && !output.place.overlaps(&workspace), "{kind}: outputs overlap");
        }
        assert!(!inputs.iter().any(|input| input.place.overlaps(&workspace)), "{kind}: the workspace overlaps");
        let shared_with =
            inputs.iter().map(|input| outputs.iter().position(|output| output.place.overlaps(&input.place))).collect();
        let taken = vec![Cell::new(false); outputs.len()];
        Self { kind, inputs, outputs, workspace, shared_with, taken, workspace_taken: Cell::new(false) }
    }

    /// What the operation sees of an arena. Nobody else sees that arena meanwhile.
    pub fn call<'a>(&'a mut self, arena: &'a mut Arena, threads: &'a Threads) -> CpuCall<'a> {
        self.taken.iter().for_each(|flag| flag.set(false));
        self.workspace_taken.set(false);
        CpuCall { frame: self, arena, threads }
    }
}

/// The operands of one operation while it runs. Each output can be taken once; an input whose bytes have passed to an output
/// can only be reached through that output.
#[derive(Debug)]
pub struct CpuCall<'a> {
    frame: &'a Frame,
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
        self.frame.inputs.len()
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.frame.outputs.len()
    }

    /// Extents and element type of an input.
    pub fn input_spec(&self, index: usize) -> Spec {
        self.frame.inputs[index].spec
    }

    /// Extents and element type of an output.
    pub fn output_spec(&self, index: usize) -> Spec {
        self.frame.outputs[index].spec
    }

    /// Whether this output holds this input's bytes, to be overwritten.
    pub fn is_in_place(&self, input: usize, output: usize) -> bool {
        self.frame.shared_with[input] == Some(output)
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
        assert!(!self.frame.workspace_taken.replace(true), "workspace of {} taken twice", self.frame.kind);
        // SAFETY: binding has asserted that the workspace overlaps no operand, and it is taken once.
        bytemuck::cast_slice_mut(unsafe { self.arena.slice_mut(self.frame.workspace) })
    }

    fn output(&self, index: usize, dtype: DType) -> &'a mut [u8] {
        let operand = &self.frame.outputs[index];
        assert_eq!(operand.spec.dtype, dtype, "output {index} of {}", self.frame.kind);
        assert!(!self.frame.taken[index].replace(true), "output {index} of {} taken twice", self.frame.kind);
        // SAFETY: binding has asserted that this output overlaps no other output and not the workspace; it is taken
        // once (flag above; `Frame::call` took both `&mut`, so no other call resets it); inputs that overlap it cannot be
        // taken at all (`input`); and nobody outside this call has a slice of the arena.
        unsafe { self.arena.slice_mut(operand.place) }
    }

    fn input(&self, index: usize, dtype: DType) -> &'a [u8] {
        let operand = &self.frame.inputs[index];
        assert_eq!(operand.spec.dtype, dtype, "input {index} of {}", self.frame.kind);
        let shared = self.frame.shared_with[index];
        assert!(shared.is_none(), "input {index} of {} passed its bytes to output {shared:?}", self.frame.kind);
        // SAFETY: the input overlaps neither an output nor the workspace (asserted here and at binding), which are the
        // only mutable slices that exist during a call.
        unsafe { self.arena.slice(operand.place) }
    }
}
