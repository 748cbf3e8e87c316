//! What a module uses that the emulator lacks, found without running anything.

use std::collections::BTreeMap;
use std::fmt;

use crate::decode::Refused;
use crate::module::{LoadError, Prepared};
use crate::syntax::{self, Item, Statement, SyntaxError};

/// An instruction form that the emulator lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The opcode with all modifiers, or the feature.
    pub form: String,
    /// How often the module uses it.
    pub count: usize,
    /// PTX line of the first use.
    pub first_line: u32,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} times, first in PTX line {})", self.form, self.count, self.first_line)
    }
}

pub(crate) fn summarise<'a>(refused: impl IntoIterator<Item = &'a Refused>) -> Vec<Missing> {
    let mut forms: BTreeMap<&str, Missing> = BTreeMap::new();
    for one in refused {
        let entry = forms.entry(&one.form).or_insert_with(|| Missing {
            form: one.form.clone(),
            count: 0,
            first_line: one.line,
        });
        entry.count += 1;
    }
    forms.into_values().collect()
}

/// Lists every instruction form in a PTX module that the emulator lacks; empty means that all of it will run.
///
/// # Errors
///
/// Text that is not PTX, or that names registers or labels which do not exist.
pub fn coverage(ptx: &str) -> Result<Vec<Missing>, LoadError> {
    let mut next = 1 << 20;
    let decoded = Prepared::new(ptx)?.decode(|_, bytes| {
        next += (bytes.len() as u64).next_multiple_of(512);
        Ok(next)
    });
    match decoded {
        Ok(decoded) => Ok(summarise(decoded.refused.values().flatten())),
        Err(LoadError::Unsupported(list)) => Ok(list),
        Err(other) => Err(other),
    }
}

/// Every instruction form in a PTX module with the number of its uses, sorted by name.
///
/// # Errors
///
/// Text that is not PTX.
pub fn forms(ptx: &str) -> Result<BTreeMap<String, usize>, SyntaxError> {
    fn walk(statements: &[Statement], found: &mut BTreeMap<String, usize>) {
        for statement in statements {
            match statement {
                Statement::Block(inner) => walk(inner, found),
                Statement::Instruction(instruction) => {
                    *found.entry(instruction.opcode.join(".")).or_default() += 1;
                }
                _ => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    for item in &syntax::parse(ptx)?.items {
        if let Item::Function(function) = item {
            walk(function.body.as_deref().unwrap_or_default(), &mut found);
        }
    }
    Ok(found)
}
