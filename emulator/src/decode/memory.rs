//! Loads, stores, atomics and cache hints.

use super::arithmetic::operands;
use super::function::Decoder;
use super::modifiers::Modifiers;
use super::op::{Atomic, Extend, Op, Order, Reg, Transfer};
use super::scope::Symbol;
use super::{Decoded, Refusal, malformed};
use crate::counters::Class;
use crate::memory::{AtomicFn, AtomicOp};
use crate::numeric::Rounding;
use crate::numeric::half::{Half, HalfMath};
use crate::numeric::single::Single;
use crate::syntax::{AddressBase, Instruction, Operand, Space, Type};

/// Takes orders and scopes.
fn take_order(m: &mut Modifiers, order: &mut Order) {
    while let Some(part) = m.peek() {
        match part {
            "weak" => {}
            "volatile" | "relaxed" | "mmio" => order.strong = true,
            "acquire" => (order.strong, order.acquires) = (true, true),
            "release" => (order.strong, order.releases) = (true, true),
            "acq_rel" | "sc" => (order.strong, order.acquires, order.releases) = (true, true, true),
            "cta" | "cluster" => {}
            "gpu" | "sys" => order.device = true,
            _ => break,
        }
        m.take(part);
    }
}

impl Decoder<'_> {
    pub(super) fn memory(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        match base {
            "ld" | "ldu" => self.load_form(ins, m),
            "st" => self.store_form(ins, m),
            "atom" | "red" => self.atomic_form(base == "red", ins, m),
            "prefetch" | "prefetchu" | "applypriority" | "discard" => {
                // Hints to the cache: the operands are checked for being addresses, nothing else happens.
                self.class = Class::LoadOther;
                while m.peek().is_some() {
                    m.next()?;
                }
                self.address(ins.operands.first().ok_or(Refusal::Unsupported)?)?;
                Ok(Op::Nop)
            }
            _ => {
                self.class = Class::Move;
                while m.peek().is_some() {
                    m.next()?;
                }
                let to = self.target_d(ins.operands.first().ok_or(Refusal::Unsupported)?)?;
                let zero = self.constant_d(0);
                Ok(Op::MovD(to, zero))
            }
        }
    }

    /// Parameters of the kernel are constants, those of calls local variables.
    fn space_of_parameter(&mut self, address: Option<&Operand>) -> Space {
        let Some(Operand::Address(AddressBase::Name(name), _)) = address else { return Space::Param };
        match self.find(name) {
            Some(Symbol::Variable(Space::Local, _)) => Space::Local,
            _ => Space::Param,
        }
    }

    fn note_order(&mut self, order: Order) {
        self.has_fences |= order.device && (order.acquires || order.releases);
    }

    fn vector(&mut self, m: &mut Modifiers) -> usize {
        m.one_of(&[("v2", 2), ("v4", 4), ("v8", 8)]).unwrap_or(1)
    }

    fn load_form(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let mut order = Order::default();
        take_order(m, &mut order);
        let mut space = m.space().unwrap_or(Space::Generic);
        if space == Space::Param {
            space = self.space_of_parameter(ins.operands.get(1));
        }
        take_order(m, &mut order);
        self.note_order(order);
        let read_only = ins.opcode.iter().any(|part| part == "nc");
        m.skip_cache_hints();
        let hint = m.take("L2::cache_hint");
        m.skip_cache_hints();
        let count = self.vector(m);
        let ty = m.ty()?;
        if ins.operands.len() != 2 + hint as usize || ty.bytes() as usize * count > 16 || ty.bytes() == 0 {
            return Err(Refusal::Unsupported);
        }
        let list = match &ins.operands[0] {
            Operand::Vector(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        if list.len() != count {
            return malformed("the vector has the wrong length");
        }
        let mut registers = Vec::new();
        let mut cover = u64::MAX;
        for one in list {
            let reg = self.target(one)?;
            if let (Operand::Name(name), Some(_)) = (one, reg)
                && let Some((declared, _)) = self.register(name)
            {
                if declared.bytes() < ty.bytes() {
                    return malformed(format!("{name} is too narrow for {ty}"));
                }
                cover = if declared.bytes() >= 8 { u64::MAX } else { (1 << (8 * declared.bytes())) - 1 };
            }
            registers.push(reg);
        }
        self.class = match space {
            Space::Global => Class::LoadGlobal,
            Space::Shared => Class::LoadShared,
            Space::Generic => Class::LoadGlobal,
            _ => Class::LoadOther,
        };
        if order.strong && matches!(space, Space::Global | Space::Generic) {
            self.ordered = true;
        }
        let address = self.address(&ins.operands[1])?;
        if space == Space::Const {
            space = Space::Global;
        }
        let bits = ty.bytes() * 8;
        let extend = if ty.is_signed() { Extend::Sign { bits, cover } } else { Extend::Zero };
        Ok(Op::Load(Box::new(Transfer { space, order, read_only, bytes: ty.bytes(), registers, extend, address })))
    }

    fn store_form(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        if m.take("async") {
            return Err(Refusal::Unsupported);
        }
        let mut order = Order::default();
        take_order(m, &mut order);
        let mut space = m.space().unwrap_or(Space::Generic);
        if space == Space::Param {
            space = self.space_of_parameter(ins.operands.first());
        }
        take_order(m, &mut order);
        self.note_order(order);
        m.skip_cache_hints();
        let hint = m.take("L2::cache_hint");
        m.skip_cache_hints();
        let count = self.vector(m);
        let ty = m.ty()?;
        if ins.operands.len() != 2 + hint as usize || ty.bytes() as usize * count > 16 || ty.bytes() == 0 {
            return Err(Refusal::Unsupported);
        }
        let list = match &ins.operands[1] {
            Operand::Vector(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        if list.len() != count {
            return malformed("the vector has the wrong length");
        }
        let registers = list.iter().map(|one| self.source(one, ty).map(Some)).collect::<Decoded<Vec<_>>>()?;
        self.class = match space {
            Space::Global | Space::Generic => Class::StoreGlobal,
            Space::Shared => Class::StoreShared,
            _ => Class::StoreOther,
        };
        let address = self.address(&ins.operands[0])?;
        Ok(Op::Store(Box::new(Transfer {
            space,
            order,
            read_only: false,
            bytes: ty.bytes(),
            registers,
            extend: Extend::Zero,
            address,
        })))
    }

    fn atomic_form(&mut self, reduce: bool, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Atomic;
        let mut order = Order { strong: true, ..Order::default() };
        take_order(m, &mut order);
        let mut space = m.space();
        take_order(m, &mut order);
        let op = m.next()?;
        // libcu++ writes the operation first.
        take_order(m, &mut order);
        space = space.or_else(|| m.space());
        take_order(m, &mut order);
        self.note_order(order);
        let space = space.unwrap_or(Space::Generic);
        m.take("noftz");
        let count = self.vector(m);
        let ty = m.ty()?;
        if count != 1 || matches!(ty, Type::B128) {
            return Err(Refusal::Unsupported);
        }
        let from = ins.operands.get(reduce as usize ^ 1..).unwrap_or_default();
        if from.len() != 2 + (op == "cas") as usize {
            return Err(Refusal::Unsupported);
        }
        let result = if reduce { None } else { self.target(&ins.operands[0])? };
        let address = self.address(&from[0])?;
        let b = self.source(&from[1], ty)?;
        let c = match from.get(2) {
            Some(c) => Some(self.source(c, ty)?),
            None => None,
        };
        if matches!(b, Reg::D(_)) != (ty.bytes() == 8) {
            return malformed("the operand does not have the width of the type");
        }
        let apply = atomic_function(op, ty).ok_or(Refusal::Unsupported)?;
        // Sums of floats depend on their order, and so does whatever uses the old value.
        if space != Space::Shared && (ty.is_float() || result.is_some() || matches!(op, "exch" | "cas")) {
            self.ordered = true;
        }
        Ok(Op::Atomic(Box::new(Atomic {
            space,
            order,
            op: AtomicOp { bytes: ty.bytes(), apply },
            address,
            result,
            b,
            c,
        })))
    }

    /// `ld.param` and the like reach parameters by name; nothing to do here but the arity check.
    pub(super) fn no_operands(&self, ins: &Instruction) -> Decoded<()> {
        operands::<0>(ins).map(|_| ())
    }
}

fn atomic_function(op: &str, ty: Type) -> Option<AtomicFn> {
    use Type::*;
    let single = Single { rounding: Rounding::Nearest, ftz: false, sat: false };
    let half = |half| HalfMath { half, ftz: false, sat: false, relu: false };
    Some(match (op, ty) {
        ("exch", B32 | B64) => Box::new(|_, b, _| b),
        ("cas", B16 | B32 | B64) => Box::new(|old, b, c| if old == b { c } else { old }),
        ("and", B32 | B64) => Box::new(|old, b, _| old & b),
        ("or", B32 | B64) => Box::new(|old, b, _| old | b),
        ("xor", B32 | B64) => Box::new(|old, b, _| old ^ b),
        ("add", U32 | S32 | U64) => Box::new(|old, b, _| old.wrapping_add(b)),
        ("add", F32) => Box::new(move |old, b, _| single.add(old as u32, b as u32) as u64),
        ("add", F64) => {
            Box::new(|old, b, _| crate::numeric::double::canonical(f64::from_bits(old) + f64::from_bits(b)).to_bits())
        }
        ("add" | "min" | "max", F16 | Bf16) => {
            let math = half(if ty == F16 { Half::F16 } else { Half::Bf16 });
            let f = half_atomic(op, math);
            Box::new(move |old, b, _| f(old as u32 & 0xffff, b as u32 & 0xffff) as u64)
        }
        ("add" | "min" | "max", F16x2 | Bf16x2) => {
            let math = half(if ty == F16x2 { Half::F16 } else { Half::Bf16 });
            let f = half_atomic(op, math);
            Box::new(move |old, b, _| {
                let (old, b) = (old as u32, b as u32);
                (f(old & 0xffff, b & 0xffff) | f(old >> 16, b >> 16) << 16) as u64
            })
        }
        ("min", U32 | U64) => Box::new(|old, b, _| old.min(b)),
        ("max", U32 | U64) => Box::new(|old, b, _| old.max(b)),
        ("min", S32) => Box::new(|old, b, _| (old as i32).min(b as i32) as u32 as u64),
        ("max", S32) => Box::new(|old, b, _| (old as i32).max(b as i32) as u32 as u64),
        ("min", S64) => Box::new(|old, b, _| (old as i64).min(b as i64) as u64),
        ("max", S64) => Box::new(|old, b, _| (old as i64).max(b as i64) as u64),
        ("inc", U32) => Box::new(|old, b, _| if old >= b { 0 } else { old + 1 }),
        ("dec", U32) => Box::new(|old, b, _| if old == 0 || old > b { b } else { old - 1 }),
        _ => return None,
    })
}

fn half_atomic(op: &str, math: HalfMath) -> Box<dyn Fn(u32, u32) -> u32 + Send + Sync> {
    match op {
        "add" => Box::new(move |a, b| math.add(a, b)),
        "min" => Box::new(move |a, b| math.extremum(a, b, false, false)),
        _ => Box::new(move |a, b| math.extremum(a, b, true, false)),
    }
}
