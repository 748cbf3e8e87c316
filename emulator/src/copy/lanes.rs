//! `cp.async`: 4 to 16 bytes per lane from global to shared memory.

use crate::decode::{Address, Outcome, Pred, Rare, Slot};
use crate::execute::{Arrival, Batch, Context};
use crate::fault::{Checked, FaultKind, problem};
use crate::memory::{extent, lanes, which};

pub(crate) struct CopyAsync {
    pub to: Address,
    pub from: Address,
    pub bytes: u32,
    /// Bytes to read; the rest of the target becomes zero.
    pub source_bytes: Option<Slot>,
    /// Lanes that read nothing.
    pub ignore: Option<Pred>,
}

impl Rare for CopyAsync {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let to = cx.shared_addresses(&self.to, false, mask)?;
        let from = cx.addresses(&self.from);
        cx.check_alignment(&to, mask, self.bytes)?;
        let registers = &cx.warp.registers;
        let mut source_bytes = self.source_bytes.map_or([self.bytes; 32], |slot| registers.w[slot as usize]);
        if let Some(p) = self.ignore {
            for lane in lanes(registers.predicate(p)) {
                source_bytes[lane] = 0;
            }
        }
        let reads = mask & which(|lane| source_bytes[lane] > 0);
        cx.check_alignment(&from, reads, self.bytes)?;
        let excess = mask & which(|lane| source_bytes[lane] > self.bytes);
        if excess != 0 {
            let lane = excess.trailing_zeros() as usize;
            let message = format!("{} source bytes for a copy of {}", source_bytes[lane], self.bytes);
            return problem(FaultKind::BadOperand, lane, message);
        }
        cx.count_shared(&to, mask, self.bytes);
        if reads != 0 {
            cx.count_global(&from, reads, self.bytes, false);
            cx.launch.view.check_range(cx.worker, &from, reads, self.bytes, &source_bytes)?;
            let (low, high) = extent(&from, reads);
            cx.cta.copies.add_source(low, high + u64::from(self.bytes));
        }
        let who = cx.cta.clocks.who(cx.warp.index, false);
        for lane in lanes(mask) {
            cx.cta.shared.begin_copy(who, lane, to[lane], self.bytes)?;
        }
        let queue = &mut cx.cta.copies.warps[cx.warp.index];
        let (group, order) = (queue.committed, queue.issued);
        queue.issued += 1;
        queue.batches.push_back(Batch { left: mask, to, from, bytes: self.bytes, source_bytes, group, order });
        Ok(Outcome::Next)
    }
}

pub(crate) struct CopyCommit;

impl Rare for CopyCommit {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let queue = &mut cx.cta.copies.warps[cx.warp.index];
        for lane in 0..32 {
            queue.committed[lane] += mask >> lane & 1;
        }
        Ok(Outcome::Next)
    }
}

/// `cp.async.wait_group n`, or with `None` `cp.async.wait_all`.
pub(crate) struct CopyWait(pub Option<u32>);

impl Rare for CopyWait {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let warp = cx.warp.index;
        let committed = cx.cta.copies.warps[warp].committed;
        match self.0 {
            Some(n) => {
                cx.land_copies(warp, mask, |batch, lane| batch.group[lane].saturating_add(n) < committed[lane])?
            }
            None => cx.land_copies(warp, mask, |_, _| true)?,
        }
        Ok(Outcome::Next)
    }
}

/// `cp.async.mbarrier.arrive`: arrives when the thread's copies so far have landed.
pub(crate) struct CopyNotify {
    pub address: Address,
    pub generic: bool,
    /// `.noinc`: the arrival counts among the expected ones.
    pub counted: bool,
}

impl Rare for CopyNotify {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let address = cx.shared_addresses(&self.address, self.generic, mask)?;
        let warp = cx.warp.index;
        for lane in lanes(mask) {
            if !self.counted {
                cx.expect_arrival(lane, address[lane])?;
            }
            let order = cx.cta.copies.warps[warp].issued;
            cx.cta.copies.arrivals.push(Arrival { barrier: address[lane], warp, lane, order });
        }
        Ok(Outcome::Next)
    }
}
