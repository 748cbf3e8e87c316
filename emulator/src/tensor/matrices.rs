//! `ldmatrix`, `stmatrix`, `movmatrix`: 8x8 matrices of 16-bit values between shared memory and fragments.
//!
//! In a fragment, lane 4r+q holds the elements (r, 2q) and (r, 2q+1), or for `.trans` (2q, r) and (2q+1, r).

use super::whole_warp;
use crate::decode::{Address, Few, Outcome, Rare, Slot};
use crate::execute::Context;
use crate::fault::Checked;
use crate::memory::{Planes, W};

/// Words of an 8x8 matrix, row by row, are just a fragment's register; this turns it into that of the transposed one, and
/// back.
#[inline(always)]
pub(super) fn transpose(rows: &W) -> W {
    let mut turned = [0; 32];
    for s in 0..4 {
        for q in 0..4 {
            // Columns 2s and 2s + 1 of rows 2q and 2q + 1.
            let (upper, lower) = (rows[8 * q + s], rows[8 * q + 4 + s]);
            turned[8 * s + q] = upper & 0xffff | lower << 16;
            turned[8 * s + 4 + q] = upper >> 16 | lower & 0xffff_0000;
        }
    }
    turned
}

pub(crate) struct LoadMatrix {
    pub to: Few,
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
        let who = cx.cta.clocks.who(cx.warp.index, true);
        for (i, (&slot, rows)) in self.to.iter().zip(address.as_chunks::<8>().0).enumerate() {
            let matrix = cx.cta.shared.read_rows(who, 8 * i, rows)?;
            cx.warp.registers.w[slot as usize] = if self.transposed { transpose(&matrix) } else { matrix };
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
            let register = &cx.warp.registers.w[slot as usize];
            let matrix = if self.transposed { transpose(register) } else { *register };
            for (lane, word) in matrix.into_iter().enumerate() {
                planes[lane % 4][8 * i + lane / 4] = word;
            }
        }
        let who = cx.cta.clocks.who(cx.warp.index, false);
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
        cx.warp.registers.w[self.to as usize] = transpose(&cx.warp.registers.w[self.from as usize]);
        Ok(Outcome::Next)
    }
}
