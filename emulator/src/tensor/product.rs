//! `mma.sync`: D = A B + C on fragments spread over a warp.
//!
//! Products of the input formats are exact in f32; sums are taken in f32 in ascending k. Hardware sums in groups with
//! its own truncation, so results agree with a GPU to f32 rounding, not bit for bit.

use super::whole_warp;
use crate::decode::{Outcome, Rare, Slot};
use crate::execute::Context;
use crate::fault::Checked;
use crate::memory::W;
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_f16};
use crate::numeric::single::canonical;
use crate::simd;

/// Number formats of A and B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    F16,
    Bf16,
    Tf32,
}

impl Input {
    /// Values per 32-bit register.
    pub(crate) fn packed(self) -> usize {
        if self == Input::Tf32 { 1 } else { 2 }
    }
}

/// A 16xK tile by K columns, K at most 16, as the inner loop wants it.
pub(crate) type TileA = [[f32; 16]; 16];
pub(crate) type TileB = [[f32; 8]; 16];
pub(crate) type TileC = [[f32; 8]; 16];

/// The four registers that lanes 4g to 4g+3 hold are one row of eight 16-bit or four 32-bit values; row by row this
/// vectorises.
#[inline(always)]
fn widen(input: Input, words: &[u32], out: &mut [f32]) {
    for (&word, pair) in words.iter().zip(out.chunks_exact_mut(input.packed())) {
        match input {
            Input::Bf16 => {
                pair[0] = bf16_to_f32(word);
                pair[1] = f32::from_bits(word & 0xffff_0000);
            }
            Input::F16 => {
                pair[0] = f16_to_f32(word & 0xffff);
                pair[1] = f16_to_f32(word >> 16);
            }
            // The low 13 bits do not take part.
            Input::Tf32 => pair[0] = f32::from_bits(word & 0xffff_e000),
        }
    }
}

/// A from its fragment: registers alternate between rows 0-7 and 8-15, pairs of them go up in k.
#[inline(always)]
pub(crate) fn tile_a(input: Input, rows: &[&W], tile: &mut TileA) {
    let span = 4 * input.packed();
    for (i, row) in rows.iter().enumerate() {
        for (group, words) in row.chunks_exact(4).enumerate() {
            widen(input, words, &mut tile[group + i % 2 * 8][i / 2 * span..][..span]);
        }
    }
}

/// B from its fragment, which holds it by columns.
#[inline(always)]
pub(crate) fn tile_b(input: Input, rows: &[&W], tile: &mut TileB) {
    let span = 4 * input.packed();
    for (i, row) in rows.iter().enumerate() {
        let mut columns = [[0.0; 8]; 8];
        for (column, words) in columns.iter_mut().zip(row.chunks_exact(4)) {
            widen(input, words, &mut column[..span]);
        }
        for k in 0..span {
            for (j, column) in columns.iter().enumerate() {
                tile[i * span + k][j] = column[k];
            }
        }
    }
}

/// C from its fragment: register i holds columns 2q + i % 2 of rows g + i / 2 * 8, or two of them as fp16.
#[inline(always)]
pub(crate) fn tile_c(half: bool, rows: &[&W], tile: &mut TileC) {
    for g in 0..8 {
        for q in 0..4 {
            let lane = 4 * g + q;
            for upper in 0..2 {
                let pair = if half {
                    let word = rows[upper][lane];
                    [f16_to_f32(word & 0xffff), f16_to_f32(word >> 16)]
                } else {
                    [rows[2 * upper][lane], rows[2 * upper + 1][lane]].map(f32::from_bits)
                };
                tile[g + 8 * upper][2 * q..2 * q + 2].copy_from_slice(&pair);
            }
        }
    }
}

/// Register `i` of D's fragment.
#[inline(always)]
pub(crate) fn fragment_c(half: bool, tile: &TileC, i: usize, row: &mut W) {
    for g in 0..8 {
        for q in 0..4 {
            row[4 * g + q] = if half {
                f32_to_f16(tile[g + 8 * i][2 * q]) | f32_to_f16(tile[g + 8 * i][2 * q + 1]) << 16
            } else {
                canonical(tile[g + i / 2 * 8][2 * q + i % 2])
            };
        }
    }
}

pub(crate) struct Multiply {
    pub input: Input,
    pub k: usize,
    pub a: Vec<Slot>,
    pub b: Vec<Slot>,
    pub c: Vec<Slot>,
    pub d: Vec<Slot>,
    /// Whether C and D are fp16, two per register.
    pub half: bool,
}

impl Rare for Multiply {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        whole_warp(cx, mask)?;
        cx.cta.counters.tensor_flops += 2 * 16 * 8 * self.k as u64;
        simd::product(self, &mut cx.warp.registers.w);
        Ok(Outcome::Next)
    }
}

impl Multiply {
    #[inline(always)]
    pub(crate) fn apply(&self, w: &mut [W]) {
        match self.input {
            Input::F16 => self.apply_to(Input::F16, w),
            Input::Bf16 => self.apply_to(Input::Bf16, w),
            Input::Tf32 => self.apply_to(Input::Tf32, w),
        }
    }

    #[inline(always)]
    fn apply_to(&self, input: Input, w: &mut [W]) {
        let (mut a, mut b, mut c): (TileA, TileB, TileC) = ([[0.0; 16]; 16], [[0.0; 8]; 16], [[0.0; 8]; 16]);
        let row = |slots: &[Slot], i: usize| &w[slots[i.min(slots.len() - 1)] as usize];
        let of = |slots: &[Slot]| [row(slots, 0), row(slots, 1), row(slots, 2), row(slots, 3)];
        tile_a(input, &of(&self.a)[..self.a.len()], &mut a);
        tile_b(input, &of(&self.b)[..self.b.len()], &mut b);
        tile_c(self.half, &of(&self.c), &mut c);
        match self.k {
            16 => simd::multiply_with(&a, &b, &mut c, 16),
            k => simd::multiply_with(&a, &b, &mut c, k),
        }
        for (i, &slot) in self.d.iter().enumerate() {
            fragment_c(self.half, &c, i, &mut w[slot as usize]);
        }
    }
}
