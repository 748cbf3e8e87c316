//! The dotted parts of an opcode, taken one by one: what nobody takes makes the form unsupported.

use super::{Decoded, Refusal};
use crate::numeric::Rounding;
use crate::syntax::{Space, Type};

pub(crate) struct Modifiers<'a> {
    parts: Vec<&'a str>,
    next: usize,
}

impl<'a> Modifiers<'a> {
    /// The modifiers after the base opcode.
    pub(crate) fn new(opcode: &'a [String]) -> Modifiers<'a> {
        Modifiers { parts: opcode[1..].iter().map(String::as_str).collect(), next: 0 }
    }

    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.parts.get(self.next).copied()
    }

    /// Takes the next modifier if it is this one.
    pub(crate) fn take(&mut self, name: &str) -> bool {
        let found = self.peek() == Some(name);
        self.next += found as usize;
        found
    }

    /// Takes this modifier wherever it stands among the rest.
    pub(crate) fn take_any(&mut self, name: &str) -> bool {
        match self.parts[self.next..].iter().position(|&part| part == name) {
            Some(at) => {
                self.parts.remove(self.next + at);
                true
            }
            None => false,
        }
    }

    pub(crate) fn need(&mut self, name: &str) -> Decoded<()> {
        if self.take(name) { Ok(()) } else { Err(Refusal::Unsupported) }
    }

    /// Takes the first modifier of the list that comes next.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        let part = self.peek()?;
        let (_, value) = choices.iter().find(|(name, _)| *name == part)?;
        self.next += 1;
        Some(*value)
    }

    pub(crate) fn next(&mut self) -> Decoded<&'a str> {
        let part = self.peek().ok_or(Refusal::Unsupported)?;
        self.next += 1;
        Ok(part)
    }

    pub(crate) fn ty(&mut self) -> Decoded<Type> {
        Type::from_name(self.next()?).ok_or(Refusal::Unsupported)
    }

    pub(crate) fn rounding(&mut self) -> Option<Rounding> {
        self.one_of(&[
            ("rn", Rounding::Nearest),
            ("rz", Rounding::Zero),
            ("rm", Rounding::Down),
            ("rp", Rounding::Up),
            ("rna", Rounding::Away),
        ])
    }

    /// A rounding to an integral value.
    pub(crate) fn integral(&mut self) -> Option<Rounding> {
        self.one_of(&[
            ("rni", Rounding::Nearest),
            ("rzi", Rounding::Zero),
            ("rmi", Rounding::Down),
            ("rpi", Rounding::Up),
        ])
    }

    pub(crate) fn space(&mut self) -> Option<Space> {
        self.one_of(&[
            ("global", Space::Global),
            ("shared", Space::Shared),
            ("shared::cta", Space::Shared),
            ("shared::cluster", Space::Shared),
            ("local", Space::Local),
            ("const", Space::Const),
            ("param", Space::Param),
            ("param::entry", Space::Param),
            ("param::func", Space::Param),
        ])
    }

    /// Takes what tells caches how to behave; it changes no value.
    pub(crate) fn skip_cache_hints(&mut self) {
        while let Some(part) = self.peek() {
            let cache = matches!(part, "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt" | "nc")
                || part.starts_with("L1::")
                || (part.starts_with("L2::") && part != "L2::cache_hint");
            if !cache {
                break;
            }
            self.next += 1;
        }
    }

    /// All modifiers must have been taken.
    pub(crate) fn finish(&self) -> Decoded<()> {
        if self.next == self.parts.len() { Ok(()) } else { Err(Refusal::Unsupported) }
    }
}
