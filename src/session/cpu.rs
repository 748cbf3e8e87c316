//! A program on the CPU.

use std::{sync::Arc, time::Instant};

use super::{Program, Target, memory, slot::Directory};
use crate::{
    Result,
    cpu::{Arena, Frame, Placed, Threads, memory::available},
    graph::{Graph, Op, ValueId},
    plan::{EntryPlan, MemoryPlan},
    tensor::Place,
};

/// An operation and where its operands lie.
#[derive(Debug)]
struct Node {
    op: Arc<dyn Op>,
    frame: Frame,
}

impl Node {
    fn new(graph: &Graph, entry: &EntryPlan, index: usize) -> Self {
        let node = &graph.nodes[index];
        let placed = |ids: &[ValueId]| -> Vec<Placed> {
            ids.iter().map(|&id| Placed { spec: graph.value(id).spec, place: entry.values[id.0] }).collect()
        };
        let (inputs, outputs) = (placed(&node.inputs), placed(&node.outputs));
        let frame = Frame::new(node.op.kind(), inputs, outputs, entry.workspaces[index]);
        Self { op: node.op.clone(), frame }
    }
}

/// A program on the CPU: its arena and its operations with their places. All bytes of the arena start as zero.
#[derive(Debug)]
pub(super) struct CpuProgram {
    threads: Threads,
    arena: Arena,
    plan: MemoryPlan,
    entries: Vec<Vec<Node>>,
    directory: Directory,
}

impl CpuProgram {
    /// Binds a program to a verified plan.
    pub(super) fn bind(graphs: &[Graph], plan: MemoryPlan, threads: Threads) -> Result<Self> {
        // Asked first: an operating system that promises more than it has would kill the program later, in mid-run.
        memory::require(plan.total, available())?;
        assert!(plan.staged.is_none(), "the CPU's optimizer state is on the host as it is");
        let arena = Arena::new(plan.total).ok_or_else(|| memory::refused(plan.total, None))?;
        let entries = graphs
            .iter()
            .zip(&plan.entries)
            .map(|(graph, entry)| (0..graph.nodes.len()).map(|node| Node::new(graph, entry, node)).collect())
            .collect();
        Ok(Self { threads, arena, directory: Directory::of(&plan), plan, entries })
    }
}

impl Program for CpuProgram {
    fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    fn directory(&self) -> &Directory {
        &self.directory
    }

    fn run(&mut self, entry: usize) -> Result<()> {
        for node in &mut self.entries[entry] {
            node.op.run_cpu(&node.frame.call(&mut self.arena, &self.threads));
        }
        Ok(())
    }

    fn run_timed(&mut self, entry: usize, observe: &mut dyn FnMut(usize, &'static str, f64)) -> Result<bool> {
        for (index, node) in self.entries[entry].iter_mut().enumerate() {
            let start = Instant::now();
            node.op.run_cpu(&node.frame.call(&mut self.arena, &self.threads));
            observe(index, node.op.kind(), start.elapsed().as_secs_f64());
        }
        Ok(true)
    }

    fn time_captured(&mut self, entry: usize, runs: usize) -> Result<Option<Vec<f64>>> {
        let mut timed = || {
            let start = Instant::now();
            self.run(entry).map(|()| start.elapsed().as_secs_f64())
        };
        (0..runs).map(|_| timed()).collect::<Result<_>>().map(Some)
    }

    fn upload(&mut self, place: Place, bytes: &[u8]) -> Result<()> {
        self.arena.write(place).copy_from_slice(bytes);
        Ok(())
    }

    fn download(&mut self, place: Place, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(self.arena.read(place));
        Ok(())
    }

    fn arena_bytes(&self) -> usize {
        self.arena.bytes()
    }

    fn release(self: Box<Self>) -> Result<Target> {
        Ok(Target::Cpu(self.threads))
    }
}
