//! Allocations and the host's side of global memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::{VALID, byte_mask};

/// Every allocation starts on a multiple of this, as `cuMemAlloc` promises.
const ALIGNMENT: u64 = 512;
/// Unmapped addresses between allocations, so that even a wild index meets nothing.
const GUARD: u64 = 1 << 24;
const FIRST: u64 = 0x10_0000_0000;

/// One allocation. The words are atomics because CTAs run on several host threads; all orderings are relaxed, since
/// what two CTAs share without synchronisation is reported as a race anyway.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub base: u64,
    pub size: u64,
    pub constant: bool,
    pub words: Vec<AtomicU32>,
    pub state: Vec<AtomicU8>,
    pub owners: Vec<AtomicU64>,
    /// Per sixteen bytes: the launch, by its epoch, in which several CTAs have read every word of them. Until it ends no
    /// access changes their race records, so further reads need not look at them.
    pub calm: Vec<AtomicU8>,
}

/// Zeroed memory comes from the system page by page, when it is first touched, and the conversion to atomics happens in
/// place and compiles to nothing: an arena of many GiB costs only the parts that are used.
fn no_owners(count: usize) -> Vec<AtomicU64> {
    vec![0; count].into_iter().map(AtomicU64::new).collect()
}

fn no_calm(words: usize) -> Vec<AtomicU8> {
    vec![0; words.div_ceil(4)].into_iter().map(AtomicU8::new).collect()
}

impl Allocation {
    fn new(base: u64, size: u64, constant: bool) -> Allocation {
        let count = size.div_ceil(4) as usize;
        Allocation {
            base,
            size,
            constant,
            words: vec![0; count].into_iter().map(AtomicU32::new).collect(),
            state: vec![0; count].into_iter().map(AtomicU8::new).collect(),
            owners: no_owners(count),
            calm: no_calm(count),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.base + self.size
    }

    fn write_byte(&self, offset: u64, value: u8) {
        let word = &self.words[(offset / 4) as usize];
        let shift = (offset % 4) * 8;
        let old = word.load(Relaxed);
        word.store(old & !(0xff << shift) | (value as u32) << shift, Relaxed);
        self.state[(offset / 4) as usize].fetch_or(byte_mask(offset, 1), Relaxed);
    }

    fn read_byte(&self, offset: u64) -> u8 {
        (self.words[(offset / 4) as usize].load(Relaxed) >> ((offset % 4) * 8)) as u8
    }

    /// Host write; the caller has checked the range.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let head = ((4 - offset % 4) % 4).min(bytes.len() as u64) as usize;
        let (first, rest) = bytes.split_at(head);
        for (i, &byte) in first.iter().enumerate() {
            self.write_byte(offset + i as u64, byte);
        }
        let start = (offset + head as u64) / 4;
        let (whole, last) = rest.as_chunks::<4>();
        for (i, chunk) in whole.iter().enumerate() {
            self.words[start as usize + i].store(u32::from_le_bytes(*chunk), Relaxed);
            self.state[start as usize + i].store(VALID, Relaxed);
        }
        for (i, &byte) in last.iter().enumerate() {
            self.write_byte((start + whole.len() as u64) * 4 + i as u64, byte);
        }
    }

    /// Host read; the caller has checked the range. Bytes never written read as zero.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) {
        if !offset.is_multiple_of(4) {
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = self.read_byte(offset + i as u64);
            }
            return;
        }
        let start = (offset / 4) as usize;
        for (i, chunk) in bytes.chunks_mut(4).enumerate() {
            let word = self.words[start + i].load(Relaxed).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// Marks bytes as never written.
    pub(crate) fn poison(&self, offset: u64, size: u64) {
        let mut at = offset;
        while at < offset + size {
            let state = &self.state[(at / 4) as usize];
            if at.is_multiple_of(4) && at + 4 <= offset + size {
                state.store(0, Relaxed);
                at += 4;
            } else {
                state.fetch_and(!byte_mask(at, 1), Relaxed);
                at += 1;
            }
        }
    }

    /// Whether a byte has been written.
    pub(crate) fn is_written(&self, offset: u64) -> bool {
        self.state[(offset / 4) as usize].load(Relaxed) & byte_mask(offset, 1) != 0
    }

    /// How many bytes of a range have not been written.
    pub(crate) fn count_unwritten(&self, offset: u64, size: u64) -> u64 {
        let bytes = |range: std::ops::Range<u64>| range.filter(|&at| !self.is_written(at)).count() as u64;
        let end = offset + size;
        let (first, last) = (offset.next_multiple_of(4), end / 4 * 4);
        if first >= last {
            return bytes(offset..end);
        }
        let words = &self.state[(first / 4) as usize..(last / 4) as usize];
        let unwritten = |state: &AtomicU8| u64::from((!state.load(Relaxed) & VALID).count_ones());
        bytes(offset..first) + words.iter().map(unwritten).sum::<u64>() + bytes(last..end)
    }
}

/// All allocations, dead and alive. Addresses are never used twice, so a stale pointer is always recognised.
#[derive(Debug)]
pub(crate) struct GlobalMemory {
    pub live: BTreeMap<u64, Arc<Allocation>>,
    pub freed: Vec<(u64, u64)>,
    next: u64,
    bytes: u64,
    limit: u64,
}

impl GlobalMemory {
    pub(crate) fn new(limit: u64) -> GlobalMemory {
        GlobalMemory { live: BTreeMap::new(), freed: Vec::new(), next: FIRST, bytes: 0, limit }
    }

    /// The base of a new allocation, or the bytes still free.
    pub(crate) fn allocate(&mut self, size: u64, constant: bool) -> Result<u64, u64> {
        let left = self.limit - self.bytes;
        if size > left {
            return Err(left);
        }
        let base = self.next;
        self.next = (base + size + GUARD).next_multiple_of(ALIGNMENT);
        self.bytes += size;
        self.live.insert(base, Arc::new(Allocation::new(base, size, constant)));
        Ok(base)
    }

    pub(crate) fn free(&mut self, base: u64) -> bool {
        let Some(allocation) = self.live.remove(&base) else { return false };
        self.bytes -= allocation.size;
        self.freed.push((base, allocation.size));
        true
    }

    pub(crate) fn in_use(&self) -> u64 {
        self.bytes
    }

    /// The allocation that holds the whole range, with the offset in it.
    pub(crate) fn locate(&self, address: u64, size: u64) -> Option<(&Allocation, u64)> {
        let (_, allocation) = self.live.range(..=address).next_back()?;
        let offset = address - allocation.base;
        (offset <= allocation.size && size <= allocation.size - offset).then_some((&**allocation, offset))
    }

    pub(crate) fn forget_owners(&mut self) {
        for allocation in self.live.values_mut() {
            match Arc::get_mut(allocation) {
                // New pages rather than cleared ones: what was never touched stays unallocated.
                Some(allocation) => {
                    allocation.owners = no_owners(allocation.owners.len());
                    allocation.calm = no_calm(allocation.owners.len());
                }
                None => {
                    allocation.owners.iter().for_each(|owner| owner.store(0, Relaxed));
                    allocation.calm.iter().for_each(|calm| calm.store(0, Relaxed));
                }
            }
        }
    }
}
