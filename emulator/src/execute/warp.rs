//! Steps one warp: groups of lanes that share a program counter, the lowest counter first.
//!
//! Compilers place the code of a divergent region before the code that follows it, so running the lowest counter
//! first brings the lanes of structured code together again without any reconvergence information.

use super::meet::Trail;
use super::{Context, Registers};
use crate::decode::{Instruction, Op, Outcome};
use crate::fault::{Checked, FaultKind, Suspect, problem};
use crate::memory::W;
use crate::tensor::Held;

/// Instructions that a warp runs before another gets its turn, so that spinning on memory cannot starve the writer.
const SLICE: u32 = 20_000;

/// Backward branches that lanes may take in a row while others of their warp could run, before one of these gets its turn: who
/// holds a lock stands behind the loop of those that wait for it. Loops of structured code end sooner, which keeps their lanes
/// together.
const PATIENCE: u32 = 1 << 17;

/// Why a group of lanes stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Ready,
    /// At a CTA barrier; the lanes that take part.
    Barrier(u8),
    /// At a `.sync` instruction whose other members have not come.
    Members(u32),
    /// Before a CTA barrier for whole warps, because others of these lanes are still on their way.
    Convergence(u32),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub pc: u32,
    pub mask: u32,
    pub wait: Wait,
}

#[derive(Debug, Default)]
pub(crate) struct Warp {
    pub index: usize,
    pub registers: Registers,
    /// Lanes that exist and have not exited.
    pub live: u32,
    pub groups: Vec<Group>,
    /// Local memory: a row per word, a column per lane.
    pub local: Vec<W>,
    /// Which bytes of it hold a value.
    pub local_written: Vec<[u8; 32]>,
    pub steps: u64,
    /// Backward branches while other lanes could run, since all were together or one of these had its turn.
    pub backward: u32,
    /// Instruction being executed, for diagnostics.
    pub at: u32,
    /// Tensor operations of the warpgroup kind that wait for `wgmma.wait_group`.
    pub pending_matrices: Vec<crate::tensor::PendingMatrix>,
    pub matrix_groups: u32,
    /// By 32-bit register: what these hold or feed. Empty if nothing is pending.
    pub held: Vec<Held>,
    /// What the last fence or release published.
    pub published: Option<[u32; 32]>,
    /// What strong loads have met since the last fence.
    pub heard: [u32; 32],
    /// Plain reads of what atomics write.
    pub suspects: Vec<Suspect>,
    pub trail: Trail,
}

/// Why a warp's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// All its lanes have exited.
    Exited,
    /// It came to a barrier, or its groups all wait.
    Blocked,
    /// A wait failed; it can try again.
    Yielded,
    /// Its slice is over.
    Slice,
}

impl Context<'_, '_> {
    /// Runs the warp until its turn ends.
    pub(crate) fn run_warp(&mut self) -> Checked<Turn> {
        let mut budget = SLICE;
        loop {
            if self.warp.backward >= PATIENCE {
                self.warp.backward = 0;
                if let Some(mut group) = self.take_longest_waiting() {
                    // As far as it comes: to its next wait, or back to the others.
                    if let Some(turn) = self.run_group(&mut group, u32::MAX, &mut budget)? {
                        return Ok(turn);
                    }
                    continue;
                }
            }
            let Some(mut group) = self.take_lowest() else {
                return Ok(if self.warp.groups.is_empty() { Turn::Exited } else { Turn::Blocked });
            };
            let others = self.warp.groups.iter().map(|g| g.pc).filter(|&pc| pc > group.pc);
            let limit = others.min().unwrap_or(u32::MAX);
            if let Some(turn) = self.run_group(&mut group, limit, &mut budget)? {
                return Ok(turn);
            }
        }
    }

    /// Removes the ready group with the lowest counter, joined by all others that stand there too.
    fn take_lowest(&mut self) -> Option<Group> {
        let groups = &mut self.warp.groups;
        if let [only] = groups[..] {
            if matches!(only.wait, Wait::Ready | Wait::Convergence(_)) {
                groups.clear();
                return Some(only);
            }
            return None;
        }
        if groups.iter().all(|g| g.wait != Wait::Ready) {
            // Nobody else will come: the barrier itself judges.
            let waiting = groups.iter().enumerate().filter(|(_, g)| matches!(g.wait, Wait::Convergence(_)));
            let (first, _) = waiting.min_by_key(|(_, g)| g.pc)?;
            return Some(groups.swap_remove(first));
        }
        let pc = groups.iter().filter(|g| g.wait == Wait::Ready).map(|g| g.pc).min()?;
        let mut mask = 0;
        groups.retain(|g| {
            let joins = g.pc == pc && !matches!(g.wait, Wait::Barrier(_));
            if joins {
                mask |= g.mask;
            }
            !joins
        });
        Some(Group { pc, mask, wait: Wait::Ready })
    }

    /// Removes the ready group that stands behind all others: lowest counters come first, so it has waited longest.
    fn take_longest_waiting(&mut self) -> Option<Group> {
        let groups = &mut self.warp.groups;
        let ready = groups.iter().enumerate().filter(|(_, g)| g.wait == Wait::Ready);
        let (at, _) = ready.max_by_key(|(_, g)| g.pc)?;
        Some(groups.swap_remove(at))
    }

    pub(super) fn park(&mut self, group: &Group) {
        if group.mask != 0 {
            self.warp.groups.push(*group);
        }
    }

    /// Runs a group until it must rejoin, split, wait or stop. `limit` is the least counter
    /// ahead of it at which other groups stand.
    fn run_group(&mut self, group: &mut Group, limit: u32, budget: &mut u32) -> Checked<Option<Turn>> {
        let code = &self.launch.kernel.instructions[..];
        loop {
            if group.pc >= limit {
                self.park(group);
                return Ok(None);
            }
            let instruction = &code[group.pc as usize];
            let mask = match instruction.guard {
                None => group.mask,
                Some(p) => group.mask & self.warp.registers.predicate(p),
            };
            self.warp.at = group.pc;
            self.count(instruction, mask);
            let live = self.warp.live;
            if mask == 0 {
                group.pc += 1;
                continue;
            }
            if !self.warp.held.is_empty() {
                self.check_held(instruction)?;
            }
            if self.warp.registers.execute(&instruction.op, mask, live) {
                group.pc += 1;
                continue;
            }
            match &instruction.op {
                Op::Branch(target) => {
                    self.check_steps()?;
                    if mask == group.mask {
                        let back = *target <= group.pc;
                        group.pc = *target;
                        if back {
                            if !self.warp.groups.is_empty() {
                                self.warp.backward += 1;
                                // It may meet groups that were behind it.
                                self.park(group);
                                *budget = budget.saturating_sub(32);
                                return Ok((*budget == 0).then_some(Turn::Slice));
                            }
                            self.warp.backward = 0;
                            *budget = budget.saturating_sub(32);
                            if *budget == 0 {
                                self.park(group);
                                return Ok(Some(Turn::Slice));
                            }
                        }
                        continue;
                    }
                    self.cta.counters.divergent_branches += 1;
                    self.park(&Group { pc: *target, mask, wait: Wait::Ready });
                    self.park(&Group { pc: group.pc + 1, mask: group.mask & !mask, wait: Wait::Ready });
                    return Ok(None);
                }
                Op::BranchIndexed(index, targets) => {
                    self.check_steps()?;
                    self.branch_indexed(group, mask, *index, targets)?;
                    return Ok(None);
                }
                Op::Exit => {
                    self.judge_suspects(mask)?;
                    self.warp.live &= !mask;
                    group.mask &= !mask;
                    group.pc += 1;
                    self.wake_members()?;
                    if group.mask == 0 {
                        return Ok(None);
                    }
                }
                Op::Barrier(barrier) => {
                    // Compilers also place code that comes back to a barrier behind it.
                    let is_partial = barrier.aligned && mask == group.mask && mask != live;
                    if is_partial && self.warp.groups.iter().any(|g| g.wait == Wait::Ready) {
                        group.wait = Wait::Convergence(live);
                        self.park_waiting(group);
                        return Ok(None);
                    }
                    if self.arrive(group, mask, barrier)? {
                        self.park(group);
                        return Ok(Some(Turn::Blocked));
                    }
                    group.pc += 1;
                }
                Op::Collective(members, collective) => {
                    if !self.meet(group, mask, *members, collective)? {
                        return Ok(None);
                    }
                    group.pc += 1;
                }
                Op::Rare(rare) => {
                    let outcome = rare.execute(self, mask)?;
                    group.pc += 1;
                    if outcome == Outcome::Yield {
                        self.park(group);
                        return Ok(Some(Turn::Yielded));
                    }
                }
                _ => {
                    self.touch_memory(instruction, mask)?;
                    group.pc += 1;
                }
            }
        }
    }

    fn touch_memory(&mut self, instruction: &Instruction, mask: u32) -> Checked {
        if self.warp.trail.is_kept {
            self.note_step(mask);
        }
        let live = self.warp.live;
        match &instruction.op {
            Op::Load(transfer) => self.load(transfer, mask),
            Op::Store(transfer) => self.store(transfer, mask),
            Op::Atomic(atomic) => self.atomic(atomic, mask),
            Op::Fence { device } => {
                self.fence(*device);
                Ok(())
            }
            Op::ProxyFence => {
                self.cta.shared.fence_proxy();
                Ok(())
            }
            Op::Clock(to) => {
                let now = [self.warp.steps; 32];
                self.warp.registers.put(*to, &now, mask, live);
                Ok(())
            }
            Op::ActiveMask(to) => {
                self.warp.registers.put_w(*to, &[mask; 32], mask, live);
                Ok(())
            }
            Op::Trap(message) => problem(FaultKind::Trap, mask.trailing_zeros() as usize, message.clone()),
            _ => unreachable!("register operations and control flow were handled before"),
        }
    }

    #[inline(always)]
    fn check_steps(&self) -> Checked {
        if self.warp.steps + self.cta.steps <= self.launch.step_limit {
            return Ok(());
        }
        let limit = self.launch.step_limit;
        problem(FaultKind::StepLimit, 0, format!("the CTA ran more than {limit} warp instructions"))
    }

    fn branch_indexed(&mut self, group: &Group, mask: u32, index: u32, targets: &[u32]) -> Checked {
        let row = self.warp.registers.w[index as usize];
        let mut rest = mask;
        let mut ways = 0;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            let Some(&pc) = targets.get(row[lane] as usize) else {
                let message = format!("branch index {} of {} targets", row[lane], targets.len());
                return problem(FaultKind::BadOperand, lane, message);
            };
            let same = (0..32).filter(|&l| rest >> l & 1 != 0 && row[l] == row[lane]).fold(0, |m, l| m | 1 << l);
            rest &= !same;
            ways += 1;
            self.park(&Group { pc, mask: same, wait: Wait::Ready });
        }
        let fallen = group.mask & !mask;
        if ways + (fallen != 0) as u32 > 1 {
            self.cta.counters.divergent_branches += 1;
        }
        self.park(&Group { pc: group.pc + 1, mask: fallen, wait: Wait::Ready });
        Ok(())
    }
}
