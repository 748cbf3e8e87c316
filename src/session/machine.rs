//! A program on a machine: a GPU, or an emulated one.

use std::collections::{BTreeSet, HashMap};

use super::{Program, Target, offload::Offloaded, slot::Directory};
use crate::{
    Error, Result,
    graph::{Graph, Node, Role, ValueId},
    lowering,
    machine::{Launch, Machine, Recording, images, lower::Operand},
    plan::{EntryPlan, MemoryPlan},
    tensor::Place,
};

/// A graph of the program.
#[derive(Debug)]
struct Entry {
    /// The launches of each node.
    nodes: Vec<Vec<Launch>>,
    /// For each input, by its position in the plan, the number of nodes until its last reader has run.
    read_until: HashMap<usize, usize>,
    /// Once there is one: of the nodes up to the mark, and of those behind it.
    recording: Option<[Option<Recording>; 2]>,
}

/// A program on a machine: one allocation, and launches with addresses in it. What does not survive runs stays undefined, so
/// that the emulator sees whoever reads what nobody wrote.
///
/// Inputs that are written ahead ([`Program::upload_ahead`]) arrive while the run before is still under way. So each
/// run marks the point behind the last reader of such inputs, and the machine holds uploads back until that point; the
/// recording of a run is cut in two there.
#[derive(Debug)]
pub(super) struct MachineProgram {
    machine: Box<dyn Machine>,
    plan: MemoryPlan,
    base: u64,
    entries: Vec<Entry>,
    directory: Directory,
    /// Inputs that are written ahead, by their positions in the plan.
    ahead: BTreeSet<usize>,
    /// Optimizer state, if it is on the host.
    offloaded: Option<Offloaded>,
}

impl MachineProgram {
    /// Binds a program to a verified plan.
    pub(super) fn bind(graphs: &[Graph], plan: MemoryPlan, mut machine: Box<dyn Machine>) -> Result<Self> {
        check_memory(&mut *machine, graphs, &plan)?;
        let base = machine.allocate(plan.total)?;
        let directory = Directory::of(&plan);
        let entries = graphs.iter().zip(&plan.entries).map(|(graph, entry)| bind_entry(graph, entry, base, &directory));
        let entries = entries.collect::<Result<Vec<Entry>>>()?;
        for launch in entries.iter().flat_map(|entry| &entry.nodes).flatten() {
            check_compute(&*machine, launch)?;
            if !machine.is_loaded(launch.family) {
                let image = images::find(launch.family, machine.capabilities().compute)?;
                machine.load(launch.family, &image.ptx())?;
            }
        }
        let offloaded = Offloaded::of(&plan);
        let ahead = BTreeSet::new();
        let mut program = Self { machine, plan, base, entries, directory, ahead, offloaded };
        program.clear_persistent()?;
        program.machine.mark()?;
        Ok(program)
    }

    fn launch(&mut self, entry: usize) -> Result<()> {
        let (before, after) = self.entries[entry].nodes.split_at(self.cut(entry));
        for (half, nodes) in [before, after].into_iter().enumerate() {
            nodes.iter().flatten().try_for_each(|launch| self.machine.launch(launch))?;
            if half == 0 && !nodes.is_empty() {
                self.machine.mark()?;
            }
        }
        Ok(())
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
                let mut capture = |nodes: &[Vec<Launch>]| {
                    let launches: Vec<Launch> = nodes.iter().flatten().cloned().collect();
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
        self.ahead.iter().filter_map(|value| read_until.get(value)).max().copied().unwrap_or(0)
    }

    /// Zeroes the persistent region, padding included.
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

impl Program for MachineProgram {
    fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    fn directory(&self) -> &Directory {
        &self.directory
    }

    fn run(&mut self, entry: usize) -> Result<()> {
        self.launch(entry)?;
        self.update(entry, Self::launch)
    }

    fn run_captured(&mut self, entry: usize) -> Result<()> {
        self.replay(entry)?;
        self.update(entry, Self::replay)
    }

    fn run_timed(&mut self, entry: usize, observe: &mut dyn FnMut(usize, &'static str, f64)) -> Result<bool> {
        self.machine.stamp()?;
        let mut launched = Vec::new();
        for (index, launches) in self.entries[entry].nodes.iter().enumerate() {
            for launch in launches {
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

    fn time_captured(&mut self, entry: usize, runs: usize) -> Result<Option<Vec<f64>>> {
        self.machine.stamp()?;
        for _ in 0..runs {
            self.run_captured(entry)?;
            self.machine.stamp()?;
        }
        let stamps = self.machine.stamps()?;
        Ok(stamps.map(|stamps| stamps.windows(2).map(|pair| pair[1] - pair[0]).collect()))
    }

    fn synchronise(&mut self) -> Result<()> {
        self.machine.synchronise()
    }

    fn upload(&mut self, place: Place, bytes: &[u8]) -> Result<()> {
        if let Some(on_host) = self.offloaded.as_mut().and_then(|offloaded| offloaded.of_place(place)) {
            on_host.copy_from_slice(bytes);
            return Ok(());
        }
        self.machine.upload(self.base + place.offset as u64, bytes)?;
        // What is written ahead later must not come before this.
        self.machine.mark()
    }

    fn upload_ahead(&mut self, value: usize, bytes: &[u8]) -> Result<()> {
        if self.ahead.insert(value) {
            // The runs until now were cut without regard to this input.
            self.entries.iter_mut().for_each(|entry| entry.recording = None);
            self.machine.mark()?;
        }
        self.machine.upload_ahead(self.base + self.plan.persistent[value].place.offset as u64, bytes)
    }

    fn download(&mut self, place: Place, bytes: &mut [u8]) -> Result<()> {
        if let Some(on_host) = self.offloaded.as_mut().and_then(|offloaded| offloaded.of_place(place)) {
            bytes.copy_from_slice(on_host);
            return Ok(());
        }
        self.machine.download(self.base + place.offset as u64, bytes)
    }

    fn arena_bytes(&self) -> usize {
        self.plan.total
    }

    fn release(mut self: Box<Self>) -> Result<Target> {
        self.machine.free(self.base)?;
        Ok(Target::Machine(self.machine))
    }
}

fn bind_entry(graph: &Graph, entry: &EntryPlan, base: u64, directory: &Directory) -> Result<Entry> {
    let operands = |ids: &[ValueId]| -> Vec<Operand> {
        let operand = |&id: &ValueId| Operand { spec: graph.value(id).spec, address: base + entry.offset(id) as u64 };
        ids.iter().map(operand).collect()
    };
    let bind = |(index, node): (usize, &Node)| {
        let workspace = base + entry.workspaces[index].offset as u64;
        let (inputs, outputs) = (operands(&node.inputs), operands(&node.outputs));
        lowering::launches(&*node.op, &node.name, &inputs, &outputs, workspace)
    };
    let nodes = graph.nodes.iter().enumerate().map(bind).collect::<Result<Vec<Vec<Launch>>>>()?;
    let mut read_until = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let inputs = node
            .inputs
            .iter()
            .map(|&id| graph.value(id))
            .filter(|value| matches!(value.role, Role::Input | Role::Batch));
        read_until.extend(inputs.filter_map(|value| Some((directory.index(&value.name)?, index + 1))));
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
        advice: "use `precision = fp16` or fp32: bf16 begins with compute capability 8.0".to_owned(),
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
        advice: "choose smaller extents, a smaller batch or a larger `unet_resize_factor`".to_owned(),
    })
}
