//! Places variables: parameters in the argument block, shared and local variables in their frames.

use std::collections::HashMap;

use super::op::Parameter;
use crate::syntax::{Init, Operand, Type, Variable};

/// Bytes of a variable, if all its extents are given.
pub(crate) fn size_of(variable: &Variable) -> Option<u64> {
    let mut size = (variable.ty.bytes() * variable.vector) as u64;
    for extent in &variable.dims {
        size = size.checked_mul((*extent)?)?;
    }
    Some(size)
}

pub(crate) fn alignment_of(variable: &Variable) -> u64 {
    variable.align.unwrap_or(variable.ty.bytes().max(1) * variable.vector) as u64
}

/// A frame that grows as variables are placed in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    pub size: u64,
}

impl Layout {
    /// The offset of a new variable; `None` if it has no size or the frame grows beyond reason.
    pub(crate) fn place(&mut self, variable: &Variable) -> Option<u64> {
        let offset = self.size.next_multiple_of(alignment_of(variable));
        self.size = offset.checked_add(size_of(variable)?).filter(|&size| size < 1 << 40)?;
        Some(offset)
    }
}

/// The places of a kernel's parameters and the size of the argument block.
pub(crate) fn parameters(params: &[Variable]) -> Option<(Vec<Parameter>, u32)> {
    let mut layout = Layout::default();
    let mut list = Vec::new();
    for variable in params {
        let offset = layout.place(variable)? as u32;
        let size = u32::try_from(size_of(variable)?).ok()?;
        list.push(Parameter { name: variable.name.clone(), offset, size, alignment: alignment_of(variable) as u32 });
    }
    Some((list, u32::try_from(layout.size).ok()?))
}

/// The bytes of an initialised variable. Names are looked up among the addresses already given out.
pub(crate) fn constant_bytes(variable: &Variable, symbols: &HashMap<String, u64>) -> Result<Vec<u8>, String> {
    let size = size_of(variable).ok_or("a variable needs a size")? as usize;
    let mut bytes = Vec::new();
    if let Some(init) = &variable.init {
        fill(init, variable.ty, symbols, &mut bytes)?;
    }
    if bytes.len() > size {
        return Err(format!("{} has more initialisers than room", variable.name));
    }
    bytes.resize(size, 0);
    Ok(bytes)
}

fn fill(init: &Init, ty: Type, symbols: &HashMap<String, u64>, bytes: &mut Vec<u8>) -> Result<(), String> {
    let named = |name: &str| symbols.get(name).copied().ok_or_else(|| format!("unknown name {name} in an initialiser"));
    let value = match init {
        Init::List(list) => {
            for inner in list {
                fill(inner, ty, symbols, bytes)?;
            }
            return Ok(());
        }
        Init::Generic(name) => named(name)?,
        Init::Value(Operand::Name(name)) => named(name)?,
        Init::Value(Operand::NameOffset(name, offset)) => named(name)?.wrapping_add(*offset as u64),
        Init::Value(Operand::Integer(value)) => *value,
        Init::Value(Operand::Single(bits)) => *bits as u64,
        Init::Value(Operand::Double(bits)) if ty == Type::F32 => (f64::from_bits(*bits) as f32).to_bits() as u64,
        Init::Value(Operand::Double(bits)) => *bits,
        Init::Value(other) => return Err(format!("initialiser {other} is not a constant")),
    };
    bytes.extend_from_slice(&value.to_le_bytes()[..ty.bytes().min(8) as usize]);
    Ok(())
}
