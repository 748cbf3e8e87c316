//! Module level of the parser: directives, variables, functions.

use super::SyntaxError;
use super::ast::*;
use super::lexer::{Spanned, Token, tokens};

/// Blocks nested deeper than this are refused, so that hostile text cannot exhaust the stack.
const MAX_NESTING: u32 = 64;

/// Parses a PTX module.
pub fn parse(text: &str) -> Result<Module, SyntaxError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let mut module = Module { version: (0, 0), target: Vec::new(), address_size: 64, items: Vec::new() };
    while *parser.peek() != Token::End {
        parser.item(&mut module)?;
    }
    if module.version == (0, 0) {
        return Err(SyntaxError { line: 1, message: "no .version directive: not PTX".into() });
    }
    Ok(module)
}

pub(super) struct Parser<'a> {
    tokens: Vec<Spanned<'a>>,
    at: usize,
    depth: u32,
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> &Token<'a> {
        &self.tokens[self.at].token
    }

    pub(super) fn peek_second(&self) -> &Token<'a> {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].token
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens[self.at].line
    }

    pub(super) fn advance(&mut self) -> Token<'a> {
        let token = self.tokens[self.at].token.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    pub(super) fn error<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError { line: self.line(), message: message.into() })
    }

    pub(super) fn is_symbol(&self, symbol: u8) -> bool {
        *self.peek() == Token::Symbol(symbol)
    }

    pub(super) fn accept(&mut self, symbol: u8) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, symbol: u8) -> Result<(), SyntaxError> {
        if self.accept(symbol) {
            return Ok(());
        }
        self.error(format!("expected '{}', found {:?}", symbol as char, self.peek()))
    }

    pub(super) fn accept_word(&mut self, word: &str) -> bool {
        let found = *self.peek() == Token::Word(word);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn word(&mut self) -> Result<&'a str, SyntaxError> {
        if let Token::Word(word) = *self.peek() {
            self.advance();
            return Ok(word);
        }
        self.error(format!("expected a name, found {:?}", self.peek()))
    }

    pub(super) fn integer(&mut self) -> Result<u64, SyntaxError> {
        if let Token::Integer(value) = *self.peek() {
            self.advance();
            return Ok(value);
        }
        self.error(format!("expected a number, found {:?}", self.peek()))
    }

    pub(super) fn small(&mut self) -> Result<u32, SyntaxError> {
        let value = self.integer()?;
        u32::try_from(value).or_else(|_| self.error(format!("{value} is too large here")))
    }

    pub(super) fn descend(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_NESTING { self.error("nested too deeply") } else { Ok(()) }
    }

    pub(super) fn ascend(&mut self) {
        self.depth -= 1;
    }

    /// Drops the rest of the current line: directives without a terminator.
    pub(super) fn skip_line(&mut self) {
        let line = self.line();
        while self.line() == line && *self.peek() != Token::End {
            self.advance();
        }
    }

    fn item(&mut self, module: &mut Module) -> Result<(), SyntaxError> {
        match *self.peek() {
            Token::Word(".version") => {
                self.advance();
                // "9.0" lexes as a decimal number.
                module.version = match self.advance() {
                    Token::Double(bits) => {
                        let tenths = (f64::from_bits(bits) * 10.0).round() as u32;
                        (tenths / 10, tenths % 10)
                    }
                    _ => return self.error(".version needs a number such as 9.0"),
                };
            }
            Token::Word(".target") => {
                self.advance();
                loop {
                    module.target.push(self.word()?.to_owned());
                    if !self.accept(b',') {
                        break;
                    }
                }
            }
            Token::Word(".address_size") => {
                self.advance();
                module.address_size = self.small()?;
            }
            Token::Word(".file") => {
                self.advance();
                let index = self.small()?;
                let Token::Text(path) = self.advance() else { return self.error(".file needs a path") };
                module.items.push(Item::File(index, path.to_owned()));
                while self.accept(b',') {
                    self.integer()?;
                }
            }
            Token::Word(".section") => self.section()?,
            Token::Word(".pragma") => {
                self.advance();
                self.advance();
                self.expect(b';')?;
            }
            Token::Symbol(b';') => {
                self.advance();
            }
            _ => {
                let linkage = self.linkage();
                let item = match *self.peek() {
                    Token::Word(".entry") => Item::Function(self.function(linkage, FunctionKind::Entry)?),
                    Token::Word(".func") => Item::Function(self.function(linkage, FunctionKind::Func)?),
                    _ => {
                        let variable = self.variable(linkage)?;
                        self.expect(b';')?;
                        Item::Variable(variable)
                    }
                };
                module.items.push(item);
            }
        }
        Ok(())
    }

    fn linkage(&mut self) -> Vec<String> {
        let mut linkage = Vec::new();
        while let Token::Word(word @ (".visible" | ".extern" | ".weak" | ".common")) = *self.peek() {
            linkage.push(word[1..].to_owned());
            self.advance();
        }
        linkage
    }

    /// Debug sections are data for debuggers; the line table lives in `.file` and `.loc`.
    fn section(&mut self) -> Result<(), SyntaxError> {
        while !self.is_symbol(b'{') {
            if *self.peek() == Token::End {
                return self.error(".section without a body");
            }
            self.advance();
        }
        let mut depth = 0;
        loop {
            match self.advance() {
                Token::Symbol(b'{') => depth += 1,
                Token::Symbol(b'}') => depth -= 1,
                Token::End => return self.error(".section without end"),
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    pub(super) fn variable(&mut self, linkage: Vec<String>) -> Result<Variable, SyntaxError> {
        let space = match self.word()? {
            ".global" => Space::Global,
            ".shared" => Space::Shared,
            ".local" => Space::Local,
            ".const" => Space::Const,
            ".param" => Space::Param,
            other => return self.error(format!("unknown directive {other}")),
        };
        let mut variable = Variable {
            linkage,
            space,
            align: None,
            vector: 1,
            ty: Type::B8,
            name: String::new(),
            dims: Vec::new(),
            init: None,
        };
        let mut typed = false;
        loop {
            let word = self.word()?;
            match word {
                ".align" => variable.align = Some(self.small()?),
                ".v2" => variable.vector = 2,
                ".v4" => variable.vector = 4,
                // Facts about the pointee, which the checks learn from the allocation instead.
                ".ptr" | ".global" | ".shared" | ".const" | ".local" if typed => {}
                ".attribute" => {
                    self.expect(b'(')?;
                    while !self.accept(b')') {
                        if self.advance() == Token::End {
                            return self.error(".attribute without end");
                        }
                    }
                }
                _ => match word.strip_prefix('.') {
                    Some(name) => match Type::from_name(name) {
                        Some(ty) => {
                            variable.ty = ty;
                            typed = true;
                        }
                        None => return self.error(format!("unknown directive {word} in a declaration")),
                    },
                    None => {
                        variable.name = word.to_owned();
                        break;
                    }
                },
            }
        }
        if variable.align.is_some_and(|align| !align.is_power_of_two()) {
            return self.error("alignment is not a power of two");
        }
        while self.accept(b'[') {
            if self.accept(b']') {
                variable.dims.push(None);
            } else {
                variable.dims.push(Some(self.integer()?));
                self.expect(b']')?;
            }
        }
        if self.accept(b'=') {
            variable.init = Some(self.init()?);
        }
        Ok(variable)
    }

    fn init(&mut self) -> Result<Init, SyntaxError> {
        if self.accept(b'{') {
            self.descend()?;
            let mut list = Vec::new();
            while !self.accept(b'}') {
                list.push(self.init()?);
                if !self.accept(b',') && !self.is_symbol(b'}') {
                    return self.error("expected ',' or '}'");
                }
            }
            self.ascend();
            return Ok(Init::List(list));
        }
        if self.accept_word("generic") {
            self.expect(b'(')?;
            let name = self.word()?.to_owned();
            self.expect(b')')?;
            return Ok(Init::Generic(name));
        }
        Ok(Init::Value(self.operand()?))
    }

    fn parameters(&mut self) -> Result<Vec<Variable>, SyntaxError> {
        let mut list = Vec::new();
        self.expect(b'(')?;
        while !self.accept(b')') {
            // Device functions of old style take registers; nvcc does not emit them.
            list.push(self.variable(Vec::new())?);
            if !self.accept(b',') && !self.is_symbol(b')') {
                return self.error("expected ',' or ')'");
            }
        }
        Ok(list)
    }

    fn function(&mut self, linkage: Vec<String>, kind: FunctionKind) -> Result<Function, SyntaxError> {
        self.advance();
        let returns = if self.is_symbol(b'(') { self.parameters()? } else { Vec::new() };
        let line = self.line();
        let name = self.word()?.to_owned();
        let params = if self.is_symbol(b'(') { self.parameters()? } else { Vec::new() };
        let mut directives = Vec::new();
        while let Token::Word(word) = *self.peek() {
            let Some(name) = word.strip_prefix('.') else { break };
            self.advance();
            let mut values = Vec::new();
            while let Token::Integer(value) = *self.peek() {
                values.push(value);
                self.advance();
                if !self.accept(b',') {
                    break;
                }
            }
            if name == "pragma" {
                self.advance();
                self.expect(b';')?;
                continue;
            }
            directives.push(Directive { name: name.to_owned(), values });
        }
        let body = if self.accept(b';') { None } else { Some(self.block()?) };
        Ok(Function { linkage, kind, returns, name, params, directives, body, line })
    }
}
