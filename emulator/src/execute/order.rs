//! What fences and strong accesses order: each word remembers what those knew who published it, and who reads it with a
//! strong access learns that, with an acquiring access at once, otherwise at its next fence.

use super::Context;
use crate::decode::Order;
use crate::fault::{Checked, Suspect};
use crate::memory::{D, lanes};

fn word(address: u64) -> u64 {
    address & !3
}

fn join(mine: &mut [u32; 32], theirs: &[u32; 32]) {
    for (mine, &theirs) in mine.iter_mut().zip(theirs) {
        *mine = (*mine).max(theirs);
    }
}

impl Context<'_, '_> {
    /// A fence: what came before it is published by the strong stores behind it, what strong loads before it have met is known
    /// behind it.
    pub(super) fn fence(&mut self, device: bool) {
        let warp = self.warp.index;
        let heard = std::mem::take(&mut self.warp.heard);
        self.cta.clocks.acquire(warp, &heard);
        self.warp.published = Some(self.cta.clocks.publish(warp));
        if device {
            self.launch.view.races.fence(self.worker.identity);
        }
    }

    /// A strong store.
    pub(super) fn publish(&mut self, order: Order, address: &D, mask: u32) {
        if order.releases {
            self.warp.published = Some(self.cta.clocks.publish(self.warp.index));
            if order.device {
                self.launch.view.races.fence(self.worker.identity);
            }
        }
        if let Some(known) = &self.warp.published {
            for lane in lanes(mask) {
                join(self.cta.published.entry(word(address[lane])).or_insert([0; 32]), known);
            }
        }
    }

    /// A strong load.
    pub(super) fn hear(&mut self, order: Order, address: &D, mask: u32) {
        if order.acquires && order.device {
            self.launch.view.races.fence(self.worker.identity);
        }
        if self.cta.published.is_empty() {
            return;
        }
        for lane in lanes(mask) {
            if let Some(known) = self.cta.published.get(&word(address[lane])) {
                join(&mut self.warp.heard, known);
            }
        }
        if order.acquires {
            let heard = std::mem::take(&mut self.warp.heard);
            self.cta.clocks.acquire(self.warp.index, &heard);
        }
    }

    /// An atomic: a strong load and a strong store, by which its thread learns whether it has read the latest value before.
    pub(super) fn exchange(&mut self, order: Order, address: &D, mask: u32, bytes: u32) {
        self.hear(order, address, mask);
        self.publish(order, address, mask);
        if !self.warp.suspects.is_empty() {
            let is_cleared = |suspect: &Suspect| {
                let at = address[suspect.lane];
                mask >> suspect.lane & 1 != 0 && (word(at)..at + u64::from(bytes)).contains(&suspect.address)
            };
            self.warp.suspects.retain(|suspect| !is_cleared(suspect));
        }
    }

    /// Takes over what the instruction has read beside atomics of others.
    pub(super) fn keep_suspects(&mut self) {
        let at = self.warp.at;
        let global = self.worker.suspects.get_mut().drain(..);
        for suspect in global.chain(self.cta.shared.suspects.drain(..)) {
            let known = &mut self.warp.suspects;
            if !known.iter().any(|old| (old.lane, word(old.address)) == (suspect.lane, word(suspect.address))) {
                known.push(Suspect { at, address: word(suspect.address), ..suspect });
            }
        }
    }

    /// Lanes that come to a barrier or to their end have not exchanged what they read.
    pub(super) fn judge_suspects(&mut self, mask: u32) -> Checked {
        let Some(first) = self.warp.suspects.iter().position(|suspect| mask >> suspect.lane & 1 != 0) else {
            return Ok(());
        };
        let suspect = self.warp.suspects.swap_remove(first);
        self.warp.at = suspect.at;
        Err(suspect.problem)
    }
}
