//! Keeps the counters: instructions, sectors per request, bank conflicts.

use super::Context;
use crate::decode::Instruction;
use crate::memory::{D, lanes};

impl Context<'_, '_> {
    #[inline(always)]
    pub(super) fn count(&mut self, instruction: &Instruction, mask: u32) {
        let class = instruction.class as usize;
        // Most hosts' baseline has no instruction that counts bits.
        let active = if mask == u32::MAX { 32 } else { mask.count_ones() as u64 };
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
        // Accesses are aligned, so wide ones ask for whole pairs or quads of banks, by halves or quarters of the warp.
        let conflicts = match bytes {
            16 => conflicts::<8>(address, mask, 4),
            8 => conflicts::<16>(address, mask, 3),
            _ => conflicts::<32>(address, mask, 2),
        };
        self.cta.counters.bank_conflicts += conflicts;
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

/// Passes beyond the first that `LANES` lanes at a time need, where the banks are `LANES` units of `1 << shift` bytes.
#[inline(always)]
fn conflicts<const LANES: usize>(address: &D, mask: u32, shift: u32) -> u64 {
    let mut count = 0;
    for (part, address) in address.as_chunks::<LANES>().0.iter().enumerate() {
        let active = mask >> (part * LANES) & (u32::MAX >> (32 - LANES));
        // Every lane at a bank of its own, the usual case, has no conflicts.
        let mut banks = 0u32;
        for lane in 0..LANES {
            banks |= 1 << ((address[lane] >> shift) as usize % LANES);
        }
        if banks != u32::MAX >> (32 - LANES) && active != 0 {
            count += passes(address, active, shift) - 1;
        }
    }
    count
}

/// The most units that any one bank must deliver.
#[inline(always)]
fn passes<const LANES: usize>(address: &[u64; LANES], active: u32, shift: u32) -> u64 {
    // No bank is asked for two units: the usual case.
    let mut taken = [0u64; LANES];
    let mut used = 0u32;
    for lane in lanes(active) {
        let unit = address[lane] >> shift;
        let bank = unit as usize % LANES;
        if used >> bank & 1 == 0 {
            used |= 1 << bank;
            taken[bank] = unit;
        } else if taken[bank] != unit {
            return conflicting_passes(address, active, shift);
        }
    }
    1
}

#[inline(never)]
fn conflicting_passes<const LANES: usize>(address: &[u64; LANES], active: u32, shift: u32) -> u64 {
    // The distinct units of each bank as a chain through the lanes that named them first.
    let mut chains = [usize::MAX; LANES];
    let mut next = [usize::MAX; LANES];
    let mut depth = [0u64; LANES];
    for lane in lanes(active) {
        let unit = address[lane] >> shift;
        let bank = unit as usize % LANES;
        let mut at = chains[bank];
        while at < LANES && address[at] >> shift != unit {
            at = next[at];
        }
        if at == usize::MAX {
            next[lane] = chains[bank];
            chains[bank] = lane;
            depth[bank] += 1;
        }
    }
    depth.into_iter().max().unwrap_or(1)
}
