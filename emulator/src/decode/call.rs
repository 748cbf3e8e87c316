//! Calls: device functions become part of the kernel that calls them, parameters are local variables of both.
//!
//! A call of a pointer asks for each function that it can be. What calls itself has no place: it is refused by name.

use std::collections::{HashMap, HashSet};

use super::function::Decoder;
use super::op::{Op, Pred};
use super::print::{AssertFail, Print};
use super::scope::{Scope, Symbol};
use super::{Decoded, Refusal, malformed};
use crate::counters::Class;
use crate::syntax::{self, Function, Init, Instruction, Item, Operand, Space, Statement};

/// Where functions seem to be: addresses that nothing can be read from.
pub(crate) const CODE_WINDOW: u64 = 0x7c00_0000_0000;

/// A kernel with all it calls may have so many instructions.
const MOST: usize = 1 << 20;

/// The device functions of a module.
#[derive(Default)]
pub(crate) struct Functions<'a> {
    pub by_name: HashMap<&'a str, &'a Function>,
    /// Those whose address is taken.
    pointed: HashSet<&'a str>,
}

impl<'a> Functions<'a> {
    /// Notes whose addresses a body or an initialised variable takes.
    pub(crate) fn note_pointers(&mut self, item: &'a Item) {
        match item {
            Item::Function(function) => self.in_body(function.body.as_deref().unwrap_or_default()),
            Item::Variable(variable) => variable.init.iter().for_each(|init| self.in_init(init)),
            Item::File(..) => {}
        }
    }

    fn note(&mut self, name: &'a str) {
        if self.by_name.contains_key(name) {
            self.pointed.insert(name);
        }
    }

    fn in_body(&mut self, statements: &'a [Statement]) {
        for statement in statements {
            match statement {
                Statement::Block(inner) => self.in_body(inner),
                Statement::Instruction(instruction) if instruction.opcode[0] != "call" => {
                    for operand in &instruction.operands {
                        if let Operand::Name(name) = operand {
                            self.note(name);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn in_init(&mut self, init: &'a Init) {
        match init {
            Init::List(list) => list.iter().for_each(|inner| self.in_init(inner)),
            Init::Generic(name) | Init::Value(Operand::Name(name)) => self.note(name),
            Init::Value(_) => {}
        }
    }
}

/// A function that is being made part of the kernel.
pub(crate) struct Called {
    name: String,
    /// The label behind the call.
    after: u32,
}

/// The bodies that a function consists of: its own, and those of all functions that it names.
pub(super) fn bodies<'a>(function: &'a Function, find: impl Fn(&str) -> Option<&'a Function>) -> Vec<&'a [Statement]> {
    fn names<'a>(statements: &'a [Statement], found: &mut Vec<&'a str>) {
        for statement in statements {
            match statement {
                Statement::Block(inner) => names(inner, found),
                Statement::Instruction(instruction) => {
                    found.extend(instruction.operands.iter().filter_map(|operand| match operand {
                        Operand::Name(name) => Some(name.as_str()),
                        _ => None,
                    }));
                }
                _ => {}
            }
        }
    }
    let mut seen: Vec<&Function> = vec![function];
    let mut at = 0;
    while let Some(next) = seen.get(at) {
        let mut found = Vec::new();
        names(next.body.as_deref().unwrap_or_default(), &mut found);
        for called in found.into_iter().filter_map(&find) {
            if !seen.iter().any(|known| known.name == called.name) {
                seen.push(called);
            }
        }
        at += 1;
    }
    seen.into_iter().map(|function| function.body.as_deref().unwrap_or_default()).collect()
}

impl Decoder<'_> {
    /// The label that `ret` goes to, if the code is that of a called function.
    pub(super) fn return_label(&self) -> Option<u32> {
        self.calls.last().map(|called| called.after)
    }

    fn new_label(&mut self) -> u32 {
        self.labels.push(None);
        self.labels.len() as u32 - 1
    }

    fn bind_here(&mut self, label: u32) {
        self.labels[label as usize] = Some(self.length());
    }

    /// A `call` instruction.
    pub(super) fn call(&mut self, ins: &Instruction) -> Decoded<()> {
        let (returns, rest) = match ins.operands.split_first() {
            Some((Operand::List(list), rest)) => (list.as_slice(), rest),
            _ => (&[][..], &ins.operands[..]),
        };
        let (Some(Operand::Name(callee)), rest) = (rest.first(), rest.get(1..).unwrap_or_default()) else {
            return malformed("call needs a function");
        };
        let arguments = match rest.first() {
            Some(Operand::List(list)) => list.as_slice(),
            _ => &[],
        };
        let after = self.new_label();
        let guard = match &ins.guard {
            Some(guard) => {
                let pred = self.predicate_named(&guard.register)?;
                Some(Pred { negated: pred.negated ^ guard.negated ^ true, ..pred })
            }
            None => None,
        };
        self.named.clear();
        let opcode = ins.opcode.join(".");
        let skip = if guard.is_some() { Op::Branch(after) } else { Op::Nop };
        self.push(skip, guard, Class::Control, ins.line, opcode.clone());
        if let Some(Symbol::Register(..)) = self.find(callee) {
            self.named.clear();
            self.call_pointer(callee, returns, arguments, ins)?;
        } else if let Some(function) = self.functions.by_name.get(callee.as_str()).copied() {
            self.inline(function, returns, arguments, ins.line)?;
        } else {
            let op = self.builtin(callee, returns, arguments, ins.line)?;
            if let Some(op) = op {
                self.push(op, None, Class::Control, ins.line, opcode);
            }
        }
        self.bind_here(after);
        Ok(())
    }

    /// The places of arguments or results, which are local variables of the caller.
    fn places(&mut self, operands: &[Operand]) -> Decoded<Vec<u64>> {
        let place = |operand: &Operand| match operand {
            Operand::Name(name) => match self.find(name) {
                Some(Symbol::Variable(Space::Local, offset)) => Ok(offset),
                _ => Err(Refusal::Unsupported),
            },
            _ => Err(Refusal::Unsupported),
        };
        operands.iter().map(place).collect()
    }

    fn inline(&mut self, function: &Function, returns: &[Operand], arguments: &[Operand], line: u32) -> Decoded<()> {
        if self.calls.iter().any(|called| called.name == function.name) {
            self.refuse(line, &format!("recursive call of {}", function.name), Refusal::Unsupported);
            return Ok(());
        }
        if self.length() as usize > MOST {
            self.refuse(line, "more than a million instructions", Refusal::Unsupported);
            return Ok(());
        }
        if (returns.len(), arguments.len()) != (function.returns.len(), function.params.len()) {
            return malformed(format!("{} is called with another number of parameters", function.name));
        }
        let formal = function.returns.iter().chain(&function.params);
        let actual = [self.places(returns)?, self.places(arguments)?].concat();
        let mut scope = Scope::default();
        for (formal, offset) in formal.zip(actual) {
            scope.define(&formal.name, Symbol::Variable(Space::Local, offset));
        }
        let after = self.new_label();
        let location = self.location;
        self.scopes.push(scope);
        self.calls.push(Called { name: function.name.clone(), after });
        self.block(function.body.as_deref().unwrap_or_default());
        self.calls.pop();
        self.scopes.pop();
        self.location = location;
        self.bind_here(after);
        Ok(())
    }

    /// A call of whatever function an address names.
    fn call_pointer(
        &mut self,
        register: &str,
        returns: &[Operand],
        arguments: &[Operand],
        ins: &Instruction,
    ) -> Decoded<()> {
        let functions = self.functions;
        let fits = |function: &&Function| {
            (function.returns.len(), function.params.len()) == (returns.len(), arguments.len())
                && functions.pointed.contains(function.name.as_str())
        };
        let mut candidates: Vec<&Function> = functions.by_name.values().copied().filter(fits).collect();
        candidates.sort_by_key(|function| function.line);
        let end = self.new_label();
        for function in candidates {
            // Those in whose body we are cannot be called again, and fall through to the trap.
            if self.calls.iter().any(|called| called.name == function.name) {
                continue;
            }
            let Some(&(_, address)) = self.globals.get(&function.name) else { continue };
            let mut scope = Scope::default();
            scope.register(&mut self.files, "call.matches", syntax::Type::Pred);
            self.scopes.push(scope);
            let compare = Instruction {
                guard: None,
                opcode: ["setp", "ne", "u64"].map(str::to_owned).to_vec(),
                operands: vec![
                    Operand::Name("call.matches".to_owned()),
                    Operand::Name(register.to_owned()),
                    Operand::Integer(address),
                ],
                line: ins.line,
            };
            self.instruction(&compare)?;
            let next = self.new_label();
            let differs = self.predicate_named("call.matches")?;
            self.scopes.pop();
            self.push(Op::Branch(next), Some(differs), Class::Control, ins.line, ins.opcode.join("."));
            self.inline(function, returns, arguments, ins.line)?;
            self.push(Op::Branch(end), None, Class::Control, ins.line, ins.opcode.join("."));
            self.bind_here(next);
        }
        let message = format!("{register} holds the address of no function that can be called here");
        self.push(Op::Trap(message), None, Class::Control, ins.line, ins.opcode.join("."));
        self.bind_here(end);
        Ok(())
    }

    /// What the system provides.
    fn builtin(&mut self, name: &str, returns: &[Operand], arguments: &[Operand], line: u32) -> Decoded<Option<Op>> {
        let places = self.places(arguments)?;
        let results = self.places(returns)?;
        match (name, &places[..], &results[..]) {
            ("vprintf", &[format, values], &[result]) => Ok(Some(Op::Rare(Box::new(Print { format, values, result })))),
            ("__assertfail", &[message, file, line, function, ..], []) => {
                Ok(Some(Op::Rare(Box::new(AssertFail { message, file, line, function }))))
            }
            _ => {
                self.refuse(line, &format!("call of {name}"), Refusal::Unsupported);
                Ok(None)
            }
        }
    }
}
