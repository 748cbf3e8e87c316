//! The register file of a warp and the instructions that touch nothing else.

use crate::decode::{Carry, CarryKind, Join, Kernel, Op, Pred, Reg, SetTarget, Slot};
use crate::memory::{D, W};

/// One row per register, one column per lane.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    pub w: Vec<W>,
    pub d: Vec<D>,
    /// One bit per lane.
    pub p: Vec<u32>,
    pub carry: u32,
}

#[inline(always)]
fn spread(mask: u32, lane: usize) -> u32 {
    (mask >> lane & 1).wrapping_neg()
}

impl Registers {
    pub(crate) fn reset(&mut self, kernel: &Kernel) {
        self.w.clear();
        self.w.resize(kernel.words as usize, [0; 32]);
        self.d.clear();
        self.d.resize(kernel.doubles as usize, [0; 32]);
        self.p.clear();
        self.p.resize(kernel.predicates as usize, 0);
        for &(slot, value) in &kernel.word_constants {
            self.w[slot as usize] = [value; 32];
        }
        for &(slot, value) in &kernel.double_constants {
            self.d[slot as usize] = [value; 32];
        }
        for &(slot, value) in &kernel.predicate_constants {
            self.p[slot as usize] = value;
        }
        self.carry = 0;
    }

    #[inline(always)]
    pub(crate) fn predicate(&self, p: Pred) -> u32 {
        let bits = self.p[p.slot as usize];
        if p.negated { !bits } else { bits }
    }

    #[inline(always)]
    pub(crate) fn put_p(&mut self, slot: Slot, value: u32, mask: u32) {
        let old = &mut self.p[slot as usize];
        *old = *old & !mask | value & mask;
    }

    #[inline(always)]
    pub(crate) fn put_w(&mut self, slot: Slot, value: &W, mask: u32, live: u32) {
        let row = &mut self.w[slot as usize];
        if mask == live {
            *row = *value;
        } else {
            for lane in 0..32 {
                let keep = spread(mask, lane);
                row[lane] = row[lane] & !keep | value[lane] & keep;
            }
        }
    }

    #[inline(always)]
    pub(crate) fn put_d(&mut self, slot: Slot, value: &D, mask: u32, live: u32) {
        let row = &mut self.d[slot as usize];
        if mask == live {
            // By halves: a copy of 256 bytes would be a call.
            let ((low, high), (from_low, from_high)) = (row.split_at_mut(16), value.split_at(16));
            low.copy_from_slice(from_low);
            high.copy_from_slice(from_high);
        } else {
            for lane in 0..32 {
                let keep = spread(mask, lane) as i32 as i64 as u64;
                row[lane] = row[lane] & !keep | value[lane] & keep;
            }
        }
    }

    /// A register of either width as 64-bit values.
    pub(crate) fn wide(&self, reg: Reg) -> D {
        match reg {
            Reg::W(slot) => self.w[slot as usize].map(u64::from),
            Reg::D(slot) => self.d[slot as usize],
        }
    }

    pub(crate) fn put(&mut self, reg: Reg, value: &D, mask: u32, live: u32) {
        match reg {
            Reg::W(slot) => self.put_w(slot, &value.map(|x| x as u32), mask, live),
            Reg::D(slot) => self.put_d(slot, value, mask, live),
        }
    }

    #[inline(always)]
    fn set(&mut self, compared: u32, target: SetTarget, mask: u32) {
        let (value, complement) = match target.join {
            None => (compared, !compared),
            Some((join, p)) => {
                let other = self.predicate(p);
                let apply = |x: u32| match join {
                    Join::And => x & other,
                    Join::Or => x | other,
                    Join::Xor => x ^ other,
                };
                (apply(compared), apply(!compared))
            }
        };
        self.put_p(target.result, value, mask);
        if let Some(slot) = target.complement {
            self.put_p(slot, complement, mask);
        }
    }

    /// Executes `op` if it is one of the register-only operations; says whether it was.
    #[inline(always)]
    pub(crate) fn execute(&mut self, op: &Op, mask: u32, live: u32) -> bool {
        macro_rules! w {
            ($s:expr) => {
                &self.w[*$s as usize]
            };
        }
        macro_rules! d {
            ($s:expr) => {
                &self.d[*$s as usize]
            };
        }
        match op {
            Op::W2(f, to, a, b) => {
                let out = f(w!(a), w!(b));
                self.put_w(*to, &out, mask, live);
            }
            Op::W3(f, to, a, b, c) => {
                let out = f(w!(a), w!(b), w!(c));
                self.put_w(*to, &out, mask, live);
            }
            Op::W1(f, to, a) => {
                let out = f(w!(a));
                self.put_w(*to, &out, mask, live);
            }
            Op::MovW(to, a) => {
                let out = *w!(a);
                self.put_w(*to, &out, mask, live);
            }
            Op::MovD(to, a) => {
                let out = *d!(a);
                self.put_d(*to, &out, mask, live);
            }
            Op::D2(f, to, a, b) => {
                let out = f(d!(a), d!(b));
                self.put_d(*to, &out, mask, live);
            }
            Op::SetW(f, target, a, b) => {
                let compared = f(w!(a), w!(b));
                self.set(compared, *target, mask);
            }
            Op::SetD(f, target, a, b) => {
                let compared = f(d!(a), d!(b));
                self.set(compared, *target, mask);
            }
            Op::WWtoD(f, to, a, b) => {
                let out = f(w!(a), w!(b));
                self.put_d(*to, &out, mask, live);
            }
            Op::WtoD(f, to, a) => {
                let out = f(w!(a));
                self.put_d(*to, &out, mask, live);
            }
            Op::WWDtoD(f, to, a, b, c) => {
                let out = f(w!(a), w!(b), d!(c));
                self.put_d(*to, &out, mask, live);
            }
            Op::DWtoD(f, to, a, b) => {
                let out = f(d!(a), w!(b));
                self.put_d(*to, &out, mask, live);
            }
            Op::DtoW(f, to, a) => {
                let out = f(d!(a));
                self.put_w(*to, &out, mask, live);
            }
            Op::DDtoW(f, to, a, b) => {
                let out = f(d!(a), d!(b));
                self.put_w(*to, &out, mask, live);
            }
            Op::W4(f, to, [a, b, c, e]) => {
                let out = f(w!(a), w!(b), w!(c), w!(e));
                self.put_w(*to, &out, mask, live);
            }
            Op::D1(f, to, a) => {
                let out = f(d!(a));
                self.put_d(*to, &out, mask, live);
            }
            Op::D3(f, to, a, b, c) => {
                let out = f(d!(a), d!(b), d!(c));
                self.put_d(*to, &out, mask, live);
            }
            Op::SelectW(to, a, b, p) => {
                let chosen = self.predicate(*p);
                let (a, b) = (w!(a), w!(b));
                let mut out = [0; 32];
                for lane in 0..32 {
                    let keep = spread(chosen, lane);
                    out[lane] = a[lane] & keep | b[lane] & !keep;
                }
                self.put_w(*to, &out, mask, live);
            }
            Op::SelectD(to, a, b, p) => {
                let chosen = self.predicate(*p);
                let (a, b) = (d!(a), d!(b));
                let mut out = [0; 32];
                for lane in 0..32 {
                    out[lane] = if chosen >> lane & 1 != 0 { a[lane] } else { b[lane] };
                }
                self.put_d(*to, &out, mask, live);
            }
            Op::Predicate(f, to, a, b) => {
                let value = f(self.predicate(*a), self.predicate(*b));
                self.put_p(*to, value, mask);
            }
            Op::Mixed(f) => f(self, mask),
            Op::Carry(carry) => self.extended(carry, mask, live),
            Op::Nop => {}
            _ => return false,
        }
        true
    }

    /// Extended-precision arithmetic with the carry flag.
    fn extended(&mut self, op: &Carry, mask: u32, live: u32) {
        let bits = if op.wide { 64 } else { 32 };
        let cover = (1u128 << bits) - 1;
        let read =
            |slot: Slot| -> D { if op.wide { self.d[slot as usize] } else { self.w[slot as usize].map(u64::from) } };
        let (a, b, c) = (read(op.a), read(op.b), read(op.c));
        let mut out = [0u64; 32];
        let mut carries = 0u32;
        for lane in 0..32 {
            let carry = (self.carry >> lane & 1) as u128;
            let flag = if op.carry_in { carry } else { 0 };
            let (x, y) = (a[lane] as u128, b[lane] as u128);
            let exact = match op.kind {
                CarryKind::Add => x + y + flag,
                // Hardware adds the complement and one, or instead of one the carry: after a subtraction it is set where there was no borrow.
                CarryKind::Sub => x + (y ^ cover) + if op.carry_in { carry } else { 1 },
                CarryKind::MadLow | CarryKind::MadHigh => {
                    let product = if op.signed {
                        let sign = |v: u64| if op.wide { v as i64 as i128 } else { v as u32 as i32 as i128 };
                        (sign(a[lane]).wrapping_mul(sign(b[lane]))) as u128
                    } else {
                        x.wrapping_mul(y)
                    };
                    let half = if op.kind == CarryKind::MadHigh { product >> bits } else { product };
                    (half & cover) + c[lane] as u128 + flag
                }
            };
            out[lane] = (exact & cover) as u64;
            carries |= ((exact >> bits & 1) as u32) << lane;
        }
        if op.carry_out {
            self.carry = self.carry & !mask | carries & mask;
        }
        if op.wide {
            self.put_d(op.d, &out, mask, live);
        } else {
            self.put_w(op.d, &out.map(|x| x as u32), mask, live);
        }
    }
}
