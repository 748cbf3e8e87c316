//! One operation in a graph of its own: operands from the case, results as numbers, on any device.

#![allow(dead_code)] // each test binary uses its own part of this module

use std::collections::HashMap;

use gyrus::{
    cpu::Threads,
    graph::{
        Graph, Role, Tape, ValueId,
        reference::{Dense, Precision, evaluate},
    },
    machine::Machine,
    ops::{case::Case, elementwise::Axpy},
    plan::{self, MemoryPlan, Options, Place},
    session::{DeviceSession, Session},
    tensor::{DType, Spec},
};

/// Bytes behind every range that nobody may touch.
const GUARD: usize = 192;
const CANARY: u8 = 0xA5;

/// Where the operands of the node under test come from.
#[derive(Clone, Copy, PartialEq)]
pub enum Operands {
    FromHost,
    /// From nodes that copy, so that they may die in the node under test.
    FromNodes,
}

/// A graph around one case, with its operands.
pub struct Single {
    pub graph: Graph,
    pub sources: HashMap<ValueId, Dense<f64>>,
    pub node: usize,
    pub results: Vec<ValueId>,
}

/// What runs a graph with guard bytes behind every range.
pub trait Device {
    fn run(&mut self, single: &Single) -> Vec<Vec<f64>>;
}

/// The CPU with so many threads.
pub struct Cpu(pub usize);

/// A GPU, real or emulated. It is lent to one session after the other, so that kernels are loaded once.
pub struct Gpu(pub Option<Box<dyn Machine>>);

impl Single {
    pub fn new(case: &Case, operands: Operands, draw: usize) -> Self {
        let mut tape = Tape::new();
        let mut sources = HashMap::new();
        let mut inputs = Vec::new();
        for (index, operand) in case.operands.iter().enumerate() {
            let name = format!("operand.{index}");
            let id = tape.source(&name, operand.spec, Role::Input);
            let data = operand.elements(&format!("{} {name} {draw}", case.name));
            sources.insert(id, Dense { shape: operand.spec.shape, data });
            let copied = operands == Operands::FromNodes && operand.spec.dtype == DType::F32;
            inputs.push(if copied { copy(&mut tape, id, format!("copy.{name}")) } else { id });
        }
        let node = tape.graph().nodes.len();
        let mut results = tape.record_dyn("node", case.op.clone(), &inputs).unwrap();
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

    pub fn reference<T: Precision>(&self) -> Vec<Vec<f64>> {
        let convert =
            |dense: &Dense<f64>| Dense { shape: dense.shape, data: dense.data.iter().map(|&x| T::of(x)).collect() };
        let known = evaluate(&self.graph, self.sources.iter().map(|(&id, dense)| (id, convert(dense))).collect());
        self.results.iter().map(|id| known[id].data.iter().map(|x| x.f64()).collect()).collect()
    }
}

impl Device for Cpu {
    fn run(&mut self, single: &Single) -> Vec<Vec<f64>> {
        let graphs = std::slice::from_ref(&single.graph);
        let plan = plan::plan(graphs, Options { guard: GUARD, ..Options::for_threads(self.0) });
        let mut session = Session::bind_planned(graphs, plan.clone(), Threads::new(self.0));
        // Everything starts as the canary: reading what was never written shows as nonsense, writing outside as a hole.
        session.arena_bytes_mut().fill(CANARY);
        for (name, spec, data) in single.operands() {
            session.bytes_mut(name).copy_from_slice(&encode(spec, data));
        }
        session.run(0);
        single.check_holes(&plan, session.arena_bytes_mut());
        single.results.iter().map(|&id| decode(single.spec(id), session.bytes_mut(single.name(id)))).collect()
    }
}

impl Device for Gpu {
    fn run(&mut self, single: &Single) -> Vec<Vec<f64>> {
        let graphs = std::slice::from_ref(&single.graph);
        let plan = plan::plan(graphs, Options { guard: GUARD, ..Options::for_gpu() });
        let machine = self.0.take().expect("the last run gave the machine back");
        let mut session = DeviceSession::bind_planned(graphs, plan.clone(), machine).unwrap();
        // Only holes and results start as the canary: the emulator itself sees reads of what nobody wrote.
        holes(&plan).into_iter().for_each(|hole| session.fill(hole, CANARY).unwrap());
        for value in plan.persistent.iter().filter(|value| value.role == "outputs") {
            session.fill(value.place, CANARY).unwrap();
        }
        for (name, spec, data) in single.operands() {
            session.write(name, &encode(spec, data)).unwrap();
        }
        session.run(0).unwrap_or_else(|error| panic!("{}: {error}", single.graph.nodes[single.node].op.kind()));
        single.check_holes(&plan, &session.read_arena().unwrap());
        let results = single.results.iter();
        let results =
            results.map(|&id| decode(single.spec(id), &session.read::<u8>(single.name(id)).unwrap())).collect();
        self.0 = Some(session.release().unwrap());
        results
    }
}

impl Single {
    fn name(&self, id: ValueId) -> &str {
        &self.graph.value(id).name
    }

    fn spec(&self, id: ValueId) -> Spec {
        self.graph.value(id).spec
    }

    fn operands(&self) -> impl Iterator<Item = (&str, Spec, &[f64])> {
        self.sources.iter().map(|(&id, dense)| (self.name(id), self.spec(id), dense.data.as_slice()))
    }

    fn check_holes(&self, plan: &MemoryPlan, arena: &[u8]) {
        for hole in holes(plan) {
            let touched = arena[hole.offset..hole.end()].iter().position(|&byte| byte != CANARY);
            assert_eq!(touched, None, "{}: wrote outside its operands", self.graph.nodes[self.node].op.kind());
        }
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
    tape.record1(name, Axpy { alpha: 0.0 }, &[id, id]).unwrap()
}

/// Numbers as the elements of a tensor.
pub fn encode(spec: Spec, data: &[f64]) -> Vec<u8> {
    match spec.dtype {
        DType::F32 => data.iter().flat_map(|&x| (x as f32).to_ne_bytes()).collect(),
        DType::U8 => data.iter().map(|&x| x as u8).collect(),
        DType::U32 => data.iter().flat_map(|&x| (x as u32).to_ne_bytes()).collect(),
        DType::Bf16 => data.iter().flat_map(|&x| half::bf16::from_f64(x).to_ne_bytes()).collect(),
        DType::F16 => data.iter().flat_map(|&x| half::f16::from_f64(x).to_ne_bytes()).collect(),
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

/// Runs a case on the device and asserts that each result is at most twice as far from the truth as plain loops.
pub fn check_against_definition(case: &Case, device: &mut dyn Device) {
    // The worst over several draws: with a few elements, a single draw may be lucky for the yardstick.
    let elements: usize = case.specs().iter().map(|spec| spec.shape.elements()).sum();
    let draws = if elements < 4000 { 16 } else { 1 };
    let outputs = Single::new(case, Operands::FromHost, 0).results.len();
    let (mut allowed, mut error) = (vec![0.0f64; outputs], vec![0.0f64; outputs]);
    for draw in 0..draws {
        let single = Single::new(case, Operands::FromHost, draw);
        let (truth, plain) = (single.reference::<f64>(), single.reference::<f32>());
        for (output, fast) in device.run(&single).into_iter().enumerate() {
            let (truth, plain) = (&truth[output], &plain[output]);
            allowed[output] = allowed[output].max(2.0 * distance(truth, plain) + ulp(truth));
            let distance = distance(truth, &fast);
            error[output] = if distance.is_nan() { f64::INFINITY } else { error[output].max(distance) };
        }
    }
    for (error, allowed) in error.iter().zip(allowed) {
        assert!(*error <= allowed, "{}: error {error:e}, allowed {allowed:e}", case.name);
    }
}

/// Results as bits.
pub fn bits(results: &[Vec<f64>]) -> Vec<Vec<u64>> {
    results.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
}

/// The largest difference.
pub fn distance(truth: &[f64], other: &[f64]) -> f64 {
    truth
        .iter()
        .zip(other)
        .map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() })
        .fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// One unit in the last place of the largest number: what rounding the truth itself may cost.
pub fn ulp(truth: &[f64]) -> f64 {
    truth.iter().fold(0.0, |a: f64, b| a.max(b.abs())) * f64::from(f32::EPSILON)
}
