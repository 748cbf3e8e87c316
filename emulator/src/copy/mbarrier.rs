//! mbarriers: arrival counts, transaction bytes, phases, in the 64 bits of shared memory that hold the object.

use crate::decode::{Address, Outcome, Rare, Reg, Slot};
use crate::execute::Context;
use crate::fault::{Checked, FaultKind, problem};
use crate::memory::lanes;

/// The object, unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    pending: u32,
    expected: u32,
    /// Bytes still to come; negative when they come before they are expected.
    bytes: i32,
    phase: bool,
}

const COUNT: u64 = 0xf_ffff;
/// Distinguishes an object from whatever else may stand in shared memory.
const LIVE: u64 = 1 << 63;

impl State {
    fn pack(self) -> u64 {
        let bytes = (self.bytes as u32 as u64) & 0x3f_ffff;
        LIVE | (self.phase as u64) << 62 | bytes << 40 | (self.expected as u64) << 20 | self.pending as u64
    }

    fn unpack(bits: u64) -> State {
        State {
            pending: (bits & COUNT) as u32,
            expected: (bits >> 20 & COUNT) as u32,
            // Twenty-two bits, signed.
            bytes: (((bits >> 40) as u32) << 10) as i32 >> 10,
            phase: bits >> 62 & 1 != 0,
        }
    }

    /// Starts the next phase if this one is complete.
    fn settle(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.pending = self.expected;
            self.phase = !self.phase;
        }
    }
}

impl Context<'_, '_> {
    fn barrier_state(&self, lane: usize, address: u64) -> Checked<State> {
        if !address.is_multiple_of(8) {
            return problem(FaultKind::Misaligned, lane, format!("an mbarrier at 0x{address:x}"));
        }
        let bits = self.cta.shared.peek(lane, address, 8)?;
        if bits & LIVE == 0 {
            return problem(FaultKind::BadOperand, lane, format!("no mbarrier was initialised at 0x{address:x}"));
        }
        Ok(State::unpack(bits))
    }

    /// Whoever uses an mbarrier must know that it has been initialised.
    pub(super) fn check_initialised(&self, lane: usize, address: u64) -> Checked {
        let Some(&(warp, by, clock)) = self.cta.initialised.get(&address) else { return Ok(()) };
        let is_same = (warp, by) == (self.warp.index, lane);
        if is_same || !self.launch.view.checks.shared_races || self.cta.clocks.knows(self.warp.index, warp, clock) {
            return Ok(());
        }
        let thread = 32 * warp + by;
        let message = format!("uses the mbarrier that thread {thread} initialised, with no barrier between");
        problem(FaultKind::SharedRace, lane, message)
    }

    fn put_barrier(&mut self, lane: usize, address: u64, mut state: State) -> Checked {
        state.settle();
        self.cta.shared.poke(lane, address, 8, state.pack())
    }

    /// Whoever waits for this barrier will know what `warp` has done so far.
    fn signal(&mut self, warp: usize, address: u64) {
        let known = self.cta.clocks.release(warp);
        let all = self.cta.signals.entry(address).or_insert([0; 32]);
        for (sum, new) in all.iter_mut().zip(known) {
            *sum = (*sum).max(new);
        }
    }

    fn arrive_at(
        &mut self,
        warp: usize,
        lane: usize,
        address: u64,
        count: u32,
        bytes: u32,
        drop: bool,
    ) -> Checked<u64> {
        let mut state = self.barrier_state(lane, address)?;
        let before = state.pack();
        if count > state.pending {
            let message = format!("{count} arrivals at an mbarrier that expects {} more", state.pending);
            return problem(FaultKind::BadOperand, lane, message);
        }
        state.bytes += bytes as i32;
        state.pending -= count;
        if drop {
            state.expected -= count;
        }
        self.signal(warp, address);
        self.put_barrier(lane, address, state)?;
        Ok(before)
    }

    /// One more arrival is pending in this phase.
    pub(super) fn expect_arrival(&mut self, lane: usize, address: u64) -> Checked {
        let mut state = self.barrier_state(lane, address)?;
        state.pending += 1;
        self.cta.shared.poke(lane, address, 8, state.pack())
    }

    /// Bytes have arrived.
    pub(super) fn complete_bytes(&mut self, warp: usize, lane: usize, address: u64, bytes: u32) -> Checked {
        let mut state = self.barrier_state(lane, address)?;
        state.bytes -= bytes as i32;
        self.signal(warp, address);
        self.put_barrier(lane, address, state)
    }

    /// Lands what waits for this barrier: bulk copies that will tell it, and arrivals behind `cp.async`.
    fn land_for(&mut self, address: u64) -> Checked {
        self.land_bulk_for(address)?;
        let mut arrivals = std::mem::take(&mut self.cta.copies.arrivals);
        let due: Vec<_> = arrivals.extract_if(.., |arrival| arrival.barrier == address).collect();
        self.cta.copies.arrivals = arrivals;
        for arrival in due {
            self.land_copies(arrival.warp, 1 << arrival.lane, |batch, _| batch.order < arrival.order)?;
            self.arrive_at(arrival.warp, arrival.lane, address, 1, 0, false)?;
        }
        Ok(())
    }
}

/// What an instruction does to the barrier, apart from waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Init(Slot),
    Invalidate,
    /// Count and expected bytes, if given.
    Arrive {
        count: Option<Slot>,
        bytes: Option<Slot>,
        drop: bool,
    },
    ExpectBytes(Slot),
    CompleteBytes(Slot),
    /// Count of a state token.
    Pending(Slot),
}

pub(crate) struct Mbarrier {
    pub action: Action,
    pub address: Address,
    pub generic: bool,
    /// Where the state, or the pending count, goes.
    pub result: Option<Reg>,
}

impl Rare for Mbarrier {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        if let Action::Pending(state) = self.action {
            let live = cx.warp.live;
            let counts = cx.warp.registers.d[state as usize].map(|bits| bits & COUNT);
            if let Some(to) = self.result {
                cx.warp.registers.put(to, &counts, mask, live);
            }
            return Ok(Outcome::Next);
        }
        let address = cx.shared_addresses(&self.address, self.generic, mask)?;
        let warp = cx.warp.index;
        let mut out = [0u64; 32];
        for lane in lanes(mask) {
            let at = address[lane];
            if !matches!(self.action, Action::Init(_)) {
                cx.check_initialised(lane, at)?;
            }
            let value = |cx: &Context, slot: Slot| cx.warp.registers.w[slot as usize][lane];
            match self.action {
                Action::Init(count) => {
                    let count = value(cx, count);
                    if count == 0 || count as u64 > COUNT || !at.is_multiple_of(8) {
                        return problem(FaultKind::BadOperand, lane, format!("mbarrier.init for {count} at 0x{at:x}"));
                    }
                    let state = State { pending: count, expected: count, bytes: 0, phase: false };
                    cx.cta.signals.remove(&at);
                    let now = cx.cta.clocks.now[warp];
                    cx.cta.initialised.insert(at, (warp, lane, now));
                    cx.cta.shared.poke(lane, at, 8, state.pack())?;
                }
                Action::Invalidate => {
                    cx.barrier_state(lane, at)?;
                    cx.cta.shared.poke(lane, at, 8, 0)?;
                }
                Action::Arrive { count, bytes, drop } => {
                    let count = count.map_or(1, |slot| value(cx, slot));
                    let bytes = bytes.map_or(0, |slot| value(cx, slot));
                    out[lane] = cx.arrive_at(warp, lane, at, count, bytes, drop)?;
                }
                Action::ExpectBytes(bytes) => {
                    let mut state = cx.barrier_state(lane, at)?;
                    state.bytes += value(cx, bytes) as i32;
                    cx.cta.shared.poke(lane, at, 8, state.pack())?;
                }
                Action::CompleteBytes(bytes) => {
                    let bytes = value(cx, bytes);
                    cx.complete_bytes(warp, lane, at, bytes)?;
                }
                Action::Pending(_) => {}
            }
        }
        if let Some(to) = self.result {
            let live = cx.warp.live;
            cx.warp.registers.put(to, &out, mask, live);
        }
        Ok(Outcome::Next)
    }
}

/// `mbarrier.test_wait` and `try_wait`. A failed one ends the warp's turn, so that spinning lets the others run.
pub(crate) struct TestWait {
    pub address: Address,
    pub generic: bool,
    pub result: Slot,
    /// A 32-bit parity or a 64-bit state.
    pub phase: Reg,
}

impl Rare for TestWait {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let address = cx.shared_addresses(&self.address, self.generic, mask)?;
        let mut done = 0;
        for lane in lanes(mask) {
            let at = address[lane];
            cx.check_initialised(lane, at)?;
            cx.land_for(at)?;
            let state = cx.barrier_state(lane, at)?;
            let phase = match self.phase {
                Reg::W(slot) => cx.warp.registers.w[slot as usize][lane] & 1 != 0,
                Reg::D(slot) => State::unpack(cx.warp.registers.d[slot as usize][lane]).phase,
            };
            if state.phase != phase {
                done |= 1 << lane;
                if let Some(known) = cx.cta.signals.get(&at) {
                    cx.cta.clocks.acquire(cx.warp.index, known);
                }
            }
        }
        cx.warp.registers.put_p(self.result, done, mask);
        Ok(if done == mask { Outcome::Next } else { Outcome::Yield })
    }
}
