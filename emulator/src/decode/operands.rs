//! Operands to slots. Immediates and special registers get slots of their own, filled when a warp starts, so that
//! the executor reads nothing but registers.

use super::function::Decoder;
use super::op::{Address, Op, Pred, Reg, Slot, Special};
use super::scope::Symbol;
use super::{Decoded, Refusal, malformed};
use crate::memory::W;
use crate::syntax::{AddressBase, Operand, Type};

fn special(name: &str) -> Option<Special> {
    let axis = |name: &str| match name {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    if let Some((base, component)) = name.split_once('.') {
        let axis = axis(component)?;
        return Some(match base {
            "%tid" => Special::Tid(axis),
            "%ntid" => Special::Ntid(axis),
            "%ctaid" | "%clusterid" => Special::Ctaid(axis),
            "%nctaid" | "%nclusterid" => Special::Nctaid(axis),
            _ => return None,
        });
    }
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::Nwarpid,
        "%smid" => Special::Smid,
        "%nsmid" => Special::Nsmid,
        "%lanemask_eq" => Special::LanemaskEq,
        "%lanemask_le" => Special::LanemaskLe,
        "%lanemask_lt" => Special::LanemaskLt,
        "%lanemask_ge" => Special::LanemaskGe,
        "%lanemask_gt" => Special::LanemaskGt,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        _ => return None,
    })
}

/// Special registers with one value everywhere: without clusters, every CTA is a cluster of one.
fn fixed(name: &str) -> Option<u32> {
    Some(match name {
        "%cluster_ctaid.x" | "%cluster_ctaid.y" | "%cluster_ctaid.z" | "%cluster_ctarank" => 0,
        "%cluster_nctaid.x" | "%cluster_nctaid.y" | "%cluster_nctaid.z" | "%cluster_nctarank" => 1,
        "%gridid" | "%is_explicit_cluster" => 0,
        "WARP_SZ" => 32,
        _ => return None,
    })
}

impl Decoder<'_> {
    pub(crate) fn constant_w(&mut self, value: u32) -> Slot {
        let files = &mut self.files;
        *self.word_constants.entry(value).or_insert_with(|| files.word())
    }

    pub(crate) fn constant_d(&mut self, value: u64) -> Slot {
        let files = &mut self.files;
        *self.double_constants.entry(value).or_insert_with(|| files.double())
    }

    pub(crate) fn constant_p(&mut self, value: bool) -> Pred {
        let files = &mut self.files;
        let mask = if value { u32::MAX } else { 0 };
        let slot = *self.predicate_constants.entry(mask).or_insert_with(|| files.predicate());
        Pred { slot, negated: false }
    }

    pub(crate) fn special_w(&mut self, special: Special) -> Slot {
        let files = &mut self.files;
        *self.specials.entry(special).or_insert_with(|| files.word())
    }

    /// A source of at most 32 bits.
    pub(crate) fn w(&mut self, operand: &Operand, ty: Type) -> Decoded<Slot> {
        match self.source(operand, ty)? {
            Reg::W(slot) => Ok(slot),
            Reg::D(_) => malformed(format!("{operand} is wider than {ty}")),
        }
    }

    /// A source of 64 bits.
    pub(crate) fn d(&mut self, operand: &Operand, ty: Type) -> Decoded<Slot> {
        match self.source(operand, ty)? {
            Reg::D(slot) => Ok(slot),
            Reg::W(_) => malformed(format!("{operand} is narrower than {ty}")),
        }
    }

    /// A source of whatever width its register has; immediates have the width of `ty`.
    pub(crate) fn source(&mut self, operand: &Operand, ty: Type) -> Decoded<Reg> {
        let wide = ty.bytes() == 8;
        let immediate = |decoder: &mut Self, value: u64| {
            if wide {
                Reg::D(decoder.constant_d(value))
            } else if ty.bytes() == 2 {
                Reg::W(decoder.constant_w(value as u32 & 0xffff))
            } else {
                Reg::W(decoder.constant_w(value as u32))
            }
        };
        match operand {
            Operand::Integer(value) => {
                if matches!(ty, Type::F32 | Type::F64) {
                    return malformed(format!("integer {operand} where {ty} is needed"));
                }
                Ok(immediate(self, *value))
            }
            Operand::Single(bits) if ty == Type::F64 => Ok(immediate(self, (f32::from_bits(*bits) as f64).to_bits())),
            Operand::Single(bits) => Ok(immediate(self, *bits as u64)),
            Operand::Double(bits) if wide => Ok(immediate(self, *bits)),
            Operand::Double(bits) => Ok(immediate(self, (f64::from_bits(*bits) as f32).to_bits() as u64)),
            Operand::Name(name) => self.source_named(name, ty, 0),
            Operand::NameOffset(name, offset) => self.source_named(name, ty, *offset),
            _ => malformed(format!("{operand} is not a value")),
        }
    }

    fn source_named(&mut self, name: &str, ty: Type, offset: i64) -> Decoded<Reg> {
        if self.is_dynamic_shared(name) && offset == 0 {
            return Ok(Reg::W(self.special_w(Special::DynamicBase)));
        }
        match self.find(name) {
            Some(Symbol::Register(_, reg)) if offset == 0 => return Ok(reg),
            Some(Symbol::Variable(_, address)) => {
                let address = address.wrapping_add(offset as u64);
                return Ok(if ty.bytes() == 8 {
                    Reg::D(self.constant_d(address))
                } else {
                    Reg::W(self.constant_w(address as u32))
                });
            }
            _ => {}
        }
        let word = match (special(name), fixed(name)) {
            (Some(special), _) => self.special_w(special),
            (_, Some(value)) => self.constant_w(value),
            _ => return malformed(format!("unknown name {name}")),
        };
        Ok(Reg::W(word))
    }

    pub(crate) fn predicate_named(&mut self, name: &str) -> Decoded<Pred> {
        match self.find(name) {
            Some(Symbol::Predicate(slot)) => Ok(Pred { slot, negated: false }),
            _ => malformed(format!("{name} is not a predicate register")),
        }
    }

    /// A predicate source.
    pub(crate) fn p(&mut self, operand: &Operand) -> Decoded<Pred> {
        match operand {
            Operand::Name(name) => self.predicate_named(name),
            Operand::Not(name) => {
                let pred = self.predicate_named(name)?;
                Ok(Pred { negated: !pred.negated, ..pred })
            }
            Operand::Integer(value) => Ok(self.constant_p(*value != 0)),
            _ => malformed(format!("{operand} is not a predicate")),
        }
    }

    /// A destination of at most 32 bits; `_` gets a slot that nobody reads.
    pub(crate) fn target_w(&mut self, operand: &Operand) -> Decoded<Slot> {
        match self.target(operand)? {
            Some(Reg::W(slot)) => Ok(slot),
            Some(Reg::D(_)) => malformed(format!("{operand} is a 64-bit register")),
            None => Ok(self.files.word()),
        }
    }

    pub(crate) fn target_d(&mut self, operand: &Operand) -> Decoded<Slot> {
        match self.target(operand)? {
            Some(Reg::D(slot)) => Ok(slot),
            Some(Reg::W(_)) => malformed(format!("{operand} is not a 64-bit register")),
            None => Ok(self.files.double()),
        }
    }

    /// A destination of either width; `None` for `_`.
    pub(crate) fn target(&mut self, operand: &Operand) -> Decoded<Option<Reg>> {
        match operand {
            Operand::Sink => Ok(None),
            Operand::Name(name) => match self.find(name) {
                Some(Symbol::Register(_, reg)) => Ok(Some(reg)),
                _ => malformed(format!("{name} is not a register")),
            },
            _ => malformed(format!("{operand} cannot be written")),
        }
    }

    pub(crate) fn target_p(&mut self, operand: &Operand) -> Decoded<Slot> {
        match operand {
            Operand::Sink => Ok(self.files.predicate()),
            Operand::Name(name) => Ok(self.predicate_named(name)?.slot),
            _ => malformed(format!("{operand} is not a predicate register")),
        }
    }

    /// A list of 32-bit registers, as the matrix instructions take them.
    pub(crate) fn list_w(&mut self, operand: &Operand, count: usize) -> Decoded<Vec<Slot>> {
        let list = match operand {
            Operand::Vector(list) => list.as_slice(),
            single => std::slice::from_ref(single),
        };
        if list.len() != count {
            return malformed(format!("{operand} should have {count} registers"));
        }
        list.iter().map(|one| self.w(one, Type::B32)).collect()
    }

    pub(crate) fn address(&mut self, operand: &Operand) -> Decoded<Address> {
        match operand {
            Operand::Address(base, offset) | Operand::TensorAddress(base, offset, _) => {
                self.address_from(base, *offset)
            }
            _ => malformed(format!("{operand} is not an address")),
        }
    }

    fn address_from(&mut self, base: &AddressBase, offset: i64) -> Decoded<Address> {
        let AddressBase::Name(name) = base else { return Ok(Address { base: None, offset }) };
        if self.is_dynamic_shared(name) {
            return Ok(Address { base: Some(Reg::W(self.special_w(Special::DynamicBase))), offset });
        }
        match self.find(name) {
            Some(Symbol::Register(_, reg)) => Ok(Address { base: Some(reg), offset }),
            Some(Symbol::Variable(_, at)) => Ok(Address { base: None, offset: offset.wrapping_add(at as i64) }),
            _ => malformed(format!("unknown name {name} in an address")),
        }
    }

    /// Copies a 32-bit special register or address into a destination of either width.
    pub(crate) fn copy(&mut self, to: Reg, from: Reg) -> Decoded<Op> {
        Ok(match (to, from) {
            (Reg::W(to), Reg::W(from)) => Op::MovW(to, from),
            (Reg::D(to), Reg::D(from)) => Op::MovD(to, from),
            (Reg::D(to), Reg::W(from)) => Op::WtoD(Box::new(|a: &W| a.map(u64::from)), to, from),
            (Reg::W(_), Reg::D(_)) => return Err(Refusal::Malformed("a 64-bit value into a narrower register".into())),
        })
    }
}
