//! Statement level of the parser: blocks, labels, instructions, operands.

use super::SyntaxError;
use super::ast::*;
use super::lexer::Token;
use super::parser::Parser;

impl Parser<'_> {
    pub(super) fn block(&mut self) -> Result<Vec<Statement>, SyntaxError> {
        self.expect(b'{')?;
        self.descend()?;
        let mut statements = Vec::new();
        while !self.accept(b'}') {
            if let Some(statement) = self.statement()? {
                statements.push(statement);
            }
        }
        self.ascend();
        Ok(statements)
    }

    fn statement(&mut self) -> Result<Option<Statement>, SyntaxError> {
        let statement = match *self.peek() {
            Token::Symbol(b'{') => Statement::Block(self.block()?),
            Token::Symbol(b';') => {
                self.advance();
                return Ok(None);
            }
            Token::Symbol(b'@') => Statement::Instruction(self.instruction()?),
            Token::Word(".reg") => self.registers()?,
            Token::Word(".loc") => self.location()?,
            Token::Word(".pragma") => {
                self.advance();
                self.advance();
                self.expect(b';')?;
                return Ok(None);
            }
            Token::Word(".local" | ".shared" | ".param" | ".global" | ".const") => {
                let variable = self.variable(Vec::new())?;
                self.expect(b';')?;
                Statement::Variable(variable)
            }
            Token::Word(word) if word.starts_with('.') => {
                return self.error(format!("unknown directive {word}"));
            }
            Token::Word(word) if *self.peek_second() == Token::Symbol(b':') => {
                let name = word.to_owned();
                self.advance();
                self.advance();
                if self.accept_word(".branchtargets") {
                    let mut targets = vec![self.word()?.to_owned()];
                    while self.accept(b',') {
                        targets.push(self.word()?.to_owned());
                    }
                    self.expect(b';')?;
                    Statement::BranchTargets(name, targets)
                } else if self.accept_word(".callprototype") || self.accept_word(".calltargets") {
                    // Calls bring their parameters along.
                    while !self.accept(b';') {
                        if self.advance() == Token::End {
                            return self.error("a declaration without end");
                        }
                    }
                    return Ok(None);
                } else {
                    Statement::Label(name)
                }
            }
            Token::Word(_) => Statement::Instruction(self.instruction()?),
            ref other => return self.error(format!("expected a statement, found {other:?}")),
        };
        Ok(Some(statement))
    }

    fn registers(&mut self) -> Result<Statement, SyntaxError> {
        self.advance();
        let word = self.word()?;
        let Some(ty) = word.strip_prefix('.').and_then(Type::from_name) else {
            return self.error(format!("unknown register type {word}"));
        };
        let mut names = Vec::new();
        loop {
            let name = self.word()?.to_owned();
            let count = if self.accept(b'<') {
                let count = self.small()?;
                if count > 1 << 20 {
                    return self.error("more than a million registers");
                }
                self.expect(b'>')?;
                Some(count)
            } else {
                None
            };
            names.push(RegisterName { name, count });
            if !self.accept(b',') {
                break;
            }
        }
        self.expect(b';')?;
        Ok(Statement::Registers(ty, names))
    }

    fn location(&mut self) -> Result<Statement, SyntaxError> {
        let on = self.line();
        self.advance();
        let location = Location { file: self.small()?, line: self.small()?, column: self.small()? };
        // `function_name` and `inlined_at` follow on the same line; there is no terminator.
        if self.line() == on {
            self.skip_line();
        }
        Ok(Statement::Location(location))
    }

    fn instruction(&mut self) -> Result<Instruction, SyntaxError> {
        let guard = if self.accept(b'@') {
            let negated = self.accept(b'!');
            Some(Guard { register: self.word()?.to_owned(), negated })
        } else {
            None
        };
        let line = self.line();
        let opcode: Vec<String> = self.word()?.split('.').map(str::to_owned).collect();
        let mut operands = Vec::new();
        if !self.is_symbol(b';') {
            operands.push(self.operand()?);
            while self.accept(b',') {
                operands.push(self.operand()?);
            }
        }
        self.expect(b';')?;
        Ok(Instruction { guard, opcode, operands, line })
    }

    pub(super) fn operand(&mut self) -> Result<Operand, SyntaxError> {
        let first = self.simple_operand()?;
        if self.accept(b'|') {
            let second = self.simple_operand()?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn simple_operand(&mut self) -> Result<Operand, SyntaxError> {
        Ok(match self.advance() {
            Token::Word("_") => Operand::Sink,
            Token::Word(name) => {
                if self.is_symbol(b'+') || self.is_symbol(b'-') {
                    Operand::NameOffset(name.to_owned(), self.offset()?)
                } else {
                    Operand::Name(name.to_owned())
                }
            }
            Token::Integer(value) => Operand::Integer(value),
            Token::Single(bits) => Operand::Single(bits),
            Token::Double(bits) => Operand::Double(bits),
            Token::Symbol(b'-') => match self.advance() {
                Token::Integer(value) => Operand::Integer(value.wrapping_neg()),
                Token::Double(bits) => Operand::Double(bits ^ 1 << 63),
                other => return self.error(format!("expected a number after '-', found {other:?}")),
            },
            Token::Symbol(b'!') => Operand::Not(self.word()?.to_owned()),
            Token::Symbol(b'{') => Operand::Vector(self.operands_until(b'}')?),
            Token::Symbol(b'(') => Operand::List(self.operands_until(b')')?),
            Token::Symbol(b'[') => self.address()?,
            other => return self.error(format!("expected an operand, found {other:?}")),
        })
    }

    fn operands_until(&mut self, close: u8) -> Result<Vec<Operand>, SyntaxError> {
        self.descend()?;
        let mut list = Vec::new();
        while !self.accept(close) {
            list.push(self.operand()?);
            if !self.accept(b',') && !self.is_symbol(close) {
                return self.error(format!("expected ',' or '{}'", close as char));
            }
        }
        self.ascend();
        Ok(list)
    }

    /// `+4`, `-4` or, as nvcc writes it, `+-4`.
    fn offset(&mut self) -> Result<i64, SyntaxError> {
        let mut negative = false;
        let mut any = false;
        loop {
            if self.accept(b'-') {
                negative = !negative;
            } else if !self.accept(b'+') {
                break;
            }
            any = true;
        }
        if !any {
            return Ok(0);
        }
        let value = self.integer()? as i64;
        Ok(if negative { value.wrapping_neg() } else { value })
    }

    fn address(&mut self) -> Result<Operand, SyntaxError> {
        let (base, offset) = match *self.peek() {
            Token::Word(name) => {
                self.advance();
                (AddressBase::Name(name.to_owned()), self.offset()?)
            }
            Token::Integer(value) => {
                self.advance();
                (AddressBase::Absolute, value as i64)
            }
            ref other => return self.error(format!("expected an address, found {other:?}")),
        };
        if self.accept(b',') {
            self.expect(b'{')?;
            let coordinates = self.operands_until(b'}')?;
            self.expect(b']')?;
            return Ok(Operand::TensorAddress(base, offset, coordinates));
        }
        self.expect(b']')?;
        Ok(Operand::Address(base, offset))
    }
}
