//! Every case of every operation: the CPU against the definition, gradients against central differences, the same bits
//! twice and for any number of threads, and nothing written outside the outputs.

use std::{collections::HashMap, sync::Arc};

use gyrus::{
    graph::{
        Graph, Role, Tape, ValueId, differentiate,
        reference::{Dense, evaluate},
    },
    ops::{case::Case, catalogue, elementwise::Add},
    plan::{self, Options},
    random::Stream,
    selftest::{Cpu, Operands, Single},
    tensor::DType,
};

mod common;
use common::single::{bits, can_work_in_place, check_against_definition, check_casts};

#[test]
fn the_catalogue_names_every_case_once() {
    let mut names: Vec<String> = catalogue().into_iter().map(|case| case.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    let of = |dtype: DType| catalogue().iter().filter(|case| case.dtype() == dtype).count();
    let (fp32, bf16, fp16) = (of(DType::F32), of(DType::Bf16), of(DType::F16));
    assert!(fp32 > 150 && bf16 > 130 && bf16 == fp16, "{fp32} fp32, {bf16} bf16 and {fp16} fp16 cases");
    println!("{count} cases in the catalogue: {fp32} fp32, {bf16} bf16, {fp16} fp16");
}

#[test]
fn cpu_results_are_at_most_twice_as_far_from_the_truth_as_plain_loops() {
    catalogue().iter().for_each(|case| check_against_definition(case, &mut Cpu(2)));
}

#[test]
fn casts_round_each_element_to_the_nearest_on_the_cpu() {
    check_casts(&mut Cpu(2));
}

#[test]
fn cpu_results_have_the_same_bits_twice_and_for_any_number_of_threads() {
    for case in catalogue() {
        let single = Single::new(&case, Operands::FromHost, 0);
        let bits = |threads| bits(&mut Cpu(threads), &single);
        let first = bits(2);
        assert_eq!(first, bits(2), "{}: a second run", case.name);
        assert_eq!(first, bits(1), "{}: one thread", case.name);
        assert_eq!(first, bits(3), "{}: three threads", case.name);
    }
}

#[test]
fn working_in_place_changes_no_bit() {
    let mut tried = 0;
    for case in catalogue().into_iter().filter(can_work_in_place) {
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
        assert_eq!(bits(&mut Cpu(2), &apart), bits(&mut Cpu(2), &together), "{}", case.name);
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
    let pairs = differentiate(&mut tape, &seeds, &(Arc::new(Add) as _)).unwrap();
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
