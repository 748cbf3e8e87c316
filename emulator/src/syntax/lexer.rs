//! Cuts PTX text into tokens. Opcodes with their modifiers are one token: `ld.global.v4.f32`.

use super::SyntaxError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'a> {
    /// Identifier, register, opcode with modifiers, or directive (which starts with a dot).
    Word(&'a str),
    Integer(u64),
    Single(u32),
    Double(u64),
    Text(&'a str),
    Symbol(u8),
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Spanned<'a> {
    pub token: Token<'a>,
    pub line: u32,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%')
}

/// All tokens of `text`, ending with one `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<Spanned<'_>>, SyntaxError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1 };
    let mut found = Vec::with_capacity(text.len() / 6);
    loop {
        lexer.skip_blank()?;
        let line = lexer.line;
        let token = lexer.next()?;
        let end = token == Token::End;
        found.push(Spanned { token, line });
        if end {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { line: self.line, message: message.into() }
    }

    fn skip_blank(&mut self) -> Result<(), SyntaxError> {
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (byte, _) if byte.is_ascii_whitespace() => self.at += 1,
                (b'/', b'/') => {
                    while self.at < self.bytes.len() && self.peek(0) != b'\n' {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => {
                    let Some(length) = self.text[self.at + 2..].find("*/") else {
                        return Err(self.error("comment without end"));
                    };
                    let end = self.at + 2 + length + 2;
                    self.line += self.bytes[self.at..end].iter().filter(|&&b| b == b'\n').count() as u32;
                    self.at = end;
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Token<'a>, SyntaxError> {
        if self.at >= self.bytes.len() {
            return Ok(Token::End);
        }
        let byte = self.peek(0);
        if byte.is_ascii_digit() {
            return self.number();
        }
        if is_word(byte) || (byte == b'.' && is_word(self.peek(1))) {
            return Ok(Token::Word(self.word()));
        }
        if byte == b'"' {
            let start = self.at + 1;
            let Some(length) = self.text[start..].find('"') else {
                return Err(self.error("string without end"));
            };
            let text = &self.text[start..start + length];
            self.line += text.bytes().filter(|&b| b == b'\n').count() as u32;
            self.at = start + length + 1;
            return Ok(Token::Text(text));
        }
        if !byte.is_ascii_graphic() {
            return Err(self.error(format!("unexpected byte 0x{byte:02x}")));
        }
        self.at += 1;
        Ok(Token::Symbol(byte))
    }

    /// Opcodes hold their modifiers; a directive ends where the next begins, as in `.reg.b32`.
    fn word(&mut self) -> &'a str {
        let start = self.at;
        let is_directive = self.peek(0) == b'.';
        self.at += 1;
        loop {
            let byte = self.peek(0);
            if is_word(byte) || (byte == b'.' && !is_directive && is_word(self.peek(1))) {
                self.at += 1;
            } else if byte == b':' && self.peek(1) == b':' && is_word(self.peek(2)) {
                self.at += 2;
            } else {
                return &self.text[start..self.at];
            }
        }
    }

    fn number(&mut self) -> Result<Token<'a>, SyntaxError> {
        let start = self.at;
        while is_word(self.peek(0)) {
            self.at += 1;
        }
        // Decimal floats; nvcc writes the hex forms, people write these.
        if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
            self.at += 1;
            while self.peek(0).is_ascii_alphanumeric()
                || (matches!(self.peek(0), b'+' | b'-') && matches!(self.bytes[self.at - 1], b'e' | b'E'))
            {
                self.at += 1;
            }
            let text = &self.text[start..self.at];
            let value: f64 = text.parse().map_err(|_| self.error(format!("bad number {text}")))?;
            return Ok(Token::Double(value.to_bits()));
        }
        let text = &self.text[start..self.at];
        let bad = |_| self.error(format!("bad number {text}"));
        let lower = text.as_bytes().get(1).map(u8::to_ascii_lowercase);
        Ok(match lower {
            Some(b'f') if text.starts_with('0') => Token::Single(u32::from_str_radix(&text[2..], 16).map_err(bad)?),
            Some(b'd') if text.starts_with('0') => Token::Double(u64::from_str_radix(&text[2..], 16).map_err(bad)?),
            _ => {
                let digits = text.trim_end_matches('U');
                let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
                    u64::from_str_radix(hex, 16)
                } else if let Some(binary) = digits.strip_prefix("0b") {
                    u64::from_str_radix(binary, 2)
                } else if digits.len() > 1 && digits.starts_with('0') {
                    u64::from_str_radix(&digits[1..], 8)
                } else {
                    digits.parse()
                };
                Token::Integer(value.map_err(bad)?)
            }
        })
    }
}
