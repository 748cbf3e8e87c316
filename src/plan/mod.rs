//! Decides where every value lives. Pure: takes graphs, returns offsets, touches no device.
//!
//! A *program* is one or more graphs over the same persistent values: a training step and a validation pass share
//! their parameters by name. Persistent values get addresses of their own, role by role, each role contiguous and in
//! order of creation, so that one launch can run over all parameters. Everything else shares one transient region:
//! values whose lifetimes do not overlap may share bytes, and an output may take over the bytes of an input that dies.

pub mod budget;
pub mod cards;
mod improve;
pub mod ladder;
mod lifetime;
pub mod page;
pub mod picture;
mod place;
mod report;
pub mod roofline;
pub mod timeline;
mod verify;

use std::collections::HashMap;

pub use lifetime::Buffer;
pub use report::{LayerLine, Report, RoleLine};
pub use verify::verify;

use crate::{
    graph::{Graph, Role, ValueId},
    lowering::Processor,
    tensor::{Place, Spec, align},
};

/// How to lay out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The processor whose workspaces are planned.
    pub processor: Processor,
    /// Bytes left free behind every range, so that tests can see who writes past the end.
    pub guard: usize,
    /// Whether outputs may take over the bytes of inputs that die.
    pub in_place: bool,
    /// Whether optimizer state lives on the host, and in the arena only while the graph that reads it runs.
    pub offload: bool,
}

impl Options {
    /// The usual layout for this number of threads.
    pub fn for_threads(threads: usize) -> Self {
        Self { processor: Processor::Cpu { threads }, guard: 0, in_place: true, offload: false }
    }

    /// The usual layout for a GPU, real or emulated: the same for all of them.
    pub fn for_gpu() -> Self {
        Self { processor: Processor::Gpu, guard: 0, in_place: true, offload: false }
    }
}

/// A persistent value and where it lies.
#[derive(Clone, Debug)]
pub struct Persistent {
    /// The name that all graphs of the program know it by.
    pub name: String,
    /// Extents and element type.
    pub spec: Spec,
    /// The role, without a gradient's parameter.
    pub role: &'static str,
    /// Its bytes.
    pub place: Place,
}

/// The layout of one graph of the program.
#[derive(Clone, Debug)]
pub struct EntryPlan {
    /// The bytes of every value, by id.
    pub values: Vec<Place>,
    /// The scratch bytes of every node.
    pub workspaces: Vec<Place>,
    /// Bytes of the transient region that this graph uses.
    pub transient: usize,
    /// The largest sum of bytes alive at one node: no layout can be smaller than this.
    pub lower_bound: usize,
    /// The node at which that sum is reached.
    pub peak_node: usize,
}

impl EntryPlan {
    /// First byte of a value.
    pub fn offset(&self, value: ValueId) -> usize {
        self.values[value.0].offset
    }

    /// The ranges of all values and workspaces.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.values.iter().chain(&self.workspaces).copied()
    }
}

/// The layout of a program: the arena is allocated with exactly `total` bytes.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// Persistent values, in order of address.
    pub persistent: Vec<Persistent>,
    /// Bytes of the persistent region; the transient region begins here.
    pub persistent_bytes: usize,
    /// One layout per graph.
    pub entries: Vec<EntryPlan>,
    /// What is in the arena only while one of the graphs runs.
    pub staged: Option<Staged>,
    /// Bytes of the arena.
    pub total: usize,
}

/// Values that live on the host and are copied into the arena before a graph runs, and back behind it. Their bytes belong
/// to the transient region: while the other graphs run, activations lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The graph that reads them.
    pub entry: usize,
    /// All of them, one behind the other, in the order of [`MemoryPlan::persistent`].
    pub place: Place,
}

impl MemoryPlan {
    /// Whether a value of the directory is on the host between runs.
    pub fn is_staged(&self, value: &Persistent) -> bool {
        self.staged.is_some() && value.place.offset >= self.persistent_bytes
    }
}

/// Lays out a program.
///
/// # Panics
/// If two graphs disagree on the spec of a persistent value of one name: they were recorded for different networks. If
/// optimizer state is to be staged and more than one graph reads it.
pub fn plan(graphs: &[Graph], options: Options) -> MemoryPlan {
    let (persistent, end) = place_persistent(graphs, options);
    let staged = options.offload.then(|| stage(graphs, &persistent, end)).flatten();
    let persistent_bytes = staged.map_or(end, |staged| staged.place.offset);
    let offsets: HashMap<&str, Place> = persistent.iter().map(|value| (value.name.as_str(), value.place)).collect();
    let entry = |(index, graph): (usize, &Graph)| {
        let block = staged.filter(|staged| staged.entry == index).map_or(0, |staged| staged.place.bytes);
        let mut entry = plan_entry(graph, &offsets, persistent_bytes + block, options);
        entry.transient += block;
        entry.lower_bound += block;
        entry
    };
    let entries: Vec<EntryPlan> = graphs.iter().enumerate().map(entry).collect();
    let total = persistent_bytes + entries.iter().map(|entry| entry.transient).max().unwrap_or(0);
    MemoryPlan { persistent, persistent_bytes, entries, staged, total }
}

/// The optimizer state, which comes last in the directory when it is to be staged.
fn stage(graphs: &[Graph], persistent: &[Persistent], end: usize) -> Option<Staged> {
    let first = persistent.iter().find(|value| value.role == OPTIMIZER_STATE)?.place.offset;
    let mut readers = graphs.iter().enumerate().filter(|(_, graph)| !graph.with_role(Role::OptimizerState).is_empty());
    let (entry, _) = readers.next()?;
    assert!(readers.next().is_none(), "two graphs of a program read optimizer state");
    Some(Staged { entry, place: Place { offset: first, bytes: end - first } })
}

const BATCHES: &str = "batches";
const OPTIMIZER_STATE: &str = "optimizer state";

/// The regions of the arena, in order. What is staged comes last, where the transient region begins.
fn role_name(role: Role, options: Options) -> Option<(usize, &'static str)> {
    Some(match role {
        Role::Parameter => (0, "parameters"),
        Role::Gradient(_) => (1, "gradients"),
        Role::OptimizerState => (if options.offload { 7 } else { 2 }, OPTIMIZER_STATE),
        Role::Running => (3, "running statistics"),
        Role::Input => (4, "inputs"),
        Role::Output => (5, "outputs"),
        Role::Batch => (6, BATCHES),
        Role::Activation => return None,
    })
}

fn place_persistent(graphs: &[Graph], options: Options) -> (Vec<Persistent>, usize) {
    let mut found: Vec<((usize, usize), Persistent)> = Vec::new();
    let mut known: HashMap<String, Spec> = HashMap::new();
    for graph in graphs {
        let mut batches = 0;
        for (index, value) in graph.values.iter().enumerate() {
            let Some((region, role)) = role_name(value.role, options) else { continue };
            if value.updates.is_some() {
                continue;
            }
            let order = match value.role {
                Role::Gradient(ValueId(parameter)) => parameter,
                Role::Batch => {
                    batches += 1;
                    batches
                }
                _ => index,
            };
            if let Some(spec) = known.get(&value.name) {
                assert_eq!(*spec, value.spec, "{}: two graphs of a program disagree", value.name);
                continue;
            }
            known.insert(value.name.clone(), value.spec);
            let place = Place { offset: 0, bytes: value.spec.bytes() };
            found.push(((region, order), Persistent { name: value.name.clone(), spec: value.spec, role, place }));
        }
    }
    // Stable: values of later graphs come behind those of earlier ones within a region only if their index is higher,
    // which is all the order that anybody relies on (parameters and gradients come from the first graph alone).
    found.sort_by_key(|(key, _)| *key);
    let (mut offset, mut end) = (0, 0);
    let mut persistent: Vec<Persistent> = Vec::with_capacity(found.len());
    let mut previous = None;
    for (key, mut value) in found {
        // Batches of different graphs that come at the same position share their bytes; everything else follows what is there.
        if value.role != BATCHES || previous != Some(key) {
            offset = end;
        }
        value.place.offset = offset;
        end = end.max(offset + align(value.place.bytes + options.guard));
        previous = Some(key);
        persistent.push(value);
    }
    (persistent, end)
}

fn plan_entry(graph: &Graph, persistent: &HashMap<&str, Place>, base: usize, options: Options) -> EntryPlan {
    let buffers = lifetime::buffers(graph, options);
    let (lower_bound, peak_node) = lifetime::lower_bound(&buffers, graph.nodes.len());
    let (offsets, transient) = improve::improve(&buffers, lower_bound, place::place(&buffers));
    let mut values: Vec<Place> = graph
        .values
        .iter()
        .map(|value| {
            persistent.get(value.name.as_str()).copied().filter(|_| value.role.is_persistent()).unwrap_or_default()
        })
        .collect();
    let mut workspaces = vec![Place::default(); graph.nodes.len()];
    for (buffer, offset) in buffers.iter().zip(offsets) {
        let offset = base + offset;
        for &ValueId(value) in &buffer.values {
            values[value] = Place { offset, bytes: graph.values[value].spec.bytes() };
        }
        if let Some(node) = buffer.workspace_of {
            workspaces[node] = Place { offset, bytes: buffer.content };
        }
    }
    EntryPlan { values, workspaces, transient, lower_bound, peak_node }
}
