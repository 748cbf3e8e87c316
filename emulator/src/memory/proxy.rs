//! Shared memory behind two proxies: plain stores, atomics and `cp.async` write through the generic one, `wgmma` and bulk
//! copies read through the asynchronous one. What the first has written the second may not see before a
//! `fence.proxy.async`.
//!
//! Any thread's fence counts for all that was written until then: this may miss a fault, and never invents one.

use super::shared::SharedMemory;
use super::{D, lanes};
use crate::fault::{Checked, FaultKind, problem};

#[derive(Debug, Default)]
pub(super) struct Proxy {
    /// Per sixteen bytes: written through the generic proxy since the last fence. Empty if nothing asks.
    unfenced: Vec<bool>,
    /// Where these are.
    written: Vec<usize>,
}

impl Proxy {
    pub(super) fn reset(&mut self, quads: usize) {
        self.unfenced.clear();
        self.unfenced.resize(quads, false);
        self.written.clear();
    }
}

impl SharedMemory {
    /// Notes generic writes of `bytes` per lane, whose addresses have been checked.
    #[inline(always)]
    pub(crate) fn note_generic(&mut self, address: &D, mask: u32, bytes: u32) {
        if self.proxy.unfenced.is_empty() {
            return;
        }
        for lane in lanes(mask) {
            let first = self.quad_of(address[lane]);
            for quad in first..=self.quad_of(address[lane] + bytes as u64 - 1) {
                if !std::mem::replace(&mut self.proxy.unfenced[quad], true) {
                    self.proxy.written.push(quad);
                }
            }
        }
    }

    /// Sixteen bytes were written through the asynchronous proxy.
    #[inline(always)]
    pub(crate) fn note_async(&mut self, address: u64) {
        let quad = self.quad_of(address);
        // The list keeps it; a fence finds nothing to do there.
        if let Some(unfenced) = self.proxy.unfenced.get_mut(quad) {
            *unfenced = false;
        }
    }

    /// `fence.proxy.async`.
    pub(crate) fn fence_proxy(&mut self) {
        for quad in self.proxy.written.drain(..) {
            self.proxy.unfenced[quad] = false;
        }
    }

    /// Checks a read of sixteen bytes through the asynchronous proxy.
    #[inline(always)]
    pub(crate) fn check_proxy(&self, lane: usize, address: u64) -> Checked {
        if self.proxy.unfenced.get(self.quad_of(address)) == Some(&true) {
            return self.unfenced(lane, address);
        }
        Ok(())
    }

    #[cold]
    fn unfenced(&self, lane: usize, address: u64) -> Checked {
        let offset = self.quad_of(address) * 16;
        let message = format!("shared offset {offset} was written by plain stores, with no fence.proxy.async since");
        problem(FaultKind::ProxyFence, lane, message)
    }
}
