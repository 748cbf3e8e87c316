//! Shared memory of a CTA: bounds, and the way of data in and out. `shadows` has what is remembered of accesses.

use super::clocks::{Shadow, Who};
use super::proxy::Proxy;
use super::{D, IN_FLIGHT, LEAVING, Planes, VALID, byte_mask, lanes, value_mask};
use crate::fault::{Checked, FaultKind, Suspect, problem};
use crate::launch::Checks;

/// Shared memory starts here in its window, so that a zero pointer is out of bounds.
pub(crate) const SHARED_BASE: u64 = 1024;

/// The shared memory of one CTA.
#[derive(Debug, Default)]
pub(crate) struct SharedMemory {
    size: u64,
    /// Whole quads of sixteen bytes, as all of these.
    pub(super) words: Vec<u32>,
    pub(super) state: Vec<u8>,
    /// Race records per quad, for those whose words are not `APART`.
    pub(super) quads: Vec<Shadow>,
    /// Race records per word, for those that are `APART`.
    pub(super) shadow: Vec<Shadow>,
    /// Per byte, for the words whose state is `SPLIT`; empty until needed.
    pub(super) bytes: Vec<[Shadow; 4]>,
    pub(super) proxy: Proxy,
    pub(super) checks: Checks,
    /// Plain reads of what atomics write, by the instruction that is executed.
    pub(crate) suspects: Vec<Suspect>,
}

impl SharedMemory {
    /// Forgets everything: a new CTA starts, of a kernel that reads through the asynchronous proxy or not.
    pub(crate) fn reset(&mut self, size: u64, checks: Checks, proxies: bool) {
        let quads = size.div_ceil(16) as usize;
        let words = 4 * quads;
        self.size = size;
        self.checks = checks;
        self.proxy.reset(if proxies && checks.proxy_fences { quads } else { 0 });
        self.words.clear();
        self.words.resize(words, 0);
        self.state.clear();
        self.state.resize(words, 0);
        self.quads.clear();
        self.bytes.clear();
        self.suspects.clear();
        if checks.shared_races {
            self.quads.resize(quads, Shadow::default());
            // Filled when a quad is taken apart.
            self.shadow.resize(words, Shadow::default());
        }
    }

    /// The sixteen bytes that an address lies in.
    #[inline(always)]
    pub(super) fn quad_of(&self, address: u64) -> usize {
        (address.wrapping_sub(SHARED_BASE) >> 4) as usize
    }

    /// The last offset at which sixteen bytes are within bounds; 0 if there is none, where a read then has no state either.
    #[inline(always)]
    pub(super) fn limit(&self) -> u64 {
        self.size.saturating_sub(16)
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

    pub(crate) fn load(&mut self, who: Who, address: &D, mask: u32, bytes: u32, out: &mut Planes) -> Checked {
        match bytes {
            4 => self.load_words::<1>(who, address, mask, out),
            8 => self.load_words::<2>(who, address, mask, out),
            16 => self.load_words::<4>(who, address, mask, out),
            _ => {
                for lane in lanes(mask) {
                    let at = address[lane];
                    let index = self.index(lane, at, bytes)?;
                    self.note_read(who, lane, index, byte_mask(at, bytes))?;
                    out[0][lane] = self.words[index] >> ((at & 3) * 8) & value_mask(bytes);
                }
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn load_words<const K: usize>(&mut self, who: Who, address: &D, mask: u32, out: &mut Planes) -> Checked {
        for lane in lanes(mask) {
            let index = self.index(lane, address[lane], 4 * K as u32)?;
            if K < 4 || !self.read_quad(who, lane, index) {
                for k in 0..K {
                    self.note_read(who, lane, index + k, VALID)?;
                }
            }
            let words = &self.words[index..index + K];
            for k in 0..K {
                out[k][lane] = words[k];
            }
        }
        Ok(())
    }

    pub(crate) fn store(&mut self, who: Who, address: &D, mask: u32, bytes: u32, data: &Planes) -> Checked {
        let done = match bytes {
            4 => self.store_words::<1>(who, address, mask, data),
            8 => self.store_words::<2>(who, address, mask, data),
            16 => self.store_words::<4>(who, address, mask, data),
            _ => {
                for lane in lanes(mask) {
                    let at = address[lane];
                    let index = self.index(lane, at, bytes)?;
                    let shift = (at & 3) * 8;
                    let cover = value_mask(bytes) << shift;
                    let value = data[0][lane] << shift & cover;
                    let same = self.words[index] & cover == value;
                    self.note_write(who, lane, index, byte_mask(at, bytes), same)?;
                    self.words[index] = self.words[index] & !cover | value;
                }
                Ok(())
            }
        };
        if done.is_ok() {
            self.note_generic(address, mask, bytes);
        }
        done
    }

    #[inline(always)]
    fn store_words<const K: usize>(&mut self, who: Who, address: &D, mask: u32, data: &Planes) -> Checked {
        for lane in lanes(mask) {
            let index = self.index(lane, address[lane], 4 * K as u32)?;
            let quiet = K == 4 && self.write_quad(who, lane, index);
            for k in 0..K {
                let value = data[k][lane];
                if !quiet {
                    self.note_write(who, lane, index + k, VALID, self.words[index + k] == value)?;
                }
                self.words[index + k] = value;
            }
        }
        Ok(())
    }

    /// `load` by volatile, relaxed or acquiring instructions.
    pub(crate) fn load_strongly(&mut self, who: Who, address: &D, mask: u32, bytes: u32, out: &mut Planes) -> Checked {
        for lane in lanes(mask) {
            let at = address[lane];
            let index = self.index(lane, at, bytes)?;
            for k in 0..bytes.div_ceil(4) as usize {
                self.note_strong_read(who, lane, index + k, byte_mask(at, bytes))?;
                out[k][lane] = self.words[index + k] >> ((at & 3) * 8) & value_mask(bytes);
            }
        }
        Ok(())
    }

    /// `store` by volatile, relaxed or releasing instructions.
    pub(crate) fn store_strongly(&mut self, who: Who, address: &D, mask: u32, bytes: u32, data: &Planes) -> Checked {
        for lane in lanes(mask) {
            let at = address[lane];
            let index = self.index(lane, at, bytes)?;
            let shift = (at & 3) * 8;
            let cover = value_mask(bytes) << shift;
            for k in 0..bytes.div_ceil(4) as usize {
                if self.state[index + k] & (IN_FLIGHT | LEAVING) != 0 {
                    self.check_state(lane, index + k, IN_FLIGHT, 0)?;
                }
                self.state[index + k] |= byte_mask(at, bytes);
                if self.checks.shared_races {
                    self.note_atomic(who, lane, index + k, byte_mask(at, bytes))?;
                }
                self.words[index + k] = self.words[index + k] & !cover | data[k][lane] << shift & cover;
            }
        }
        self.note_generic(address, mask, bytes);
        Ok(())
    }

    /// Reads a value that an atomic will replace, and records the atomic access.
    pub(crate) fn atomic(&mut self, who: Who, lane: usize, address: u64, bytes: u32) -> Checked<u64> {
        let before = self.peek(lane, address, bytes)?;
        if self.checks.shared_races {
            let index = self.index(lane, address, bytes)?;
            let need = byte_mask(address, bytes);
            for word in index..index + bytes.div_ceil(4) as usize {
                self.note_atomic(who, lane, word, need)?;
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
}
