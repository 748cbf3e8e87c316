//! Global memory as one launch sees it: bounds, declared ranges, initialisation and races, a warp at a time.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::owners::{Races, Touch};
use super::{Allocation, D, IN_FLIGHT, byte_mask, lanes};
use crate::fault::{Checked, FaultKind, Problem, Suspect, problem};
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
    pub(super) quiet: [u64; 4],
    /// Plain reads of what atomics write, by the instruction that is executed.
    pub suspects: RefCell<Vec<Suspect>>,
}

#[derive(Debug)]
pub(crate) struct GlobalView<'a> {
    pub allocations: Vec<&'a Allocation>,
    pub freed: &'a [(u64, u64)],
    /// Sorted by start.
    pub access: Option<Vec<Access>>,
    /// Per range of `access`: nothing may write it, so its reads cannot race.
    pub settled: Vec<bool>,
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

    /// The text that begins here and ends with a zero.
    pub(crate) fn text(&self, address: u64) -> Option<String> {
        let a = self.allocations.iter().find(|a| a.base <= address && address < a.end())?;
        let byte = |at: u64| {
            let offset = at - a.base;
            (a.words[(offset / 4) as usize].load(Relaxed) >> (8 * (offset % 4))) as u8
        };
        let bytes: Vec<u8> = (address..a.end()).map(byte).take_while(|&byte| byte != 0).collect();
        Some(String::from_utf8_lossy(&bytes).into_owned())
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

    /// Which ranges nothing may write.
    pub(crate) fn settled(access: Option<&[Access]>) -> Vec<bool> {
        let ranges = access.unwrap_or_default();
        let is_free = |r: &Access| !ranges.iter().any(|w| w.write && w.start < r.end && r.start < w.end);
        ranges.iter().map(is_free).collect()
    }

    /// Whether the declared range of the last access is one that nothing may write.
    #[inline(always)]
    pub(super) fn is_settled(&self, worker: &Worker) -> bool {
        self.settled.get(worker.range_hint).copied().unwrap_or(false)
    }

    /// Whether `[low, high)` lies in one declared range that allows the access.
    pub(super) fn declared(&self, worker: &mut Worker, low: u64, high: u64, write: bool) -> bool {
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

    /// Checks a read through a cache that sees no writes of the launch.
    pub(crate) fn check_read_only(&self, worker: &mut Worker, address: &D, mask: u32, bytes: u32) -> Checked {
        if !self.checks.global_races || self.is_settled(worker) {
            return Ok(());
        }
        for lane in lanes(mask) {
            let at = address[lane];
            let Some(a) = self.find(worker, at, at + u64::from(bytes)) else { continue };
            let index = ((at - a.base) >> 2) as usize;
            for owner in &a.owners[index..index + bytes.div_ceil(4) as usize] {
                if self.races.has_write(owner.load(Relaxed), byte_mask(at, bytes)) {
                    let message = format!("0x{at:x} was written in the same launch, which this cache may not see");
                    return problem(FaultKind::StaleRead, lane, message);
                }
            }
        }
        Ok(())
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
            Touch::Write | Touch::Rewrite => (bits == written) | (bits == both),
            Touch::Atomic | Touch::StrongRead => false,
        };
        if quiet {
            return Ok(());
        }
        if let Err(other) = self.races.touch(slot, address, worker.identity, need, touch) {
            let name = other.map_or("several CTAs".into(), |cta| format!("CTA {cta} (linear index)"));
            let verb = if matches!(touch, Touch::Read | Touch::StrongRead) { "reads" } else { "writes" };
            let message =
                format!("{verb} 0x{address:x}, which {name} touched in the same launch without synchronisation");
            let problem = Box::new(Problem { kind: FaultKind::GlobalRace, lane: lane as u32, message });
            // Nobody in particular has written it: atomics have.
            if touch == Touch::Read && other.is_none() {
                worker.suspects.borrow_mut().push(Suspect { lane, address, at: 0, problem });
                return Ok(());
            }
            return Err(problem);
        }
        Ok(())
    }
}

/// The lowest and the highest address of the lanes.
#[inline(always)]
pub(crate) fn extent(address: &D, mask: u32) -> (u64, u64) {
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
