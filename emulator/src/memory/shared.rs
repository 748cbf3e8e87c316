//! Shared memory of a CTA with its shadow: initialisation, copies in flight, races (see `clocks`).
//!
//! Each word has one shadow entry; words whose bytes differ in owner are split into bytes.

use super::clocks::{Clocks, Shadow, Who};
use super::{D, IN_FLIGHT, LEAVING, Planes, VALID, byte_mask, lanes, value_mask};
use crate::fault::{Checked, FaultKind, problem};
use crate::launch::Checks;

/// Shared memory starts here in its window, so that a zero pointer is out of bounds.
pub(crate) const SHARED_BASE: u64 = 1024;

/// The shared memory of one CTA.
#[derive(Debug, Default)]
pub(crate) struct SharedMemory {
    size: u64,
    words: Vec<u32>,
    state: Vec<u8>,
    shadow: Vec<Shadow>,
    /// Per byte, for the words marked in `is_split`; empty until needed.
    bytes: Vec<[Shadow; 4]>,
    is_split: Vec<bool>,
    checks: Checks,
}

impl SharedMemory {
    /// Forgets everything: a new CTA starts.
    pub(crate) fn reset(&mut self, size: u64, checks: Checks) {
        let words = size.div_ceil(4) as usize;
        self.size = size;
        self.checks = checks;
        self.words.clear();
        self.words.resize(words, 0);
        self.state.clear();
        self.state.resize(words, 0);
        self.shadow.clear();
        self.bytes.clear();
        self.is_split.clear();
        if checks.shared_races {
            self.shadow.resize(words, Shadow::default());
            self.is_split.resize(words, false);
        }
    }

    /// Renews the shadow when the clock runs out of bits.
    pub(crate) fn keep_clock(&mut self, clocks: &mut Clocks) {
        if clocks.is_spent() {
            self.shadow.fill(Shadow::default());
            self.is_split.fill(false);
            clocks.renew();
        }
    }

    #[inline(always)]
    pub(crate) fn index(&self, lane: usize, address: u64, bytes: u32) -> Checked<usize> {
        let offset = address.wrapping_sub(SHARED_BASE);
        if offset.saturating_add(bytes as u64) > self.size {
            let size = self.size;
            return problem(
                FaultKind::OutOfBounds,
                lane,
                format!("{bytes} bytes at offset {} of {size} bytes of shared memory", offset as i64),
            );
        }
        Ok((offset >> 2) as usize)
    }

    #[cold]
    fn race<T>(&self, lane: usize, index: usize, verb: &str, shadow: Shadow, written: bool) -> Checked<T> {
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

    fn split(&mut self, index: usize) {
        if self.bytes.is_empty() {
            self.bytes.resize(self.words.len(), [Shadow::default(); 4]);
        }
        if !self.is_split[index] {
            self.is_split[index] = true;
            self.bytes[index] = [self.shadow[index]; 4];
        }
    }

    #[inline(always)]
    fn note_read(&mut self, who: Who, lane: usize, index: usize, need: u8) -> Checked {
        let state = self.state[index];
        if state & (need | IN_FLIGHT) != need {
            self.check_state(lane, index, state, need)?;
        }
        if !self.checks.shared_races {
            return Ok(());
        }
        if need == VALID && !self.is_split[index] {
            if self.shadow[index].read(who, lane) {
                return Ok(());
            }
            return self.race(lane, index, "reads", self.shadow[index], true);
        }
        self.split(index);
        for i in (0..4).filter(|i| need >> i & 1 != 0) {
            if !self.bytes[index][i].read(who, lane) {
                return self.race(lane, index, "reads", self.bytes[index][i], true);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn note_write(&mut self, who: Who, lane: usize, index: usize, need: u8, same: bool) -> Checked {
        if self.state[index] & (IN_FLIGHT | LEAVING) != 0 {
            self.check_state(lane, index, IN_FLIGHT, 0)?;
        }
        self.state[index] |= need;
        if !self.checks.shared_races {
            return Ok(());
        }
        if need == VALID && !self.is_split[index] {
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
            self.is_split[index] = false;
            self.shadow[index] = self.bytes[index][0];
        }
        Ok(())
    }

    #[cold]
    fn check_state(&self, lane: usize, index: usize, state: u8, need: u8) -> Checked {
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

    pub(crate) fn load(&mut self, who: Who, address: &D, mask: u32, bytes: u32, out: &mut Planes) -> Checked {
        for lane in lanes(mask) {
            let at = address[lane];
            let index = self.index(lane, at, bytes)?;
            if bytes < 4 {
                self.note_read(who, lane, index, byte_mask(at, bytes))?;
                out[0][lane] = self.words[index] >> ((at & 3) * 8) & value_mask(bytes);
                continue;
            }
            for k in 0..bytes as usize / 4 {
                self.note_read(who, lane, index + k, VALID)?;
                out[k][lane] = self.words[index + k];
            }
        }
        Ok(())
    }

    pub(crate) fn store(&mut self, who: Who, address: &D, mask: u32, bytes: u32, data: &Planes) -> Checked {
        for lane in lanes(mask) {
            let at = address[lane];
            let index = self.index(lane, at, bytes)?;
            if bytes < 4 {
                let shift = (at & 3) * 8;
                let cover = value_mask(bytes) << shift;
                let value = data[0][lane] << shift & cover;
                let same = self.words[index] & cover == value;
                self.note_write(who, lane, index, byte_mask(at, bytes), same)?;
                self.words[index] = self.words[index] & !cover | value;
                continue;
            }
            for k in 0..bytes as usize / 4 {
                let value = data[k][lane];
                self.note_write(who, lane, index + k, VALID, self.words[index + k] == value)?;
                self.words[index + k] = value;
            }
        }
        Ok(())
    }

    /// Reads a value that an atomic will replace, and records the atomic access.
    pub(crate) fn atomic(&mut self, who: Who, lane: usize, address: u64, bytes: u32) -> Checked<u64> {
        let before = self.peek(lane, address, bytes)?;
        if self.checks.shared_races {
            let index = self.index(lane, address, bytes)?;
            let need = byte_mask(address, bytes);
            for word in index..index + bytes.div_ceil(4) as usize {
                if need == VALID && !self.is_split[word] {
                    if let Err(written) = self.shadow[word].atomic(who, lane) {
                        return self.race(lane, word, "updates", self.shadow[word], written);
                    }
                    continue;
                }
                self.split(word);
                for i in (0..4).filter(|i| need >> i & 1 != 0) {
                    if let Err(written) = self.bytes[word][i].atomic(who, lane) {
                        return self.race(lane, word, "updates", self.bytes[word][i], written);
                    }
                }
            }
        }
        Ok(before)
    }

    /// One value of up to 8 bytes without race detection: barrier objects and the result of atomics.
    pub(crate) fn peek(&self, lane: usize, address: u64, bytes: u32) -> Checked<u64> {
        let index = self.index(lane, address, bytes)?;
        let need = byte_mask(address, bytes);
        let state = self.state[index];
        if state & (need | IN_FLIGHT) != need {
            self.check_state(lane, index, state, need)?;
        }
        let low = self.words[index] as u64;
        Ok(match bytes {
            8 => low | (self.words[index + 1] as u64) << 32,
            4 => low,
            _ => low >> ((address & 3) * 8) & value_mask(bytes) as u64,
        })
    }

    pub(crate) fn poke(&mut self, lane: usize, address: u64, bytes: u32, value: u64) -> Checked {
        let index = self.index(lane, address, bytes)?;
        self.state[index] |= byte_mask(address, bytes);
        match bytes {
            8 => {
                self.words[index] = value as u32;
                self.words[index + 1] = (value >> 32) as u32;
                self.state[index + 1] |= VALID;
            }
            4 => self.words[index] = value as u32,
            _ => {
                let shift = (address & 3) * 8;
                let cover = value_mask(bytes) << shift;
                self.words[index] = self.words[index] & !cover | (value as u32) << shift & cover;
            }
        }
        Ok(())
    }

    /// A word as the tensor cores read it: state and races checked as a collective read.
    pub(crate) fn read_word(&mut self, who: Who, lane: usize, address: u64) -> Checked<u32> {
        let index = self.index(lane, address, 4)?;
        self.note_read(who, lane, index, VALID)?;
        Ok(self.words[index])
    }

    /// Marks words as the target of an unfinished copy.
    pub(crate) fn begin_copy(&mut self, who: Who, lane: usize, address: u64, bytes: u32) -> Checked {
        let index = self.index(lane, address, bytes)?;
        for k in 0..bytes.div_ceil(4) as usize {
            let word = index + k;
            if self.state[word] & IN_FLIGHT != 0 {
                self.check_state(lane, word, self.state[word], 0)?;
            }
            if self.checks.shared_races {
                // The copy overwrites what others may still be reading: that is a race now, not when it lands.
                let mut probe = if self.is_split[word] { self.bytes[word][0] } else { self.shadow[word] };
                if let Err(written) = probe.write(who, lane) {
                    return self.race(lane, word, "starts a copy into", self.shadow[word], written);
                }
            }
            self.state[word] |= IN_FLIGHT;
        }
        Ok(())
    }

    /// Marks words as the source of an unfinished copy, or takes the mark away.
    pub(crate) fn mark_leaving(&mut self, lane: usize, address: u64, bytes: u32, leaving: bool) -> Checked {
        let index = self.index(lane, address, bytes)?;
        for state in &mut self.state[index..index + bytes.div_ceil(4) as usize] {
            *state = if leaving { *state | LEAVING } else { *state & !LEAVING };
        }
        Ok(())
    }

    /// The copy's data arrives.
    pub(crate) fn land_word(&mut self, who: Who, lane: usize, address: u64, value: u32) -> Checked {
        let index = self.index(lane, address, 4)?;
        self.state[index] &= !IN_FLIGHT;
        self.note_write(who, lane, index, VALID, true)?;
        self.words[index] = value;
        Ok(())
    }
}
