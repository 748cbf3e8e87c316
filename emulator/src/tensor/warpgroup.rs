//! `wgmma`: products of a warpgroup with operands in shared memory, taking effect when they are waited for.
//!
//! Four warps share one instruction; warp w of the group owns rows 16w to 16w+15 of the 64, so each can do its part
//! alone.

use std::sync::Arc;

use super::product::{Input, TileA, TileB, TileC, tile_a};
use super::whole_warp;
use crate::copy::Swizzle;
use crate::decode::{Outcome, Pred, Rare, Slot};
use crate::execute::Context;
use crate::fault::{Checked, FaultKind, problem};
use crate::memory::Who;
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_f16};
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

    /// The address of element (`row`, `k`), where `row` runs along M or N.
    fn address(&self, row: usize, k: usize, bytes: usize, transposed: bool) -> u64 {
        let (row, k, bytes) = (row as u64, k as u64, bytes as u64);
        let span = self.swizzle.span();
        let offset = if transposed {
            // Chunks of 16 bytes run along M/N; eight k rows make a block.
            let (chunk, within) = (row * bytes / 16, row * bytes % 16);
            let chunks = span / 16;
            let place = if self.swizzle == Swizzle::None {
                chunk * self.stride + k / 8 * self.leading
            } else {
                chunk % chunks * 16 + chunk / chunks * self.leading + k / 8 * self.stride
            };
            place + k % 8 * span + within
        } else {
            let along = k * bytes;
            let place = if self.swizzle == Swizzle::None { along / 16 * self.leading + along % 16 } else { along };
            row / 8 * self.stride + row % 8 * span + place
        };
        self.swizzle.apply(self.start + offset)
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
        cx.warp.pending_matrices = queue;
        Ok(Outcome::Next)
    }
}

impl PendingMatrix {
    fn read(&self, cx: &mut Context, at: u64) -> Checked<f32> {
        let who = Who { warp: cx.warp.index, clocks: &cx.cta.clocks, collective: true };
        let word = cx.cta.shared.read_word(who, 0, at & !3)?;
        let half = word >> ((at & 2) * 8) & 0xffff;
        Ok(match self.shape.input {
            Input::F16 => f16_to_f32(half),
            Input::Bf16 => bf16_to_f32(half),
            Input::Tf32 => f32::from_bits(word & 0xffff_e000),
        })
    }

    fn execute(&self, cx: &mut Context) -> Checked {
        let shape = &*self.shape;
        let bytes = 4 / shape.input.packed();
        let mut a: TileA = [[0.0; 16]; 16];
        match (&shape.a, self.a) {
            (Source::Registers(slots), _) => {
                let rows: Vec<_> = slots.iter().map(|&slot| cx.warp.registers.w[slot as usize]).collect();
                a = tile_a(shape.input, &rows);
            }
            (_, Some(descriptor)) => {
                let first = cx.warp.index % 4 * 16;
                for row in 0..16 {
                    for k in 0..shape.k {
                        let at = descriptor.address(first + row, k, bytes, shape.transpose_a);
                        a[row][k] = self.read(cx, at)?;
                    }
                }
            }
            _ => {}
        }
        if shape.negate_a != shape.negate_b {
            a.iter_mut().flatten().for_each(|x| *x = -*x);
        }
        for block in 0..shape.n / 8 {
            let mut b: TileB = [[0.0; 8]; 16];
            for (k, row) in b.iter_mut().enumerate().take(shape.k) {
                for (j, value) in row.iter_mut().enumerate() {
                    *value = self.read(cx, self.b.address(8 * block + j, k, bytes, shape.transpose_b))?;
                }
            }
            self.block(cx, block, &a, &b);
        }
        Ok(())
    }

    /// Eight columns of D: four registers of f32, or two of packed fp16.
    fn block(&self, cx: &mut Context, block: usize, a: &TileA, b: &TileB) {
        let shape = &*self.shape;
        let w = &mut cx.warp.registers.w;
        let mut c: TileC = [[0.0; 8]; 16];
        if self.accumulate {
            for i in 0..4 {
                let row = if shape.half {
                    w[shape.d[2 * block + i / 2] as usize].map(|x| f16_to_f32(x >> (i % 2 * 16) & 0xffff).to_bits())
                } else {
                    w[shape.d[4 * block + i] as usize]
                };
                for lane in 0..32 {
                    c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2] = f32::from_bits(row[lane]);
                }
            }
        }
        simd::multiply(a, b, &mut c, shape.k);
        let result = |i: usize, lane: usize| c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        for i in 0..if shape.half { 2 } else { 4 } {
            let slot = shape.d[block * if shape.half { 2 } else { 4 } + i];
            for (lane, out) in w[slot as usize].iter_mut().enumerate() {
                *out = if shape.half {
                    f32_to_f16(result(2 * i, lane)) | f32_to_f16(result(2 * i + 1, lane)) << 16
                } else {
                    crate::numeric::single::canonical(result(i, lane))
                };
            }
        }
    }
}
