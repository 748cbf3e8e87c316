//! CTA barriers, the sixteen named ones.

use super::warp::{Group, Wait};
use super::{Context, Cta, Warp};
use crate::decode::{Barrier, BarrierMode, Slot};
use crate::fault::{Checked, FaultKind, problem};

/// One of the sixteen barriers of a CTA.
#[derive(Debug, Clone, Default)]
pub(crate) struct BarrierState {
    /// Threads that have arrived.
    arrived: u32,
    /// Threads that must arrive; `None` for all that have not exited.
    expected: Option<u32>,
    /// Warps that took part, by bit.
    members: u32,
    /// Votes of the reduction forms.
    votes: u32,
    waiting: Vec<Waiting>,
}

#[derive(Debug, Clone)]
struct Waiting {
    warp: usize,
    mask: u32,
    result: Option<(BarrierMode, Slot)>,
}

impl Context<'_, '_> {
    /// Arrives at a barrier. Returns whether the group must wait.
    pub(super) fn arrive(&mut self, group: &mut Group, mask: u32, barrier: &Barrier) -> Checked<bool> {
        self.judge_suspects(mask)?;
        let lane = mask.trailing_zeros() as usize;
        let id = self.warp.registers.w[barrier.id as usize][lane];
        if id > 15 {
            return problem(FaultKind::BadOperand, lane, format!("barrier {id} of 16"));
        }
        // Lanes that have exited are not waited for.
        let live = self.warp.live;
        if let Wait::Convergence(awaited) = group.wait
            && awaited & !live != 0
        {
            self.check_round(group.pc, awaited & !live, FaultKind::BarrierDivergence)?;
        }
        if barrier.aligned && mask != live {
            let missing = live & !mask;
            let message =
                format!("lanes 0x{missing:08x} of the warp are elsewhere while lanes 0x{mask:08x} are at barrier {id}");
            return problem(FaultKind::BarrierDivergence, lane, message);
        }
        let expected = barrier.count.map(|slot| self.warp.registers.w[slot as usize][lane]);
        if let Some(count) = expected
            && (count == 0 || !count.is_multiple_of(32))
        {
            return problem(FaultKind::BadOperand, lane, format!("a barrier for {count} threads is not whole warps"));
        }
        self.cta.counters.barriers += 1;
        let warp = self.warp.index;
        let state = &mut self.cta.barriers[id as usize];
        if state.arrived > 0 && state.expected != expected {
            let message = format!("barrier {id} is used for {expected:?} and {:?} threads at once", state.expected);
            return problem(FaultKind::BarrierDivergence, lane, message);
        }
        state.expected = expected;
        // Counted barriers count whole warps: lanes that exited still count.
        state.arrived += if expected.is_some() && barrier.aligned { 32 } else { mask.count_ones() };
        state.members |= 1 << warp;
        let result = match barrier.mode {
            BarrierMode::Arrive => {
                if expected.is_none() {
                    return problem(FaultKind::BadOperand, lane, "bar.arrive needs a thread count");
                }
                return Ok(false);
            }
            BarrierMode::Sync => None,
            BarrierMode::Popc(d, p) | BarrierMode::And(d, p) | BarrierMode::Or(d, p) => {
                state.votes += (self.warp.registers.predicate(p) & mask).count_ones();
                Some((barrier.mode, d))
            }
        };
        state.waiting.push(Waiting { warp, mask, result });
        if mask != group.mask {
            self.warp.groups.push(Group { pc: group.pc + 1, mask: group.mask & !mask, wait: Wait::Ready });
            group.mask = mask;
        }
        group.wait = Wait::Barrier(id as u8);
        Ok(true)
    }
}

impl Cta {
    /// Opens every barrier that is complete. Returns whether any was.
    pub(super) fn settle_barriers(&mut self, warps: &mut [Warp]) -> bool {
        let mut opened = false;
        for id in 0..self.barriers.len() {
            let state = &self.barriers[id];
            if state.arrived == 0 {
                continue;
            }
            let target = match state.expected {
                Some(count) => count,
                None => warps.iter().map(|warp| warp.live.count_ones()).sum(),
            };
            if state.arrived < target {
                continue;
            }
            let state = std::mem::take(&mut self.barriers[id]);
            opened = true;
            // A barrier for all is one for those that have exited as well: what they did came before it.
            let exited = warps.iter().enumerate().filter(|(_, warp)| warp.groups.is_empty());
            let gone = exited.fold(0, |gone, (index, _)| gone | 1u32 << index);
            self.clocks.join(state.members | if state.expected.is_none() { gone } else { 0 });
            for waiting in &state.waiting {
                let warp = &mut warps[waiting.warp];
                for group in &mut warp.groups {
                    if group.wait == Wait::Barrier(id as u8) {
                        group.wait = Wait::Ready;
                        group.pc += 1;
                    }
                }
                let live = warp.live;
                let all = |yes: bool| if yes { u32::MAX } else { 0 };
                match waiting.result {
                    None => {}
                    Some((BarrierMode::Popc(..), d)) => {
                        warp.registers.put_w(d, &[state.votes; 32], waiting.mask, live);
                    }
                    Some((BarrierMode::And(..), d)) => {
                        warp.registers.put_p(d, all(state.votes == state.arrived), waiting.mask);
                    }
                    Some((_, d)) => warp.registers.put_p(d, all(state.votes > 0), waiting.mask),
                }
            }
        }
        if opened {
            self.shared.keep_clock(&mut self.clocks);
        }
        opened
    }

    /// The barriers at which warps still wait, for the message of a deadlock.
    pub(super) fn stuck_barriers(&self) -> String {
        let describe = |(id, state): (usize, &BarrierState)| {
            let wanted = state.expected.map_or("all".into(), |count| count.to_string());
            format!("barrier {id}: {} of {wanted} threads arrived", state.arrived)
        };
        let stuck: Vec<String> =
            self.barriers.iter().enumerate().filter(|(_, state)| state.arrived > 0).map(describe).collect();
        stuck.join("; ")
    }
}
