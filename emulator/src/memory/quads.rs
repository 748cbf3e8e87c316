//! Sixteen bytes of shared memory at once: what wide accesses, matrix loads and asynchronous copies move.
//!
//! Data that was stored by sixteens has equal shadows in all four words, so one check serves them all. Whatever else is
//! the case is left to the way by words, which also finds the words for a diagnostic.

use super::clocks::{Shadow, Who};
use super::shared::SharedMemory;
use super::{IN_FLIGHT, LEAVING, SPLIT, VALID};

impl SharedMemory {
    /// Whether the four words from `index` have the bits `wanted` among those of `cover` in their state, and equal
    /// shadows where these are kept.
    #[inline(always)]
    pub(super) fn quad_is_quiet(&self, index: usize, cover: u8, wanted: u8) -> bool {
        let Some(&[a, b, c, d]) = self.state.get(index..index + 4) else { return false };
        let all = u32::from_ne_bytes([a, b, c, d]);
        if all & u32::from_ne_bytes([cover; 4]) != u32::from_ne_bytes([wanted; 4]) {
            return false;
        }
        match self.shadow.get(index..index + 4) {
            Some(&[a, b, c, d]) => a == b && a == c && a == d,
            _ => true,
        }
    }

    fn put_shadows(&mut self, index: usize, shadow: Shadow) {
        self.shadow[index..index + 4].fill(shadow);
    }

    /// Notes a read of four words; `false` if it must be looked at word by word, with nothing changed.
    #[inline(always)]
    pub(super) fn read_quad(&mut self, who: Who, lane: usize, index: usize) -> bool {
        if !self.quad_is_quiet(index, VALID | IN_FLIGHT | SPLIT, VALID) {
            return false;
        }
        if self.checks.shared_races {
            let mut shadow = self.shadow[index];
            if !shadow.read(who, lane) {
                return false;
            }
            self.put_shadows(index, shadow);
        }
        true
    }

    /// Notes a write of four words; `false` if it must be looked at word by word, with nothing changed.
    #[inline(always)]
    pub(super) fn write_quad(&mut self, who: Who, lane: usize, index: usize) -> bool {
        if !self.quad_is_quiet(index, IN_FLIGHT | LEAVING | SPLIT, 0) {
            return false;
        }
        if self.checks.shared_races {
            let mut shadow = self.shadow[index];
            if shadow.write(who, lane).is_err() {
                return false;
            }
            self.put_shadows(index, shadow);
        }
        self.state[index..index + 4].iter_mut().for_each(|state| *state |= VALID);
        true
    }
}
