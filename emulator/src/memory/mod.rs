//! Device memories with shadow state: what is written, who wrote it, what is still in flight.

mod atomic;
mod clocks;
mod global;
mod landing;
mod narrow;
mod owners;
mod proxy;
mod quads;
mod shadows;
mod shared;
mod transfer;
mod view;

pub(crate) use atomic::{AtomicFn, AtomicOp};
pub(crate) use clocks::Clocks;
pub(crate) use global::{Allocation, GlobalMemory};
pub(crate) use owners::Races;
pub(crate) use shared::{SHARED_BASE, SharedMemory};
pub(crate) use view::{GlobalView, Worker, extent};

/// A 32-bit value per lane.
pub(crate) type W = [u32; 32];
/// A 64-bit value per lane.
pub(crate) type D = [u64; 32];
/// Up to 16 bytes per lane, as planes of words. Values of one or two bytes stand in the low bits of the first plane.
pub(crate) type Planes = [W; 4];

/// The low four bits of a word's state: which of its bytes hold a value.
pub(crate) const VALID: u8 = 0x0f;
/// An asynchronous copy will write this word.
pub(crate) const IN_FLIGHT: u8 = 0x10;
/// An asynchronous copy will read this word.
pub(crate) const LEAVING: u8 = 0x20;
/// Shared memory only: the word's bytes have race records of their own.
pub(crate) const SPLIT: u8 = 0x40;
/// Shared memory only, in all four words of a quad: they have race records of their own, not one for all.
pub(crate) const APART: u8 = 0x80;

/// The lanes of a mask, lowest first.
#[inline(always)]
pub(crate) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let lane = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        Some(lane)
    })
}

/// The lanes for which something holds; all 32 are asked, which vectorises.
#[inline(always)]
pub(crate) fn which(holds: impl Fn(usize) -> bool) -> u32 {
    let mut bits = [0u32; 32];
    for lane in 0..32 {
        bits[lane] = u32::from(holds(lane)) << lane;
    }
    bits.iter().fold(0, |all, bit| all | bit)
}

/// Byte mask within a word for an access of 1, 2 or 4 bytes at `address`.
#[inline(always)]
pub(crate) fn byte_mask(address: u64, bytes: u32) -> u8 {
    if bytes >= 4 { VALID } else { ((1u8 << bytes) - 1) << (address & 3) }
}

/// The bits of a word that an access of 1, 2 or 4 bytes covers, before shifting into place.
#[inline(always)]
pub(crate) fn value_mask(bytes: u32) -> u32 {
    if bytes >= 4 { u32::MAX } else { (1 << (bytes * 8)) - 1 }
}
