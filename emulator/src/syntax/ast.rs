//! The syntax tree of a PTX module.

use std::fmt;

/// A whole PTX file.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// PTX ISA version: major, minor.
    pub version: (u32, u32),
    /// The `.target` list, for example `sm_90a`.
    pub target: Vec<String>,
    /// 32 or 64.
    pub address_size: u32,
    /// Everything else, in order.
    pub items: Vec<Item>,
}

/// A module-level item.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// `.file index "path"`: an entry of the line table.
    File(u32, String),
    /// A module-scope variable.
    Variable(Variable),
    /// A kernel or a device function.
    Function(Function),
}

/// A variable or parameter declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// `.visible`, `.extern`, `.weak` and the like, without the dot.
    pub linkage: Vec<String>,
    /// Where it lives.
    pub space: Space,
    /// `.align`, if given.
    pub align: Option<u32>,
    /// 2 or 4 for `.v2` / `.v4`, else 1.
    pub vector: u32,
    /// Element type.
    pub ty: Type,
    /// Its name.
    pub name: String,
    /// Array extents; `None` for `[]`.
    pub dims: Vec<Option<u64>>,
    /// The initialiser.
    pub init: Option<Init>,
}

/// An initialiser.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// A scalar.
    Value(Operand),
    /// `generic(name)`, a generic address.
    Generic(String),
    /// A braced list.
    List(Vec<Init>),
}

/// Kernel or device function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// `.entry`
    Entry,
    /// `.func`
    Func,
}

/// A kernel or device function.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// `.visible`, `.weak`, ...
    pub linkage: Vec<String>,
    /// `.entry` or `.func`.
    pub kind: FunctionKind,
    /// Return parameters of a `.func`.
    pub returns: Vec<Variable>,
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub params: Vec<Variable>,
    /// `.maxntid` and its relatives.
    pub directives: Vec<Directive>,
    /// `None` for a prototype.
    pub body: Option<Vec<Statement>>,
    /// PTX line of the name.
    pub line: u32,
}

/// A performance directive such as `.maxntid 256, 1, 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Name without the dot.
    pub name: String,
    /// Its numbers.
    pub values: Vec<u64>,
}

/// A register declaration: one name, or `%r<count>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterName {
    /// The name or prefix.
    pub name: String,
    /// `Some(n)` declares `name0` to `name(n-1)`.
    pub count: Option<u32>,
}

/// `.loc`: which source line the following instructions came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Index into the `.file` table.
    pub file: u32,
    /// Line of that file.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// One statement of a body.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `{ ... }`: a scope for registers and labels.
    Block(Vec<Statement>),
    /// `name:`
    Label(String),
    /// `.reg`
    Registers(Type, Vec<RegisterName>),
    /// A local, shared or param variable.
    Variable(Variable),
    /// `name: .branchtargets a, b;`
    BranchTargets(String, Vec<String>),
    /// `.loc`
    Location(Location),
    /// An instruction.
    Instruction(Instruction),
}

/// `@p` or `@!p`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Predicate register.
    pub register: String,
    /// Whether it is `@!p`.
    pub negated: bool,
}

/// One instruction.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// The predicate, if any.
    pub guard: Option<Guard>,
    /// Opcode and modifiers, without dots.
    pub opcode: Vec<String>,
    /// Operands in order.
    pub operands: Vec<Operand>,
    /// PTX line.
    pub line: u32,
}

impl PartialEq for Instruction {
    /// Lines are where it stands, not what it is.
    fn eq(&self, other: &Self) -> bool {
        self.guard == other.guard && self.opcode == other.opcode && self.operands == other.operands
    }
}

/// What an address starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressBase {
    /// A register or variable.
    Name(String),
    /// Only the number.
    Absolute,
}

/// An operand.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A register, special register, variable, label or function.
    Name(String),
    /// `name+offset` outside brackets.
    NameOffset(String, i64),
    /// `!p`
    Not(String),
    /// `p|q`
    Pair(Box<Operand>, Box<Operand>),
    /// An integer, as its 64-bit pattern.
    Integer(u64),
    /// `0f` hex float.
    Single(u32),
    /// `0d` hex float, or a decimal one.
    Double(u64),
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// `(a, b)` of a call.
    List(Vec<Operand>),
    /// `[base+offset]`
    Address(AddressBase, i64),
    /// `[map, {x, y}]`: a tensor map address and coordinates.
    TensorAddress(AddressBase, i64, Vec<Operand>),
    /// `_`
    Sink,
}

/// State spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// No space named: the address says.
    Generic,
    /// `.global`
    Global,
    /// `.shared`
    Shared,
    /// `.local`
    Local,
    /// `.const`
    Const,
    /// `.param`
    Param,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Generic => "generic",
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Const => "const",
            Space::Param => "param",
        })
    }
}

macro_rules! types {
    ($($variant:ident $name:literal $bytes:literal),* $(,)?) => {
        /// Fundamental and packed types.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Type { $($variant),* }

        impl Type {
            /// The type named so (without the dot).
            pub fn from_name(name: &str) -> Option<Type> {
                match name { $($name => Some(Type::$variant),)* _ => None }
            }

            /// Its PTX name without the dot.
            pub fn name(self) -> &'static str {
                match self { $(Type::$variant => $name),* }
            }

            /// Its size; 0 for predicates, which have none.
            pub fn bytes(self) -> u32 {
                match self { $(Type::$variant => $bytes),* }
            }
        }
    };
}

types! {
    Pred "pred" 0,
    B8 "b8" 1, B16 "b16" 2, B32 "b32" 4, B64 "b64" 8, B128 "b128" 16,
    U8 "u8" 1, U16 "u16" 2, U32 "u32" 4, U64 "u64" 8,
    S8 "s8" 1, S16 "s16" 2, S32 "s32" 4, S64 "s64" 8,
    U16x2 "u16x2" 4, S16x2 "s16x2" 4,
    F16 "f16" 2, F16x2 "f16x2" 4, Bf16 "bf16" 2, Bf16x2 "bf16x2" 4,
    Tf32 "tf32" 4, F32 "f32" 4, F64 "f64" 8,
    E4m3 "e4m3" 1, E5m2 "e5m2" 1, E4m3x2 "e4m3x2" 2, E5m2x2 "e5m2x2" 2,
}

impl Type {
    /// Whether it is one of the `s` integer types.
    pub fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64 | Type::S16x2)
    }

    /// Whether arithmetic on it is floating-point.
    pub fn is_float(self) -> bool {
        use Type::*;
        matches!(self, F16 | F16x2 | Bf16 | Bf16x2 | Tf32 | F32 | F64 | E4m3 | E5m2 | E4m3x2 | E5m2x2)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".{}", self.name())
    }
}
