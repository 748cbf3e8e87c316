//! Keeps the counters: instructions, sectors per request, bank conflicts.

use super::Context;
use crate::decode::Instruction;
use crate::memory::{D, lanes};

impl Context<'_, '_> {
    #[inline(always)]
    pub(super) fn count(&mut self, instruction: &Instruction, mask: u32) {
        let class = instruction.class as usize;
        let active = mask.count_ones() as u64;
        let counters = &mut self.cta.counters;
        self.warp.steps += 1;
        counters.instructions[class] += 1;
        counters.lanes[class] += active;
        counters.scalar_flops += active * instruction.flops as u64;
    }

    /// Counts a request to global memory.
    #[inline(always)]
    pub(crate) fn count_global(&mut self, address: &D, mask: u32, bytes: u32, write: bool) {
        let counters = &mut self.cta.counters;
        let total = mask.count_ones() as u64 * bytes as u64;
        if write {
            counters.global_store_bytes += total;
        } else {
            counters.global_load_bytes += total;
        }
        counters.global_requests += 1;
        counters.global_sectors += sectors(address, mask);
    }

    /// Counts a request to shared memory and the passes that its bank conflicts cost.
    pub(crate) fn count_shared(&mut self, address: &D, mask: u32, bytes: u32) {
        self.cta.counters.shared_requests += 1;
        // Wide accesses go by halves or quarters of the warp.
        let lanes_at_once = match bytes {
            16 => 8,
            8 => 16,
            _ => 32,
        };
        let mut part = (1u64 << lanes_at_once) as u32;
        part = part.wrapping_sub(1);
        let mut first = 0;
        while first < 32 {
            let active = mask & part << first;
            if active != 0 {
                self.cta.counters.bank_conflicts += passes(address, active, bytes.div_ceil(4) as u64) - 1;
            }
            first += lanes_at_once;
        }
    }
}

/// Distinct 32-byte sectors. Accesses are aligned and at most 16 bytes, so each lies in one sector.
#[inline(always)]
fn sectors(address: &D, mask: u32) -> u64 {
    let first = address[mask.trailing_zeros() as usize & 31] >> 5;
    if mask == u32::MAX && address.iter().fold(0, |other, at| other | (at >> 5 ^ first)) == 0 {
        return 1;
    }
    let mut count = 0;
    let mut last = u64::MAX;
    let mut ascending = true;
    for lane in lanes(mask) {
        let sector = address[lane] >> 5;
        if sector != last {
            count += 1;
            ascending &= last == u64::MAX || sector > last;
            last = sector;
        }
    }
    if ascending {
        return count;
    }
    let mut all = [u64::MAX; 32];
    for lane in lanes(mask) {
        all[lane] = address[lane] >> 5;
    }
    all.sort_unstable();
    let distinct = all.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64 + 1;
    distinct - u64::from(mask != u32::MAX)
}

/// The most words that any one bank must deliver.
fn passes(address: &D, mask: u32, words: u64) -> u64 {
    // Neighbouring lanes on neighbouring words: the usual case, free of conflicts.
    let first = mask.trailing_zeros() as usize;
    if lanes(mask).all(|lane| address[lane] == address[first] + (lane - first) as u64 * 4 * words) {
        return 1;
    }
    let mut seen = [[0u64; 32]; 32];
    let mut depth = [0u8; 32];
    let mut most = 1;
    for lane in lanes(mask) {
        for k in 0..words {
            let word = (address[lane] >> 2) + k;
            let bank = word as usize & 31;
            let used = &mut depth[bank];
            if !seen[bank][..*used as usize].contains(&word) && (*used as usize) < 32 {
                seen[bank][*used as usize] = word;
                *used += 1;
                most = most.max(*used as u64);
            }
        }
    }
    most
}
