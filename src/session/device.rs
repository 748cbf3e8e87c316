//! Executes a planned program on a machine: a GPU, or an emulated one.

use std::collections::{BTreeSet, HashMap};

use super::offload::Offloaded;
use crate::{
    Error, Result,
    graph::{Graph, Node, Role, ValueId},
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

/// A graph of the program.
#[derive(Debug)]
struct Entry {
    nodes: Vec<BoundNode>,
    /// For each input, the number of nodes until its last reader has run.
    read_until: HashMap<String, usize>,
    /// Once there is one: of the nodes up to the mark, and of those behind it.
    recording: Option<[Option<Recording>; 2]>,
}

/// A program on a machine: one allocation, and launches with addresses in it. Nothing is allocated after
/// [`DeviceSession::bind`].
///
/// Inputs that are written ahead ([`DeviceSession::write_ahead`]) arrive while the run before is still under way. So each
/// run marks the point behind the last reader of such inputs, and the machine holds uploads back until that point; the
/// recording of a run is cut in two there.
#[derive(Debug)]
pub struct DeviceSession {
    machine: Box<dyn Machine>,
    plan: MemoryPlan,
    base: u64,
    entries: Vec<Entry>,
    directory: HashMap<String, (Spec, Place)>,
    /// Inputs that are written ahead.
    ahead: BTreeSet<String>,
    /// Optimizer state, if it is on the host.
    offloaded: Option<Offloaded>,
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
        check_memory(&mut *machine, graphs, &plan)?;
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
        let offloaded = Offloaded::of(&plan);
        let ahead = BTreeSet::new();
        let mut session = Self { machine, plan, base, entries, directory, ahead, offloaded };
        session.clear_persistent()?;
        session.machine.mark()?;
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

    /// Starts the graph at this position of the program. It runs behind the caller's back; reading a value waits for it. If
    /// optimizer state is on the host, the first graph is followed by the optimizer, and this waits for its end.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run(&mut self, entry: usize) -> Result<()> {
        self.launch(entry)?;
        self.update(entry, Self::launch)
    }

    fn launch(&mut self, entry: usize) -> Result<()> {
        let (before, after) = self.entries[entry].nodes.split_at(self.cut(entry));
        for (half, nodes) in [before, after].into_iter().enumerate() {
            let mut launches = nodes.iter().flat_map(|node| &node.launches);
            launches.try_for_each(|launch| self.machine.launch(launch))?;
            if half == 0 && !nodes.is_empty() {
                self.machine.mark()?;
            }
        }
        Ok(())
    }

    /// Runs a graph launch by launch and calls `observe` for each: position of its node, kernel, seconds by the machine's
    /// clock. Says whether the machine has one; without, nothing is observed.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run_timed(&mut self, entry: usize, observe: &mut dyn FnMut(usize, &'static str, f64)) -> Result<bool> {
        self.machine.stamp()?;
        let mut launched = Vec::new();
        for (index, node) in self.entries[entry].nodes.iter().enumerate() {
            for launch in &node.launches {
                self.machine.launch(launch)?;
                self.machine.stamp()?;
                launched.push((index, launch.kernel));
            }
        }
        self.machine.mark()?;
        let stamps = self.machine.stamps()?;
        self.update(entry, Self::launch)?;
        let Some(stamps) = stamps else { return Ok(false) };
        for ((node, kernel), pair) in launched.into_iter().zip(stamps.windows(2)) {
            observe(node, kernel, pair[1] - pair[0]);
        }
        Ok(true)
    }

    /// Seconds that so many captured runs take, one after the other, by the machine's clock; none if it has no clock.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn time_captured(&mut self, entry: usize, runs: usize) -> Result<Option<Vec<f64>>> {
        self.machine.stamp()?;
        for _ in 0..runs {
            self.run_captured(entry)?;
            self.machine.stamp()?;
        }
        let stamps = self.machine.stamps()?;
        Ok(stamps.map(|stamps| stamps.windows(2).map(|pair| pair[1] - pair[0]).collect()))
    }

    /// Like [`Self::run`], through a recording that is made at the first call: the same bits, one start for all kernels.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run_captured(&mut self, entry: usize) -> Result<()> {
        self.replay(entry)?;
        self.update(entry, Self::replay)
    }

    /// Runs the optimizer behind the first graph, if it is a graph of its own because its state is on the host.
    fn update(&mut self, entry: usize, run: fn(&mut Self, usize) -> Result<()>) -> Result<()> {
        let Some(mut offloaded) = self.offloaded.take_if(|_| entry == 0) else { return Ok(()) };
        let outcome = offloaded
            .bring(&mut *self.machine, self.base)
            .and_then(|()| run(self, offloaded.entry()))
            .and_then(|()| offloaded.take_back(&mut *self.machine, self.base));
        self.offloaded = Some(offloaded);
        outcome
    }

    fn replay(&mut self, entry: usize) -> Result<()> {
        let [before, after] = match self.entries[entry].recording {
            Some(recording) => recording,
            None => {
                let (before, after) = self.entries[entry].nodes.split_at(self.cut(entry));
                let mut capture = |nodes: &[BoundNode]| {
                    let launches: Vec<Launch> = nodes.iter().flat_map(|node| node.launches.clone()).collect();
                    if launches.is_empty() { Ok(None) } else { self.machine.capture(&launches).map(Some) }
                };
                let recording = [capture(before)?, capture(after)?];
                *self.entries[entry].recording.insert(recording)
            }
        };
        if let Some(before) = before {
            self.machine.replay(before)?;
            self.machine.mark()?;
        }
        after.map_or(Ok(()), |after| self.machine.replay(after))
    }

    /// The number of nodes of a graph until no input that is written ahead is read any more.
    fn cut(&self, entry: usize) -> usize {
        let read_until = &self.entries[entry].read_until;
        self.ahead.iter().filter_map(|name| read_until.get(name)).max().copied().unwrap_or(0)
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
        if let Some(on_host) = self.offloaded.as_mut().and_then(|offloaded| offloaded.of_place(place)) {
            on_host.copy_from_slice(bytes);
            return Ok(());
        }
        self.machine.upload(self.base + place.offset as u64, bytes)?;
        // What is written ahead later must not come before this.
        self.machine.mark()
    }

    /// Writes the first elements of an input for the next run, beside a run that is under way: the upload begins when
    /// that run no longer reads the input. Best called right after [`DeviceSession::run_captured`], and for the first time
    /// before it: a run that was captured before is captured anew.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the program has no such value, or it is smaller.
    pub fn write_ahead<T: bytemuck::NoUninit>(&mut self, name: &str, elements: &[T]) -> Result<()> {
        let (spec, place) = self.locate(name);
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        assert!(bytes.len() <= place.bytes, "{name} ({spec}) gets {} bytes", bytes.len());
        if self.ahead.insert(name.to_owned()) {
            // The runs until now were cut without regard to this input.
            self.entries.iter_mut().for_each(|entry| entry.recording = None);
            self.machine.mark()?;
        }
        self.machine.upload_ahead(self.base + place.offset as u64, bytes)
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
        self.read_into(name, &mut elements)?;
        Ok(elements)
    }

    /// Reads a persistent value into a buffer of its size, after everything before has finished.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the program has no such value, or it has another size.
    pub fn read_into<T: bytemuck::Pod>(&mut self, name: &str, elements: &mut [T]) -> Result<()> {
        let (spec, place) = self.locate(name);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(elements);
        assert_eq!(bytes.len(), place.bytes, "{name} ({spec}) is read into {} bytes", bytes.len());
        if let Some(on_host) = self.offloaded.as_mut().and_then(|offloaded| offloaded.of_place(place)) {
            bytes.copy_from_slice(on_host);
            return Ok(());
        }
        self.machine.download(self.base + place.offset as u64, bytes)
    }

    /// Overwrites a range of the arena, for tests that look at guard bytes.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn fill(&mut self, place: Place, byte: u8) -> Result<()> {
        self.machine.upload(self.base + place.offset as u64, &vec![byte; place.bytes])
    }

    /// A range of the arena, for tests that look at guard bytes.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn read_place(&mut self, place: Place) -> Result<Vec<u8>> {
        let mut bytes = vec![0; place.bytes];
        self.machine.download(self.base + place.offset as u64, &mut bytes)?;
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
    let mut read_until = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let inputs = node
            .inputs
            .iter()
            .map(|&id| graph.value(id))
            .filter(|value| matches!(value.role, Role::Input | Role::Batch));
        read_until.extend(inputs.map(|value| (value.name.clone(), index + 1)));
    }
    Ok(Entry { nodes, read_until, recording: None })
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

fn check_memory(machine: &mut dyn Machine, graphs: &[Graph], plan: &MemoryPlan) -> Result<()> {
    let available = machine.free_memory()?;
    if plan.total as u64 <= available {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    let largest = plan.entries.iter().zip(graphs).max_by_key(|(entry, _)| entry.transient);
    let place = largest.map_or("", |(entry, graph)| graph.nodes[entry.peak_node].name.as_str());
    Err(Error::Memory {
        cause: format!(
            "plan needs {:.2} GiB at \"{place}\", {} has {:.2} free",
            gib(plan.total as u64),
            machine.capabilities().name,
            gib(available)
        ),
        advice: "choose smaller extents, a smaller batch or a larger --unet-resize-factor".to_owned(),
    })
}
