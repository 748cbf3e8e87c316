//! `wgmma`: products of a warpgroup with operands in shared memory, taking effect when they are waited for.
//!
//! Four warps share one instruction; warp w of the group owns rows 16w to 16w+15 of the 64, so each can do its part
//! alone.

use std::sync::Arc;

use super::matrices::transpose;
use super::product::{Input, Left, Right, Scratch, Sums, fragment, left, right, sums};
use super::whole_warp;
use crate::copy::Swizzle;
use crate::decode::{Outcome, Pred, Rare, Slot};
use crate::execute::Context;
use crate::fault::{Checked, FaultKind, problem};
use crate::memory::W;
use crate::simd;

/// Where A comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Registers(Vec<Slot>),
    Descriptor(Slot),
}

/// `wgmma.mma_async`.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub input: Input,
    pub n: usize,
    /// 16, or 8 for tf32.
    pub k: usize,
    pub d: Vec<Slot>,
    pub a: Source,
    pub b: Slot,
    /// Whether D is added to; if not, it starts from zero.
    pub accumulate: Pred,
    pub negate_a: bool,
    pub negate_b: bool,
    /// Whether an operand in shared memory is MN-major ("transposed") rather than K-major.
    pub transpose_a: bool,
    pub transpose_b: bool,
    pub half: bool,
}

pub(crate) struct Wgmma(pub Arc<Shape>);

/// A product that has been issued and not waited for.
#[derive(Debug)]
pub(crate) struct PendingMatrix {
    shape: Arc<Shape>,
    group: u32,
    accumulate: bool,
    a: Option<Descriptor>,
    b: Descriptor,
}

/// A matrix in shared memory.
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    start: u64,
    leading: u64,
    stride: u64,
    swizzle: Swizzle,
}

impl Descriptor {
    fn decode(bits: u64) -> Result<Descriptor, String> {
        if bits >> 49 & 7 != 0 {
            return Err(format!("matrix descriptor 0x{bits:016x} has a base offset, which is not supported"));
        }
        let field = |shift: u32| (bits >> shift & 0x3fff) << 4;
        let swizzle = match bits >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::Bytes128,
            2 => Swizzle::Bytes64,
            _ => Swizzle::Bytes32,
        };
        Ok(Descriptor { start: field(0), leading: field(16), stride: field(32), swizzle })
    }

    /// The eight rows of sixteen bytes that hold rows `row` to `row + 7` (along M or N) at the chunk of columns from `k`.
    fn chunk(&self, row: usize, k: usize, bytes: usize, transposed: bool) -> [u64; 8] {
        let span = self.swizzle.span();
        let first = if transposed {
            // Chunks of 16 bytes run along M/N; eight k rows make a block.
            let (chunk, block) = (row as u64 / 8, k as u64 / 8);
            let chunks = span / 16;
            if self.swizzle == Swizzle::None {
                chunk * self.stride + block * self.leading
            } else {
                chunk % chunks * 16 + chunk / chunks * self.leading + block * self.stride
            }
        } else {
            let along = (k * bytes) as u64;
            let place = if self.swizzle == Swizzle::None { along / 16 * self.leading } else { along };
            row as u64 / 8 * self.stride + place
        };
        std::array::from_fn(|line| self.swizzle.apply(self.start + first + line as u64 * span))
    }
}

impl Rare for Wgmma {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        whole_warp(cx, mask)?;
        let shape = &self.0;
        let registers = &cx.warp.registers;
        let descriptor = |slot: Slot| {
            let row = &registers.d[slot as usize];
            if row.iter().any(|&bits| bits != row[0]) {
                return problem(FaultKind::BadOperand, 0, "lanes disagree about a matrix descriptor");
            }
            Descriptor::decode(row[0]).or_else(|message| problem(FaultKind::BadOperand, 0, message))
        };
        let a = match shape.a {
            Source::Descriptor(slot) => Some(descriptor(slot)?),
            Source::Registers(_) => None,
        };
        let b = descriptor(shape.b)?;
        let accumulate = registers.predicate(shape.accumulate);
        if accumulate != 0 && accumulate != u32::MAX {
            return problem(FaultKind::BadOperand, 0, "lanes disagree about scale-d");
        }
        cx.cta.counters.tensor_flops += (2 * 16 * shape.n * shape.k) as u64;
        let group = cx.warp.matrix_groups;
        let pending = PendingMatrix { shape: shape.clone(), group, accumulate: accumulate != 0, a, b };
        cx.hold_registers(shape);
        cx.warp.pending_matrices.push(pending);
        Ok(Outcome::Next)
    }
}

pub(crate) struct WgmmaCommit;

impl Rare for WgmmaCommit {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        whole_warp(cx, mask)?;
        cx.warp.matrix_groups += 1;
        Ok(Outcome::Next)
    }
}

/// `wgmma.wait_group n`.
pub(crate) struct WgmmaWait(pub u32);

impl Rare for WgmmaWait {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        whole_warp(cx, mask)?;
        let before = cx.warp.matrix_groups.saturating_sub(self.0);
        let mut queue = std::mem::take(&mut cx.warp.pending_matrices);
        for pending in queue.extract_if(.., |pending| pending.group < before) {
            pending.execute(cx)?;
        }
        cx.warp.held.clear();
        for pending in &queue {
            cx.hold_registers(&pending.shape);
        }
        cx.warp.pending_matrices = queue;
        Ok(Outcome::Next)
    }
}

impl PendingMatrix {
    /// The registers that a fragment of `rows` rows from `row` on would have: in turn for each chunk of columns.
    fn fragment(
        &self,
        cx: &mut Context,
        from: Descriptor,
        row: usize,
        rows: usize,
        transposed: bool,
        registers: &mut [W],
    ) -> Checked {
        let bytes = 4 / self.shape.input.packed();
        let who = cx.cta.clocks.who(cx.warp.index, true);
        for (i, register) in registers.iter_mut().enumerate() {
            let (part, chunk) = (i % (rows / 8), i / (rows / 8));
            let addresses = from.chunk(row + 8 * part, chunk * 16 / bytes, bytes, transposed);
            for &at in &addresses {
                cx.cta.shared.check_proxy(0, at)?;
            }
            let found = cx.cta.shared.read_rows(who, 0, &addresses)?;
            *register = if transposed { transpose(&found) } else { found };
        }
        Ok(())
    }

    fn execute(&self, cx: &mut Context) -> Checked {
        let shape = &*self.shape;
        let mut registers = [[0; 32]; 4];
        match (&shape.a, self.a) {
            (_, Some(descriptor)) => {
                let first = cx.warp.index % 4 * 16;
                self.fragment(cx, descriptor, first, 16, shape.transpose_a, &mut registers)?;
            }
            (Source::Registers(slots), None) => {
                for (register, &slot) in registers.iter_mut().zip(slots) {
                    *register = cx.warp.registers.w[slot as usize];
                }
            }
            (Source::Descriptor(_), None) => unreachable!("a descriptor was decoded when the product was issued"),
        }
        let a = &mut cx.cta.scratch.a;
        left(shape.input, &registers.each_ref(), a);
        if shape.negate_a != shape.negate_b {
            a.as_flattened_mut().as_flattened_mut().iter_mut().for_each(|x| *x = -*x);
        }
        let mut columns = [[0; 32]; 2];
        let cores = cx.launch.tensor_cores;
        for block in 0..shape.n / 8 {
            self.fragment(cx, self.b, 8 * block, 8, shape.transpose_b, &mut columns)?;
            simd::block(self, block, &columns, cores, &mut cx.cta.scratch, &mut cx.warp.registers.w);
        }
        Ok(())
    }

    pub(crate) fn input(&self) -> Input {
        self.shape.input
    }

    /// Whether D is added to.
    pub(crate) fn accumulates(&self) -> bool {
        self.accumulate
    }

    /// Whether D is fp16, two per register.
    pub(crate) fn is_half(&self) -> bool {
        self.shape.half
    }

    /// The registers of eight columns of D.
    pub(crate) fn sums_of(&self, block: usize) -> &[Slot] {
        let count = if self.shape.half { 2 } else { 4 };
        &self.shape.d[count * block..][..count]
    }

    /// Eight columns of D: four registers of f32, or two of packed fp16.
    #[inline(always)]
    pub(crate) fn block(
        &self,
        block: usize,
        columns: &[W; 2],
        scratch: &mut Scratch,
        w: &mut [W],
        accumulate: impl Fn(usize, &Left, &Right, &mut Sums, usize),
    ) {
        match self.shape.input {
            Input::F16 => self.block_of(Input::F16, block, columns, scratch, w, accumulate),
            Input::Bf16 => self.block_of(Input::Bf16, block, columns, scratch, w, accumulate),
            Input::Tf32 => self.block_of(Input::Tf32, block, columns, scratch, w, accumulate),
        }
    }

    #[inline(always)]
    fn block_of(
        &self,
        input: Input,
        block: usize,
        columns: &[W; 2],
        Scratch { a, b, c }: &mut Scratch,
        w: &mut [W],
        accumulate: impl Fn(usize, &Left, &Right, &mut Sums, usize),
    ) {
        let shape = &*self.shape;
        let slots = self.sums_of(block);
        let count = slots.len();
        if self.accumulate {
            let row = |i: usize| &w[slots[i % count] as usize];
            sums(shape.half, &[row(0), row(1), row(2), row(3)], c);
        } else {
            *c = [[[0.0; 32]; 2]; 2];
        }
        right(input, &columns.each_ref(), b);
        accumulate(input.packed(), a, b, c, shape.k);
        for (i, &slot) in slots.iter().enumerate() {
            fragment(shape.half, c, i, &mut w[slot as usize]);
        }
    }
}
