//! Logic, shifts, permutations and bit fields.

use super::arithmetic::operands;
use super::function::Decoder;
use super::lanes::{d_to_w, d1, d2, dw_to_d, w1, w2, w3, w4};
use super::modifiers::Modifiers;
use super::op::{Op, Slot};
use super::{Decoded, Refusal, malformed};
use crate::counters::Class;
use crate::execute::Registers;
use crate::syntax::{Instruction, Operand, Type};

impl Decoder<'_> {
    pub(super) fn bits(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        match base {
            "and" | "or" | "xor" => self.logic(base, ins, m),
            "not" | "cnot" => {
                let ty = m.ty()?;
                let [to, a] = operands(ins)?;
                if ty == Type::Pred {
                    self.class = Class::Predicate;
                    let a = self.p(a)?;
                    return Ok(Op::Predicate(Box::new(|a, _| !a), self.target_p(to)?, a, a));
                }
                let cover = if ty.bytes() == 2 { 0xffff } else { u32::MAX };
                Ok(match (base, ty.bytes()) {
                    ("not", 8) => d1(|a| !a, self.target_d(to)?, self.d(a, ty)?),
                    ("not", _) => w1(move |a| !a & cover, self.target_w(to)?, self.w(a, ty)?),
                    (_, 8) => d1(|a| (a == 0) as u64, self.target_d(to)?, self.d(a, ty)?),
                    _ => w1(|a| (a == 0) as u32, self.target_w(to)?, self.w(a, ty)?),
                })
            }
            "shl" | "shr" => self.shift(base == "shl", ins, m),
            "shf" => {
                let left = m.one_of(&[("l", true), ("r", false)]).ok_or(Refusal::Unsupported)?;
                let wrap = m.one_of(&[("wrap", true), ("clamp", false)]).ok_or(Refusal::Unsupported)?;
                m.need("b32")?;
                let [to, a, b, c] = operands(ins)?;
                let from = [self.w(a, Type::B32)?, self.w(b, Type::B32)?, self.w(c, Type::B32)?];
                let f = move |a: u32, b: u32, c: u32| {
                    let shift = if wrap { c & 31 } else { c.min(32) };
                    let both = (b as u64) << 32 | a as u64;
                    if left { (both << shift >> 32) as u32 } else { (both >> shift) as u32 }
                };
                Ok(w3(f, self.target_w(to)?, from))
            }
            "lop3" => {
                m.need("b32")?;
                let [to, a, b, c, Operand::Integer(table)] = operands(ins)? else {
                    return malformed("lop3 needs a constant table");
                };
                let from = [self.w(a, Type::B32)?, self.w(b, Type::B32)?, self.w(c, Type::B32)?];
                let pick: [u32; 8] = std::array::from_fn(|i| (*table as u32 >> i & 1).wrapping_neg());
                let f = move |a: u32, b: u32, c: u32| {
                    // A tree of selections: c chooses within pairs, b within fours, a between the halves.
                    let by_c: [u32; 4] = [
                        pick[0] & !c | pick[1] & c,
                        pick[2] & !c | pick[3] & c,
                        pick[4] & !c | pick[5] & c,
                        pick[6] & !c | pick[7] & c,
                    ];
                    let (low, high) = (by_c[0] & !b | by_c[1] & b, by_c[2] & !b | by_c[3] & b);
                    low & !a | high & a
                };
                Ok(w3(f, self.target_w(to)?, from))
            }
            _ => self.permute(ins, m),
        }
    }

    fn logic(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let ty = m.ty()?;
        let [to, a, b] = operands(ins)?;
        if ty == Type::Pred {
            self.class = Class::Predicate;
            let f: fn(u32, u32) -> u32 = match base {
                "and" => |a, b| a & b,
                "or" => |a, b| a | b,
                _ => |a, b| a ^ b,
            };
            return Ok(Op::Predicate(Box::new(f), self.target_p(to)?, self.p(a)?, self.p(b)?));
        }
        if ty.bytes() == 8 {
            let (to, a, b) = (self.target_d(to)?, self.d(a, ty)?, self.d(b, ty)?);
            return Ok(match base {
                "and" => d2(|a, b| a & b, to, a, b),
                "or" => d2(|a, b| a | b, to, a, b),
                _ => d2(|a, b| a ^ b, to, a, b),
            });
        }
        let (to, a, b) = (self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?);
        Ok(match base {
            "and" => w2(|a, b| a & b, to, a, b),
            "or" => w2(|a, b| a | b, to, a, b),
            _ => w2(|a, b| a ^ b, to, a, b),
        })
    }

    fn shift(&mut self, left: bool, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let ty = m.ty()?;
        let [to, a, b] = operands(ins)?;
        let amount = self.w(b, Type::U32)?;
        let signed = ty.is_signed();
        // Amounts beyond the width shift everything out; they do not wrap.
        if ty.bytes() == 8 {
            let (to, a) = (self.target_d(to)?, self.d(a, ty)?);
            return Ok(match (left, signed) {
                (true, _) => dw_to_d(|a, n| if n > 63 { 0 } else { a << n }, to, a, amount),
                (false, true) => dw_to_d(|a, n| (a as i64 >> n.min(63)) as u64, to, a, amount),
                (false, false) => dw_to_d(|a, n| if n > 63 { 0 } else { a >> n }, to, a, amount),
            });
        }
        let (to, a) = (self.target_w(to)?, self.w(a, ty)?);
        if ty.bytes() == 2 {
            return Ok(match (left, signed) {
                (true, _) => w2(|a, n| a.checked_shl(n).unwrap_or(0) & 0xffff, to, a, amount),
                (false, true) => w2(|a, n| (a as u16 as i16 as i32 >> n.min(31)) as u32 & 0xffff, to, a, amount),
                (false, false) => w2(|a, n| (a & 0xffff).checked_shr(n).unwrap_or(0), to, a, amount),
            });
        }
        Ok(match (left, signed) {
            (true, _) => w2(|a, n| if n > 31 { 0 } else { a << (n & 31) }, to, a, amount),
            (false, true) => w2(|a, n| (a as i32 >> n.min(31)) as u32, to, a, amount),
            (false, false) => w2(|a, n| if n > 31 { 0 } else { a >> (n & 31) }, to, a, amount),
        })
    }

    fn permute(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        m.need("b32")?;
        let mode = m.one_of(&[("f4e", 1), ("b4e", 2), ("rc8", 3), ("ecl", 4), ("ecr", 5), ("rc16", 6)]).unwrap_or(0);
        let [to, a, b, c] = operands(ins)?;
        if let (0, Operand::Integer(selectors)) = (mode, c) {
            // Constant selectors: the same shifts for all lanes.
            let bytes: [ByteOf; 4] = std::array::from_fn(|i| ByteOf::new((*selectors >> (4 * i)) as u32));
            let f = move |a: u32, b: u32| {
                let [p, q, r, s] = bytes;
                p.pick(a, b) | q.pick(a, b) << 8 | r.pick(a, b) << 16 | s.pick(a, b) << 24
            };
            return Ok(w2(f, self.target_w(to)?, self.w(a, Type::B32)?, self.w(b, Type::B32)?));
        }
        let from = [self.w(a, Type::B32)?, self.w(b, Type::B32)?, self.w(c, Type::B32)?];
        if mode == 0 {
            let f = move |a: u32, b: u32, c: u32| {
                let part = |i: u32| ByteOf::new(c >> (4 * i)).pick(a, b) << (8 * i);
                part(0) | part(1) | part(2) | part(3)
            };
            return Ok(w3(f, self.target_w(to)?, from));
        }
        let f = move |a: u32, b: u32, c: u32| {
            let both = (b as u64) << 32 | a as u64;
            let byte = |i: u32| (both >> (8 * (i & 7))) as u8 as u32;
            (0..4).fold(0, |out, i| {
                let n = c & 3;
                let chosen = match mode {
                    1 => byte(n + i),
                    2 => byte(n.wrapping_sub(i) & 7),
                    3 => byte(n),
                    4 => byte(n.max(i)),
                    5 => byte(n.min(i)),
                    _ => byte((n & 1) * 2 + (i & 1)),
                };
                out | chosen << (8 * i)
            })
        };
        Ok(w3(f, self.target_w(to)?, from))
    }

    pub(super) fn bit_fields(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        match base {
            "popc" | "clz" | "brev" => {
                let ty = m.ty()?;
                let [to, a] = operands(ins)?;
                Ok(match (base, ty) {
                    ("popc", Type::B32) => w1(u32::count_ones, self.target_w(to)?, self.w(a, ty)?),
                    ("popc", Type::B64) => d_to_w(u64::count_ones, self.target_w(to)?, self.d(a, ty)?),
                    ("clz", Type::B32) => w1(u32::leading_zeros, self.target_w(to)?, self.w(a, ty)?),
                    ("clz", Type::B64) => d_to_w(u64::leading_zeros, self.target_w(to)?, self.d(a, ty)?),
                    ("brev", Type::B32) => w1(u32::reverse_bits, self.target_w(to)?, self.w(a, ty)?),
                    ("brev", Type::B64) => d1(u64::reverse_bits, self.target_d(to)?, self.d(a, ty)?),
                    _ => return Err(Refusal::Unsupported),
                })
            }
            "bfind" => {
                let as_shift = m.take("shiftamt");
                let ty = m.ty()?;
                let [to, a] = operands(ins)?;
                let (bits, signed) = (ty.bytes() * 8, ty.is_signed());
                let finish = move |zeros: u32| match (zeros == bits, as_shift) {
                    (true, _) => u32::MAX,
                    (false, true) => zeros,
                    (false, false) => bits - 1 - zeros,
                };
                if bits == 64 {
                    let f = move |a: u64| finish(if signed && (a as i64) < 0 { !a } else { a }.leading_zeros());
                    return Ok(d_to_w(f, self.target_w(to)?, self.d(a, ty)?));
                }
                let f = move |a: u32| finish(if signed && (a as i32) < 0 { !a } else { a }.leading_zeros());
                Ok(w1(f, self.target_w(to)?, self.w(a, ty)?))
            }
            "bfe" => {
                let ty = m.ty()?;
                let [to, a, b, c] = operands(ins)?;
                let (position, length) = (self.w(b, Type::U32)?, self.w(c, Type::U32)?);
                let signed = ty.is_signed();
                if ty.bytes() == 8 {
                    let (to, a) = (self.target_d(to)?, self.d(a, ty)?);
                    let f = move |r: &Registers, lane: usize| {
                        let (p, n) = (r.w[position as usize][lane], r.w[length as usize][lane]);
                        extract(r.d[a as usize][lane], p, n, 64, signed)
                    };
                    return Ok(mixed_d(f, to));
                }
                if let (Operand::Integer(p), Operand::Integer(n)) = (b, c) {
                    // A constant field inside the word is two shifts.
                    let (p, n) = (*p as u32 & 0xff, *n as u32 & 0xff);
                    if n > 0 && p + n <= 32 {
                        let (left, right) = (32 - p - n, 32 - n);
                        let (to, a) = (self.target_w(to)?, self.w(a, ty)?);
                        return Ok(match signed {
                            true => w1(move |a| ((a << left) as i32 >> right) as u32, to, a),
                            false => w1(move |a| a << left >> right, to, a),
                        });
                    }
                }
                let f = move |a: u32, p: u32, n: u32| extract(a as u64, p, n, 32, signed) as u32;
                Ok(w3(f, self.target_w(to)?, [self.w(a, ty)?, position, length]))
            }
            "bfi" => {
                let ty = m.ty()?;
                let [to, a, b, c, d] = operands(ins)?;
                let (position, length) = (self.w(c, Type::U32)?, self.w(d, Type::U32)?);
                if ty.bytes() == 8 {
                    let (to, a, b) = (self.target_d(to)?, self.d(a, ty)?, self.d(b, ty)?);
                    let f = move |r: &Registers, lane: usize| {
                        let (p, n) = (r.w[position as usize][lane], r.w[length as usize][lane]);
                        insert(r.d[a as usize][lane], r.d[b as usize][lane], p, n, 64)
                    };
                    return Ok(mixed_d(f, to));
                }
                let f = |a: u32, b: u32, p: u32, n: u32| insert(a as u64, b as u64, p, n, 32) as u32;
                Ok(w4(f, self.target_w(to)?, [self.w(a, ty)?, self.w(b, ty)?, position, length]))
            }
            "bmsk" => {
                let wrap = m.one_of(&[("wrap", true), ("clamp", false)]).ok_or(Refusal::Unsupported)?;
                m.need("b32")?;
                let [to, a, b] = operands(ins)?;
                let f = move |a: u32, b: u32| {
                    let (start, count) = if wrap { (a & 31, b & 31) } else { (a.min(32), b.min(32)) };
                    ((((1u64 << count) - 1) << start) & 0xffff_ffff) as u32
                };
                Ok(w2(f, self.target_w(to)?, self.w(a, Type::B32)?, self.w(b, Type::B32)?))
            }
            "szext" => {
                let wrap = m.one_of(&[("wrap", true), ("clamp", false)]).ok_or(Refusal::Unsupported)?;
                let ty = m.ty()?;
                let [to, a, b] = operands(ins)?;
                let signed = ty.is_signed();
                let f = move |a: u32, b: u32| {
                    let count = if wrap { b & 31 } else { b.min(32) };
                    extract(a as u64, 0, count, 32, signed) as u32
                };
                Ok(w2(f, self.target_w(to)?, self.w(a, ty)?, self.w(b, Type::U32)?))
            }
            _ => Err(Refusal::Unsupported),
        }
    }
}

/// One byte of a pair of words, or its sign, as a selector of `prmt` names it.
#[derive(Clone, Copy)]
struct ByteOf {
    shift: u32,
    /// All ones if the byte is in the second word.
    second: u32,
    /// All ones if its sign is wanted.
    sign: u32,
}

impl ByteOf {
    #[inline(always)]
    fn new(selector: u32) -> ByteOf {
        let spread = |bit: u32| (selector >> bit & 1).wrapping_neg();
        ByteOf { shift: 8 * (selector & 3), second: spread(2), sign: spread(3) }
    }

    #[inline(always)]
    fn pick(self, a: u32, b: u32) -> u32 {
        let byte = (a & !self.second | b & self.second) >> self.shift & 0xff;
        byte & !self.sign | (byte >> 7).wrapping_neg() & 0xff & self.sign
    }
}

/// `bfe`: a field, extended by its own top bit if signed.
fn extract(a: u64, position: u32, length: u32, bits: u32, signed: bool) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    let top = (position + length).saturating_sub(1).min(bits - 1);
    let sign = signed && length > 0 && a >> top & 1 != 0;
    let field = if position < bits { a >> position } else { 0 };
    let kept = length.min(bits.saturating_sub(position));
    let cover = if kept >= 64 { u64::MAX } else { (1 << kept) - 1 };
    let all = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    (field & cover | if sign { all & !cover } else { 0 }) & all
}

/// `bfi`: the low `length` bits of `a` over those of `b` from `position`.
fn insert(a: u64, b: u64, position: u32, length: u32, bits: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if position >= bits || length == 0 {
        return b;
    }
    let length = length.min(bits - position);
    let cover = (if length >= 64 { u64::MAX } else { (1 << length) - 1 }) << position;
    b & !cover | a << position & cover
}

/// An operation of mixed widths with a 64-bit result.
fn mixed_d(f: impl Fn(&Registers, usize) -> u64 + Send + Sync + 'static, to: Slot) -> Op {
    Op::Mixed(Box::new(move |registers, mask| {
        for lane in crate::memory::lanes(mask) {
            registers.d[to as usize][lane] = f(registers, lane);
        }
    }))
}
