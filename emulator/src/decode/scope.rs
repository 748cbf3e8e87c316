//! Names: registers, variables and labels, scope by scope.

use std::collections::HashMap;

use super::op::{Reg, Slot};
use crate::syntax::{Space, Type};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Symbol {
    Register(Type, Reg),
    Predicate(Slot),
    /// A variable and its address within its space.
    Variable(Space, u64),
    /// A label, by number.
    Label(u32),
    /// A list of branch targets, by number.
    Targets(u32),
}

/// A prefix declaration `%r<100>`: registers are named on demand.
#[derive(Debug)]
struct Family {
    ty: Type,
    count: u32,
    /// Register number to slot.
    slots: HashMap<u32, Slot>,
}

#[derive(Debug, Default)]
pub(crate) struct Scope {
    names: HashMap<String, Symbol>,
    families: HashMap<String, Family>,
}

/// Counters of the slots given out so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Files {
    pub words: u32,
    pub doubles: u32,
    pub predicates: u32,
}

impl Files {
    pub(crate) fn word(&mut self) -> Slot {
        self.words += 1;
        self.words - 1
    }

    pub(crate) fn double(&mut self) -> Slot {
        self.doubles += 1;
        self.doubles - 1
    }

    pub(crate) fn predicate(&mut self) -> Slot {
        self.predicates += 1;
        self.predicates - 1
    }

    fn symbol(&mut self, ty: Type) -> Option<Symbol> {
        Some(match ty.bytes() {
            0 => Symbol::Predicate(self.predicate()),
            8 => Symbol::Register(ty, Reg::D(self.double())),
            1 | 2 | 4 => Symbol::Register(ty, Reg::W(self.word())),
            _ => return None,
        })
    }
}

impl Scope {
    pub(crate) fn define(&mut self, name: &str, symbol: Symbol) {
        self.names.insert(name.to_owned(), symbol);
    }

    /// Declares one register; `false` if the type is not supported in registers.
    pub(crate) fn register(&mut self, files: &mut Files, name: &str, ty: Type) -> bool {
        match files.symbol(ty) {
            Some(symbol) => {
                self.define(name, symbol);
                true
            }
            None => false,
        }
    }

    pub(crate) fn family(&mut self, prefix: &str, ty: Type, count: u32) {
        self.families.insert(prefix.to_owned(), Family { ty, count, slots: HashMap::new() });
    }

    pub(crate) fn find(&mut self, files: &mut Files, name: &str) -> Option<Symbol> {
        if let Some(symbol) = self.names.get(name) {
            return Some(*symbol);
        }
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, number) = name.split_at(digits);
        let family = self.families.get_mut(prefix)?;
        let number: u32 = number.parse().ok().filter(|&n| n < family.count)?;
        let symbol = match family.slots.get(&number) {
            Some(&slot) => match family.ty.bytes() {
                0 => Symbol::Predicate(slot),
                8 => Symbol::Register(family.ty, Reg::D(slot)),
                _ => Symbol::Register(family.ty, Reg::W(slot)),
            },
            None => {
                let symbol = files.symbol(family.ty)?;
                let slot = match symbol {
                    Symbol::Register(_, Reg::W(slot) | Reg::D(slot)) | Symbol::Predicate(slot) => slot,
                    _ => return None,
                };
                family.slots.insert(number, slot);
                symbol
            }
        };
        Some(symbol)
    }
}
