//! Lanes that wait for others of their warp: at `.sync` instructions and before barriers for whole warps.
//!
//! Lanes that have exited are not waited for. But lanes that go round an instruction, and on in the code behind it, should
//! have been there: so as long as some wait, what the others do is remembered.

use super::Context;
use super::warp::{Group, Wait, Warp};
use crate::decode::{Collective, Instruction, Op};
use crate::fault::{Checked, FaultKind, problem};
use crate::memory::{lanes, which};

/// What lanes of a warp do while others of it wait.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub(super) is_kept: bool,
    /// Instructions with the lanes that have executed them.
    steps: Vec<(u32, u32)>,
}

impl Trail {
    pub(super) fn clear(&mut self) {
        self.is_kept = false;
        self.steps.clear();
    }

    fn add(&mut self, pc: u32, mask: u32) {
        match self.steps.iter_mut().find(|step| step.0 == pc) {
            Some(step) => step.1 |= mask,
            None => self.steps.push((pc, mask)),
        }
    }
}

impl Warp {
    /// Whether a group waits for others of the warp.
    fn is_waiting(&self) -> bool {
        self.groups.iter().any(|g| matches!(g.wait, Wait::Members(_) | Wait::Convergence(_)))
    }
}

/// Whether an instruction can come after another one.
fn is_behind(code: &[Instruction], first: u32, then: u32) -> bool {
    let mut seen = vec![false; code.len()];
    let mut ahead = vec![first];
    while let Some(pc) = ahead.pop() {
        let Some(instruction) = code.get(pc as usize) else { continue };
        if std::mem::replace(&mut seen[pc as usize], true) {
            continue;
        }
        let falls = match &instruction.op {
            Op::Branch(target) => {
                ahead.push(*target);
                instruction.guard.is_some()
            }
            Op::BranchIndexed(_, targets) => {
                ahead.extend(targets);
                instruction.guard.is_some()
            }
            Op::Exit => instruction.guard.is_some(),
            _ => true,
        };
        if falls {
            ahead.push(pc + 1);
        }
    }
    first != then && seen.get(then as usize).copied().unwrap_or(false)
}

impl Context<'_, '_> {
    /// Parks a group that waits for others of the warp.
    pub(super) fn park_waiting(&mut self, group: &Group) {
        if !self.warp.is_waiting() {
            self.warp.trail.clear();
        }
        self.warp.trail.is_kept = true;
        self.park(group);
    }

    /// Notes what lanes do while others wait.
    pub(super) fn note_step(&mut self, mask: u32) {
        if self.warp.is_waiting() {
            self.warp.trail.add(self.warp.at, mask);
        } else {
            self.warp.trail.clear();
        }
    }

    /// Lanes that have exited may not have gone round the instruction at which others wait for them.
    pub(super) fn check_round(&mut self, at: u32, gone: u32, kind: FaultKind) -> Checked {
        let code = &self.launch.kernel.instructions[..];
        let steps = &self.warp.trail.steps;
        let Some((_, mask)) = steps.iter().find(|(pc, mask)| mask & gone != 0 && is_behind(code, at, *pc)) else {
            return Ok(());
        };
        let lanes = mask & gone;
        self.warp.at = at;
        problem(
            kind,
            lanes.trailing_zeros() as usize,
            format!("lanes 0x{lanes:08x} of the warp have gone round it and exited"),
        )
    }

    /// Whether the members of a `.sync` instruction are all here. If not, the group is parked and `false` returned;
    /// it comes back when another group joins it. Lanes that name different masks meet in sets of their own.
    pub(super) fn meet(
        &mut self,
        group: &mut Group,
        mask: u32,
        members: u32,
        collective: &Collective,
    ) -> Checked<bool> {
        let named = self.warp.registers.w[members as usize];
        if let Some(lane) = lanes(mask).find(|&lane| named[lane] >> lane & 1 == 0) {
            return problem(
                FaultKind::SyncMask,
                lane,
                format!("the lane is not in its own mask 0x{:08x}", named[lane]),
            );
        }
        let mut rest = mask;
        let mut waiting = 0;
        while rest != 0 {
            let want = named[rest.trailing_zeros() as usize];
            let here = rest & which(|lane| named[lane] == want);
            rest &= !here;
            if want & self.warp.live & !here == 0 {
                self.collect(here, collective)?;
            } else {
                waiting |= here;
                self.park_waiting(&Group { pc: group.pc, mask: here, wait: Wait::Members(want) });
            }
        }
        if waiting == 0 {
            return Ok(true);
        }
        // Those that have met, and lanes whose guard is off, go on; the others wait for the rest.
        self.park(&Group { pc: group.pc + 1, mask: group.mask & !waiting, wait: Wait::Ready });
        self.wake_members()?;
        Ok(false)
    }

    /// Lets those go on that wait for members which have come, elsewhere, or have exited.
    pub(super) fn wake_members(&mut self) -> Checked {
        if !self.warp.groups.iter().any(|g| matches!(g.wait, Wait::Members(_))) {
            return Ok(());
        }
        let code = &self.launch.kernel.instructions[..];
        let is_sync = |g: &Group| matches!(code[g.pc as usize].op, Op::Collective(_, Collective::Sync));
        let mut synchronised = false;
        for i in 0..self.warp.groups.len() {
            let group = self.warp.groups[i];
            let Wait::Members(want) = group.wait else { continue };
            // bar.warp.sync may be reached at different places.
            let here = |g: &Group| g.wait == group.wait && (g.pc == group.pc || (is_sync(g) && is_sync(&group)));
            let met = self.warp.groups.iter().filter(|g| here(g)).fold(0, |met, g| met | g.mask);
            if want & self.warp.live & !met != 0 {
                continue;
            }
            if want & !met != 0 {
                self.check_round(group.pc, want & !met, FaultKind::SyncMask)?;
            }
            let others: Vec<usize> = (0..self.warp.groups.len()).filter(|&j| here(&self.warp.groups[j])).collect();
            let passes = is_sync(&group);
            synchronised |= passes;
            for other in others {
                let group = &mut self.warp.groups[other];
                group.wait = Wait::Ready;
                group.pc += u32::from(passes);
            }
        }
        if synchronised {
            self.cta.clocks.warp_sync(self.warp.index);
        }
        Ok(())
    }
}
