//! Executes a planned program on a machine: a GPU, or an emulated one.

use std::collections::HashMap;

use crate::{
    Error, Result,
    graph::{Graph, Node, ValueId},
    machine::{
        Launch, Machine, Recording, images,
        lower::{self, Operand},
    },
    plan::{self, EntryPlan, MemoryPlan, Options, Place},
    tensor::Spec,
};

/// The launches of one node.
#[derive(Debug)]
struct BoundNode {
    name: String,
    launches: Vec<Launch>,
}

/// A graph of the program, with its recording once there is one.
#[derive(Debug)]
struct Entry {
    nodes: Vec<BoundNode>,
    recording: Option<Recording>,
}

/// A program on a machine: one allocation, and launches with addresses in it. Nothing is allocated after
/// [`DeviceSession::bind`].
#[derive(Debug)]
pub struct DeviceSession {
    machine: Box<dyn Machine>,
    plan: MemoryPlan,
    base: u64,
    entries: Vec<Entry>,
    directory: HashMap<String, (Spec, Place)>,
}

impl DeviceSession {
    /// Plans a program and binds it. Persistent values start as zero.
    ///
    /// # Errors
    /// If an operation has no kernel, a kernel is not in this build, or the machine has too little memory or fails.
    ///
    /// # Panics
    /// If the plan does not pass [`plan::verify`]: that is a bug in the planner, and running would corrupt results.
    pub fn bind(graphs: &[Graph], machine: Box<dyn Machine>) -> Result<Self> {
        Self::bind_planned(graphs, plan::plan(graphs, Options::for_gpu()), machine)
    }

    /// Binds a program to a plan that was made for it.
    ///
    /// # Errors
    /// As [`DeviceSession::bind`].
    ///
    /// # Panics
    /// As [`DeviceSession::bind`].
    pub fn bind_planned(graphs: &[Graph], plan: MemoryPlan, mut machine: Box<dyn Machine>) -> Result<Self> {
        if let Err(violation) = plan::verify(graphs, &plan) {
            panic!("the memory plan is wrong: {violation}");
        }
        check_memory(&*machine, graphs, &plan)?;
        let base = machine.allocate(plan.total)?;
        let entries = graphs.iter().zip(&plan.entries).map(|(graph, entry)| bind_entry(graph, entry, base));
        let entries = entries.collect::<Result<Vec<Entry>>>()?;
        for launch in entries.iter().flat_map(|entry| &entry.nodes).flat_map(|node| &node.launches) {
            check_compute(&*machine, launch)?;
            if !machine.is_loaded(launch.family) {
                let image = images::find(launch.family, machine.capabilities().compute)?;
                machine.load(launch.family, &image.ptx())?;
            }
        }
        let directory = plan.persistent.iter().map(|value| (value.name.clone(), (value.spec, value.place))).collect();
        let mut session = Self { machine, plan, base, entries, directory };
        session.clear_persistent()?;
        Ok(session)
    }

    /// The layout in force.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// The machine that the program runs on.
    pub fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    /// Starts the graph at this position of the program. It runs behind the caller's back; reading a value waits for it.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run(&mut self, entry: usize) -> Result<()> {
        let launches = self.entries[entry].nodes.iter().flat_map(|node| &node.launches);
        launches.into_iter().try_for_each(|launch| self.machine.launch(launch))
    }

    /// Runs a graph node by node and calls `observe` after each with its position and seconds, waiting included.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run_timed(&mut self, entry: usize, observe: &mut dyn FnMut(usize, f64)) -> Result<()> {
        self.machine.synchronise()?;
        for (index, node) in self.entries[entry].nodes.iter().enumerate() {
            let start = std::time::Instant::now();
            node.launches.iter().try_for_each(|launch| self.machine.launch(launch))?;
            self.machine.synchronise()?;
            observe(index, start.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Like [`Self::run`], through a recording that is made at the first call: the same bits, one start for all kernels.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run_captured(&mut self, entry: usize) -> Result<()> {
        let recording = match self.entries[entry].recording {
            Some(recording) => recording,
            None => {
                let nodes = self.entries[entry].nodes.iter();
                let launches: Vec<Launch> = nodes.flat_map(|node| node.launches.clone()).collect();
                *self.entries[entry].recording.insert(self.machine.capture(&launches)?)
            }
        };
        self.machine.replay(recording)
    }

    /// Waits until everything has finished.
    ///
    /// # Errors
    /// If a launch failed.
    pub fn synchronise(&mut self) -> Result<()> {
        self.machine.synchronise()
    }

    /// Names of a graph's nodes with the number of their launches.
    pub fn nodes(&self, entry: usize) -> impl Iterator<Item = (&str, usize)> {
        self.entries[entry].nodes.iter().map(|node| (node.name.as_str(), node.launches.len()))
    }

    /// The persistent values by name, with their specs.
    pub fn persistent(&self) -> impl Iterator<Item = (&str, Spec)> {
        self.plan.persistent.iter().map(|value| (value.name.as_str(), value.spec))
    }

    /// Whether the program has a persistent value of this name.
    pub fn has(&self, name: &str) -> bool {
        self.directory.contains_key(name)
    }

    /// Writes a persistent value: elements of any plain type that fill it exactly.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the program has no such value, or it has another size: names and sizes come from this crate.
    pub fn write<T: bytemuck::NoUninit>(&mut self, name: &str, elements: &[T]) -> Result<()> {
        let (spec, place) = self.locate(name);
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        assert_eq!(bytes.len(), place.bytes, "{name} ({spec}) gets {} bytes", bytes.len());
        self.machine.upload(self.base + place.offset as u64, bytes)
    }

    /// Reads a persistent value, after everything before has finished.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the program has no such value, or its size is no multiple of an element's.
    pub fn read<T: bytemuck::Pod>(&mut self, name: &str) -> Result<Vec<T>> {
        let (_, place) = self.locate(name);
        assert_eq!(place.bytes % size_of::<T>(), 0, "{name} holds elements of another size");
        let mut elements = vec![T::zeroed(); place.bytes / size_of::<T>()];
        self.machine.download(self.base + place.offset as u64, bytemuck::cast_slice_mut(&mut elements))?;
        Ok(elements)
    }

    /// Overwrites a range of the arena, for tests that look at guard bytes.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn fill(&mut self, place: Place, byte: u8) -> Result<()> {
        self.machine.upload(self.base + place.offset as u64, &vec![byte; place.bytes])
    }

    /// The whole arena, for tests that look at guard bytes.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn read_arena(&mut self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.plan.total];
        self.machine.download(self.base, &mut bytes)?;
        Ok(bytes)
    }

    /// Frees the arena and gives the machine back, its kernels still loaded.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn release(mut self) -> Result<Box<dyn Machine>> {
        self.machine.free(self.base)?;
        Ok(self.machine)
    }

    fn locate(&self, name: &str) -> (Spec, Place) {
        *self.directory.get(name).unwrap_or_else(|| panic!("the program has no value {name}"))
    }

    /// Zeroes the persistent region, padding included. The rest stays undefined, so that the emulator sees whoever reads
    /// what nobody wrote.
    fn clear_persistent(&mut self) -> Result<()> {
        const CHUNK: usize = 16 << 20;
        let zeros = vec![0; self.plan.persistent_bytes.min(CHUNK)];
        for start in (0..self.plan.persistent_bytes).step_by(CHUNK) {
            let bytes = CHUNK.min(self.plan.persistent_bytes - start);
            self.machine.upload(self.base + start as u64, &zeros[..bytes])?;
        }
        Ok(())
    }
}

fn bind_entry(graph: &Graph, entry: &EntryPlan, base: u64) -> Result<Entry> {
    let operands = |ids: &[ValueId]| -> Vec<Operand> {
        let operand = |&id: &ValueId| Operand { spec: graph.value(id).spec, address: base + entry.offset(id) as u64 };
        ids.iter().map(operand).collect()
    };
    let bind = |(index, node): (usize, &Node)| {
        let workspace = base + entry.workspaces[index].offset as u64;
        let (inputs, outputs) = (operands(&node.inputs), operands(&node.outputs));
        let launches = lower::launches(&*node.op, &node.name, &inputs, &outputs, workspace)?;
        Ok(BoundNode { name: node.name.clone(), launches })
    };
    let nodes = graph.nodes.iter().enumerate().map(bind).collect::<Result<Vec<BoundNode>>>()?;
    Ok(Entry { nodes, recording: None })
}

fn check_compute(machine: &dyn Machine, launch: &Launch) -> Result<()> {
    let has = machine.capabilities().compute;
    if launch.compute <= has {
        return Ok(());
    }
    let version = |compute: u32| format!("{}.{}", compute / 10, compute % 10);
    Err(Error::Device {
        device: machine.capabilities().name.clone(),
        cause: format!(
            "{} needs compute capability {}, this GPU has {}",
            launch.kernel,
            version(launch.compute),
            version(has)
        ),
        advice: "use --precision fp16 or fp32: bf16 begins with compute capability 8.0".to_owned(),
    })
}

fn check_memory(machine: &dyn Machine, graphs: &[Graph], plan: &MemoryPlan) -> Result<()> {
    let available = machine.capabilities().memory;
    if plan.total as u64 <= available {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    let largest = plan.entries.iter().zip(graphs).max_by_key(|(entry, _)| entry.transient);
    let place = largest.map_or("", |(entry, graph)| graph.nodes[entry.peak_node].name.as_str());
    Err(Error::Memory {
        cause: format!(
            "plan needs {:.1} GiB at \"{place}\", {} has {:.1}",
            gib(plan.total as u64),
            machine.capabilities().name,
            gib(available)
        ),
        advice: "choose smaller extents, a smaller batch or a larger --unet-resize-factor".to_owned(),
    })
}
