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

/// The values of one 32-bit register: those in the low halves, and those in the high halves.
#[inline(always)]
pub(crate) fn unpack(input: Input, row: &W) -> [[f32; 32]; 2] {
    let mut out = [[0.0; 32]; 2];
    match input {
        Input::Bf16 => {
            for lane in 0..32 {
                out[0][lane] = bf16_to_f32(row[lane]);
                out[1][lane] = f32::from_bits(row[lane] & 0xffff_0000);
            }
        }
        Input::F16 => {
            for lane in 0..32 {
                out[0][lane] = f16_to_f32(row[lane] & 0xffff);
                out[1][lane] = f16_to_f32(row[lane] >> 16);
            }
        }
        Input::Tf32 => {
            for lane in 0..32 {
                // The low 13 bits do not take part.
                out[0][lane] = f32::from_bits(row[lane] & 0xffff_e000);
            }
        }
    }
    out
}

/// A 16xK tile by K columns, K at most 16, as the inner loop wants it.
pub(crate) type TileA = [[f32; 16]; 16];
pub(crate) type TileB = [[f32; 8]; 16];
pub(crate) type TileC = [[f32; 8]; 16];

/// The k index of element `part` of register pair `r` in the thread's quarter `q`.
fn k_of(input: Input, r: usize, q: usize, part: usize) -> usize {
    match input {
        Input::Tf32 => 4 * r + q,
        _ => 8 * r + 2 * q + part,
    }
}

/// A from its fragment: registers alternate between rows 0-7 and 8-15, pairs of them go up in k.
pub(crate) fn tile_a(input: Input, rows: &[W]) -> TileA {
    let mut tile = [[0.0; 16]; 16];
    for (i, row) in rows.iter().enumerate() {
        let values = unpack(input, row);
        for part in 0..input.packed() {
            for lane in 0..32 {
                let (group, q) = (lane / 4, lane % 4);
                tile[group + i % 2 * 8][k_of(input, i / 2, q, part)] = values[part][lane];
            }
        }
    }
    tile
}

fn tile_b(input: Input, rows: &[W]) -> TileB {
    let mut tile = [[0.0; 8]; 16];
    for (i, row) in rows.iter().enumerate() {
        let values = unpack(input, row);
        for part in 0..input.packed() {
            for lane in 0..32 {
                let (group, q) = (lane / 4, lane % 4);
                tile[k_of(input, i, q, part)][group] = values[part][lane];
            }
        }
    }
    tile
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
        let w = &mut cx.warp.registers.w;
        let mut rows = [[0; 32]; 4];
        for (row, &slot) in rows.iter_mut().zip(&self.a) {
            *row = w[slot as usize];
        }
        let a = tile_a(self.input, &rows[..self.a.len()]);
        for (row, &slot) in rows.iter_mut().zip(&self.b) {
            *row = w[slot as usize];
        }
        let b = tile_b(self.input, &rows[..self.b.len()]);
        // C: register i holds column 2q + i % 2 of row group + i / 2 * 8.
        let mut c: TileC = [[0.0; 8]; 16];
        for i in 0..4 {
            let row = if self.half {
                w[self.c[i / 2] as usize].map(|x| f16_to_f32(x >> (i % 2 * 16) & 0xffff).to_bits())
            } else {
                w[self.c[i] as usize]
            };
            for lane in 0..32 {
                c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2] = f32::from_bits(row[lane]);
            }
        }
        simd::multiply(&a, &b, &mut c, self.k);
        let result = |i: usize, lane: usize| c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        for (i, &slot) in self.d.iter().enumerate() {
            let row = &mut w[slot as usize];
            for (lane, out) in row.iter_mut().enumerate() {
                *out = if self.half {
                    f32_to_f16(result(2 * i, lane)) | f32_to_f16(result(2 * i + 1, lane)) << 16
                } else {
                    crate::numeric::single::canonical(result(i, lane))
                };
            }
        }
        Ok(Outcome::Next)
    }
}
