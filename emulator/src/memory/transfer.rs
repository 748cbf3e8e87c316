//! Loads and stores of a warp on global memory: a fast loop for what needs no diagnosis, a slow one for the rest.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::owners::Touch;
use super::view::{GlobalView, Worker, extent};
use super::{Allocation, D, Planes, VALID, byte_mask, lanes, value_mask, which};
use crate::fault::Checked;
use crate::simd;

impl GlobalView<'_> {
    /// Loads `bytes` (1, 2, 4, 8 or 16, aligned) per lane.
    pub(crate) fn load(&self, worker: &mut Worker, address: &D, mask: u32, bytes: u32, out: &mut Planes) -> Checked {
        let (low, high) = extent(address, mask);
        // All lanes at one address: load once.
        let first = mask.trailing_zeros() as usize;
        let ask = if low == high { 1 << first } else { mask };
        let end = high.saturating_add(bytes as u64);
        let mut left = ask;
        if let Some(a) = self.find(worker, low, end)
            && (self.access.is_none() || self.declared(worker, low, end, false))
        {
            let races = self.checks.global_races && !self.is_settled(worker);
            left = match (bytes, races) {
                (4, true) => self.load_words::<1, true>(worker, a, address, ask, out),
                (4, false) => self.load_words::<1, false>(worker, a, address, ask, out),
                (8, true) => self.load_words::<2, true>(worker, a, address, ask, out),
                (8, false) => self.load_words::<2, false>(worker, a, address, ask, out),
                (16, true) => self.load_words::<4, true>(worker, a, address, ask, out),
                (16, false) => self.load_words::<4, false>(worker, a, address, ask, out),
                _ => self.load_narrow(worker, a, address, ask, bytes, races, out),
            };
            if left != 0 && races && bytes >= 4 {
                left = self.claim_words(worker, a, address, left, bytes / 4);
            }
        }
        if left != 0 {
            self.load_slowly(worker, address, left, bytes, Touch::Read, out)?;
        }
        if low == high {
            for plane in &mut out[..bytes.div_ceil(4) as usize] {
                *plane = [plane[first]; 32];
            }
        }
        Ok(())
    }

    /// Loads what needs no diagnosis and no new race record. Returns the lanes that do; they are loaded as well, as far
    /// as they lie in the allocation.
    #[inline(always)]
    fn load_words<const K: usize, const RACES: bool>(
        &self,
        worker: &Worker,
        a: &Allocation,
        address: &D,
        mask: u32,
        out: &mut Planes,
    ) -> u32 {
        let [shared, read, _, both] = worker.quiet;
        let no_init = !self.checks.uninitialised;
        let epoch = (shared >> 56) as u8;
        let mut left = mask;
        for lane in lanes(mask) {
            let at = ((address[lane] - a.base) >> 2) as usize;
            if RACES
                && let (Some(calm), Some(words)) = (a.calm.get(at / 4), a.words.get(at..at + K))
                && calm.load(Relaxed) == epoch
            {
                for k in 0..K {
                    out[k][lane] = words[k].load(Relaxed);
                }
                left &= !(1 << lane);
                continue;
            }
            let (Some(words), Some(state)) = (a.words.get(at..at + K), a.state.get(at..at + K)) else { continue };
            let mut fine = true;
            for k in 0..K {
                fine &= no_init | (state[k].load(Relaxed) == VALID);
                out[k][lane] = words[k].load(Relaxed);
            }
            if RACES {
                // Wide accesses nearly always find the same owner in all their words: one question for all.
                let Some(owners) = a.owners.get(at..at + K) else { continue };
                let owner = owners[0].load(Relaxed);
                for k in 1..K {
                    fine &= owners[k].load(Relaxed) == owner;
                }
                fine &= (owner == shared) | (owner == read) | (owner == both);
            }
            left &= !((fine as u32) << lane);
        }
        left
    }

    /// Records the first reads by this CTA of words that nobody has written in this launch, or only this CTA; they have
    /// been loaded. Returns the lanes that are left.
    #[inline(never)]
    fn claim_words(&self, worker: &Worker, a: &Allocation, address: &D, mask: u32, words: u32) -> u32 {
        let mut left = mask;
        for lane in lanes(mask) {
            let at = ((address[lane] - a.base) >> 2) as usize;
            let range = at..at + words as usize;
            let (Some(state), Some(owners)) = (a.state.get(range.clone()), a.owners.get(range)) else { continue };
            let written = state.iter().all(|state| state.load(Relaxed) == VALID) || !self.checks.uninitialised;
            let recorded = |owner: &AtomicU64| {
                let bits = owner.load(Relaxed);
                match self.races.after_read(worker.quiet, bits) {
                    Some(next) if next == bits => true,
                    Some(next) => owner.compare_exchange(bits, next, Relaxed, Relaxed).is_ok(),
                    None => false,
                }
            };
            if written && owners.iter().all(recorded) {
                left &= !(1 << lane);
                self.note_calm(worker, a, at / 4);
            }
        }
        left
    }

    /// Marks sixteen bytes as calm if several CTAs have read all of them: whoever writes there, in this launch, is told of a
    /// race or passes by a fence, and neither changes the records.
    #[inline(always)]
    fn note_calm(&self, worker: &Worker, a: &Allocation, quad: usize) {
        let range = 4 * quad..4 * quad + 4;
        let (Some(state), Some(owners)) = (a.state.get(range.clone()), a.owners.get(range)) else { return };
        let [shared, ..] = worker.quiet;
        if owners.iter().all(|owner| owner.load(Relaxed) == shared)
            && state.iter().all(|state| state.load(Relaxed) == VALID)
        {
            a.calm[quad].store((shared >> 56) as u8, Relaxed);
        }
    }

    /// `load` by volatile, relaxed or acquiring instructions.
    pub(crate) fn load_strongly(
        &self,
        worker: &mut Worker,
        address: &D,
        mask: u32,
        bytes: u32,
        out: &mut Planes,
    ) -> Checked {
        self.load_slowly(worker, address, mask, bytes, Touch::StrongRead, out)
    }

    /// `store` by volatile, relaxed or releasing instructions.
    pub(crate) fn store_strongly(
        &self,
        worker: &mut Worker,
        address: &D,
        mask: u32,
        bytes: u32,
        data: &Planes,
    ) -> Checked {
        self.store_slowly(worker, address, mask, bytes, Touch::Atomic, data)
    }

    #[inline(never)]
    fn load_slowly(
        &self,
        worker: &mut Worker,
        address: &D,
        mask: u32,
        bytes: u32,
        touch: Touch,
        out: &mut Planes,
    ) -> Checked {
        let words = bytes.div_ceil(4) as usize;
        let races = self.checks.global_races;
        self.each_lane(worker, address, mask, bytes, false, |worker, lane, a, index| {
            let at = address[lane];
            if bytes < 4 {
                let need = byte_mask(at, bytes);
                self.check_state(a.state[index].load(Relaxed), need, lane, at)?;
                if races {
                    self.check_race(worker, &a.owners[index], lane, at, need, touch)?;
                }
                out[0][lane] = a.words[index].load(Relaxed) >> ((at & 3) * 8) & value_mask(bytes);
                return Ok(());
            }
            for k in 0..words {
                let at = at + 4 * k as u64;
                self.check_state(a.state[index + k].load(Relaxed), VALID, lane, at)?;
                if races {
                    self.check_race(worker, &a.owners[index + k], lane, at, VALID, touch)?;
                }
                out[k][lane] = a.words[index + k].load(Relaxed);
            }
            Ok(())
        })
    }

    /// Checks the addresses of a copy when it is issued; its data is read when it lands, so it is called for here.
    pub(crate) fn check_range(
        &self,
        worker: &mut Worker,
        address: &D,
        mask: u32,
        bytes: u32,
        exact: &super::W,
    ) -> Checked {
        if mask & which(|lane| exact[lane] != bytes) == 0 {
            return self.each_lane(worker, address, mask, bytes, false, |worker, _, a, index| {
                simd::prefetch(&a.words[index]);
                if a.calm[index / 4].load(Relaxed) != (worker.quiet[0] >> 56) as u8 {
                    simd::prefetch(&a.state[index]);
                    simd::prefetch(&a.owners[index]);
                }
                Ok(())
            });
        }
        for lane in lanes(mask) {
            self.each_lane(worker, address, 1 << lane, exact[lane], false, |_, _, _, _| Ok(()))?;
        }
        Ok(())
    }

    /// Stores `bytes` (1, 2, 4, 8 or 16, aligned) per lane.
    pub(crate) fn store(&self, worker: &mut Worker, address: &D, mask: u32, bytes: u32, data: &Planes) -> Checked {
        let (low, high) = extent(address, mask);
        let end = high.saturating_add(bytes as u64);
        let mut left = mask;
        if let Some(a) = self.find(worker, low, end)
            && !a.constant
            && (self.access.is_none() || self.declared(worker, low, end, true))
        {
            left = match bytes {
                4 => self.store_words::<1>(worker, a, address, mask, data),
                8 => self.store_words::<2>(worker, a, address, mask, data),
                16 => self.store_words::<4>(worker, a, address, mask, data),
                _ => self.store_narrow(worker, a, address, mask, bytes, data),
            };
        }
        if left != 0 {
            self.store_slowly(worker, address, left, bytes, Touch::Write, data)?;
        }
        Ok(())
    }

    /// Stores where this CTA is the first to touch the words, or the only one; returns the lanes that are left.
    #[inline(always)]
    fn store_words<const K: usize>(
        &self,
        worker: &Worker,
        a: &Allocation,
        address: &D,
        mask: u32,
        data: &Planes,
    ) -> u32 {
        // A claim waits for every store before it, so all claims come first, and what they need is asked for before them.
        let at = |lane: usize| ((address[lane] - a.base) >> 2) as usize;
        for lane in lanes(mask) {
            let at = at(lane);
            if let (Some(word), Some(state), Some(owner)) = (a.words.get(at), a.state.get(at), a.owners.get(at)) {
                simd::prefetch(owner);
                simd::prefetch(word);
                simd::prefetch(state);
            }
        }
        let mut claimed = 0u32;
        for lane in lanes(mask) {
            let Some(owners) = a.owners.get(at(lane)..at(lane) + K) else { continue };
            let mut fine = true;
            for owner in owners {
                fine &= self.claim_write(worker, owner);
            }
            claimed |= u32::from(fine) << lane;
        }
        let mut left = mask;
        for lane in lanes(claimed) {
            let at = at(lane);
            let (Some(words), Some(state)) = (a.words.get(at..at + K), a.state.get(at..at + K)) else { continue };
            for k in 0..K {
                words[k].store(data[k][lane], Relaxed);
                state[k].store(VALID, Relaxed);
            }
            left &= !(1 << lane);
        }
        left
    }

    /// Whether this CTA may write the word without judgement: it is the first to touch it, or the only one.
    #[inline(always)]
    pub(super) fn claim_write(&self, worker: &Worker, owner: &AtomicU64) -> bool {
        let [_, _, written, both] = worker.quiet;
        let bits = owner.load(Relaxed);
        let stale = bits >> 56 != written >> 56;
        (bits == written) | (bits == both) | !self.checks.global_races
            || (stale && owner.compare_exchange(bits, written, Relaxed, Relaxed).is_ok())
    }

    #[inline(never)]
    fn store_slowly(
        &self,
        worker: &mut Worker,
        address: &D,
        mask: u32,
        bytes: u32,
        touch: Touch,
        data: &Planes,
    ) -> Checked {
        let words = bytes.div_ceil(4) as usize;
        self.each_lane(worker, address, mask, bytes, true, |worker, lane, a, index| {
            let at = address[lane];
            if bytes < 4 {
                let shift = (at & 3) * 8;
                let cover = value_mask(bytes) << shift;
                let value = data[0][lane] << shift & cover;
                let need = byte_mask(at, bytes);
                self.check_store(worker, a, index, lane, at, need, touch, |word| word & cover == value)?;
                // Another CTA may own the word's other bytes, so the merge must be atomic.
                let _ = a.words[index].fetch_update(Relaxed, Relaxed, |old| Some(old & !cover | value));
                if a.state[index].load(Relaxed) & need != need {
                    a.state[index].fetch_or(need, Relaxed);
                }
                return Ok(());
            }
            for k in 0..words {
                let value = data[k][lane];
                let at = at + 4 * k as u64;
                self.check_store(worker, a, index + k, lane, at, VALID, touch, |word| word == value)?;
                a.words[index + k].store(value, Relaxed);
                a.state[index + k].store(VALID, Relaxed);
            }
            Ok(())
        })
    }

    /// Checks a store to a word, where `is_same` says whether it would change nothing.
    #[allow(clippy::too_many_arguments)]
    fn check_store(
        &self,
        worker: &Worker,
        a: &Allocation,
        index: usize,
        lane: usize,
        at: u64,
        need: u8,
        touch: Touch,
        is_same: impl Fn(u32) -> bool,
    ) -> Checked {
        if !self.checks.global_races {
            return Ok(());
        }
        let owner = &a.owners[index];
        let is_there = || a.state[index].load(Relaxed) & need == need && is_same(a.words[index].load(Relaxed));
        if touch == Touch::Write && is_there() {
            return self.check_race(worker, owner, lane, at, need, Touch::Rewrite);
        }
        let checked = self.check_race(worker, owner, lane, at, need, touch);
        if checked.is_ok() || touch != Touch::Write {
            return checked;
        }
        // Another thread of the host that has claimed the word may be about to store the same.
        for _ in 0..100 {
            if is_there() {
                return self.check_race(worker, owner, lane, at, need, Touch::Rewrite);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        checked
    }
}
