//! Asynchronous copies that have been issued and have not arrived.
//!
//! A copy takes effect when something waits for it, never earlier: a kernel that forgets the wait reads bytes that
//! are marked as in flight, on every run.

use std::collections::VecDeque;

use super::Context;
use crate::fault::{Checked, FaultKind, problem};
use crate::memory::{D, W, lanes, which};

/// `cp.async` of one warp instruction.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Lanes whose copy has not landed.
    pub left: u32,
    pub to: D,
    pub from: D,
    pub bytes: u32,
    /// Bytes read per lane; the rest is zero.
    pub source_bytes: W,
    /// Group of each lane, counted from 0.
    pub group: W,
    /// Place in the order of issue.
    pub order: u32,
}

/// Sixteen bytes of a bulk copy. Of these, `bytes` from `first` on are in the tensor; the rest is outside: filled
/// when loading, left out when storing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub shared: u64,
    /// Address of the first byte that is in the tensor.
    pub global: u64,
    pub first: u32,
    pub bytes: u32,
}

/// A bulk copy (TMA), complete when an mbarrier or a bulk group says so.
#[derive(Debug, Clone)]
pub(crate) struct Bulk {
    pub warp: usize,
    pub lane: usize,
    /// The instruction that issued it.
    pub at: u32,
    pub pieces: Vec<Piece>,
    /// To shared memory: the mbarrier and the bytes it is told of.
    pub barrier: Option<(u64, u32)>,
    /// What bytes outside the tensor become, per word.
    pub fill: u32,
    /// To global memory: the bulk group of the issuing thread.
    pub group: u32,
}

/// An arrival at an mbarrier that happens when a thread's earlier copies have landed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub barrier: u64,
    pub warp: usize,
    pub lane: usize,
    /// Copies issued before this one must have landed.
    pub order: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Copies {
    pub warps: Vec<WarpCopies>,
    pub bulk: Vec<Bulk>,
    pub arrivals: Vec<Arrival>,
    /// From the first byte that a `cp.async` has yet to read to the last.
    pub sources: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct WarpCopies {
    /// In the order of issue. Those in front usually land first, and leave at once; others wait for these.
    pub batches: VecDeque<Batch>,
    pub issued: u32,
    /// Groups committed so far.
    pub committed: W,
    /// Bulk groups committed so far.
    pub bulk_committed: W,
}

impl Copies {
    pub(super) fn reset(&mut self, warps: usize) {
        self.warps.clear();
        self.warps.resize_with(warps, WarpCopies::default);
        self.bulk.clear();
        self.arrivals.clear();
        self.sources = None;
    }

    /// Notes that copies will read between these addresses.
    pub(crate) fn add_source(&mut self, first: u64, end: u64) {
        let (low, high) = self.sources.unwrap_or((first, end));
        self.sources = Some((low.min(first), high.max(end)));
    }

    /// The lane of a store to bytes that a copy has yet to read.
    #[inline(never)]
    fn read_by_copy(&self, address: &D, mask: u32, bytes: u32) -> Option<usize> {
        let meets = |lane: usize| {
            let (start, end) = (address[lane], address[lane] + u64::from(bytes));
            self.warps.iter().flat_map(|warp| &warp.batches).any(|batch| {
                lanes(batch.left).any(|other| {
                    let from = batch.from[other];
                    start < from + u64::from(batch.source_bytes[other]) && from < end
                })
            })
        };
        lanes(mask).find(|&lane| meets(lane))
    }
}

impl Context<'_, '_> {
    /// Lands those copies of `warp` that are `due`, lane by lane.
    pub(crate) fn land_copies(&mut self, warp: usize, mask: u32, due: impl Fn(&Batch, usize) -> bool) -> Checked {
        let mut batches = std::mem::take(&mut self.cta.copies.warps[warp].batches);
        for batch in &mut batches {
            let now = batch.left & mask & which(|lane| due(batch, lane));
            if now != 0 {
                self.land_batch(warp, batch, now)?;
                batch.left &= !now;
            }
        }
        while batches.front().is_some_and(|batch| batch.left == 0) {
            batches.pop_front();
        }
        self.cta.copies.warps[warp].batches = batches;
        if self.cta.copies.sources.is_some() && self.cta.copies.warps.iter().all(|warp| warp.batches.is_empty()) {
            self.cta.copies.sources = None;
        }
        Ok(())
    }

    /// A store may not change what an unfinished copy has yet to read.
    #[inline(always)]
    pub(super) fn check_sources(&self, address: &D, mask: u32, bytes: u32) -> Checked {
        let Some((low, high)) = self.cta.copies.sources else { return Ok(()) };
        let is_near = |lane: usize| address[lane] < high && address[lane] + u64::from(bytes) > low;
        if mask & which(is_near) == 0 || !self.launch.view.checks.in_flight {
            return Ok(());
        }
        match self.cta.copies.read_by_copy(address, mask, bytes) {
            None => Ok(()),
            Some(lane) => {
                let message = format!("0x{:x} is the source of a copy that nothing has waited for", address[lane]);
                problem(FaultKind::AsyncInFlight, lane, message)
            }
        }
    }

    fn land_batch(&mut self, warp: usize, batch: &Batch, due: u32) -> Checked {
        let mut planes = [[0; 32]; 4];
        let whole = due & which(|lane| batch.source_bytes[lane] == batch.bytes);
        if whole != 0 {
            self.launch.view.load(self.worker, &batch.from, whole, batch.bytes, &mut planes)?;
        }
        for lane in lanes(due & !whole) {
            planes.iter_mut().for_each(|plane| plane[lane] = 0);
            // A short source: read by words and then by bytes, since it may end anywhere.
            let (mut byte, end) = (0, batch.source_bytes[lane]);
            while byte < end {
                let step = if end - byte >= 4 { 4 } else { 1 };
                let mut one = [[0; 32]; 4];
                let at = [batch.from[lane] + byte as u64; 32];
                self.launch.view.load(self.worker, &at, 1 << lane, step, &mut one)?;
                planes[byte as usize / 4][lane] |= one[0][lane] << (byte % 4 * 8);
                byte += step;
            }
        }
        self.cta.shared.note_generic(&batch.to, due, batch.bytes);
        let who = self.cta.clocks.who(warp, false);
        for lane in lanes(due) {
            if batch.bytes == 16 {
                let values = [planes[0][lane], planes[1][lane], planes[2][lane], planes[3][lane]];
                self.cta.shared.land_quad(who, lane, batch.to[lane], values)?;
                continue;
            }
            for k in 0..batch.bytes as usize / 4 {
                self.cta.shared.land_word(who, lane, batch.to[lane] + 4 * k as u64, planes[k][lane])?;
            }
        }
        Ok(())
    }
}
