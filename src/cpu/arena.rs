//! The one allocation, and the only place where slices of it are made.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;

use crate::tensor::Place;

/// One cache line: gives the arena its alignment.
#[derive(Clone, Copy, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A fixed run of bytes, aligned to 64, in which all values of a program live.
pub struct Arena {
    lines: Box<[UnsafeCell<Line>]>,
    bytes: usize,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arena({} bytes)", self.bytes)
    }
}

impl Arena {
    /// Zeroed bytes, fresh from the operating system where it can give zeroed pages; none when it refuses.
    pub fn new(bytes: usize) -> Option<Self> {
        bytemuck::try_zeroed_slice_box(bytes.div_ceil(64)).ok().map(|lines| Self { lines, bytes })
    }

    /// How many.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes to read, while nothing runs.
    ///
    /// # Panics
    /// If the place lies outside.
    pub fn read(&self, place: Place) -> &[u8] {
        // SAFETY: every writer (`write`, a `CpuCall`) holds `&mut Arena`, so no mutable slice exists while this one lives.
        unsafe { self.slice(place) }
    }

    /// Bytes to write, while nothing runs.
    ///
    /// # Panics
    /// If the place lies outside.
    pub fn write(&mut self, place: Place) -> &mut [u8] {
        // SAFETY: `&mut self` excludes every other slice of the arena.
        unsafe { self.slice_mut(place) }
    }

    /// Bytes at a place.
    ///
    /// # Safety
    /// No mutable slice that overlaps the place may exist while the result lives.
    pub(super) unsafe fn slice(&self, place: Place) -> &[u8] {
        assert!(place.end() <= self.bytes, "{place:?} lies outside the arena");
        // SAFETY: the range lies in the allocation (asserted); all bytes were initialised to zero at the start, and
        // any byte is a valid u8; the caller excludes overlapping mutable slices.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<u8>().add(place.offset), place.bytes) }
    }

    /// Bytes at a place, to write.
    ///
    /// # Safety
    /// No other slice that overlaps the place may exist while the result lives.
    #[expect(
        clippy::mut_from_ref,
        reason = "disjoint parts of one allocation; the caller proves that they are disjoint"
    )]
    pub(super) unsafe fn slice_mut(&self, place: Place) -> &mut [u8] {
        assert!(place.end() <= self.bytes, "{place:?} lies outside the arena");
        // SAFETY: as in `slice`; the lines are `UnsafeCell`s, so writing through a shared reference to the arena is
        // allowed, and the caller excludes every other overlapping slice.
        unsafe {
            std::slice::from_raw_parts_mut(
                UnsafeCell::raw_get(self.lines.as_ptr()).cast::<u8>().add(place.offset),
                place.bytes,
            )
        }
    }
}
