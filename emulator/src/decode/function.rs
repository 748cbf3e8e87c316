//! Decodes one kernel: declares names, walks the statements, binds labels, adds up resources.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::call::{Called, Functions, bodies};
use super::layout::{Layout, alignment_of};
use super::op::{About, Instruction, Kernel, Op, Reg, Special};
use super::scope::{Files, Scope, Symbol};
use super::{Decoded, Refusal, parameters};
use crate::counters::Class;
use crate::execute::PARAM_WINDOW;
use crate::memory::SHARED_BASE;
use crate::syntax::{self, Function, Location, Space, Statement, Variable};

/// A refusal with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub line: u32,
    pub form: String,
    pub refusal: Refusal,
}

/// State while one kernel is decoded.
pub(crate) struct Decoder<'a> {
    pub scopes: Vec<Scope>,
    pub files: Files,
    pub word_constants: HashMap<u32, u32>,
    pub double_constants: HashMap<u64, u32>,
    pub predicate_constants: HashMap<u32, u32>,
    pub specials: HashMap<Special, u32>,
    /// Addresses of module variables and functions.
    pub globals: &'a HashMap<String, (Space, u64)>,
    /// Functions that can be called.
    pub functions: &'a Functions<'a>,
    /// Those that the present code belongs to, outermost first.
    pub calls: Vec<Called>,
    pub branch_targets: Vec<Vec<String>>,
    pub labels: Vec<Option<u32>>,
    pub shared: Layout,
    pub local: Layout,
    pub dynamic_shared: Vec<String>,
    pub dynamic_alignment: u64,
    pub class: Class,
    pub flops: u32,
    /// 32-bit registers that the present instruction names.
    pub named: Vec<u32>,
    pub ordered: bool,
    pub has_fences: bool,
    pub has_proxies: bool,
    code: Vec<Instruction>,
    refused: Vec<Refused>,
    pub location: Option<Location>,
}

/// Decodes a kernel; collects everything that is refused rather than stopping at the first.
pub(crate) fn decode_kernel(
    function: &Function,
    module_shared: &[&Variable],
    globals: &HashMap<String, (Space, u64)>,
    functions: &Functions,
    files: &Arc<BTreeMap<u32, String>>,
) -> Result<Kernel, Vec<Refused>> {
    let mut decoder = Decoder {
        scopes: vec![Scope::default()],
        files: Files::default(),
        word_constants: HashMap::new(),
        double_constants: HashMap::new(),
        predicate_constants: HashMap::new(),
        specials: HashMap::new(),
        globals,
        functions,
        calls: Vec::new(),
        branch_targets: Vec::new(),
        labels: Vec::new(),
        shared: Layout { size: 0 },
        local: Layout::default(),
        dynamic_shared: Vec::new(),
        dynamic_alignment: 16,
        class: Class::Integer,
        flops: 0,
        named: Vec::new(),
        ordered: false,
        has_fences: false,
        has_proxies: false,
        code: Vec::new(),
        refused: Vec::new(),
        location: None,
    };
    let Some((parameters, parameter_bytes)) = parameters(&function.params) else {
        decoder.refuse(function.line, &function.name, Refusal::Malformed("a parameter has no size".into()));
        return Err(decoder.refused);
    };
    for parameter in &parameters {
        decoder.scopes[0].define(&parameter.name, Symbol::Variable(Space::Param, parameter.offset as u64));
    }
    decoder.module_shared(function, module_shared);
    if let Some(body) = &function.body {
        decoder.block(body);
    }
    decoder.push(Op::Exit, None, Class::Control, function.line, "ret".into());
    decoder.bind_labels();
    if !decoder.refused.is_empty() {
        return Err(decoder.refused);
    }
    Ok(decoder.finish(function, parameters, parameter_bytes, files.clone()))
}

/// Names that a body mentions; module-level shared variables cost a kernel nothing unless it uses them.
fn mentions(statements: &[Statement], name: &str) -> bool {
    statements.iter().any(|statement| match statement {
        Statement::Block(inner) => mentions(inner, name),
        Statement::Instruction(instruction) => instruction.operands.iter().any(|o| operand_mentions(o, name)),
        _ => false,
    })
}

fn operand_mentions(operand: &syntax::Operand, name: &str) -> bool {
    use syntax::{AddressBase, Operand};
    match operand {
        Operand::Name(found) | Operand::NameOffset(found, _) => found == name,
        Operand::Address(AddressBase::Name(found), _) => found == name,
        Operand::Vector(list) | Operand::List(list) => list.iter().any(|o| operand_mentions(o, name)),
        _ => false,
    }
}

impl Decoder<'_> {
    pub(super) fn refuse(&mut self, line: u32, form: &str, refusal: Refusal) {
        self.refused.push(Refused { line, form: form.to_owned(), refusal });
    }

    fn module_shared(&mut self, function: &Function, variables: &[&Variable]) {
        let functions = self.functions;
        let bodies = bodies(function, |name| functions.by_name.get(name).copied());
        let is_used = |v: &&&Variable| bodies.iter().any(|body| mentions(body, &v.name));
        let used: Vec<&&Variable> = variables.iter().filter(is_used).collect();
        for variable in &used {
            self.shared_variable(variable, function.line);
        }
    }

    fn shared_variable(&mut self, variable: &Variable, line: u32) {
        // `.extern .shared x[]` is the dynamic part, which starts where the static part ends: known at the end only.
        if variable.dims.contains(&None) || variable.linkage.iter().any(|l| l == "extern") {
            self.dynamic_shared.push(variable.name.clone());
            self.dynamic_alignment = self.dynamic_alignment.max(alignment_of(variable));
            return;
        }
        match self.shared.place(variable) {
            Some(offset) => {
                let symbol = Symbol::Variable(Space::Shared, SHARED_BASE + offset);
                self.scope().define(&variable.name, symbol);
            }
            None => self.refuse(line, &variable.name, Refusal::Malformed("a variable has no size".into())),
        }
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("the kernel's own scope is never closed")
    }

    pub(super) fn block(&mut self, statements: &[Statement]) {
        self.declare(statements);
        for statement in statements {
            match statement {
                Statement::Block(inner) => {
                    self.scopes.push(Scope::default());
                    self.block(inner);
                    self.scopes.pop();
                }
                Statement::Label(name) => {
                    if let Some(Symbol::Label(number)) = self.find(name) {
                        self.labels[number as usize] = Some(self.code.len() as u32);
                    }
                }
                Statement::Location(location) => self.location = Some(*location),
                Statement::Instruction(instruction) => {
                    self.class = Class::Integer;
                    self.flops = 0;
                    let is_call = instruction.opcode[0] == "call";
                    let done = if is_call { self.call(instruction) } else { self.instruction(instruction) };
                    if let Err(refusal) = done {
                        self.refuse(instruction.line, &form_of(instruction), refusal);
                    }
                }
                Statement::Registers(..) | Statement::Variable(_) | Statement::BranchTargets(..) => {}
            }
        }
    }

    /// Declares what a block declares, before its instructions: labels may be used before they stand.
    fn declare(&mut self, statements: &[Statement]) {
        for statement in statements {
            match statement {
                Statement::Label(name) => {
                    let number = self.labels.len() as u32;
                    self.labels.push(None);
                    self.scope().define(name, Symbol::Label(number));
                }
                Statement::BranchTargets(name, targets) => {
                    let number = self.branch_targets.len() as u32;
                    self.branch_targets.push(targets.clone());
                    self.scope().define(name, Symbol::Targets(number));
                }
                Statement::Registers(ty, names) => {
                    for register in names {
                        let scope = self.scopes.last_mut().expect("the kernel's own scope is never closed");
                        match register.count {
                            Some(count) => scope.family(&register.name, *ty, count),
                            None => {
                                if !scope.register(&mut self.files, &register.name, *ty) {
                                    self.refuse(0, &format!(".reg {ty}"), Refusal::Unsupported);
                                }
                            }
                        }
                    }
                }
                Statement::Variable(variable) => match variable.space {
                    Space::Shared => self.shared_variable(variable, 0),
                    // Parameters of calls are local variables of the caller.
                    Space::Local | Space::Param => match self.local.place(variable) {
                        Some(offset) => self.scope().define(&variable.name, Symbol::Variable(Space::Local, offset)),
                        None => self.refuse(0, &variable.name, Refusal::Malformed("a variable has no size".into())),
                    },
                    other => self.refuse(0, &format!(".{other} variable in a body"), Refusal::Unsupported),
                },
                _ => {}
            }
        }
    }

    pub(crate) fn find(&mut self, name: &str) -> Option<Symbol> {
        for scope in self.scopes.iter_mut().rev() {
            if let Some(symbol) = scope.find(&mut self.files, name) {
                if let Symbol::Register(_, Reg::W(slot)) = symbol {
                    self.named.push(slot);
                }
                return Some(symbol);
            }
        }
        self.globals.get(name).map(|&(space, address)| Symbol::Variable(space, address))
    }

    /// Instructions so far.
    pub(super) fn length(&self) -> u32 {
        self.code.len() as u32
    }

    pub(super) fn push(&mut self, op: Op, guard: Option<super::Pred>, class: Class, line: u32, opcode: String) {
        let (location, flops) = (self.location, self.flops);
        let named = std::mem::take(&mut self.named).into_boxed_slice();
        let about = Box::new(About { line, location, opcode, named });
        self.code.push(Instruction { op, guard, class, flops, about });
    }

    pub(super) fn instruction(&mut self, instruction: &syntax::Instruction) -> Decoded<()> {
        self.named.clear();
        let guard = match &instruction.guard {
            Some(guard) => {
                let mut pred = self.predicate_named(&guard.register)?;
                pred.negated ^= guard.negated;
                Some(pred)
            }
            None => None,
        };
        let op = self.operation(instruction)?;
        self.push(op, guard, self.class, instruction.line, instruction.opcode.join("."));
        Ok(())
    }

    fn bind_labels(&mut self) {
        for at in 0..self.code.len() {
            let labels = &self.labels;
            let bind = |number: &mut u32| match labels[*number as usize] {
                Some(pc) => {
                    *number = pc;
                    true
                }
                None => false,
            };
            let bound = match &mut self.code[at].op {
                Op::Branch(target) => bind(target),
                Op::BranchIndexed(_, targets) => targets.iter_mut().all(bind),
                _ => true,
            };
            if !bound {
                let line = self.code[at].about.line;
                self.refuse(line, "bra", Refusal::Malformed("a label is declared and never placed".into()));
            }
        }
    }

    fn finish(
        mut self,
        function: &Function,
        parameters: Vec<super::Parameter>,
        parameter_bytes: u32,
        files: Arc<BTreeMap<u32, String>>,
    ) -> Kernel {
        let triple = |name: &str| {
            let directive = function.directives.iter().find(|d| d.name == name)?;
            let at = |i: usize| directive.values.get(i).map_or(1, |&v| v as u32);
            Some([at(0), at(1), at(2)])
        };
        // Dynamic shared memory begins after the static part, aligned as it is declared: the static part grows by that.
        self.shared.size = self.shared.size.next_multiple_of(self.dynamic_alignment);
        let base = (SHARED_BASE + self.shared.size) as u32;
        let mut word_constants: Vec<(u32, u32)> = Vec::new();
        let mut specials = Vec::new();
        word_constants.extend(self.word_constants.iter().map(|(&value, &slot)| (slot, value)));
        for (&special, &slot) in &self.specials {
            match special {
                Special::DynamicBase => word_constants.push((slot, base)),
                other => specials.push((slot, other)),
            }
        }
        Kernel {
            name: function.name.clone(),
            instructions: self.code,
            words: self.files.words,
            doubles: self.files.doubles,
            predicates: self.files.predicates,
            word_constants,
            double_constants: self.double_constants.iter().map(|(&value, &slot)| (slot, value)).collect(),
            predicate_constants: self.predicate_constants.iter().map(|(&value, &slot)| (slot, value)).collect(),
            specials,
            parameters,
            parameter_bytes,
            static_shared: self.shared.size as u32,
            local_bytes: self.local.size as u32,
            max_threads: triple("maxntid"),
            required_threads: triple("reqntid"),
            registers_declared: self.files.words + 2 * self.files.doubles,
            files,
            ordered: self.ordered,
            has_fences: self.has_fences,
            has_proxies: self.has_proxies,
        }
    }
}

/// The opcode of an instruction as lists show it.
pub(crate) fn form_of(instruction: &syntax::Instruction) -> String {
    instruction.opcode.join(".")
}

impl Decoder<'_> {
    /// A special register that depends on the static size, resolved when the kernel is finished.
    pub(crate) fn is_dynamic_shared(&self, name: &str) -> bool {
        self.dynamic_shared.iter().any(|dynamic| dynamic == name)
    }

    pub(crate) fn generic_offset(space: Space) -> u64 {
        match space {
            Space::Shared => crate::execute::SHARED_WINDOW,
            Space::Local => crate::execute::LOCAL_WINDOW,
            Space::Param => PARAM_WINDOW,
            _ => 0,
        }
    }

    /// The type a register was declared with.
    pub(crate) fn register(&mut self, name: &str) -> Option<(crate::syntax::Type, Reg)> {
        match self.find(name)? {
            Symbol::Register(ty, reg) => Some((ty, reg)),
            _ => None,
        }
    }
}
