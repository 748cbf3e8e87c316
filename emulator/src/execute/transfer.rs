//! Loads, stores and atomics: addresses, state spaces, and the way between registers and memory.

use super::Context;
use crate::decode::{Address, Atomic, Extend, Reg, Transfer};
use crate::fault::{Checked, FaultKind, problem};
use crate::memory::{D, Planes, byte_mask, lanes, value_mask};
use crate::syntax::Space;

/// Generic addresses of shared, local and parameter memory; global memory keeps its own addresses.
pub(crate) const SHARED_WINDOW: u64 = 0x7f00_0000_0000;
pub(crate) const LOCAL_WINDOW: u64 = 0x7e00_0000_0000;
pub(crate) const PARAM_WINDOW: u64 = 0x7d00_0000_0000;
/// The bits that tell windows apart.
pub(crate) const WINDOW_MASK: u64 = 0xff00_0000_0000;

fn space_of(address: u64) -> Space {
    match address & WINDOW_MASK {
        SHARED_WINDOW => Space::Shared,
        LOCAL_WINDOW => Space::Local,
        PARAM_WINDOW => Space::Param,
        _ => Space::Global,
    }
}

impl Context<'_, '_> {
    #[inline(always)]
    pub(crate) fn addresses(&self, address: &Address) -> D {
        let offset = address.offset as u64;
        match address.base {
            None => [offset; 32],
            Some(Reg::D(slot)) => {
                let row = &self.warp.registers.d[slot as usize];
                let mut out = [0; 32];
                for lane in 0..32 {
                    out[lane] = row[lane].wrapping_add(offset);
                }
                out
            }
            Some(Reg::W(slot)) => {
                let row = &self.warp.registers.w[slot as usize];
                let mut out = [0; 32];
                for lane in 0..32 {
                    // 32-bit addresses stay 32 bits wide.
                    out[lane] = row[lane].wrapping_add(offset as u32) as u64;
                }
                out
            }
        }
    }

    /// Addresses in shared memory, from shared or generic ones.
    #[inline(always)]
    pub(crate) fn shared_addresses(&self, address: &Address, generic: bool, mask: u32) -> Checked<D> {
        let found = self.addresses(address);
        if generic { self.out_of_window(&found, mask) } else { Ok(found) }
    }

    #[inline(never)]
    fn out_of_window(&self, found: &D, mask: u32) -> Checked<D> {
        if let Some(lane) = lanes(mask).find(|&lane| space_of(found[lane]) != Space::Shared) {
            return problem(FaultKind::BadOperand, lane, format!("0x{:x} is not in shared memory", found[lane]));
        }
        Ok(found.map(|at| at & !WINDOW_MASK))
    }

    #[inline(always)]
    pub(crate) fn check_alignment(&self, address: &D, mask: u32, bytes: u32) -> Checked {
        let any = address.iter().fold(0, |any, at| any | at) & (bytes as u64 - 1);
        if any == 0 {
            return Ok(());
        }
        let mut wrong = 0;
        for (lane, at) in address.iter().enumerate() {
            wrong |= u32::from(at & (bytes as u64 - 1) != 0) << lane;
        }
        wrong &= mask;
        if wrong == 0 {
            return Ok(());
        }
        let lane = wrong.trailing_zeros() as usize;
        problem(FaultKind::Misaligned, lane, format!("{bytes} bytes at 0x{:x}", address[lane]))
    }

    pub(super) fn load(&mut self, transfer: &Transfer, mask: u32) -> Checked {
        let address = self.addresses(&transfer.address);
        let total = transfer.total();
        self.check_alignment(&address, mask, total)?;
        let mut planes = [[0; 32]; 4];
        self.each_space(transfer.space, &address, mask, |cx, space, address, mask| match space {
            Space::Shared => {
                cx.count_shared(address, mask, total);
                if transfer.order.strong {
                    cx.hear(transfer.order, address, mask);
                    let who = cx.cta.clocks.who(cx.warp.index, false);
                    return cx.cta.shared.load_strongly(who, address, mask, total, &mut planes);
                }
                let who = cx.cta.clocks.who(cx.warp.index, false);
                cx.cta.shared.load(who, address, mask, total, &mut planes)
            }
            Space::Local => cx.local(address, mask, total, &mut planes, false),
            Space::Param => cx.parameter(address, mask, total, &mut planes),
            _ => {
                cx.count_global(address, mask, total, false);
                if transfer.order.strong {
                    cx.hear(transfer.order, address, mask);
                    return cx.launch.view.load_strongly(cx.worker, address, mask, total, &mut planes);
                }
                cx.launch.view.load(cx.worker, address, mask, total, &mut planes)?;
                if transfer.read_only {
                    cx.launch.view.check_read_only(cx.worker, address, mask, total)
                } else {
                    Ok(())
                }
            }
        })?;
        self.keep_suspects();
        self.scatter(transfer, &planes, mask);
        Ok(())
    }

    /// Splits a generic access by the space each lane's address lies in.
    #[inline(always)]
    fn each_space(
        &mut self,
        space: Space,
        address: &D,
        mask: u32,
        mut f: impl FnMut(&mut Self, Space, &D, u32) -> Checked,
    ) -> Checked {
        if space != Space::Generic {
            return f(self, space, address, mask);
        }
        let mut rest = mask;
        while rest != 0 {
            let found = space_of(address[rest.trailing_zeros() as usize]);
            let part = lanes(rest).filter(|&lane| space_of(address[lane]) == found).fold(0u32, |m, lane| m | 1 << lane);
            rest &= !part;
            if found == Space::Global {
                f(self, found, address, part)?;
            } else {
                f(self, found, &address.map(|at| at & !WINDOW_MASK), part)?;
            }
        }
        Ok(())
    }

    /// Puts loaded bytes into registers.
    fn scatter(&mut self, transfer: &Transfer, planes: &Planes, mask: u32) {
        let live = self.warp.live;
        let registers = &mut self.warp.registers;
        for (i, target) in transfer.registers.iter().enumerate() {
            let Some(target) = *target else { continue };
            match (transfer.bytes, target) {
                (4, Reg::W(slot)) => registers.put_w(slot, &planes[i], mask, live),
                (8, Reg::D(slot)) => {
                    let (low, high) = (&planes[2 * i], &planes[2 * i + 1]);
                    let mut out = [0; 32];
                    for lane in 0..32 {
                        out[lane] = low[lane] as u64 | (high[lane] as u64) << 32;
                    }
                    registers.put_d(slot, &out, mask, live);
                }
                _ => {
                    let mut out = [0u64; 32];
                    for (lane, out) in out.iter_mut().enumerate() {
                        let raw = element(planes, transfer.bytes, i, lane);
                        *out = match transfer.extend {
                            Extend::Zero => raw,
                            Extend::Sign { bits, cover } => ((raw << (64 - bits)) as i64 >> (64 - bits)) as u64 & cover,
                        };
                    }
                    registers.put(target, &out, mask, live);
                }
            }
        }
    }

    pub(super) fn store(&mut self, transfer: &Transfer, mask: u32) -> Checked {
        let address = self.addresses(&transfer.address);
        let total = transfer.total();
        self.check_alignment(&address, mask, total)?;
        let mut planes = self.gather(transfer);
        self.each_space(transfer.space, &address, mask, |cx, space, address, mask| match space {
            Space::Shared => {
                cx.count_shared(address, mask, total);
                if transfer.order.strong {
                    cx.publish(transfer.order, address, mask);
                    let who = cx.cta.clocks.who(cx.warp.index, false);
                    return cx.cta.shared.store_strongly(who, address, mask, total, &planes);
                }
                let who = cx.cta.clocks.who(cx.warp.index, false);
                cx.cta.shared.store(who, address, mask, total, &planes)
            }
            Space::Local => cx.local(address, mask, total, &mut planes, true),
            Space::Param | Space::Const => {
                problem(FaultKind::ReadOnly, mask.trailing_zeros() as usize, "parameters are constants")
            }
            _ => {
                cx.count_global(address, mask, total, true);
                cx.check_sources(address, mask, total)?;
                if transfer.order.strong {
                    cx.publish(transfer.order, address, mask);
                    return cx.launch.view.store_strongly(cx.worker, address, mask, total, &planes);
                }
                cx.launch.view.store(cx.worker, address, mask, total, &planes)
            }
        })
    }

    /// Collects the bytes to store from registers.
    fn gather(&self, transfer: &Transfer) -> Planes {
        let mut planes = [[0u32; 32]; 4];
        let registers = &self.warp.registers;
        for (i, source) in transfer.registers.iter().enumerate() {
            let Some(source) = *source else { continue };
            match (transfer.bytes, source) {
                (4, Reg::W(slot)) => planes[i] = registers.w[slot as usize],
                (8, Reg::D(slot)) => {
                    let row = &registers.d[slot as usize];
                    for lane in 0..32 {
                        planes[2 * i][lane] = row[lane] as u32;
                        planes[2 * i + 1][lane] = (row[lane] >> 32) as u32;
                    }
                }
                (bytes, source) => {
                    let row = registers.wide(source);
                    for (lane, &value) in row.iter().enumerate() {
                        if bytes >= 4 {
                            planes[i * bytes as usize / 4][lane] = value as u32;
                            continue;
                        }
                        let at = i as u32 * bytes;
                        planes[at as usize / 4][lane] |= (value as u32 & value_mask(bytes)) << (at % 4 * 8);
                    }
                }
            }
        }
        planes
    }

    /// Local memory: words interleaved by lane.
    fn local(&mut self, address: &D, mask: u32, bytes: u32, planes: &mut Planes, write: bool) -> Checked {
        let size = self.warp.local.len() as u64 * 4;
        for lane in lanes(mask) {
            let at = address[lane];
            if at.saturating_add(bytes as u64) > size {
                let message = format!("{bytes} bytes at offset {} of {size} bytes of local memory", at as i64);
                return problem(FaultKind::OutOfBounds, lane, message);
            }
            let index = (at / 4) as usize;
            let shift = (at & 3) * 8;
            for k in 0..bytes.div_ceil(4) as usize {
                let word = &mut self.warp.local[index + k][lane];
                let written = &mut self.warp.local_written[index + k][lane];
                let cover = value_mask(bytes) << shift;
                let need = byte_mask(at, bytes);
                if write {
                    *written |= need;
                } else if *written & need != need && self.launch.view.checks.uninitialised {
                    return problem(FaultKind::Uninitialised, lane, format!("local offset {at}"));
                }
                if write {
                    *word = *word & !cover | planes[k][lane] << shift & cover;
                } else {
                    planes[k][lane] = (*word & cover) >> shift;
                }
            }
        }
        Ok(())
    }

    fn parameter(&mut self, address: &D, mask: u32, bytes: u32, planes: &mut Planes) -> Checked {
        let block = self.launch.arguments;
        for lane in lanes(mask) {
            let start = address[lane] as usize;
            let Some(found) = block.get(start..start.saturating_add(bytes as usize)) else {
                let size = block.len();
                return problem(
                    FaultKind::OutOfBounds,
                    lane,
                    format!("{bytes} bytes at offset {start} of {size} bytes of parameters"),
                );
            };
            for (k, chunk) in found.chunks(4).enumerate() {
                let mut word = [0; 4];
                word[..chunk.len()].copy_from_slice(chunk);
                planes[k][lane] = u32::from_le_bytes(word);
            }
        }
        Ok(())
    }

    pub(super) fn atomic(&mut self, atomic: &Atomic, mask: u32) -> Checked {
        let address = self.addresses(&atomic.address);
        let bytes = atomic.op.bytes;
        self.check_alignment(&address, mask, bytes)?;
        let b = self.warp.registers.wide(atomic.b);
        let c = atomic.c.map_or([0; 32], |c| self.warp.registers.wide(c));
        let mut old = [0u64; 32];
        self.each_space(atomic.space, &address, mask, |cx, space, address, mask| match space {
            Space::Shared => {
                cx.count_shared(address, mask, bytes);
                cx.exchange(atomic.order, address, mask, bytes);
                for lane in lanes(mask) {
                    let who = cx.cta.clocks.who(cx.warp.index, false);
                    let before = cx.cta.shared.atomic(who, lane, address[lane], bytes)?;
                    old[lane] = before;
                    cx.cta.shared.poke(lane, address[lane], bytes, (atomic.op.apply)(before, b[lane], c[lane]))?;
                }
                cx.cta.shared.note_generic(address, mask, bytes);
                Ok(())
            }
            Space::Global => {
                cx.count_global(address, mask, bytes, true);
                cx.check_sources(address, mask, bytes)?;
                cx.exchange(atomic.order, address, mask, bytes);
                cx.launch.view.atomic(cx.worker, address, mask, &atomic.op, [&b, &c], &mut old)
            }
            other => problem(
                FaultKind::BadOperand,
                mask.trailing_zeros() as usize,
                format!("atomics on {other} memory do not exist"),
            ),
        })?;
        if let Some(to) = atomic.result {
            let live = self.warp.live;
            self.warp.registers.put(to, &old, mask, live);
        }
        Ok(())
    }
}

fn element(planes: &Planes, bytes: u32, i: usize, lane: usize) -> u64 {
    match bytes {
        8 => planes[2 * i][lane] as u64 | (planes[2 * i + 1][lane] as u64) << 32,
        4 => planes[i][lane] as u64,
        _ => {
            let at = i as u32 * bytes;
            (planes[at as usize / 4][lane] >> (at % 4 * 8) & value_mask(bytes)) as u64
        }
    }
}
