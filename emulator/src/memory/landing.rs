//! Asynchronous copies into and out of shared memory: marks while they are under way, data when they land.

use super::clocks::Who;
use super::shared::SharedMemory;
use super::{IN_FLIGHT, LEAVING, SPLIT, VALID};
use crate::fault::Checked;

impl SharedMemory {
    /// Marks words as the target of an unfinished copy.
    pub(crate) fn begin_copy(&mut self, who: Who, lane: usize, address: u64, bytes: u32) -> Checked {
        let index = self.index(lane, address, bytes)?;
        if bytes == 16
            && let Some(mut probe) = self.quad(index, IN_FLIGHT | SPLIT, 0)
            && (!self.checks.shared_races || probe.write(who, lane).is_ok())
        {
            self.change_states(index, 0, IN_FLIGHT);
            return Ok(());
        }
        for k in 0..bytes.div_ceil(4) as usize {
            let word = index + k;
            if self.state[word] & IN_FLIGHT != 0 {
                self.check_state(lane, word, self.state[word], 0)?;
            }
            if self.checks.shared_races {
                self.part(word);
                // The copy overwrites what others may still be reading: that is a race now, not when it lands.
                let mut probe = if self.state[word] & SPLIT != 0 { self.bytes[word][0] } else { self.shadow[word] };
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

    /// Sixteen bytes of a copy arrive.
    pub(crate) fn land_quad(&mut self, who: Who, lane: usize, address: u64, values: [u32; 4]) -> Checked {
        let index = self.index(lane, address, 16)?;
        if self.land_usual(who, lane, index, &values) {
            return Ok(());
        }
        self.change_states(index, IN_FLIGHT, 0);
        if self.write_quad(who, lane, index) {
            self.words[index..index + 4].copy_from_slice(&values);
            return Ok(());
        }
        for (k, value) in values.into_iter().enumerate() {
            self.land_word(who, lane, address + 4 * k as u64, value)?;
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
