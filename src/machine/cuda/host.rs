//! Host memory that the GPU reads and writes by itself, while the processor does something else.

#![allow(unsafe_code)]

use std::ptr;

use cudarc::driver::{
    result::{self, DriverError},
    sys::{self, CUevent_flags},
};

use super::Event;

/// Pinned bytes. They stay where they are until they are dropped.
#[derive(Debug)]
pub(super) struct Pinned {
    pointer: *mut u8,
    bytes: usize,
}

impl Pinned {
    /// So many zeroed bytes.
    ///
    /// The context must be current.
    pub(super) fn new(bytes: usize) -> Result<Self, DriverError> {
        // SAFETY: nothing is asked of the caller but a current context, without which the driver returns an error.
        let pointer = unsafe { result::malloc_host(bytes.max(1), 0) }?.cast::<u8>();
        // SAFETY: the driver just gave these bytes to us alone. Rust must not see them before they are initialised.
        unsafe { pointer.write_bytes(0, bytes) };
        Ok(Self { pointer, bytes })
    }

    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// The bytes.
    ///
    /// # Safety
    /// No copy of the GPU into them is under way.
    pub(super) unsafe fn read(&self) -> &[u8] {
        // SAFETY: allocated and initialised by `new` with this length; `&self` excludes writers on the host, the caller
        // those on the device.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }

    /// The bytes, to write.
    ///
    /// # Safety
    /// No copy of the GPU from or into them is under way.
    pub(super) unsafe fn write(&mut self) -> &mut [u8] {
        // SAFETY: as in `read`; `&mut self` excludes everybody else on the host.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }

    /// Gives the bytes back.
    ///
    /// # Safety
    /// The context is current, no copy from or into them is under way, and this is called once.
    pub(super) unsafe fn free(&self) {
        // A failure has nobody left to act on it.
        // SAFETY: the pointer comes from `malloc_host`.
        let _ = unsafe { result::free_host(self.pointer.cast()) };
    }
}

/// Pinned bytes on their way to one address, and the event behind the copy.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) pinned: Pinned,
    pub(super) uploaded: Event,
}

impl Staging {
    /// The context must be current.
    pub(super) fn new(bytes: usize) -> Result<Self, DriverError> {
        Ok(Self { pinned: Pinned::new(bytes)?, uploaded: awaited_event()? })
    }

    /// Gives bytes and event back.
    ///
    /// # Safety
    /// As [`Pinned::free`].
    pub(super) unsafe fn free(&self) {
        // SAFETY: the caller's promise; the event was created by `new`. A failure has nobody left to act on it.
        unsafe {
            self.pinned.free();
            let _ = result::event::destroy(self.uploaded);
        }
    }
}

/// An event that only orders: streams wait for it, the host does not.
pub(super) fn plain_event() -> Result<Event, DriverError> {
    result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING)
}

/// An event that the host waits for, asleep: an event does not do as its context does.
fn awaited_event() -> Result<Event, DriverError> {
    let flags = CUevent_flags::CU_EVENT_DISABLE_TIMING as u32 | CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32;
    let mut event = ptr::null_mut();
    // SAFETY: nothing is asked of the caller but a current context, without which the driver returns an error. The
    // binding's own function takes one flag only.
    unsafe { sys::cuEventCreate(&mut event, flags) }.result()?;
    Ok(event)
}

/// Two pinned chunks with events: while the GPU fills one, the processor empties the other.
#[derive(Debug)]
pub(super) struct Bounce {
    pub(super) chunks: [Pinned; 2],
    pub(super) filled: [Event; 2],
}

/// Bytes of a chunk: long enough for the full speed of the bus, short enough to begin emptying at once.
const CHUNK: usize = 4 << 20;

impl Bounce {
    /// The context must be current.
    pub(super) fn new() -> Result<Self, DriverError> {
        Ok(Self { chunks: [Pinned::new(CHUNK)?, Pinned::new(CHUNK)?], filled: [awaited_event()?, awaited_event()?] })
    }
}
