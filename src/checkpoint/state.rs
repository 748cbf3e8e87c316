//! Between a program's arena and a checkpoint's tensors.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use super::{Checkpoint, Layout, OPTIMIZER_PREFIX, Tensor, slot_name};
use crate::{
    Error, Result,
    graph::{Graph, Role},
    session::Program,
};

/// A value that is saved: its name in the program, its extents there, and how the file lays it out.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The name, in the program and in the file.
    pub name: String,
    /// Extents in memory.
    pub extents: Vec<usize>,
    /// The way to the file.
    pub layout: Layout,
}

/// All values of a graph that a checkpoint holds: parameters, running statistics and, if it has them, optimizer state.
pub fn saved_values(graph: &Graph) -> Vec<Saved> {
    let mut layouts = HashMap::new();
    for id in graph.with_role(Role::Parameter) {
        let value = graph.value(id);
        let is_transposed = graph.first_use(id).starts_with("conv_transpose3d");
        let layout = match (value.spec.shape.extents().len(), is_transposed) {
            (5, true) => Layout::Transposed,
            (5, false) => Layout::Convolution,
            _ => Layout::Plain,
        };
        layouts.insert(value.name.clone(), layout);
    }
    [Role::Parameter, Role::Running, Role::OptimizerState]
        .into_iter()
        .flat_map(|role| graph.with_role(role))
        .map(|id| {
            let value = graph.value(id);
            let parameter = value.name.strip_prefix(OPTIMIZER_PREFIX).and_then(|slot| slot.split_once('.'));
            let owner = parameter.map_or(value.name.as_str(), |(_, parameter)| parameter);
            debug_assert!(parameter.is_none_or(|(slot, owner)| slot_name(slot, owner) == value.name));
            let layout = layouts.get(owner).copied().unwrap_or(Layout::Plain);
            Saved { name: value.name.clone(), extents: value.spec.shape.extents().to_vec(), layout }
        })
        .collect()
}

/// Copies the saved values out of a program, in the file's layout.
///
/// # Errors
/// If the machine fails.
pub fn to_tensors(program: &mut dyn Program, saved: &[Saved]) -> Result<BTreeMap<String, Tensor>> {
    let tensor = |value: &Saved| {
        let elements = program.get::<f32>(&value.name)?;
        Ok((value.name.clone(), value.layout.to_file(&value.extents, &elements)))
    };
    saved.iter().map(tensor).collect()
}

/// Copies a checkpoint's tensors into a program. Optimizer state in the file is passed over if the program has none.
///
/// # Errors
/// A value that the file lacks, has in other extents, or has in excess, naming the file; a machine that fails.
pub fn from_tensors(program: &mut dyn Program, saved: &[Saved], checkpoint: &Checkpoint, path: &Path) -> Result<()> {
    let foreign = |cause: String| Error::input(path, cause, "give a checkpoint of this network");
    let with_optimizer = saved.iter().any(|value| value.name.starts_with(OPTIMIZER_PREFIX));
    for name in checkpoint.tensors.keys() {
        let known = saved.iter().any(|value| value.name == *name);
        if !known && (with_optimizer || !name.starts_with(OPTIMIZER_PREFIX)) {
            return Err(foreign(format!("holds {name}, which this network does not have")));
        }
    }
    // Everything is converted before anything is written: a program is never half loaded.
    let mut converted = Vec::with_capacity(saved.len());
    for value in saved {
        let tensor = checkpoint.tensors.get(&value.name).ok_or_else(|| foreign(format!("lacks {}", value.name)))?;
        let data =
            value.layout.to_memory(&value.name, &value.extents, tensor).map_err(|error| foreign(error.to_string()))?;
        converted.push((&value.name, data));
    }
    converted.into_iter().try_for_each(|(name, data)| program.set(name, &data))
}
