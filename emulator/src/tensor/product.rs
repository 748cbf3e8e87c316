//! `mma.sync`: D = A B + C on fragments spread over a warp.
//!
//! Products of the input formats are exact in f32. The fast way takes sums in f32 in ascending k; `cores` adds as the
//! hardware of a generation does.
//!
//! C and D never leave the order of their fragments: a register of C holds, eight lanes at a time, four columns of each
//! of two rows (all even columns, or all odd ones), so a row of sums needs one value of A spread over four lanes and a
//! row of B with its columns in the same order. Only B is transposed, once per instruction.

use super::whole_warp;
use crate::decode::{Few, Outcome, Rare};
use crate::execute::Context;
use crate::fault::Checked;
use crate::memory::W;
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_f16};
use crate::numeric::single::canonical;
use crate::simd;

/// Number formats of the factors of a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// IEEE half precision.
    F16,
    /// The upper half of an fp32 number.
    Bf16,
    /// An fp32 number without its 13 low bits.
    Tf32,
}

impl Input {
    /// Values per 32-bit register.
    pub(crate) fn packed(self) -> usize {
        if self == Input::Tf32 { 1 } else { 2 }
    }

    /// Value `part` of a register.
    #[inline(always)]
    fn widen(self, word: u32, part: usize) -> f32 {
        match (self, part) {
            (Input::Bf16, 0) => bf16_to_f32(word),
            (Input::Bf16, _) => f32::from_bits(word & 0xffff_0000),
            (Input::F16, 0) => f16_to_f32(word & 0xffff),
            (Input::F16, _) => f16_to_f32(word >> 16),
            // The low 13 bits do not take part.
            (Input::Tf32, _) => f32::from_bits(word & 0xffff_e000),
        }
    }
}

/// A number per lane.
pub(crate) type Lanes = [f32; 32];

/// A: `[half of the rows][part]`. Lane 4g + q of part i holds row g (+8) and column `column(i, q)`.
pub(crate) type Left = [[Lanes; 4]; 2];

/// B: `[column of A][even or odd columns of B]`, the four columns twice.
pub(crate) type Right = [[[f32; 8]; 2]; 16];

/// C: `[half of the rows][even or odd columns]`, lane by lane as in the fragment.
pub(crate) type Sums = [[Lanes; 2]; 2];

/// A from the registers of its fragment: they alternate between rows 0-7 and 8-15 and go up in k.
#[inline(always)]
pub(crate) fn left(input: Input, registers: &[&W], a: &mut Left) {
    let packed = input.packed();
    for (i, register) in registers.iter().enumerate() {
        for part in 0..packed {
            let to = &mut a[i % 2][i / 2 * packed + part];
            for lane in 0..32 {
                to[lane] = input.widen(register[lane], part);
            }
        }
    }
}

/// B from the registers of its fragment, whose lanes 4j to 4j + 3 belong to column j.
#[inline(always)]
pub(crate) fn right(input: Input, registers: &[&W], b: &mut Right) {
    let packed = input.packed();
    for (i, register) in registers.iter().enumerate() {
        // Four rows of eight: columns 0, 2, 4, 6, then 1, 3, 5, 7.
        let turned = transpose(register);
        for (q, row) in turned.iter().enumerate() {
            for part in 0..packed {
                let to = &mut b[(4 * i + q) * packed + part];
                for j in 0..4 {
                    let (even, odd) = (input.widen(row[j], part), input.widen(row[4 + j], part));
                    (to[0][j], to[0][4 + j]) = (even, even);
                    (to[1][j], to[1][4 + j]) = (odd, odd);
                }
            }
        }
    }
}

/// Word q of lanes 4j + q: the even j, then the odd ones. Two steps of interleaving, which vectorise.
#[inline(always)]
fn transpose(register: &W) -> [[u32; 8]; 4] {
    let (rows, _) = register.as_chunks::<8>();
    let low = |x: &[u32; 8], y: &[u32; 8]| [x[0], y[0], x[1], y[1], x[4], y[4], x[5], y[5]];
    let high = |x: &[u32; 8], y: &[u32; 8]| [x[2], y[2], x[3], y[3], x[6], y[6], x[7], y[7]];
    let first = |x: &[u32; 8], y: &[u32; 8]| [x[0], x[1], y[0], y[1], x[4], x[5], y[4], y[5]];
    let second = |x: &[u32; 8], y: &[u32; 8]| [x[2], x[3], y[2], y[3], x[6], x[7], y[6], y[7]];
    let (a, b) = (low(&rows[0], &rows[1]), low(&rows[2], &rows[3]));
    let (c, d) = (high(&rows[0], &rows[1]), high(&rows[2], &rows[3]));
    [first(&a, &b), second(&a, &b), first(&c, &d), second(&c, &d)]
}

/// C from its fragment: register i holds columns 2q + i % 2 of rows g + i / 2 * 8, or two of them as fp16.
#[inline(always)]
pub(crate) fn sums(half: bool, registers: &[&W], c: &mut Sums) {
    for upper in 0..2 {
        for odd in 0..2 {
            let to = &mut c[upper][odd];
            for lane in 0..32 {
                to[lane] = if half {
                    f16_to_f32(registers[upper][lane] >> (16 * odd) & 0xffff)
                } else {
                    f32::from_bits(registers[2 * upper + odd][lane])
                };
            }
        }
    }
}

/// Register `i` of D's fragment.
#[inline(always)]
pub(crate) fn fragment(half: bool, d: &Sums, i: usize, register: &mut W) {
    for lane in 0..32 {
        register[lane] = if half {
            f32_to_f16(d[i][0][lane]) | f32_to_f16(d[i][1][lane]) << 16
        } else {
            canonical(d[i / 2][i % 2][lane])
        };
    }
}

/// C += A B for the first `k` columns of A: products and sums in f32, in ascending k. `simd` has it for hosts with wider
/// registers.
#[inline(always)]
pub(crate) fn accumulate(packed: usize, a: &Left, b: &Right, c: &mut Sums, k: usize) {
    for (a, [even, odd]) in a.iter().zip(c) {
        for (column, [b_even, b_odd]) in b.iter().enumerate().take(k) {
            let (part, q) = (column / (4 * packed) * packed + column % packed, column / packed % 4);
            for (p, (even, odd)) in even.as_chunks_mut::<8>().0.iter_mut().zip(odd.as_chunks_mut::<8>().0).enumerate() {
                let (x, y) = (a[part][8 * p + q], a[part][8 * p + 4 + q]);
                let row = [x, x, x, x, y, y, y, y];
                // No fused multiply-add: the products are exact, and all hosts shall agree.
                for j in 0..8 {
                    even[j] += row[j] * b_even[j];
                    odd[j] += row[j] * b_odd[j];
                }
            }
        }
    }
}

/// Storage of one product, kept between products because clearing it would cost as much as filling it.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub a: Left,
    pub b: Right,
    pub c: Sums,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch { a: [[[0.0; 32]; 4]; 2], b: [[[0.0; 8]; 2]; 16], c: [[[0.0; 32]; 2]; 2] }
    }
}

pub(crate) struct Multiply {
    pub input: Input,
    pub k: usize,
    pub a: Few,
    pub b: Few,
    pub c: Few,
    pub d: Few,
    /// Whether C and D are fp16, two per register.
    pub half: bool,
}

impl Rare for Multiply {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        whole_warp(cx, mask)?;
        cx.cta.counters.tensor_flops += 2 * 16 * 8 * self.k as u64;
        simd::product(self, cx.launch.tensor_cores, &mut cx.cta.scratch, &mut cx.warp.registers.w);
        Ok(Outcome::Next)
    }
}

impl Multiply {
    #[inline(always)]
    pub(crate) fn apply(
        &self,
        scratch: &mut Scratch,
        w: &mut [W],
        accumulate: impl Fn(usize, &Left, &Right, &mut Sums, usize),
    ) {
        match (self.input, self.half) {
            (Input::F16, false) => self.apply_to(Input::F16, false, scratch, w, accumulate),
            (Input::F16, true) => self.apply_to(Input::F16, true, scratch, w, accumulate),
            (Input::Bf16, _) => self.apply_to(Input::Bf16, false, scratch, w, accumulate),
            (Input::Tf32, _) => self.apply_to(Input::Tf32, false, scratch, w, accumulate),
        }
    }

    #[inline(always)]
    fn apply_to(
        &self,
        input: Input,
        half: bool,
        Scratch { a, b, c }: &mut Scratch,
        w: &mut [W],
        accumulate: impl Fn(usize, &Left, &Right, &mut Sums, usize),
    ) {
        let of = |slots: &Few| slots.places().map(|slot| &w[slot as usize]);
        left(input, &of(&self.a)[..self.a.len()], a);
        right(input, &of(&self.b)[..self.b.len()], b);
        sums(half, &of(&self.c), c);
        accumulate(input.packed(), a, b, c, self.k);
        for (i, &slot) in self.d.iter().enumerate() {
            fragment(half, c, i, &mut w[slot as usize]);
        }
    }
}
