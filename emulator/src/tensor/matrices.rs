//! `ldmatrix`, `stmatrix`, `movmatrix`: 8x8 matrices of 16-bit values between shared memory and fragments.
//!
//! In a fragment, lane 4r+q holds the elements (r, 2q) and (r, 2q+1), or for `.trans` (2q, r) and (2q+1, r).

use super::whole_warp;
use crate::decode::{Address, Outcome, Rare, Slot};
use crate::execute::Context;
use crate::fault::Checked;
use crate::memory::{Planes, W, Who};

/// Words of an 8x8 matrix: row, then pair of columns.
type Matrix = [[u32; 4]; 8];

fn to_fragment(matrix: &Matrix, transposed: bool) -> W {
    let mut row = [0; 32];
    for (lane, value) in row.iter_mut().enumerate() {
        let (r, q) = (lane / 4, lane % 4);
        *value = if transposed {
            let half = |i: usize| matrix[i][r / 2] >> (r % 2 * 16) & 0xffff;
            half(2 * q) | half(2 * q + 1) << 16
        } else {
            matrix[r][q]
        };
    }
    row
}

fn from_fragment(row: &W, transposed: bool) -> Matrix {
    let mut matrix = [[0u32; 4]; 8];
    for (lane, &value) in row.iter().enumerate() {
        let (r, q) = (lane / 4, lane % 4);
        if transposed {
            let shift = r % 2 * 16;
            matrix[2 * q][r / 2] |= (value & 0xffff) << shift;
            matrix[2 * q + 1][r / 2] |= (value >> 16) << shift;
        } else {
            matrix[r][q] = value;
        }
    }
    matrix
}

pub(crate) struct LoadMatrix {
    pub to: Vec<Slot>,
    pub address: Address,
    pub transposed: bool,
    /// Whether the address is generic rather than one of shared memory.
    pub generic: bool,
}

impl Rare for LoadMatrix {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        whole_warp(cx, mask)?;
        let address = cx.shared_addresses(&self.address, self.generic, mask)?;
        let used = ((1u64 << (8 * self.to.len())) - 1) as u32;
        cx.check_alignment(&address, used, 16)?;
        cx.count_shared(&address, used, 16);
        let mut planes: Planes = [[0; 32]; 4];
        let who = Who { warp: cx.warp.index, clocks: &cx.cta.clocks, collective: true };
        cx.cta.shared.load(who, &address, used, 16, &mut planes)?;
        for (i, &slot) in self.to.iter().enumerate() {
            let mut matrix = [[0; 4]; 8];
            for (r, row) in matrix.iter_mut().enumerate() {
                for (q, word) in row.iter_mut().enumerate() {
                    *word = planes[q][8 * i + r];
                }
            }
            cx.warp.registers.w[slot as usize] = to_fragment(&matrix, self.transposed);
        }
        Ok(Outcome::Next)
    }
}

pub(crate) struct StoreMatrix {
    pub from: Vec<Slot>,
    pub address: Address,
    pub transposed: bool,
    pub generic: bool,
}

impl Rare for StoreMatrix {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        whole_warp(cx, mask)?;
        let address = cx.shared_addresses(&self.address, self.generic, mask)?;
        let used = ((1u64 << (8 * self.from.len())) - 1) as u32;
        cx.check_alignment(&address, used, 16)?;
        cx.count_shared(&address, used, 16);
        let mut planes: Planes = [[0; 32]; 4];
        for (i, &slot) in self.from.iter().enumerate() {
            let matrix = from_fragment(&cx.warp.registers.w[slot as usize], self.transposed);
            for (r, row) in matrix.iter().enumerate() {
                for (q, &word) in row.iter().enumerate() {
                    planes[q][8 * i + r] = word;
                }
            }
        }
        let who = Who { warp: cx.warp.index, clocks: &cx.cta.clocks, collective: false };
        cx.cta.shared.store(who, &address, used, 16, &planes)?;
        Ok(Outcome::Next)
    }
}

pub(crate) struct TransposeMatrix {
    pub to: Slot,
    pub from: Slot,
}

impl Rare for TransposeMatrix {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        whole_warp(cx, mask)?;
        let matrix = from_fragment(&cx.warp.registers.w[self.from as usize], false);
        cx.warp.registers.w[self.to as usize] = to_fragment(&matrix, true);
        Ok(Outcome::Next)
    }
}
