//! Vector clocks of a CTA's warps, and what each byte of shared memory remembers of its last accesses.
//!
//! Every warp has a clock that advances when it synchronises, and knows the latest clock of every other warp that
//! happened before. An access races when the other one's clock is not known to have happened before.

use super::lanes;

/// Stamps hold a clock of 21 bits above a thread index of 10, and a mark for atomics above both.
const MAX_TICK: u32 = (1 << 21) - 2;
const ATOMIC: u32 = 1 << 31;

/// The vector clocks of a CTA's warps.
#[derive(Debug, Clone)]
pub(crate) struct Clocks {
    tick: u32,
    pub now: [u32; 32],
    /// `known[w][v]`: the latest clock of warp v that happened before what warp w does now. For w itself: its lanes have met
    /// since then.
    pub known: [[u32; 32]; 32],
    /// `floor[w]`: the least entry of `known[w]` over the CTA's other warps.
    floor: [u32; 32],
    warps: usize,
}

impl Clocks {
    pub(crate) fn new(warps: usize) -> Clocks {
        Clocks { tick: 1, now: [1; 32], known: [[0; 32]; 32], floor: [0; 32], warps }
    }

    /// All warps of `members` have met: each knows what any of them knew.
    pub(crate) fn join(&mut self, members: u32) {
        let mut all = [0u32; 32];
        for warp in lanes(members) {
            for (sum, &known) in all.iter_mut().zip(&self.known[warp]) {
                *sum = (*sum).max(known);
            }
            all[warp] = all[warp].max(self.now[warp]);
        }
        self.tick += 1;
        for warp in lanes(members) {
            self.known[warp] = all;
            self.now[warp] = self.tick;
            self.refresh(warp);
        }
    }

    /// Whether the clock runs out of bits; then all shadows must be renewed with it.
    pub(super) fn is_spent(&self) -> bool {
        self.tick >= MAX_TICK
    }

    pub(super) fn renew(&mut self) {
        *self = Clocks::new(self.warps);
    }

    fn refresh(&mut self, warp: usize) {
        let known = &self.known[warp];
        self.floor[warp] = (0..self.warps).filter(|&v| v != warp).map(|v| known[v]).min().unwrap_or(u32::MAX);
    }

    /// The warp as the one that makes an access, as a whole (`collective`) or lane by lane.
    pub(crate) fn who(&self, warp: usize, collective: bool) -> Who<'_> {
        let known = &self.known[warp];
        Who { warp, now: self.now[warp], own: known[warp], floor: self.floor[warp], known, collective }
    }

    /// Whether what `other` did at this clock happened before what any lane of `warp` does now.
    pub(crate) fn knows(&self, warp: usize, other: usize, clock: u32) -> bool {
        clock <= self.known[warp][other]
    }

    /// The lanes of one warp have met.
    pub(crate) fn warp_sync(&mut self, warp: usize) {
        self.known[warp][warp] = self.now[warp];
        self.tick += 1;
        self.now[warp] = self.tick;
    }

    /// What others learn from this warp when they meet its signal; the warp moves on to a new clock.
    pub(crate) fn release(&mut self, warp: usize) -> [u32; 32] {
        let mut known = self.known[warp];
        known[warp] = self.now[warp];
        self.warp_sync(warp);
        known
    }

    /// The same for a fence or a release of single lanes, after which the lanes of the warp have not met.
    pub(crate) fn publish(&mut self, warp: usize) -> [u32; 32] {
        let mut known = self.known[warp];
        known[warp] = self.now[warp];
        // Spinning threads may do this for ever: what comes later then counts as known too soon.
        if !self.is_spent() {
            self.tick += 1;
            self.now[warp] = self.tick;
        }
        known
    }

    pub(crate) fn acquire(&mut self, warp: usize, known: &[u32; 32]) {
        for (mine, &theirs) in self.known[warp].iter_mut().zip(known) {
            *mine = (*mine).max(theirs);
        }
        self.refresh(warp);
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shadow {
    /// atomic << 31 | clock << 10 | thread; 0: never written.
    pub(super) write: u32,
    /// warps << 32 | clock << 6 | several lanes << 5 | lane; 0: never read.
    pub(super) read: u64,
}

/// A warp that accesses memory, at its present clock.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    warp: usize,
    now: u32,
    /// What came until then is ordered among the warp's own lanes.
    own: u32,
    floor: u32,
    known: &'a [u32; 32],
    /// Reads by a warp-wide instruction such as ldmatrix do not race with later writes of the same warp.
    collective: bool,
}

impl Shadow {
    #[inline(always)]
    fn write_is_ordered(&self, who: Who, lane: usize) -> bool {
        let clock = (self.write & !ATOMIC) >> 10;
        // Before all that anyone of the CTA may not know: the usual case, whoever wrote.
        if clock <= who.floor && clock <= who.own {
            return true;
        }
        let thread = self.write as usize & 1023;
        clock <= who.known[thread / 32] || thread == 32 * who.warp + lane
    }

    #[inline(always)]
    pub(super) fn read(&mut self, who: Who, lane: usize) -> bool {
        let now = who.now;
        let clock = (self.read >> 6) as u32 & 0x3f_ffff;
        let fresh = 1u64 << (32 + who.warp) | (now as u64) << 6 | lane as u64;
        let several = if who.collective { 0 } else { 1 << 5 };
        if self.read == fresh {
        } else if clock == now {
            let old = self.read;
            self.read |= 1 << (32 + who.warp);
            if old as usize & 31 != lane {
                self.read |= several;
            }
        } else if self.read == 0 || clock <= who.floor || self.read >> 32 == 1 << who.warp {
            // Lanes of this warp that have not met since do not forget each other.
            let is_open = clock > who.own && self.read >> 32 == 1 << who.warp;
            let others = is_open && (self.read >> 5 & 1 != 0 || self.read as usize & 31 != lane);
            self.read = fresh | if others { several } else { 0 };
        } else {
            // Readers at different clocks: keeping the lesser may miss a race, never invent one.
            let warps = self.read >> 32 | 1 << who.warp;
            self.read = warps << 32 | (clock.min(now) as u64) << 6 | 1 << 5;
        }
        self.write == 0 || self.write_is_ordered(who, lane)
    }

    #[inline(always)]
    pub(super) fn write(&mut self, who: Who, lane: usize) -> Result<(), bool> {
        let now = who.now;
        if self.write != 0 && !self.write_is_ordered(who, lane) {
            return Err(true);
        }
        if self.read != 0 {
            let clock = (self.read >> 6) as u32 & 0x3f_ffff;
            let warps = (self.read >> 32) as u32;
            let others = warps & !(1 << who.warp);
            if others != 0 && clock > who.floor && lanes(others).any(|other| who.known[other] < clock) {
                return Err(false);
            }
            let several = self.read >> 5 & 1 != 0;
            let is_other = several || self.read as usize & 31 != lane;
            if warps == 1 << who.warp && clock > who.own && is_other && !who.collective {
                return Err(false);
            }
        }
        self.write = now << 10 | (who.warp * 32 + lane) as u32;
        self.read = 0;
        Ok(())
    }
}

impl Shadow {
    /// Atomics and strong stores may meet each other, but not plain accesses of other threads. Reads of the same warp came
    /// before: every lane reads, and then every lane exchanges.
    pub(super) fn atomic(&mut self, who: Who, lane: usize) -> Result<(), bool> {
        let before = *self;
        if self.write & ATOMIC != 0 {
            self.write = 0;
        }
        if self.read >> 32 == 1 << who.warp {
            self.read = 0;
        }
        let result = self.write(who, lane);
        self.write |= ATOMIC;
        if result.is_err() {
            *self = before;
        }
        result
    }

    /// Whether the last write was an atomic or a strong store.
    pub(super) fn is_atomic(&self) -> bool {
        self.write & ATOMIC != 0
    }

    /// A strong read may meet atomics and strong stores. It leaves no record: strong writes may follow it, and those that may
    /// not are found where they come first.
    pub(super) fn read_strongly(&self, who: Who, lane: usize) -> bool {
        self.write == 0 || self.is_atomic() || self.write_is_ordered(who, lane)
    }
}
