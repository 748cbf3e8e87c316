//! Sixteen bytes of shared memory at once: what wide accesses, matrix loads and asynchronous copies move.
//!
//! One check serves all four words, if they are in the same state and have one race record. Whatever else is the case
//! is left to the way by words, which also finds the words for a diagnostic.

use super::clocks::{Shadow, Who};
use super::shared::{SHARED_BASE, SharedMemory};
use super::{APART, IN_FLIGHT, LEAVING, SPLIT, VALID, W};
use crate::fault::Checked;

/// The same state for each word of a quad.
const fn all(state: u8) -> u32 {
    u32::from_ne_bytes([state; 4])
}

impl SharedMemory {
    /// The states of the four words from `index`, a byte each.
    #[inline(always)]
    pub(super) fn states(&self, index: usize) -> Option<u32> {
        self.state.get(index..)?.first_chunk().map(|states| u32::from_ne_bytes(*states))
    }

    /// The race record of the four words from `index`, if they have one and the bits `wanted` among those of `cover` in
    /// their state. It is an empty one where none are kept.
    #[inline(always)]
    pub(super) fn quad(&self, index: usize, cover: u8, wanted: u8) -> Option<Shadow> {
        let state = self.states(index)?;
        if state & all(cover) != all(wanted) {
            return None;
        }
        if state & all(APART) == 0 {
            return Some(self.quads.get(index / 4).copied().unwrap_or_default());
        }
        let &[a, b, c, d] = self.shadow.get(index..)?.first_chunk()?;
        (a == b && a == c && a == d).then_some(a)
    }

    /// Gives the four words from `index` one record and sets bits of their state.
    #[inline(always)]
    fn put_quad(&mut self, index: usize, shadow: Shadow, set: u8) {
        if let Some(place) = self.quads.get_mut(index / 4) {
            *place = shadow;
        }
        self.change_states(index, APART, set);
    }

    /// Clears and sets bits in the state of the four words from `index`.
    #[inline(always)]
    pub(super) fn change_states(&mut self, index: usize, clear: u8, set: u8) {
        let Some(states) = self.state.get_mut(index..).and_then(|rest| rest.first_chunk_mut()) else { return };
        *states = (u32::from_ne_bytes(*states) & !all(clear) | all(set)).to_ne_bytes();
    }

    /// Notes a read of four words; `false` if it must be looked at word by word, with nothing changed.
    #[inline(always)]
    pub(super) fn read_quad(&mut self, who: Who, lane: usize, index: usize) -> bool {
        if let Some(states) = self.states(index)
            && states & all(VALID | IN_FLIGHT | SPLIT | APART) == all(VALID)
        {
            // The usual case: nothing to change but the one record, if any are kept.
            let Some(place) = self.quads.get_mut(index / 4) else { return true };
            let mut shadow = *place;
            let ordered = shadow.read(who, lane);
            if ordered {
                *place = shadow;
            }
            return ordered;
        }
        let Some(mut shadow) = self.quad(index, VALID | IN_FLIGHT | SPLIT, VALID) else { return false };
        if self.checks.shared_races {
            if !shadow.read(who, lane) {
                return false;
            }
            self.put_quad(index, shadow, 0);
        }
        true
    }

    /// Writes four words where a copy lands, if they are in the usual state and the write is no race; `false` with nothing
    /// changed if not.
    #[inline(always)]
    pub(super) fn land_usual(&mut self, who: Who, lane: usize, index: usize, values: &[u32; 4]) -> bool {
        let Some(states) = self.states(index) else { return false };
        if states & all(LEAVING | SPLIT | APART) != 0 {
            return false;
        }
        if let Some(place) = self.quads.get_mut(index / 4) {
            let mut shadow = *place;
            if shadow.write(who, lane).is_err() {
                return false;
            }
            *place = shadow;
        }
        self.change_states(index, IN_FLIGHT, VALID);
        self.words[index..index + 4].copy_from_slice(values);
        true
    }

    /// Notes a write of four words; `false` if it must be looked at word by word, with nothing changed.
    #[inline(always)]
    pub(super) fn write_quad(&mut self, who: Who, lane: usize, index: usize) -> bool {
        let Some(mut shadow) = self.quad(index, IN_FLIGHT | LEAVING | SPLIT, 0) else { return false };
        if self.checks.shared_races && shadow.write(who, lane).is_err() {
            return false;
        }
        self.put_quad(index, shadow, VALID);
        true
    }

    /// Reads sixteen bytes.
    #[inline(always)]
    pub(crate) fn read_sixteen(&mut self, who: Who, lane: usize, address: u64) -> Checked<[u32; 4]> {
        let index = self.index(lane, address, 16)?;
        if !self.read_quad(who, lane, index) {
            for k in 0..4 {
                self.note_read(who, lane, index + k, VALID)?;
            }
        }
        let words = &self.words[index..index + 4];
        Ok([words[0], words[1], words[2], words[3]])
    }

    /// `read_rows` if all of them are in the usual state and no read is a race; `false` if not, and then nothing has changed
    /// that reading them again would not change in the same way.
    #[inline(always)]
    fn read_usual(&mut self, who: Who, first: usize, address: &[u64; 8], rows: &mut W) -> bool {
        let races = self.checks.shared_races;
        let mut usual = true;
        for (r, (&at, row)) in address.iter().zip(rows.as_chunks_mut::<4>().0).enumerate() {
            let quad = self.quad_of(at);
            // Whole quads of words exist even where the memory ends within one.
            if at.wrapping_sub(SHARED_BASE) > self.limit() {
                return false;
            }
            let (Some(words), Some(states)) = (self.words.as_chunks::<4>().0.get(quad), self.states(4 * quad)) else {
                return false;
            };
            *row = *words;
            usual &= states & all(VALID | IN_FLIGHT | SPLIT | APART) == all(VALID);
            if races {
                let Some(shadow) = self.quads.get_mut(quad) else { return false };
                if !usual {
                    return false;
                }
                usual = shadow.read(who, first + r);
            }
        }
        usual
    }

    /// Reads eight rows of sixteen bytes as a fragment has them: lanes 4r to 4r + 3 hold row r. `first` is the lane that
    /// names the first row.
    #[inline(always)]
    pub(crate) fn read_rows(&mut self, who: Who, first: usize, address: &[u64; 8]) -> Checked<W> {
        let mut rows = [0; 32];
        if self.read_usual(who, first, address, &mut rows) {
            return Ok(rows);
        }
        for (r, (&at, row)) in address.iter().zip(rows.as_chunks_mut::<4>().0).enumerate() {
            *row = self.read_sixteen(who, first + r, at)?;
        }
        Ok(rows)
    }
}
