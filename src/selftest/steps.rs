//! Judges whole training steps on a machine: as near to the truth as plain loops are, and the same bits however they are
//! started: kernel by kernel or captured, with batches that come in time or ahead of time.

use std::{collections::HashMap, panic::resume_unwind, thread, time::Instant};

use super::{Outcome, distance, encode};
use crate::{
    Result,
    fuse::Fuse,
    graph::{
        Graph, Role, Value, ValueId,
        reference::{self, Dense, evaluate, evaluate_on},
    },
    lowering::{self, Processor},
    machine::{Machine, TensorCores},
    nn::{Architecture, Precision, StepConfig, UNetConfig, initial_parameters, names},
    ops::{
        augment,
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    random::Stream,
    session::{self, Target},
    tensor::{DType, Spec},
    train::budget::Run,
};

const STEPS: usize = 3;
const CLASSES: usize = 3;

/// How the steps are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Kernel by kernel, each batch when its step begins.
    Launched,
    /// As recordings.
    Captured,
    /// As recordings, each batch while the step before is under way.
    Ahead,
}

/// A training run of a few steps that is small enough for plain loops: its graph, and what the host writes.
#[derive(Debug)]
pub struct Steps {
    /// A step as it is recorded: what the definition follows.
    pub recorded: Graph,
    /// The same step as a GPU runs it.
    pub graph: Graph,
    /// What is there before the first step, by name: everything that no node makes.
    pub initial: Written,
    /// What the host writes for each step.
    pub batches: Vec<Written>,
}

/// Values of the graph by name. Those named `images` and `labels` are written ahead where that is tried.
pub type Written = HashMap<String, Vec<f64>>;

/// What a run leaves: the fp32 values that survive it, by name.
pub type State = HashMap<String, Vec<f32>>;

impl Steps {
    /// A small network of an architecture, on 16 x 16 x 16 voxels.
    ///
    /// # Errors
    /// None that a tested build has.
    pub fn new(architecture: Architecture, precision: Precision) -> Result<Self> {
        let of_size = UNetConfig { resize_factor: 16, channels: 2, classes: CLASSES, ..UNetConfig::default() };
        let network = UNetConfig { architecture, precision, ..of_size };
        // Momentum alone: Adam would blow the noise of vanishing gradients up to whole steps.
        let optimizer = Optimizer { rule: Rule::Sgd { momentum: 0.9, nesterov: true }, clip: 50.0 };
        let training = StepConfig { network, batch: 1, extent: [16; 3], loss: LossKind::LogDice, optimizer };
        let run = Run { training, validation_batch: 1, fuse: Fuse::Auto };
        let (recorded, graph) = (run.graphs()?.swap_remove(0), run.graphs_for(Processor::Gpu)?.swap_remove(0));
        let mut initial = initially(&recorded, 3);
        initial.insert(names::CLASS_WEIGHTS.to_owned(), vec![0.5, 1.0, 2.0]);
        // Small steps: the coarsest level has one voxel, and without a variance to divide by, gradients are huge.
        let scale = if precision.scales_loss() { 1024.0 } else { 1.0 };
        initial.insert(names::HYPER.to_owned(), vec![1e-4, 0.0, 0.0, 1.0 / scale]);
        initial.insert(names::LOSS_SCALE.to_owned(), vec![scale]);
        let batch = |step: usize| {
            let draw = |name: &str, of: &dyn Fn(&mut Stream) -> f64| {
                let mut stream = Stream::new(step as u64, name);
                let elements = recorded.find(name).map_or(0, |id| recorded.value(id).spec.shape.elements());
                (name.to_owned(), (0..elements).map(|_| of(&mut stream)).collect())
            };
            HashMap::from([
                draw(names::IMAGES, &|stream| stream.normal()),
                draw(names::LABELS, &|stream| stream.below(CLASSES) as f64),
                (names::RNG.to_owned(), vec![5.0, 0.0, step as f64, 0.0]),
            ])
        };
        let batches = (0..STEPS).map(batch).collect();
        Ok(Self { recorded, graph, initial, batches })
    }

    /// The steps on a machine, which comes back.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run(&self, start: Start, machine: Box<dyn Machine>) -> Result<(Box<dyn Machine>, State)> {
        let mut program = session::bind(std::slice::from_ref(&self.graph), machine)?;
        for (name, data) in &self.initial {
            program.write(program.bytes(name)?, &encode(self.spec(name), data))?;
        }
        // The images are what the definition reads: nothing is to be done to them.
        if program.has(names::NUMBERS) {
            let volume = self.spec(names::IMAGES).shape.volume().expect("images have five axes");
            program.set(names::NUMBERS, &augment::layout(volume).identity(volume.extent).repeat(volume.n))?;
        }
        let is_volume = |name: &str| name == names::IMAGES || name == names::LABELS;
        let is_ahead = |name: &str| start == Start::Ahead && is_volume(name);
        for (step, batch) in self.batches.iter().enumerate() {
            for (name, data) in batch {
                let (slot, bytes) = (program.bytes(name)?, encode(self.spec(name), data));
                match is_ahead(name) {
                    false => program.write(slot, &bytes)?,
                    true if step == 0 => program.write_ahead(slot, &bytes)?,
                    true => {}
                }
            }
            match start {
                Start::Launched => program.run(0)?,
                Start::Captured | Start::Ahead => program.run_captured(0)?,
            }
            for (name, data) in self.batches.iter().skip(step + 1).take(1).flatten() {
                if is_ahead(name) {
                    program.write_ahead(program.bytes(name)?, &encode(self.spec(name), data))?;
                }
            }
        }
        let names: Vec<String> = self.kept().map(|value| value.name.clone()).collect();
        let state = names.into_iter().map(|name| Ok((name.clone(), program.get::<f32>(&name)?)));
        let state = state.collect::<Result<State>>()?;
        match program.release()? {
            Target::Machine(machine) => Ok((machine, state)),
            Target::Cpu(_) => unreachable!("it was bound to a machine"),
        }
    }

    /// The steps by definition: the fp32 values that survive them.
    pub fn by_definition<T: reference::Precision>(&self) -> HashMap<String, Vec<f64>> {
        self.by_evaluating::<T>(evaluate)
    }

    fn by_evaluating<T: reference::Precision>(
        &self,
        evaluate: impl Fn(&Graph, HashMap<ValueId, Dense<T>>) -> HashMap<ValueId, Dense<T>>,
    ) -> HashMap<String, Vec<f64>> {
        let mut known: HashMap<ValueId, Dense<T>> = HashMap::new();
        let dense = |name: &str, data: &[f64]| {
            let data = data.iter().map(|&x| T::of(x)).collect();
            Dense { shape: self.spec(name).shape, data }
        };
        let graph = &self.recorded;
        let id = |name: &str| graph.find(name).expect("names come from the graph");
        for (name, data) in &self.initial {
            known.insert(id(name), dense(name, data));
        }
        let mut results = HashMap::new();
        for batch in &self.batches {
            for (name, data) in batch {
                known.insert(id(name), dense(name, data));
            }
            let found = evaluate(graph, known.clone());
            for output in graph.nodes.iter().flat_map(|node| node.outputs.iter().copied()) {
                let origin = graph.origin(output);
                if graph.value(output).role.is_persistent() {
                    let data = found[&output].data.iter().map(|x| x.f64()).collect();
                    results.insert(graph.value(origin).name.clone(), data);
                }
                if graph.value(output).updates.is_some() {
                    known.insert(origin, found[&output].clone());
                }
            }
        }
        results
    }

    /// How near a run came to the truth, by the rule, as a share of the largest number of each role: a tensor whose true
    /// value is nothing has no scale of its own. Share, error and what is allowed, of the worst role. What the state lacks
    /// is not looked at. Plain loops run on these tensor cores.
    pub fn judge(&self, state: &State, cores: TensorCores) -> (f64, f64, f64) {
        let (truth, plain) = thread::scope(|scope| {
            let truth = scope.spawn(|| self.by_definition::<f64>());
            let plain = self.by_evaluating(|graph, sources| evaluate_on(cores, graph, sources));
            (truth.join().unwrap_or_else(|panic| resume_unwind(panic)), plain)
        });
        let widen = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| f64::from(x)).collect() };
        let mut worst = (0.0, 0.0, 0.0);
        for role in [Role::Parameter, Role::OptimizerState, Role::Running, Role::Output] {
            let is_meant = |value: &&Value| value.role == role && state.contains_key(&value.name);
            let names = || self.kept().filter(is_meant);
            let scale = names().flat_map(|value| &truth[&value.name]).fold(f64::MIN_POSITIVE, |a, b| a.max(b.abs()));
            let error = |of: &dyn Fn(&str) -> Vec<f64>| -> f64 {
                let errors = names().map(|value| distance(&truth[&value.name], &of(&value.name)) / scale);
                errors.fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
            };
            let allowed = 2.0 * error(&|name| plain[name].clone()) + f64::from(f32::EPSILON);
            let found = error(&|name| widen(&state[name]));
            let share = if found.is_nan() { f64::INFINITY } else { found / allowed };
            if share > worst.0 {
                worst = (share, found, allowed);
            }
        }
        worst
    }

    /// The first value in which two runs differ by a bit.
    pub fn difference(a: &State, b: &State) -> Option<String> {
        let differ = |name: &&String| {
            let bits = |state: &State| -> Vec<u32> { state[*name].iter().map(|x| x.to_bits()).collect() };
            bits(a) != bits(b)
        };
        let mut names: Vec<&String> = a.keys().collect();
        names.sort();
        names.into_iter().find(differ).cloned()
    }

    /// The fp32 values that survive a run.
    fn kept(&self) -> impl Iterator<Item = &Value> {
        let roles = [Role::Parameter, Role::OptimizerState, Role::Running, Role::Output];
        let ids = roles.into_iter().flat_map(|role| self.recorded.with_role(role));
        ids.map(|id| self.recorded.value(id)).filter(|value| value.spec.dtype == DType::F32)
    }

    fn spec(&self, name: &str) -> Spec {
        self.recorded.value(self.recorded.find(name).expect("names come from the graph")).spec
    }

    /// Whether a GPU of this compute capability (times ten) has all kernels.
    fn runs_on(&self, compute: u32) -> bool {
        self.graph.nodes.iter().all(|node| {
            lowering::least_compute(&*node.op, &self.graph.specs(&node.inputs)).is_some_and(|needs| needs <= compute)
        })
    }
}

/// Initial parameters and statistics, a loss scale of one, and zeros: everything that no node makes.
pub fn initially(graph: &Graph, seed: u64) -> Written {
    let parameters = initial_parameters(graph, seed);
    let sources = graph.ids().map(|id| graph.value(id));
    sources
        .filter(|value| value.producer.is_none() && value.role.is_persistent())
        .map(|value| {
            let data = match parameters.get(&value.name) {
                Some(data) => data.iter().map(|&x| f64::from(x)).collect(),
                None if value.name == names::LOSS_SCALE => vec![1.0],
                None => vec![0.0; value.spec.shape.elements()],
            };
            (value.name.clone(), data)
        })
        .collect()
}

/// Runs a few steps of every architecture in fp32, and of the default one in every precision that the machine has and in
/// every way; `observe` gets each outcome as it comes. The machine comes back.
///
/// # Errors
/// If the machine fails.
pub fn run(mut machine: Box<dyn Machine>, observe: &mut dyn FnMut(&Outcome)) -> Result<Box<dyn Machine>> {
    let plain = Architecture::ALL.map(|architecture| (architecture, Precision::Fp32));
    let narrow = [Precision::Bf16, Precision::Fp16].map(|precision| (Architecture::default(), precision));
    for (architecture, precision) in plain.into_iter().chain(narrow) {
        let steps = Steps::new(architecture, precision)?;
        if !steps.runs_on(machine.capabilities().compute) {
            continue;
        }
        let begin = Instant::now();
        let launched;
        (machine, launched) = steps.run(Start::Launched, machine)?;
        let seconds = begin.elapsed().as_secs_f64();
        let (share, error, allowed) = steps.judge(&launched, machine.tensor_cores());
        let case = |how: &str| format!("steps {architecture}{how} {precision}");
        observe(&Outcome { case: case(""), share, error, allowed, seconds });
        if architecture != Architecture::default() {
            continue;
        }
        for (how, start) in [(" again", Start::Launched), (" captured", Start::Captured), (" ahead", Start::Ahead)] {
            let begin = Instant::now();
            let state;
            (machine, state) = steps.run(start, machine)?;
            let seconds = begin.elapsed().as_secs_f64();
            let share = if Steps::difference(&launched, &state).is_some() { f64::INFINITY } else { 0.0 };
            observe(&Outcome { case: case(how), share, error: share, allowed: 0.0, seconds });
        }
    }
    Ok(machine)
}
