//! A loaded module: its kernels decoded, its variables placed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::coverage::{Missing, summarise};
use crate::decode::{
    CODE_WINDOW, Functions, Kernel, Layout, Parameter, Refusal, Refused, constant_bytes, decode_kernel,
};
use crate::memory::GlobalMemory;
use crate::syntax::{self, FunctionKind, Item, Space, SyntaxError, Variable};

/// Why a module cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// The text is not PTX.
    Syntax(SyntaxError),
    /// The module is made for a newer device than this one.
    Target(String),
    /// Instruction forms or features that the emulator lacks, each named, in every kernel of the module.
    Unsupported(Vec<Missing>),
    /// Well-formed text that makes no sense; PTX line and reason.
    Malformed(u32, String),
    /// No room for the module's variables.
    OutOfMemory,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Syntax(error) => write!(f, "{error}"),
            LoadError::Target(target) => write!(f, "the module needs {target}, which this device is too old for"),
            LoadError::Unsupported(list) => {
                f.write_str("not supported by the emulator:")?;
                for missing in list {
                    write!(f, "\n  {missing}")?;
                }
                Ok(())
            }
            LoadError::Malformed(line, reason) => write!(f, "PTX line {line}: {reason}"),
            LoadError::OutOfMemory => f.write_str("no global memory left for the module's variables"),
        }
    }
}

impl std::error::Error for LoadError {}

/// A loaded PTX module.
#[derive(Clone)]
pub struct Module {
    kernels: BTreeMap<String, Arc<Kernel>>,
    /// What the kernels use that are not among these.
    missing: BTreeMap<String, Vec<Missing>>,
    variables: HashMap<String, (u64, u64)>,
}

/// A kernel of a loaded module.
#[derive(Clone)]
pub struct Function {
    pub(crate) kernel: Arc<Kernel>,
}

impl Module {
    /// The kernel with this name.
    pub fn function(&self, name: &str) -> Option<Function> {
        self.kernels.get(name).map(|kernel| Function { kernel: kernel.clone() })
    }

    /// What a kernel uses that the emulator lacks: such a kernel cannot be run, but the others of its module can.
    pub fn missing(&self, name: &str) -> Option<&[Missing]> {
        self.missing.get(name).map(Vec::as_slice)
    }

    /// Names of all kernels that can be run, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kernels.keys().map(String::as_str)
    }

    /// Address and size of a `__device__` or `__constant__` variable.
    pub fn variable(&self, name: &str) -> Option<(u64, u64)> {
        self.variables.get(name).copied()
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("kernels", &self.kernels.keys()).field("variables", &self.variables).finish()
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({})", self.kernel.name)
    }
}

impl Function {
    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.kernel.name
    }

    /// Offset, size and alignment of every parameter.
    pub fn parameters(&self) -> &[Parameter] {
        &self.kernel.parameters
    }

    /// Bytes of the whole argument block.
    pub fn parameter_bytes(&self) -> u32 {
        self.kernel.parameter_bytes
    }

    /// Bytes of static shared memory.
    pub fn static_shared(&self) -> u32 {
        self.kernel.static_shared
    }

    /// Bytes of local memory per thread.
    pub fn local_bytes(&self) -> u32 {
        self.kernel.local_bytes
    }

    /// `.maxntid`: the largest block that the kernel was compiled for, by axis.
    pub fn max_block(&self) -> Option<[u32; 3]> {
        self.kernel.max_threads
    }

    /// `.reqntid`: the only block that the kernel may be launched with.
    pub fn required_block(&self) -> Option<[u32; 3]> {
        self.kernel.required_threads
    }

    /// 32-bit registers that the PTX uses before any allocation: an upper bound, not what a GPU would use.
    pub fn registers(&self) -> u32 {
        self.kernel.registers_declared
    }
}

/// The number in `sm_90a`.
fn target_number(target: &str) -> Option<u32> {
    let digits = target.strip_prefix("sm_").or_else(|| target.strip_prefix("compute_"))?;
    digits.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

/// What a module's text became.
pub(crate) struct Decoded {
    kernels: BTreeMap<String, Arc<Kernel>>,
    /// Kernels that use what the emulator lacks.
    pub refused: BTreeMap<String, Vec<Refused>>,
    variables: HashMap<String, (u64, u64)>,
}

/// A module before its variables have addresses.
pub(crate) struct Prepared {
    tree: syntax::Module,
    files: Arc<BTreeMap<u32, String>>,
    target: u32,
}

impl Prepared {
    pub(crate) fn new(text: &str) -> Result<Prepared, LoadError> {
        let tree = syntax::parse(text).map_err(LoadError::Syntax)?;
        let target = tree.target.iter().find_map(|target| target_number(target)).unwrap_or(0);
        let entries = tree.items.iter().filter_map(|item| match item {
            Item::File(index, path) => Some((*index, path.clone())),
            _ => None,
        });
        let files = Arc::new(entries.collect());
        Ok(Prepared { tree, files, target })
    }

    fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.tree.items.iter().filter_map(|item| match item {
            Item::Variable(variable) => Some(variable),
            _ => None,
        })
    }

    /// Places the variables by `place` (name, bytes, whether constant) and decodes all kernels.
    pub(crate) fn decode(
        &self,
        mut place: impl FnMut(&Variable, &[u8]) -> Result<u64, LoadError>,
    ) -> Result<Decoded, LoadError> {
        let mut symbols: HashMap<String, u64> = HashMap::new();
        let mut placed = HashMap::new();
        let mut globals: HashMap<String, (Space, u64)> = HashMap::new();
        let mut shared = Vec::new();
        let mut functions = Functions::default();
        for item in &self.tree.items {
            if let Item::Function(function) = item
                && function.kind == FunctionKind::Func
                && function.body.is_some()
            {
                let address = CODE_WINDOW + 16 * (functions.by_name.len() as u64 + 1);
                functions.by_name.insert(&function.name, function);
                symbols.insert(function.name.clone(), address);
                globals.insert(function.name.clone(), (Space::Global, address));
            }
        }
        self.tree.items.iter().for_each(|item| functions.note_pointers(item));
        for variable in self.variables() {
            if variable.space == Space::Shared {
                shared.push(variable);
                continue;
            }
            if !matches!(variable.space, Space::Global | Space::Const) {
                let reason = format!("{} at module scope", variable.space);
                return Err(LoadError::Malformed(0, reason));
            }
            if variable.linkage.iter().any(|l| l == "extern") {
                let form = format!(".extern .{} {}", variable.space, variable.name);
                return Err(LoadError::Unsupported(vec![Missing { form, count: 1, first_line: 0 }]));
            }
            if Layout::default().place(variable).is_none_or(|_| false) {
                return Err(LoadError::Malformed(0, format!("{} has no size", variable.name)));
            }
            let bytes = constant_bytes(variable, &symbols).map_err(|reason| LoadError::Malformed(0, reason))?;
            let address = place(variable, &bytes)?;
            symbols.insert(variable.name.clone(), address);
            placed.insert(variable.name.clone(), (address, bytes.len() as u64));
            globals.insert(variable.name.clone(), (variable.space, address));
        }
        let mut kernels = BTreeMap::new();
        let mut refused = BTreeMap::new();
        for item in &self.tree.items {
            let Item::Function(function) = item else { continue };
            if function.kind != FunctionKind::Entry || function.body.is_none() {
                continue;
            }
            match decode_kernel(function, &shared, &globals, &functions, &self.files) {
                Ok(kernel) => {
                    kernels.insert(function.name.clone(), Arc::new(kernel));
                }
                Err(list) => {
                    refused.insert(function.name.clone(), list);
                }
            }
        }
        if let Some(first) = refused.values().flatten().find(|r| matches!(r.refusal, Refusal::Malformed(_))) {
            let Refusal::Malformed(reason) = &first.refusal else { unreachable!("just matched") };
            return Err(LoadError::Malformed(first.line, format!("{}: {reason}", first.form)));
        }
        Ok(Decoded { kernels, refused, variables: placed })
    }

    pub(crate) fn load(&self, memory: &mut GlobalMemory, capability: u32) -> Result<Module, LoadError> {
        if self.target > capability {
            return Err(LoadError::Target(self.tree.target.join(", ")));
        }
        let Decoded { kernels, refused, variables } = self.decode(|variable, bytes| {
            let constant = variable.space == Space::Const;
            let base = memory.allocate(bytes.len().max(1) as u64, constant).map_err(|_| LoadError::OutOfMemory)?;
            let (allocation, offset) = memory.locate(base, bytes.len() as u64).ok_or(LoadError::OutOfMemory)?;
            allocation.write(offset, bytes);
            Ok(base)
        })?;
        if kernels.is_empty() && !refused.is_empty() {
            return Err(LoadError::Unsupported(summarise(refused.values().flatten())));
        }
        let missing = refused.iter().map(|(name, list)| (name.clone(), summarise(list))).collect();
        Ok(Module { kernels, missing, variables })
    }
}
