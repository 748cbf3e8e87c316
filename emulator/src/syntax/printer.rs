//! Prints a syntax tree as PTX.

use std::fmt::{self, Display, Formatter};

use super::ast::*;

impl Display for Module {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, ".version {}.{}", self.version.0, self.version.1)?;
        writeln!(f, ".target {}", self.target.join(", "))?;
        writeln!(f, ".address_size {}", self.address_size)?;
        for item in &self.items {
            match item {
                Item::File(index, path) => writeln!(f, ".file {index} \"{path}\"")?,
                Item::Variable(variable) => writeln!(f, "{variable};")?,
                Item::Function(function) => write!(f, "{function}")?,
            }
        }
        Ok(())
    }
}

impl Display for Variable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for word in &self.linkage {
            write!(f, ".{word} ")?;
        }
        write!(f, ".{}", self.space)?;
        if let Some(align) = self.align {
            write!(f, " .align {align}")?;
        }
        if self.vector > 1 {
            write!(f, " .v{}", self.vector)?;
        }
        write!(f, " {} {}", self.ty, self.name)?;
        for extent in &self.dims {
            match extent {
                Some(extent) => write!(f, "[{extent}]")?,
                None => write!(f, "[]")?,
            }
        }
        match &self.init {
            Some(init) => write!(f, " = {init}"),
            None => Ok(()),
        }
    }
}

impl Display for Init {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Init::Value(value) => write!(f, "{value}"),
            Init::Generic(name) => write!(f, "generic({name})"),
            Init::List(list) => {
                f.write_str("{")?;
                comma_separated(f, list)?;
                f.write_str("}")
            }
        }
    }
}

fn comma_separated<T: Display>(f: &mut Formatter<'_>, list: &[T]) -> fmt::Result {
    for (i, item) in list.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

impl Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for word in &self.linkage {
            write!(f, ".{word} ")?;
        }
        f.write_str(match self.kind {
            FunctionKind::Entry => ".entry ",
            FunctionKind::Func => ".func ",
        })?;
        if !self.returns.is_empty() {
            f.write_str("(")?;
            comma_separated(f, &self.returns)?;
            f.write_str(") ")?;
        }
        write!(f, "{}(", self.name)?;
        comma_separated(f, &self.params)?;
        writeln!(f, ")")?;
        for directive in &self.directives {
            write!(f, ".{} ", directive.name)?;
            comma_separated(f, &directive.values)?;
            writeln!(f)?;
        }
        match &self.body {
            Some(body) => print_block(f, body, 0),
            None => writeln!(f, ";"),
        }
    }
}

fn print_block(f: &mut Formatter<'_>, statements: &[Statement], depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    writeln!(f, "{indent}{{")?;
    for statement in statements {
        match statement {
            Statement::Block(inner) => print_block(f, inner, depth + 1)?,
            Statement::Label(name) => writeln!(f, "{name}:")?,
            Statement::Registers(ty, names) => {
                write!(f, "{indent}  .reg {ty} ")?;
                comma_separated(f, names)?;
                writeln!(f, ";")?;
            }
            Statement::Variable(variable) => writeln!(f, "{indent}  {variable};")?,
            Statement::BranchTargets(name, targets) => {
                writeln!(f, "{name}: .branchtargets {};", targets.join(", "))?;
            }
            Statement::Location(at) => writeln!(f, "{indent}  .loc {} {} {}", at.file, at.line, at.column)?,
            Statement::Instruction(instruction) => writeln!(f, "{indent}  {instruction}")?,
        }
    }
    writeln!(f, "{indent}}}")
}

impl Display for RegisterName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.count {
            Some(count) => write!(f, "{}<{count}>", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(guard) = &self.guard {
            write!(f, "@{}{} ", if guard.negated { "!" } else { "" }, guard.register)?;
        }
        f.write_str(&self.opcode.join("."))?;
        if !self.operands.is_empty() {
            f.write_str(" ")?;
            comma_separated(f, &self.operands)?;
        }
        f.write_str(";")
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Name(name) => f.write_str(name),
            Operand::NameOffset(name, offset) => write!(f, "{name}+{offset}"),
            Operand::Not(name) => write!(f, "!{name}"),
            Operand::Pair(a, b) => write!(f, "{a}|{b}"),
            Operand::Integer(value) => write!(f, "{}", *value as i64),
            Operand::Single(bits) => write!(f, "0f{bits:08X}"),
            Operand::Double(bits) => write!(f, "0d{bits:016X}"),
            Operand::Vector(list) => {
                f.write_str("{")?;
                comma_separated(f, list)?;
                f.write_str("}")
            }
            Operand::List(list) => {
                f.write_str("(")?;
                comma_separated(f, list)?;
                f.write_str(")")
            }
            Operand::Address(base, offset) => {
                f.write_str("[")?;
                print_address(f, base, *offset)?;
                f.write_str("]")
            }
            Operand::TensorAddress(base, offset, coordinates) => {
                f.write_str("[")?;
                print_address(f, base, *offset)?;
                f.write_str(", {")?;
                comma_separated(f, coordinates)?;
                f.write_str("}]")
            }
            Operand::Sink => f.write_str("_"),
        }
    }
}

fn print_address(f: &mut Formatter<'_>, base: &AddressBase, offset: i64) -> fmt::Result {
    match base {
        AddressBase::Name(name) if offset == 0 => f.write_str(name),
        AddressBase::Name(name) => write!(f, "{name}+{offset}"),
        AddressBase::Absolute => write!(f, "{}", offset as u64),
    }
}
