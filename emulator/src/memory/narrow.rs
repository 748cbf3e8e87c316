//! Loads and stores of one and two bytes in global memory: neighbouring lanes that share a word are one access to it, so
//! that the usual contiguous rows of 16-bit numbers need one look per word, and a race record of whole words.

use std::sync::atomic::Ordering::Relaxed;

use super::view::{GlobalView, Worker};
use super::{Allocation, D, Planes, VALID, byte_mask, lanes, value_mask};

/// Neighbouring lanes whose bytes lie in one word.
struct Group {
    word: usize,
    /// Bytes of the word, as bits.
    need: u8,
    lanes: u32,
}

fn groups<'a>(address: &'a D, base: u64, mask: u32, bytes: u32) -> impl Iterator<Item = Group> + 'a {
    let mut rest = mask;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let word = (address[rest.trailing_zeros() as usize] - base) >> 2;
        let mut group = Group { word: word as usize, need: 0, lanes: 0 };
        for lane in lanes(rest) {
            if (address[lane] - base) >> 2 != word {
                break;
            }
            group.need |= byte_mask(address[lane], bytes);
            group.lanes |= 1 << lane;
        }
        rest &= !group.lanes;
        Some(group)
    })
}

impl GlobalView<'_> {
    /// Loads what needs no diagnosis and at most a plain race record; returns the lanes that are left.
    #[allow(clippy::too_many_arguments)] // A warp access and what its caller has found out about it.
    pub(super) fn load_narrow(
        &self,
        worker: &Worker,
        a: &Allocation,
        address: &D,
        mask: u32,
        bytes: u32,
        races: bool,
        out: &mut Planes,
    ) -> u32 {
        let mut left = mask;
        for group in groups(address, a.base, mask, bytes) {
            let (Some(word), Some(state), Some(owner)) =
                (a.words.get(group.word), a.state.get(group.word), a.owners.get(group.word))
            else {
                continue;
            };
            if state.load(Relaxed) & group.need != group.need && self.checks.uninitialised {
                continue;
            }
            if races {
                let bits = owner.load(Relaxed);
                let quiet = self.races.is_read(worker.identity, bits, group.need);
                let next = if group.need == VALID { self.races.after_read(worker.quiet, bits) } else { None };
                let claimed = next.is_some_and(|next| owner.compare_exchange(bits, next, Relaxed, Relaxed).is_ok());
                if !quiet && !claimed {
                    continue;
                }
            }
            let value = word.load(Relaxed);
            for lane in lanes(group.lanes) {
                out[0][lane] = value >> ((address[lane] & 3) * 8) & value_mask(bytes);
            }
            left &= !group.lanes;
        }
        left
    }

    /// Stores where lanes fill whole words that this CTA is the first to touch, or the only one; returns the lanes that
    /// are left.
    pub(super) fn store_narrow(
        &self,
        worker: &Worker,
        a: &Allocation,
        address: &D,
        mask: u32,
        bytes: u32,
        data: &Planes,
    ) -> u32 {
        let mut left = mask;
        for group in groups(address, a.base, mask, bytes) {
            let (Some(word), Some(state), Some(owner)) =
                (a.words.get(group.word), a.state.get(group.word), a.owners.get(group.word))
            else {
                continue;
            };
            if group.need != VALID || !self.claim_write(worker, owner) {
                continue;
            }
            // Of lanes that store to the same byte the last one wins.
            let merge = |value: u32, lane: usize| {
                let shift = (address[lane] & 3) * 8;
                value & !(value_mask(bytes) << shift) | (data[0][lane] & value_mask(bytes)) << shift
            };
            word.store(lanes(group.lanes).fold(0, merge), Relaxed);
            state.store(VALID, Relaxed);
            left &= !group.lanes;
        }
        left
    }
}
