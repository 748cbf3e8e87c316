//! Finds races between CTAs on global memory.
//!
//! One 64-bit entry per word: launch epoch, writing CTA, reading CTA, and which bytes each touched. The common cases
//! (one CTA, or many CTAs that only read) need no lock. Words whose bytes belong to different CTAs move to a map
//! with one record per byte.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Several CTAs; as a writer: the word is in the map of split words.
const MANY: u32 = 0xff_ffff;
/// As a writer: atomics only, by the CTAs in the reader field.
const ATOMIC: u32 = 0xff_fffe;
/// CTA numbers are taken modulo this; races between CTAs that coincide go unseen.
const IDS: u32 = 0xff_fff0;

/// The kind of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    /// By a volatile, relaxed or acquiring instruction: it may meet atomics and strong stores, and leaves no record.
    StrongRead,
    Write,
    /// Of the value that is there already: two that store the same do not race, as in shared memory.
    Rewrite,
    /// By an atomic or a strong store.
    Atomic,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    writer: u32,
    reader: u32,
    written: u8,
    read: u8,
}

impl Entry {
    fn unpack(bits: u64, epoch: u8) -> Entry {
        if (bits >> 56) as u8 != epoch {
            return Entry::default();
        }
        Entry {
            writer: (bits >> 32) as u32 & MANY,
            reader: (bits >> 8) as u32 & MANY,
            written: (bits >> 4) as u8 & 15,
            read: bits as u8 & 15,
        }
    }

    fn pack(self, epoch: u8) -> u64 {
        (epoch as u64) << 56
            | (self.writer as u64) << 32
            | (self.reader as u64) << 8
            | (self.written as u64) << 4
            | self.read as u64
    }

    /// The entry after the access, or what stands against it.
    fn touch(self, me: u32, bytes: u8, touch: Touch) -> Result<Entry, Conflict> {
        let mut next = self;
        let alone = |owner: u32| owner == 0 || owner == me;
        let clash_written = !alone(self.writer) && self.written & bytes != 0;
        let clash_read = !alone(self.reader) && self.read & bytes != 0;
        match touch {
            Touch::Atomic => {
                if self.writer == ATOMIC || (self.writer == 0 && !clash_read) {
                    next.writer = ATOMIC;
                    next.written |= bytes;
                    next.reader = if alone(self.reader) { me } else { MANY };
                    return Ok(next);
                }
                if self.writer == me {
                    return Ok(next);
                }
                Err(if clash_written { Conflict::Race(self.writer) } else { Conflict::Race(self.reader) })
            }
            Touch::StrongRead => match clash_written && self.writer != ATOMIC {
                true => Err(Conflict::Race(self.writer)),
                false => Ok(next),
            },
            Touch::Read => {
                if self.writer == ATOMIC {
                    let mine = self.reader == me || self.written & bytes == 0;
                    return if mine { Ok(next) } else { Err(Conflict::Race(ATOMIC)) };
                }
                if clash_written {
                    return Err(Conflict::Race(self.writer));
                }
                if !alone(self.writer) {
                    return Err(Conflict::Split);
                }
                if alone(self.reader) {
                    next.reader = me;
                    next.read |= bytes;
                } else if self.read == bytes {
                    next.reader = MANY;
                } else {
                    return Err(Conflict::Split);
                }
                Ok(next)
            }
            Touch::Rewrite if clash_written && self.writer != ATOMIC && !clash_read => Ok(next),
            Touch::Write | Touch::Rewrite => {
                if self.writer == ATOMIC {
                    let mine = self.reader == me || self.written & bytes == 0;
                    return if mine { Ok(next) } else { Err(Conflict::Race(ATOMIC)) };
                }
                if clash_written {
                    return Err(Conflict::Race(self.writer));
                }
                if clash_read {
                    return Err(Conflict::Race(self.reader));
                }
                if !alone(self.writer) || !alone(self.reader) {
                    return Err(Conflict::Split);
                }
                next.writer = me;
                next.written |= bytes;
                Ok(next)
            }
        }
    }
}

enum Conflict {
    Race(u32),
    Split,
}

/// Race detection of one launch.
#[derive(Debug)]
pub(crate) struct Races {
    epoch: u8,
    split: Mutex<HashMap<u64, [Entry; 4]>>,
    /// CTAs that have executed a device-wide fence. A conflict between two such CTAs is taken as synchronised: that
    /// is how the last CTA of a reduction reads the partial sums of the others.
    fenced: Vec<AtomicBool>,
}

impl Races {
    pub(crate) fn new(epoch: u8, ctas: u64, has_fences: bool) -> Races {
        let count = if has_fences { ctas.min(IDS as u64) } else { 0 };
        let fenced = (0..count).map(|_| AtomicBool::new(false)).collect();
        Races { epoch, split: Mutex::default(), fenced }
    }

    pub(crate) fn identity(cta: u64) -> u32 {
        (cta % IDS as u64) as u32 + 1
    }

    pub(crate) fn fence(&self, me: u32) {
        if let Some(flag) = self.fenced.get(me as usize - 1) {
            flag.store(true, Relaxed);
        }
    }

    /// The patterns that need no update: full words read before by me, by many, or read and written by me.
    pub(crate) fn quiet(&self, me: u32) -> [u64; 4] {
        let entry = |writer, reader, written, read| Entry { writer, reader, written, read }.pack(self.epoch);
        [entry(0, MANY, 0, 15), entry(0, me, 0, 15), entry(me, 0, 15, 0), entry(me, me, 15, 15)]
    }

    /// Whether the record already says that this CTA, or several, have read these bytes, and nobody else has written.
    #[inline(always)]
    pub(super) fn is_read(&self, me: u32, bits: u64, bytes: u8) -> bool {
        let entry = Entry::unpack(bits, self.epoch);
        let unwritten = entry.writer == 0 || entry.writer == me;
        let known = entry.reader == me || (entry.reader == MANY && entry.writer == 0);
        unwritten && known && entry.read & bytes == bytes
    }

    /// Whether the record says that these bytes have been written in this launch.
    pub(super) fn has_write(&self, bits: u64, bytes: u8) -> bool {
        let entry = Entry::unpack(bits, self.epoch);
        entry.writer != 0 && entry.writer != MANY && entry.written & bytes != 0
    }

    /// What becomes of the record of a word when the CTA with these quiet patterns reads it whole, in the cases that are
    /// common and need no judgement.
    #[inline(always)]
    pub(super) fn after_read(&self, [shared, read, written, both]: [u64; 4], bits: u64) -> Option<u64> {
        const READER: u64 = (MANY as u64) << 8;
        if (bits >> 56) as u8 != self.epoch {
            return Some(read);
        }
        if bits == written {
            return Some(both);
        }
        if bits == both || bits == read {
            return Some(bits);
        }
        // Read by others, as a whole.
        (bits | READER == shared).then_some(shared)
    }

    /// Records an access to `bytes` of the word with this entry. `Err` names the other CTA, if it is known.
    #[cold]
    #[inline(never)]
    pub(crate) fn touch(
        &self,
        slot: &AtomicU64,
        address: u64,
        me: u32,
        bytes: u8,
        touch: Touch,
    ) -> Result<(), Option<u32>> {
        let mut bits = slot.load(Relaxed);
        loop {
            let entry = Entry::unpack(bits, self.epoch);
            if entry.writer == MANY {
                return self.touch_split(address, me, bytes, touch);
            }
            let next = match entry.touch(me, bytes, touch) {
                Ok(next) => next,
                Err(Conflict::Race(other)) => return self.judge(me, other),
                Err(Conflict::Split) => Entry { writer: MANY, ..entry },
            };
            // The map is filled under its lock before anyone can see the split mark's consequences.
            let guard = (next.writer == MANY).then(|| self.split.lock().expect("no panics while locked"));
            match slot.compare_exchange_weak(bits, next.pack(self.epoch), Relaxed, Relaxed) {
                Ok(_) => {
                    let Some(mut map) = guard else { return Ok(()) };
                    let byte = |i: u8| {
                        let held = |mask: u8, who: u32| if mask >> i & 1 != 0 { who } else { 0 };
                        let bit = |mask: u8| mask >> i & 1;
                        Entry {
                            writer: held(entry.written, entry.writer),
                            reader: held(entry.read, entry.reader),
                            written: bit(entry.written),
                            read: bit(entry.read),
                        }
                    };
                    map.insert(address & !3, [byte(0), byte(1), byte(2), byte(3)]);
                    drop(map);
                    return self.touch_split(address, me, bytes, touch);
                }
                Err(seen) => bits = seen,
            }
        }
    }

    fn touch_split(&self, address: u64, me: u32, bytes: u8, touch: Touch) -> Result<(), Option<u32>> {
        let mut map = self.split.lock().expect("no panics while locked");
        let entries = map.entry(address & !3).or_default();
        for (i, entry) in entries.iter_mut().enumerate() {
            if bytes >> i & 1 == 0 {
                continue;
            }
            match entry.touch(me, 1, touch) {
                Ok(next) => *entry = next,
                Err(Conflict::Race(other)) => {
                    drop(map);
                    return self.judge(me, other);
                }
                // A single byte has no disjoint parts.
                Err(Conflict::Split) => {}
            }
        }
        Ok(())
    }

    fn judge(&self, me: u32, other: u32) -> Result<(), Option<u32>> {
        let fenced = |id: u32| self.fenced.get(id as usize - 1).is_some_and(|flag| flag.load(Relaxed));
        let known = other < IDS;
        if fenced(me) && (!known || fenced(other)) {
            return Ok(());
        }
        Err(known.then(|| other - 1))
    }
}
