//! PTX as text: lexer, syntax tree, parser and printer.
//!
//! The tree keeps everything that execution needs and nothing more: debug sections are dropped, line tables stay.
//! Printing a tree and parsing it again gives the same tree (line numbers aside), which the tests use as a property.

mod ast;
mod lexer;
mod parser;
mod printer;
mod statements;

pub use ast::{
    AddressBase, Directive, Function, FunctionKind, Guard, Init, Instruction, Item, Location, Module, Operand,
    RegisterName, Space, Statement, Type, Variable,
};
pub use parser::parse;

use std::fmt;

/// Why a text is not PTX that this crate can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line of the PTX text, counted from 1.
    pub line: u32,
    /// What was expected or wrong there.
    pub message: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for SyntaxError {}
