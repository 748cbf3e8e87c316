//! One operation in a graph of its own: operands from the case, results as numbers, on any device.

use std::collections::HashMap;

use crate::{
    Error, Result,
    cpu::Threads,
    graph::{
        Graph, Role, Tape, ValueId,
        reference::{Dense, Precision, evaluate, evaluate_on},
    },
    lowering,
    machine::{Machine, TensorCores},
    ops::{case::Case, elementwise::Axpy},
    plan::{self, MemoryPlan, Options},
    session::{self, Program, Target},
    tensor::{DType, Place, Spec},
};

/// Bytes behind every range that nobody may touch.
const GUARD: usize = 192;
const CANARY: u8 = 0xA5;

/// Where the operands of the node under test come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// From the host.
    FromHost,
    /// From nodes that copy, so that they may die in the node under test.
    FromNodes,
}

/// A graph around one case, with its operands.
#[derive(Debug)]
pub struct Single {
    /// The node, and copying nodes around it where asked for.
    pub graph: Graph,
    /// What the host provides.
    pub sources: HashMap<ValueId, Dense<f64>>,
    /// The position of the node under test.
    pub node: usize,
    /// Its results, or copies of them.
    pub results: Vec<ValueId>,
}

/// What runs a graph with guard bytes behind every range.
pub trait Runner {
    /// The results of the node as numbers, in its order.
    ///
    /// # Errors
    /// If the device fails; [`Error::Shape`] if the node wrote outside its operands, after which the device can go on.
    fn run(&mut self, single: &Single) -> Result<Vec<Vec<f64>>>;

    /// How it adds products of 16-bit numbers up: one after the other in fp32, unless it has tensor cores.
    fn tensor_cores(&self) -> TensorCores {
        TensorCores::Sequential
    }

    /// Whether the device has an implementation for the case.
    fn can_run(&self, _case: &Case) -> bool {
        true
    }
}

/// The CPU with so many threads.
#[derive(Debug)]
pub struct Cpu(pub usize);

/// A GPU, real or emulated. It is lent to one session after the other, so that kernels are loaded once.
#[derive(Debug)]
pub struct Gpu(Option<Box<dyn Machine>>);

impl Gpu {
    /// This machine.
    pub fn new(machine: Box<dyn Machine>) -> Self {
        Self(Some(machine))
    }

    /// The machine back.
    ///
    /// # Panics
    /// If it failed.
    pub fn into_machine(self) -> Box<dyn Machine> {
        self.0.expect("a machine that failed is not used again")
    }
}

impl Single {
    /// A graph around this case. Draws have different operands.
    ///
    /// # Panics
    /// If the operation refuses the case: it is wrong then.
    pub fn new(case: &Case, operands: Operands, draw: usize) -> Self {
        let mut tape = Tape::new();
        let mut sources = HashMap::new();
        let mut inputs = Vec::new();
        for (index, operand) in case.operands.iter().enumerate() {
            let name = format!("operand.{index}");
            let id = tape.source(&name, operand.spec, Role::Input);
            let data = operand.elements(&format!("{} {name} {draw}", case.name));
            sources.insert(id, Dense { shape: operand.spec.shape, data });
            let copied = operands == Operands::FromNodes && operand.spec.dtype.is_float();
            inputs.push(if copied { copy(&mut tape, id, format!("copy.{name}")) } else { id });
        }
        let node = tape.graph().nodes.len();
        let mut results = tape.record_dyn("node", case.op.clone(), &inputs).expect("a case fits its operation");
        let updated: Vec<usize> = case.op.updates(inputs.len()).iter().map(|&(_, output)| output).collect();
        for (index, id) in results.iter_mut().enumerate() {
            if operands == Operands::FromNodes {
                *id = copy(&mut tape, *id, format!("copy.result.{index}"));
            }
            if !updated.contains(&index) {
                tape.keep_output(*id, format!("result.{index}"));
            }
        }
        Self { graph: tape.finish(), sources, node, results }
    }

    /// The element types of the results.
    pub fn result_types(&self) -> Vec<DType> {
        self.results.iter().map(|&id| self.spec(id).dtype).collect()
    }

    /// The results by definition, in this precision.
    pub fn reference<T: Precision>(&self) -> Vec<Vec<f64>> {
        self.results_of(evaluate::<T>(&self.graph, self.sources_in()))
    }

    /// The results of plain loops in single precision, on these tensor cores.
    pub fn reference_on(&self, cores: TensorCores) -> Vec<Vec<f64>> {
        self.results_of(evaluate_on(cores, &self.graph, self.sources_in()))
    }

    fn sources_in<T: Precision>(&self) -> HashMap<ValueId, Dense<T>> {
        let convert =
            |dense: &Dense<f64>| Dense { shape: dense.shape, data: dense.data.iter().map(|&x| T::of(x)).collect() };
        self.sources.iter().map(|(&id, dense)| (id, convert(dense))).collect()
    }

    fn results_of<T: Precision>(&self, known: HashMap<ValueId, Dense<T>>) -> Vec<Vec<f64>> {
        self.results.iter().map(|id| known[id].data.iter().map(|x| x.f64()).collect()).collect()
    }
}

impl Runner for Cpu {
    fn run(&mut self, single: &Single) -> Result<Vec<Vec<f64>>> {
        let graphs = std::slice::from_ref(&single.graph);
        let plan = plan::plan(graphs, Options { guard: GUARD, ..Options::for_threads(self.0) });
        let mut program = session::bind_planned(graphs, plan.clone(), Threads::new(self.0))?;
        // Everything starts as the canary: reading what was never written shows as nonsense, writing outside as a hole.
        fill(&mut *program, Place { offset: 0, bytes: plan.total })?;
        let (results, guards) = single.run_bound(&mut *program, &holes(&plan))?;
        guards.iter().try_for_each(|bytes| single.check_hole(bytes))?;
        Ok(results)
    }
}

impl Runner for Gpu {
    fn tensor_cores(&self) -> TensorCores {
        self.0.as_ref().map_or(TensorCores::Sequential, |machine| machine.tensor_cores())
    }

    fn can_run(&self, case: &Case) -> bool {
        let has = self.0.as_ref().map_or(0, |machine| machine.capabilities().compute);
        lowering::least_compute(&*case.op, &case.specs()).is_some_and(|needs| needs <= has)
    }

    fn run(&mut self, single: &Single) -> Result<Vec<Vec<f64>>> {
        let graphs = std::slice::from_ref(&single.graph);
        let plan = plan::plan(graphs, Options { guard: GUARD, ..Options::for_gpu() });
        let machine = self.0.take().expect("a machine that failed is not used again");
        let mut program = session::bind_planned(graphs, plan.clone(), machine)?;
        // Only holes and results start as the canary: the emulator itself sees reads of what nobody wrote.
        let holes = holes(&plan);
        holes.iter().try_for_each(|&hole| fill(&mut *program, hole))?;
        for value in plan.persistent.iter().filter(|value| value.role == "outputs") {
            fill(&mut *program, value.place)?;
        }
        let (results, guards) = single.run_bound(&mut *program, &holes)?;
        if let Target::Machine(machine) = program.release()? {
            self.0 = Some(machine);
        }
        guards.iter().try_for_each(|bytes| single.check_hole(bytes))?;
        Ok(results)
    }
}

/// The results of a graph, each as numbers.
type Numbers = Vec<Vec<f64>>;

/// Fills bytes of an arena with the canary.
fn fill(program: &mut dyn Program, place: Place) -> Result<()> {
    program.upload(place, &vec![CANARY; place.bytes])
}

impl Single {
    /// Runs the graph; its results as numbers, and the bytes of these places afterwards. Not of the whole arena: what no node
    /// writes is nobody's to read, and NVIDIA's initcheck would report it.
    fn run_bound(&self, program: &mut dyn Program, guards: &[Place]) -> Result<(Numbers, Vec<Vec<u8>>)> {
        for (name, spec, data) in self.operands() {
            program.write(program.bytes(name)?, &encode(spec, data))?;
        }
        program.run(0)?;
        let mut guard = |&place: &Place| {
            let mut bytes = vec![0; place.bytes];
            program.download(place, &mut bytes).map(|()| bytes)
        };
        let guards = guards.iter().map(&mut guard).collect::<Result<_>>()?;
        let read = |&id: &ValueId| Ok(decode(self.spec(id), &program.read(program.bytes(self.name(id))?)?));
        let results = self.results.iter().map(read).collect::<Result<_>>()?;
        Ok((results, guards))
    }

    fn name(&self, id: ValueId) -> &str {
        &self.graph.value(id).name
    }

    fn spec(&self, id: ValueId) -> Spec {
        self.graph.value(id).spec
    }

    fn operands(&self) -> impl Iterator<Item = (&str, Spec, &[f64])> {
        self.sources.iter().map(|(&id, dense)| (self.name(id), self.spec(id), dense.data.as_slice()))
    }

    /// Checks that bytes of nobody are as they were before.
    fn check_hole(&self, bytes: &[u8]) -> Result<()> {
        if bytes.iter().all(|&byte| byte == CANARY) {
            return Ok(());
        }
        Err(Error::shape(self.graph.nodes[self.node].op.kind(), "wrote outside its operands"))
    }
}

/// The bytes of the arena that belong to nobody.
fn holes(plan: &MemoryPlan) -> Vec<Place> {
    let mut places: Vec<Place> =
        plan.entries[0].places().chain(plan.persistent.iter().map(|value| value.place)).collect();
    places.sort_by_key(|place| place.offset);
    let mut holes = Vec::new();
    let mut end = 0;
    for place in places.into_iter().chain([Place { offset: plan.total, bytes: 0 }]) {
        if place.offset > end {
            holes.push(Place { offset: end, bytes: place.offset - end });
        }
        end = end.max(place.end());
    }
    holes
}

fn copy(tape: &mut Tape, id: ValueId, name: String) -> ValueId {
    // Minus zero plus zero is zero: no case depends on the sign of a zero.
    tape.record1(name, Axpy { alpha: 0.0 }, &[id, id]).expect("two alike")
}

/// Numbers as the elements of a tensor.
pub fn encode(spec: Spec, data: &[f64]) -> Vec<u8> {
    match spec.dtype {
        DType::F32 => data.iter().flat_map(|&x| (x as f32).to_ne_bytes()).collect(),
        DType::U8 => data.iter().map(|&x| x as u8).collect(),
        DType::U32 => data.iter().flat_map(|&x| (x as u32).to_ne_bytes()).collect(),
        // By way of fp32, in which the elements of a case are exact: from double precision `half` looks at the upper 32
        // bits alone.
        DType::Bf16 => data.iter().flat_map(|&x| half::bf16::from_f32(x as f32).to_ne_bytes()).collect(),
        DType::F16 => data.iter().flat_map(|&x| half::f16::from_f32(x as f32).to_ne_bytes()).collect(),
    }
}

/// The elements of a tensor as numbers.
pub fn decode(spec: Spec, bytes: &[u8]) -> Vec<f64> {
    let words = || bytes.chunks_exact(4).map(|word| word.try_into().expect("four bytes"));
    let halves = || bytes.chunks_exact(2).map(|half| half.try_into().expect("two bytes"));
    match spec.dtype {
        DType::F32 => words().map(|word| f64::from(f32::from_ne_bytes(word))).collect(),
        DType::U8 => bytes.iter().map(|&x| f64::from(x)).collect(),
        DType::U32 => words().map(|word| f64::from(u32::from_ne_bytes(word))).collect(),
        DType::Bf16 => halves().map(|half| half::bf16::from_ne_bytes(half).to_f64()).collect(),
        DType::F16 => halves().map(|half| half::f16::from_ne_bytes(half).to_f64()).collect(),
    }
}
