//! Global memory as one launch sees it: bounds, declared ranges, initialisation and races, a warp at a time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::owners::{Races, Touch};
use super::{Allocation, D, IN_FLIGHT, Planes, VALID, byte_mask, lanes, value_mask};
use crate::fault::{Checked, FaultKind, problem};
use crate::launch::{Access, Checks};

/// What a host thread remembers between accesses.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    /// Allocation of the last access.
    hint: usize,
    /// Declared range of the last access.
    range_hint: usize,
    /// Race identity of the current CTA and the entries that need no update.
    pub identity: u32,
    quiet: [u64; 4],
}

#[derive(Debug)]
pub(crate) struct GlobalView<'a> {
    pub allocations: Vec<&'a Allocation>,
    pub freed: &'a [(u64, u64)],
    /// Sorted by start.
    pub access: Option<Vec<Access>>,
    pub checks: Checks,
    pub races: Races,
}

impl<'a> GlobalView<'a> {
    pub(crate) fn enter_cta(&self, worker: &mut Worker, cta: u64) {
        worker.identity = Races::identity(cta);
        worker.quiet = self.races.quiet(worker.identity);
    }

    /// The allocation that holds `[low, high)`.
    #[inline(always)]
    pub(super) fn find(&self, worker: &mut Worker, low: u64, high: u64) -> Option<&'a Allocation> {
        let hit = |a: &Allocation| a.base <= low && high <= a.end() && low < high;
        if let Some(a) = self.allocations.get(worker.hint)
            && hit(a)
        {
            return Some(a);
        }
        let after = self.allocations.partition_point(|a| a.base <= low);
        let index = after.checked_sub(1)?;
        worker.hint = index;
        Some(self.allocations[index]).filter(|a| hit(a))
    }

    fn missing<T>(&self, lane: usize, address: u64, bytes: u32) -> Checked<T> {
        let end = address.wrapping_add(bytes as u64);
        if let Some((base, size)) = self.freed.iter().find(|(base, size)| address < base + size && end > *base) {
            let offset = address.wrapping_sub(*base) as i64;
            return problem(
                FaultKind::UseAfterFree,
                lane,
                format!("{bytes} bytes at 0x{address:x}, offset {offset} of a freed allocation of {size} bytes"),
            );
        }
        let distance = |a: &&&Allocation| {
            if address < a.base { a.base - address } else { address.wrapping_sub(a.end()).wrapping_add(1) }
        };
        let place = match self.allocations.iter().min_by_key(distance) {
            Some(a) if address < a.base => format!("{} bytes before an allocation of {}", a.base - address, a.size),
            Some(a) => format!("offset {} of an allocation of {} bytes", address - a.base, a.size),
            None => "nothing is allocated".into(),
        };
        problem(FaultKind::OutOfBounds, lane, format!("{bytes} bytes at 0x{address:x}: {place}"))
    }

    /// Whether `[low, high)` lies in one declared range that allows the access.
    fn declared(&self, worker: &mut Worker, low: u64, high: u64, write: bool) -> bool {
        let Some(ranges) = &self.access else { return true };
        let allows = |r: &Access| r.start <= low && high <= r.end && if write { r.write } else { r.read };
        if ranges.get(worker.range_hint).is_some_and(allows) {
            return true;
        }
        // Ranges may overlap (the same buffer read under two names), so all that start before are candidates.
        let after = ranges.partition_point(|r| r.start <= low);
        match ranges[..after].iter().rposition(allows) {
            Some(index) => {
                worker.range_hint = index;
                true
            }
            None => false,
        }
    }

    fn check_declared(&self, worker: &mut Worker, lane: usize, address: u64, bytes: u32, write: bool) -> Checked {
        if self.declared(worker, address, address + bytes as u64, write) {
            return Ok(());
        }
        let verb = if write { "write" } else { "read" };
        let ranges = self.access.as_deref().unwrap_or_default();
        let distance = |r: &&Access| {
            if address < r.start { r.start - address } else { address.saturating_sub(r.end.saturating_sub(1)) }
        };
        let near = match ranges.iter().min_by_key(distance) {
            Some(r) => {
                let offset = address.wrapping_sub(r.start) as i64;
                format!("offset {offset} of `{}` ({} bytes, {})", r.name, r.end - r.start, r.mode())
            }
            None => "no range is declared".into(),
        };
        problem(FaultKind::AccessDenied, lane, format!("{verb} of {bytes} bytes at 0x{address:x}: {near}"))
    }

    /// Runs `f` for every lane with its allocation and word index, after all address checks.
    #[inline(always)]
    pub(super) fn each_lane(
        &self,
        worker: &mut Worker,
        address: &D,
        mask: u32,
        bytes: u32,
        write: bool,
        mut f: impl FnMut(&Worker, usize, &Allocation, usize) -> Checked,
    ) -> Checked {
        let (low, high) = extent(address, mask);
        let end = high.saturating_add(bytes as u64);
        if let Some(a) = self.find(worker, low, end)
            && (self.access.is_none() || self.declared(worker, low, end, write))
            && !(write && a.constant)
        {
            if mask == u32::MAX {
                for lane in 0..32 {
                    f(worker, lane, a, ((address[lane] - a.base) >> 2) as usize)?;
                }
            } else {
                for lane in lanes(mask) {
                    f(worker, lane, a, ((address[lane] - a.base) >> 2) as usize)?;
                }
            }
            return Ok(());
        }
        for lane in lanes(mask) {
            let at = address[lane];
            let Some(a) = self.find(worker, at, at.saturating_add(bytes as u64)) else {
                return self.missing(lane, at, bytes);
            };
            self.check_declared(worker, lane, at, bytes, write)?;
            if write && a.constant {
                return problem(FaultKind::ReadOnly, lane, format!("{bytes} bytes at 0x{at:x}"));
            }
            f(worker, lane, a, ((at - a.base) >> 2) as usize)?;
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn check_state(&self, state: u8, need: u8, lane: usize, address: u64) -> Checked {
        if state & need == need || !self.checks.uninitialised {
            return Ok(());
        }
        debug_assert!(state & IN_FLIGHT == 0);
        problem(FaultKind::Uninitialised, lane, format!("global address 0x{address:x}"))
    }

    #[inline(always)]
    pub(super) fn check_race(
        &self,
        worker: &Worker,
        slot: &AtomicU64,
        lane: usize,
        address: u64,
        need: u8,
        touch: Touch,
    ) -> Checked {
        let bits = slot.load(Relaxed);
        let [shared, read, written, both] = worker.quiet;
        let quiet = match touch {
            Touch::Read => (bits == shared) | (bits == read) | (bits == both),
            Touch::Write => (bits == written) | (bits == both),
            Touch::Atomic => false,
        };
        if quiet {
            return Ok(());
        }
        if let Err(other) = self.races.touch(slot, address, worker.identity, need, touch) {
            let other = other.map_or("several CTAs".into(), |cta| format!("CTA {cta} (linear index)"));
            let verb = if touch == Touch::Read { "reads" } else { "writes" };
            return problem(
                FaultKind::GlobalRace,
                lane,
                format!("{verb} 0x{address:x}, which {other} touched in the same launch without synchronisation"),
            );
        }
        Ok(())
    }

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
            left = match bytes {
                4 => self.load_words::<1>(worker, a, address, ask, out),
                8 => self.load_words::<2>(worker, a, address, ask, out),
                16 => self.load_words::<4>(worker, a, address, ask, out),
                _ => ask,
            };
        }
        if left != 0 {
            self.load_slowly(worker, address, left, bytes, out)?;
        }
        if low == high {
            for plane in &mut out[..bytes.div_ceil(4) as usize] {
                *plane = [plane[first]; 32];
            }
        }
        Ok(())
    }

    /// Loads what needs no diagnosis and no new race record; returns the lanes that are left.
    #[inline(always)]
    fn load_words<const K: usize>(
        &self,
        worker: &Worker,
        a: &Allocation,
        address: &D,
        mask: u32,
        out: &mut Planes,
    ) -> u32 {
        let [shared, read, _, both] = worker.quiet;
        let (no_init, no_races) = (!self.checks.uninitialised, !self.checks.global_races);
        let mut left = mask;
        for lane in lanes(mask) {
            let at = ((address[lane] - a.base) >> 2) as usize;
            let (Some(words), Some(state), Some(owners)) =
                (a.words.get(at..at + K), a.state.get(at..at + K), a.owners.get(at..at + K))
            else {
                continue;
            };
            let mut fine = true;
            for k in 0..K {
                fine &= (state[k].load(Relaxed) == VALID) | no_init;
                let owner = owners[k].load(Relaxed);
                fine &= (owner == shared) | (owner == read) | (owner == both) | no_races;
                out[k][lane] = words[k].load(Relaxed);
            }
            left &= !((fine as u32) << lane);
        }
        left
    }

    #[inline(never)]
    fn load_slowly(&self, worker: &mut Worker, address: &D, mask: u32, bytes: u32, out: &mut Planes) -> Checked {
        let words = bytes.div_ceil(4) as usize;
        let races = self.checks.global_races;
        self.each_lane(worker, address, mask, bytes, false, |worker, lane, a, index| {
            let at = address[lane];
            if bytes < 4 {
                let need = byte_mask(at, bytes);
                self.check_state(a.state[index].load(Relaxed), need, lane, at)?;
                if races {
                    self.check_race(worker, &a.owners[index], lane, at, need, Touch::Read)?;
                }
                out[0][lane] = a.words[index].load(Relaxed) >> ((at & 3) * 8) & value_mask(bytes);
                return Ok(());
            }
            for k in 0..words {
                let at = at + 4 * k as u64;
                self.check_state(a.state[index + k].load(Relaxed), VALID, lane, at)?;
                if races {
                    self.check_race(worker, &a.owners[index + k], lane, at, VALID, Touch::Read)?;
                }
                out[k][lane] = a.words[index + k].load(Relaxed);
            }
            Ok(())
        })
    }

    /// Checks the addresses of a copy when it is issued; its data is read when it lands.
    pub(crate) fn check_range(
        &self,
        worker: &mut Worker,
        address: &D,
        mask: u32,
        bytes: u32,
        exact: &super::W,
    ) -> Checked {
        if lanes(mask).all(|lane| exact[lane] == bytes) {
            return self.each_lane(worker, address, mask, bytes, false, |_, _, _, _| Ok(()));
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
        if bytes >= 4
            && let Some(a) = self.find(worker, low, end)
            && !a.constant
            && (self.access.is_none() || self.declared(worker, low, end, true))
        {
            left = match bytes {
                4 => self.store_words::<1>(worker, a, address, mask, data),
                8 => self.store_words::<2>(worker, a, address, mask, data),
                _ => self.store_words::<4>(worker, a, address, mask, data),
            };
        }
        if left != 0 {
            self.store_slowly(worker, address, left, bytes, data)?;
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
        let [_, _, written, both] = worker.quiet;
        let no_races = !self.checks.global_races;
        let mut left = mask;
        for lane in lanes(mask) {
            let at = ((address[lane] - a.base) >> 2) as usize;
            let (Some(words), Some(state), Some(owners)) =
                (a.words.get(at..at + K), a.state.get(at..at + K), a.owners.get(at..at + K))
            else {
                continue;
            };
            let mut fine = true;
            for owner in owners {
                let bits = owner.load(Relaxed);
                let stale = bits >> 56 != written >> 56;
                fine &= (bits == written) | (bits == both) | no_races
                    || (stale && owner.compare_exchange(bits, written, Relaxed, Relaxed).is_ok());
            }
            if fine {
                for k in 0..K {
                    words[k].store(data[k][lane], Relaxed);
                    state[k].store(VALID, Relaxed);
                }
                left &= !(1 << lane);
            }
        }
        left
    }

    #[inline(never)]
    fn store_slowly(&self, worker: &mut Worker, address: &D, mask: u32, bytes: u32, data: &Planes) -> Checked {
        let words = bytes.div_ceil(4) as usize;
        let races = self.checks.global_races;
        self.each_lane(worker, address, mask, bytes, true, |worker, lane, a, index| {
            let at = address[lane];
            if bytes < 4 {
                let need = byte_mask(at, bytes);
                if races {
                    self.check_race(worker, &a.owners[index], lane, at, need, Touch::Write)?;
                }
                let shift = (at & 3) * 8;
                let keep = !(value_mask(bytes) << shift);
                let value = (data[0][lane] & value_mask(bytes)) << shift;
                // Another CTA may own the word's other bytes, so the merge must be atomic.
                let _ = a.words[index].fetch_update(Relaxed, Relaxed, |old| Some(old & keep | value));
                if a.state[index].load(Relaxed) & need != need {
                    a.state[index].fetch_or(need, Relaxed);
                }
                return Ok(());
            }
            for k in 0..words {
                if races {
                    self.check_race(worker, &a.owners[index + k], lane, at + 4 * k as u64, VALID, Touch::Write)?;
                }
                a.words[index + k].store(data[k][lane], Relaxed);
                a.state[index + k].store(VALID, Relaxed);
            }
            Ok(())
        })
    }
}

#[inline(always)]
fn extent(address: &D, mask: u32) -> (u64, u64) {
    let mut low = u64::MAX;
    let mut high = 0;
    if mask == u32::MAX {
        for &at in address {
            low = low.min(at);
            high = high.max(at);
        }
    } else {
        for lane in lanes(mask) {
            low = low.min(address[lane]);
            high = high.max(address[lane]);
        }
    }
    (low, high)
}
