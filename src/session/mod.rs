//! Executes a planned program: binds it to one arena, then only runs.

mod device;
mod executor;
mod memory;
mod offload;

use std::{collections::HashMap, sync::Arc};

use crate::{
    Result,
    cpu::{Arena, Operands, Placed, Threads, memory::available},
    graph::{Graph, Op, ValueId},
    plan::{self, EntryPlan, MemoryPlan, Options},
    tensor::{DType, Place, Spec},
};
pub use device::DeviceSession;
pub use executor::{Executor, RunsOn};

/// An operation and where its operands lie.
#[derive(Debug)]
struct Node {
    op: Arc<dyn Op>,
    operands: Operands,
}

impl Node {
    fn new(graph: &Graph, entry: &EntryPlan, index: usize) -> Self {
        let node = &graph.nodes[index];
        let placed = |ids: &[ValueId]| -> Vec<Placed> {
            ids.iter().map(|&id| Placed { spec: graph.value(id).spec, place: entry.values[id.0] }).collect()
        };
        let (inputs, outputs) = (placed(&node.inputs), placed(&node.outputs));
        let operands = Operands::new(node.op.kind(), inputs, outputs, entry.workspaces[index]);
        Self { op: node.op.clone(), operands }
    }

    fn run(&mut self, arena: &mut Arena, threads: &Threads) {
        self.op.run_cpu(&self.operands.call(arena, threads));
    }
}

/// A program on the CPU device: its arena and its bound nodes. Nothing is allocated after [`Session::bind`].
#[derive(Debug)]
pub struct Session {
    threads: Threads,
    arena: Arena,
    plan: MemoryPlan,
    entries: Vec<Vec<Node>>,
    directory: HashMap<String, (Spec, Place)>,
}

impl Session {
    /// Plans a program for these threads and binds it. All bytes of the arena start as zero.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] if the machine does not have the planned bytes free.
    ///
    /// # Panics
    /// If the plan does not pass [`plan::verify`]: that is a bug in the planner, and running would corrupt results.
    pub fn bind(graphs: &[Graph], threads: Threads) -> Result<Self> {
        let options = Options::for_threads(threads.count());
        Self::bind_planned(graphs, plan::plan(graphs, options), threads)
    }

    /// Binds a program to a plan that was made for it.
    ///
    /// # Errors
    /// As [`Session::bind`].
    ///
    /// # Panics
    /// As [`Session::bind`].
    pub fn bind_planned(graphs: &[Graph], plan: MemoryPlan, threads: Threads) -> Result<Self> {
        // Asked first: an operating system that promises more than it has would kill the program later, in mid-run.
        memory::require(plan.total, available())?;
        if let Err(violation) = plan::verify(graphs, &plan) {
            panic!("the memory plan is wrong: {violation}");
        }
        assert!(plan.staged.is_none(), "the CPU's optimizer state is on the host as it is");
        let arena = Arena::new(plan.total).ok_or_else(|| memory::refused(plan.total, None))?;
        let entries = graphs
            .iter()
            .zip(&plan.entries)
            .map(|(graph, entry)| (0..graph.nodes.len()).map(|node| Node::new(graph, entry, node)).collect())
            .collect();
        let directory = plan.persistent.iter().map(|value| (value.name.clone(), (value.spec, value.place))).collect();
        Ok(Self { threads, arena, plan, entries, directory })
    }

    /// The layout in force.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// The threads that the program runs on.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Runs the graph at this position of the program.
    pub fn run(&mut self, entry: usize) {
        for node in &mut self.entries[entry] {
            node.run(&mut self.arena, &self.threads);
        }
    }

    /// Runs a graph and calls `observe` after every node with its position and seconds.
    pub fn run_timed(&mut self, entry: usize, observe: &mut dyn FnMut(usize, f64)) {
        for (index, node) in self.entries[entry].iter_mut().enumerate() {
            let start = std::time::Instant::now();
            node.run(&mut self.arena, &self.threads);
            observe(index, start.elapsed().as_secs_f64());
        }
    }

    /// The persistent values by name, with their specs.
    pub fn persistent(&self) -> impl Iterator<Item = (&str, Spec)> {
        self.plan.persistent.iter().map(|value| (value.name.as_str(), value.spec))
    }

    /// Whether the program has a persistent value of this name.
    pub fn has(&self, name: &str) -> bool {
        self.directory.contains_key(name)
    }

    /// An fp32 value.
    ///
    /// # Panics
    /// If the program has no such value: names come from this crate.
    pub fn f32(&self, name: &str) -> &[f32] {
        bytemuck::cast_slice(self.arena.read(self.locate(name, DType::F32)))
    }

    /// An fp32 value, to write.
    ///
    /// # Panics
    /// If the program has no such value.
    pub fn f32_mut(&mut self, name: &str) -> &mut [f32] {
        let place = self.locate(name, DType::F32);
        bytemuck::cast_slice_mut(self.arena.write(place))
    }

    /// A u8 value, to write.
    ///
    /// # Panics
    /// If the program has no such value.
    pub fn u8_mut(&mut self, name: &str) -> &mut [u8] {
        let place = self.locate(name, DType::U8);
        self.arena.write(place)
    }

    /// A u32 value, to write.
    ///
    /// # Panics
    /// If the program has no such value.
    pub fn u32_mut(&mut self, name: &str) -> &mut [u32] {
        let place = self.locate(name, DType::U32);
        bytemuck::cast_slice_mut(self.arena.write(place))
    }

    /// The bytes of a value of any element type.
    ///
    /// # Panics
    /// If the program has no such value.
    pub fn bytes_mut(&mut self, name: &str) -> &mut [u8] {
        let (_, place) = self.directory.get(name).unwrap_or_else(|| panic!("the program has no value {name}"));
        self.arena.write(*place)
    }

    /// The whole arena, for tests that look at guard bytes.
    pub fn arena_bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.arena.bytes();
        self.arena.write(Place { offset: 0, bytes })
    }

    fn locate(&self, name: &str, dtype: DType) -> Place {
        let (spec, place) = self.directory.get(name).unwrap_or_else(|| panic!("the program has no value {name}"));
        assert_eq!(spec.dtype, dtype, "{name} has another element type");
        *place
    }
}
