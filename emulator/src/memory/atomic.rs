//! Read-modify-write operations on values of 2, 4 or 8 bytes.

use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

use super::owners::Touch;
use super::view::{GlobalView, Worker};
use super::{D, VALID, byte_mask, lanes};
use crate::fault::Checked;

/// The function that an atomic applies: old value, operand, second operand of `cas`, gives the new value.
pub(crate) type AtomicFn = Box<dyn Fn(u64, u64, u64) -> u64 + Send + Sync>;

/// An atomic operation.
pub(crate) struct AtomicOp {
    pub bytes: u32,
    pub apply: AtomicFn,
}

/// Values wider than a word are updated under this lock, so that their halves change together.
static WIDE: Mutex<()> = Mutex::new(());

impl GlobalView<'_> {
    /// Applies the operation lane by lane, in lane order; returns the old values.
    pub(crate) fn atomic(
        &self,
        worker: &mut Worker,
        address: &D,
        mask: u32,
        op: &AtomicOp,
        [b, c]: [&D; 2],
        old: &mut D,
    ) -> Checked {
        let bytes = op.bytes;
        let races = self.checks.global_races;
        for lane in lanes(mask) {
            self.each_lane(worker, address, 1 << lane, bytes, true, |worker, lane, a, index| {
                let at = address[lane];
                let need = byte_mask(at, bytes);
                for k in 0..bytes.div_ceil(4) as usize {
                    self.check_state(a.state[index + k].load(Relaxed), need, lane, at)?;
                    if races {
                        self.check_race(worker, &a.owners[index + k], lane, at + 4 * k as u64, need, Touch::Atomic)?;
                    }
                }
                if bytes == 8 {
                    let _both = WIDE.lock().expect("no panics while locked");
                    let before = a.words[index].load(Relaxed) as u64 | (a.words[index + 1].load(Relaxed) as u64) << 32;
                    let after = (op.apply)(before, b[lane], c[lane]);
                    a.words[index].store(after as u32, Relaxed);
                    a.words[index + 1].store((after >> 32) as u32, Relaxed);
                    old[lane] = before;
                    return Ok(());
                }
                let shift = if need == VALID { 0 } else { (at & 3) * 8 };
                let cover = super::value_mask(bytes);
                let update = |word: u32| {
                    let after = (op.apply)((word >> shift & cover) as u64, b[lane], c[lane]) as u32;
                    Some(word & !(cover << shift) | (after & cover) << shift)
                };
                let before = a.words[index].fetch_update(Relaxed, Relaxed, update).unwrap_or_default();
                old[lane] = (before >> shift & cover) as u64;
                Ok(())
            })?;
        }
        Ok(())
    }
}
