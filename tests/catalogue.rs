//! Every case of every operation: the CPU against the definition, gradients against central differences, the same bits
//! twice and for any number of threads, and nothing written outside the outputs.

use std::collections::HashMap;

use gyrus::{
    cpu::Threads,
    graph::{
        Graph, Role, Tape, ValueId, differentiate,
        reference::{Dense, Precision, evaluate},
    },
    ops::{case::Case, catalogue, elementwise::Axpy},
    plan::{self, Options},
    random::Stream,
    session::Session,
    tensor::{DType, Spec},
};

/// Bytes behind every range that nobody may touch.
const GUARD: usize = 192;
const CANARY: u8 = 0xA5;

#[test]
fn the_catalogue_names_every_case_once() {
    let mut names: Vec<String> = catalogue().into_iter().map(|case| case.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count > 150, "{count} cases");
    println!("{count} cases in the catalogue");
}

#[test]
fn cpu_results_are_at_most_twice_as_far_from_the_truth_as_plain_loops() {
    for case in catalogue() {
        // The worst over several draws: with a few elements, a single draw may be lucky for the yardstick.
        let elements: usize = case.specs().iter().map(|spec| spec.shape.elements()).sum();
        let draws = if elements < 4000 { 16 } else { 1 };
        let outputs = Single::new(&case, Operands::FromHost, 0).results.len();
        let (mut allowed, mut error) = (vec![0.0f64; outputs], vec![0.0f64; outputs]);
        for draw in 0..draws {
            let single = Single::new(&case, Operands::FromHost, draw);
            let (truth, plain) = (single.reference::<f64>(), single.reference::<f32>());
            for (output, fast) in single.run(2).into_iter().enumerate() {
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
}

#[test]
fn cpu_results_have_the_same_bits_twice_and_for_any_number_of_threads() {
    for case in catalogue() {
        let single = Single::new(&case, Operands::FromHost, 0);
        let bits = |threads| -> Vec<Vec<u64>> {
            single.run(threads).iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
        };
        let first = bits(2);
        assert_eq!(first, bits(2), "{}: a second run", case.name);
        assert_eq!(first, bits(1), "{}: one thread", case.name);
        assert_eq!(first, bits(3), "{}: three threads", case.name);
    }
}

#[test]
fn working_in_place_changes_no_bit() {
    let mut tried = 0;
    for case in catalogue().into_iter().filter(|case| !case.op.in_place().is_empty()) {
        let apart = Single::new(&case, Operands::FromHost, 0);
        let together = Single::new(&case, Operands::FromNodes, 0);
        let plan = plan::plan(std::slice::from_ref(&together.graph), Options::for_threads(2));
        let node = &together.graph.nodes[together.node];
        let offset = |id: ValueId| plan.entries[0].offset(id);
        let shared = case
            .op
            .in_place()
            .iter()
            .any(|&(input, output)| offset(node.inputs[input]) == offset(node.outputs[output]));
        assert!(shared, "{}: the planner does not work in place", case.name);
        assert_eq!(apart.run(2), together.run(2), "{}", case.name);
        tried += 1;
    }
    assert!(tried >= 20, "only {tried} cases can work in place");
}

#[test]
fn recorded_gradients_are_the_central_differences_of_the_definition() {
    let mut checked = 0;
    for case in catalogue().into_iter().filter(|case| !case.seeded.is_empty()) {
        let (graph, sources, parameters) = with_gradient(&case);
        let known = evaluate(&graph, sources.clone());
        let outputs = &graph.nodes[0].outputs;
        let objective = |moved: HashMap<ValueId, Dense<f64>>| -> f64 {
            let inputs: Vec<_> = graph.nodes[0].inputs.iter().map(|id| moved[id].clone()).collect();
            let results = case.op.reference64(&inputs, &graph.specs(outputs));
            let seeds = case.seeded.iter().map(|&output| &sources[&seed_of(&graph, output)]);
            case.seeded.iter().zip(seeds).map(|(&output, seed)| dot(&results[output].data, &seed.data)).sum()
        };
        for (parameter, gradient) in parameters {
            // Big operands are checked along three random directions, small ones along every axis as well.
            let length = known[&parameter].data.len();
            let mut directions: Vec<Vec<f64>> = (0..3)
                .map(|index| {
                    let mut stream = Stream::new(index, &case.name);
                    (0..length).map(|_| stream.normal()).collect()
                })
                .collect();
            if length <= 24 {
                directions
                    .extend((0..length).map(|axis| (0..length).map(|i| f64::from(u8::from(i == axis))).collect()));
            }
            for direction in directions {
                let norm = dot(&direction, &direction).sqrt();
                let step = 1e-5 / norm.max(1.0);
                let at = |sign: f64| {
                    let mut moved = sources.clone();
                    let operand = moved.get_mut(&parameter).unwrap();
                    operand.data.iter_mut().zip(&direction).for_each(|(x, d)| *x += sign * step * d);
                    objective(moved)
                };
                let numeric = (at(1.0) - at(-1.0)) / (2.0 * step);
                let recorded = dot(&known[&gradient].data, &direction);
                // Central differences are off by step^2 times the third derivative, and by rounding over the step.
                let scale = recorded.abs().max(dot(&known[&gradient].data, &known[&gradient].data).sqrt()).max(1.0);
                assert!((numeric - recorded).abs() <= 2e-6 * scale, "{}: {numeric} against {recorded}", case.name);
                checked += 1;
            }
        }
    }
    assert!(checked > 300, "only {checked} derivatives were checked");
    println!("{checked} directional derivatives checked");
}

/// Where the operands of the node under test come from.
#[derive(Clone, Copy, PartialEq)]
enum Operands {
    FromHost,
    /// From nodes that copy, so that they may die in the node under test.
    FromNodes,
}

/// A graph around one case, with its operands.
struct Single {
    graph: Graph,
    sources: HashMap<ValueId, Dense<f64>>,
    node: usize,
    results: Vec<ValueId>,
}

impl Single {
    fn new(case: &Case, operands: Operands, draw: usize) -> Self {
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

    fn reference<T: Precision>(&self) -> Vec<Vec<f64>> {
        let convert =
            |dense: &Dense<f64>| Dense { shape: dense.shape, data: dense.data.iter().map(|&x| T::of(x)).collect() };
        let known = evaluate(&self.graph, self.sources.iter().map(|(&id, dense)| (id, convert(dense))).collect());
        self.results.iter().map(|id| known[id].data.iter().map(|x| x.f64()).collect()).collect()
    }

    /// Runs on the CPU with guard bytes behind every range; the results as numbers.
    fn run(&self, threads: usize) -> Vec<Vec<f64>> {
        let graphs = std::slice::from_ref(&self.graph);
        let plan = plan::plan(graphs, Options { guard: GUARD, ..Options::for_threads(threads) });
        let mut session = Session::bind_planned(graphs, plan.clone(), Threads::new(threads));
        let mut content = vec![false; session.arena_bytes()];
        let places = plan.entries[0].places().chain(plan.persistent.iter().map(|value| value.place));
        places.for_each(|place| content[place.offset..place.end()].fill(true));
        // Everything starts as the canary: reading what was never written shows as nonsense, writing outside as a hole.
        session.arena_bytes_mut().fill(CANARY);
        for (&id, dense) in &self.sources {
            write(&mut session, &self.graph.value(id).name, self.graph.value(id).spec, &dense.data);
        }
        session.run(0);
        let touched =
            session.arena_bytes_mut().iter().zip(&content).position(|(&byte, &inside)| !inside && byte != CANARY);
        assert_eq!(touched, None, "{}: wrote outside its operands", self.graph.nodes[self.node].op.kind());
        self.results
            .iter()
            .map(|&id| read(&mut session, &self.graph.value(id).name, self.graph.value(id).spec))
            .collect()
    }
}

fn copy(tape: &mut Tape, id: ValueId, name: String) -> ValueId {
    // Minus zero plus zero is zero: no case depends on the sign of a zero.
    tape.record1(name, Axpy { alpha: 0.0 }, &[id, id]).unwrap()
}

fn write(session: &mut Session, name: &str, spec: Spec, data: &[f64]) {
    match spec.dtype {
        DType::F32 => session.f32_mut(name).iter_mut().zip(data).for_each(|(to, &x)| *to = x as f32),
        DType::U8 => session.u8_mut(name).iter_mut().zip(data).for_each(|(to, &x)| *to = x as u8),
        DType::U32 => session.u32_mut(name).iter_mut().zip(data).for_each(|(to, &x)| *to = x as u32),
        DType::Bf16 => {
            let words: &mut [u16] = bytemuck::cast_slice_mut(session.bytes_mut(name));
            words.iter_mut().zip(data).for_each(|(to, &x)| *to = half::bf16::from_f64(x).to_bits());
        }
        DType::F16 => {
            let words: &mut [u16] = bytemuck::cast_slice_mut(session.bytes_mut(name));
            words.iter_mut().zip(data).for_each(|(to, &x)| *to = half::f16::from_f64(x).to_bits());
        }
    }
}

fn read(session: &mut Session, name: &str, spec: Spec) -> Vec<f64> {
    let bytes = session.bytes_mut(name);
    match spec.dtype {
        DType::F32 => bytemuck::cast_slice::<u8, f32>(bytes).iter().map(|&x| f64::from(x)).collect(),
        DType::U8 => bytes.iter().map(|&x| f64::from(x)).collect(),
        DType::U32 => bytemuck::cast_slice::<u8, u32>(bytes).iter().map(|&x| f64::from(x)).collect(),
        DType::Bf16 => {
            bytemuck::cast_slice::<u8, u16>(bytes).iter().map(|&x| half::bf16::from_bits(x).to_f64()).collect()
        }
        DType::F16 => {
            bytemuck::cast_slice::<u8, u16>(bytes).iter().map(|&x| half::f16::from_bits(x).to_f64()).collect()
        }
    }
}

/// The case with its derivative recorded: graph, sources, and pairs (operand, gradient).
#[expect(clippy::type_complexity, reason = "three results of one helper")]
fn with_gradient(case: &Case) -> (Graph, HashMap<ValueId, Dense<f64>>, Vec<(ValueId, ValueId)>) {
    let mut tape = Tape::new();
    let mut sources = HashMap::new();
    let mut inputs = Vec::new();
    for (index, operand) in case.operands.iter().enumerate() {
        let name = format!("operand.{index}");
        let role = if operand.differentiable { Role::Parameter } else { Role::Input };
        let id = tape.source(&name, operand.spec, role);
        let data = operand.elements(&format!("{} {name}", case.name));
        sources.insert(id, Dense { shape: operand.spec.shape, data });
        inputs.push(id);
    }
    let outputs = tape.record_dyn("node", case.op.clone(), &inputs).unwrap();
    let mut seeds = Vec::new();
    for &output in &case.seeded {
        let spec = tape.graph().value(outputs[output]).spec;
        let seed = tape.source(format!("seed.{output}"), spec, Role::Input);
        let mut stream = Stream::new(17, &case.name);
        let data = (0..spec.shape.elements()).map(|_| stream.between(-1.0, 1.0)).collect();
        sources.insert(seed, Dense { shape: spec.shape, data });
        seeds.push((outputs[output], seed));
    }
    let pairs = differentiate(&mut tape, &seeds).unwrap();
    let expected = case.operands.iter().filter(|operand| operand.differentiable).count();
    assert_eq!(pairs.len(), expected, "{}: an operand without a gradient", case.name);
    (tape.finish(), sources, pairs)
}

fn seed_of(graph: &Graph, output: usize) -> ValueId {
    graph.find(&format!("seed.{output}")).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The largest difference.
fn distance(truth: &[f64], other: &[f64]) -> f64 {
    truth
        .iter()
        .zip(other)
        .map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() })
        .fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// One unit in the last place of the largest number: what rounding the truth itself may cost.
fn ulp(truth: &[f64]) -> f64 {
    truth.iter().fold(0.0, |a: f64, b| a.max(b.abs())) * f64::from(f32::EPSILON)
}
