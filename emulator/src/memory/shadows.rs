//! What shared memory remembers of each access: initialisation, copies in flight, races (see `clocks`).
//!
//! Sixteen bytes have one race record as long as they are accessed together. A narrower access gives each word its own,
//! one of less than a word each byte of its word.

use super::clocks::{Clocks, Shadow, Who};
use super::shared::{SHARED_BASE, SharedMemory};
use super::{APART, IN_FLIGHT, LEAVING, SPLIT, VALID};
use crate::fault::{Checked, FaultKind, Suspect, problem};

impl SharedMemory {
    /// Renews the shadow when the clock runs out of bits.
    pub(crate) fn keep_clock(&mut self, clocks: &mut Clocks) {
        if clocks.is_spent() {
            self.quads.fill(Shadow::default());
            self.state.iter_mut().for_each(|state| *state &= !(SPLIT | APART));
            clocks.renew();
        }
    }

    #[cold]
    pub(super) fn race<T>(&self, lane: usize, index: usize, verb: &str, shadow: Shadow, written: bool) -> Checked<T> {
        let other = if written {
            format!("thread {} wrote", shadow.write & 1023)
        } else {
            let warps = (shadow.read >> 32) as u32;
            format!("lane {} of warp(s) with mask 0x{warps:x} read", shadow.read & 31)
        };
        let offset = index * 4;
        problem(
            FaultKind::SharedRace,
            lane,
            format!("{verb} shared offset {offset}, which {other} with no barrier between"),
        )
    }

    /// Gives each word of a quad its own record.
    #[inline(always)]
    pub(super) fn part(&mut self, index: usize) {
        if self.state[index] & APART == 0 {
            let first = index & !3;
            self.shadow[first..first + 4].fill(self.quads[index / 4]);
            self.state[first..first + 4].iter_mut().for_each(|state| *state |= APART);
        }
    }

    /// Gives each byte of a word its own record.
    pub(super) fn split(&mut self, index: usize) {
        if self.bytes.is_empty() {
            self.bytes.resize(self.words.len(), [Shadow::default(); 4]);
        }
        self.part(index);
        if self.state[index] & SPLIT == 0 {
            self.state[index] |= SPLIT;
            self.bytes[index] = [self.shadow[index]; 4];
        }
    }

    #[inline(always)]
    pub(super) fn note_read(&mut self, who: Who, lane: usize, index: usize, need: u8) -> Checked {
        let state = self.state[index];
        if state & (need | IN_FLIGHT) != need {
            self.check_state(lane, index, state, need)?;
        }
        if !self.checks.shared_races {
            return Ok(());
        }
        if need == VALID && state & SPLIT == 0 {
            self.part(index);
            if self.shadow[index].read(who, lane) {
                return Ok(());
            }
            return self.suspect(lane, index, self.shadow[index]);
        }
        self.split(index);
        for i in (0..4).filter(|i| need >> i & 1 != 0) {
            if !self.bytes[index][i].read(who, lane) {
                self.suspect(lane, index, self.bytes[index][i])?;
            }
        }
        Ok(())
    }

    /// A read that races, unless it is the first of a loop that exchanges.
    #[cold]
    fn suspect(&mut self, lane: usize, index: usize, shadow: Shadow) -> Checked {
        let race = self.race(lane, index, "reads", shadow, true);
        match race {
            Err(problem) if shadow.is_atomic() => {
                let address = SHARED_BASE + 4 * index as u64;
                self.suspects.push(Suspect { lane, address, at: 0, problem });
                Ok(())
            }
            other => other,
        }
    }

    /// Notes a read that may meet atomics and strong stores.
    pub(super) fn note_strong_read(&mut self, who: Who, lane: usize, index: usize, need: u8) -> Checked {
        let state = self.state[index];
        if state & (need | IN_FLIGHT) != need {
            self.check_state(lane, index, state, need)?;
        }
        if !self.checks.shared_races {
            return Ok(());
        }
        if need == VALID && state & SPLIT == 0 {
            self.part(index);
            let shadow = self.shadow[index];
            return if shadow.read_strongly(who, lane) {
                Ok(())
            } else {
                self.race(lane, index, "reads", shadow, true)
            };
        }
        self.split(index);
        for i in (0..4).filter(|i| need >> i & 1 != 0) {
            let shadow = self.bytes[index][i];
            if !shadow.read_strongly(who, lane) {
                return self.race(lane, index, "reads", shadow, true);
            }
        }
        Ok(())
    }

    /// Notes an atomic, or a strong store.
    pub(super) fn note_atomic(&mut self, who: Who, lane: usize, index: usize, need: u8) -> Checked {
        if need == VALID && self.state[index] & SPLIT == 0 {
            self.part(index);
            let result = self.shadow[index].atomic(who, lane);
            return result.or_else(|written| self.race(lane, index, "updates", self.shadow[index], written));
        }
        self.split(index);
        for i in (0..4).filter(|i| need >> i & 1 != 0) {
            let result = self.bytes[index][i].atomic(who, lane);
            result.or_else(|written| self.race(lane, index, "updates", self.bytes[index][i], written))?;
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn note_write(&mut self, who: Who, lane: usize, index: usize, need: u8, same: bool) -> Checked {
        if self.state[index] & (IN_FLIGHT | LEAVING) != 0 {
            self.check_state(lane, index, IN_FLIGHT, 0)?;
        }
        self.state[index] |= need;
        if !self.checks.shared_races {
            return Ok(());
        }
        if need == VALID && self.state[index] & SPLIT == 0 {
            self.part(index);
            return match self.shadow[index].write(who, lane) {
                Ok(()) => Ok(()),
                // Two threads that store the same value are harmless and common ("any thread sets the flag").
                Err(true) if same => Ok(()),
                Err(written) => self.race(lane, index, "writes", self.shadow[index], written),
            };
        }
        self.split(index);
        for i in (0..4).filter(|i| need >> i & 1 != 0) {
            match self.bytes[index][i].write(who, lane) {
                Ok(()) => {}
                Err(true) if same => {}
                Err(written) => return self.race(lane, index, "writes", self.bytes[index][i], written),
            }
        }
        if need == VALID {
            self.state[index] &= !SPLIT;
            self.shadow[index] = self.bytes[index][0];
        }
        Ok(())
    }

    #[cold]
    pub(super) fn check_state(&self, lane: usize, index: usize, state: u8, need: u8) -> Checked {
        let offset = index * 4;
        if state & IN_FLIGHT != 0 && self.checks.in_flight {
            let message = format!("shared offset {offset} waits for a copy that nothing has waited for");
            return problem(FaultKind::AsyncInFlight, lane, message);
        }
        if state & need != need && self.checks.uninitialised {
            return problem(FaultKind::Uninitialised, lane, format!("shared offset {offset}"));
        }
        Ok(())
    }
}
