//! Mixed precision over whole training steps: every operation of a real network to the rule, the whole gradient to the
//! rule, losses beside those of fp32, the same bits on any number of threads, and steps that overflow.

mod common;

use std::collections::{BTreeMap, HashMap};

use common::steps::{sources, steps_by_definition};
use gyrus::{
    cpu::Threads,
    fuse::fuse,
    graph::{
        Graph, Role, ValueId,
        reference::{Dense, Precision as _},
    },
    lowering::Processor,
    nn::{Architecture, Precision, StepConfig, UNetConfig, names, record_training},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    optim::OptimizerState,
    random::Stream,
    selftest::{decode, distance},
    session::{self, Program},
    tensor::DType,
};

const EXTENT: [usize; 3] = [16; 3];
const ADAM: Rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: false };
const NARROW: [Precision; 2] = [Precision::Bf16, Precision::Fp16];
/// Of fp16 in the tests that do not ask for an overflow.
const SCALE: f32 = 1024.0;

fn record(architecture: Architecture, precision: Precision) -> Graph {
    let network =
        UNetConfig { architecture, resize_factor: 16, channels: 2, classes: 3, precision, ..UNetConfig::default() };
    let optimizer = Optimizer { rule: ADAM, clip: 50.0 };
    record_training(&StepConfig { network, batch: 1, extent: EXTENT, loss: LossKind::LogDice, optimizer }).unwrap()
}

fn scale(precision: Precision) -> f32 {
    if precision == Precision::Fp16 { SCALE } else { 1.0 }
}

/// Where a step starts from.
fn start(graph: &Graph, precision: Precision) -> HashMap<String, Vec<u8>> {
    let scale = f64::from(scale(precision));
    sources(graph, OptimizerState::default().advance_exactly(&ADAM, 1e-4, scale), scale)
}

fn bind(graph: &Graph, sources: &HashMap<String, Vec<u8>>, threads: usize) -> Box<dyn Program> {
    let mut session = session::bind(std::slice::from_ref(graph), Threads::new(threads)).unwrap();
    sources.iter().for_each(|(name, bytes)| session.write(session.bytes(name).unwrap(), bytes).unwrap());
    session
}

#[test]
fn activations_are_16_bits_wide_and_what_survives_a_step_is_fp32() {
    for (precision, narrow) in [(Precision::Bf16, DType::Bf16), (Precision::Fp16, DType::F16)] {
        for architecture in Architecture::ALL {
            let graph = record(architecture, precision);
            for value in &graph.values {
                let is_volume = value.spec.shape.extents().len() == 5;
                let is_cast = value.name.ends_with(".cast");
                let expected = match value.role {
                    Role::Activation if is_volume || is_cast => narrow,
                    Role::Batch if value.name == names::LABELS => DType::U8,
                    Role::Input if value.name == names::RNG => DType::U32,
                    Role::Output if value.name == names::OVERFLOW => DType::U32,
                    _ => DType::F32,
                };
                assert_eq!(value.spec.dtype, expected, "{architecture} {precision}: {}", value.name);
            }
            assert_eq!(graph.find(names::OVERFLOW).is_some(), precision == Precision::Fp16);
        }
    }
}

#[test]
fn every_operation_of_a_step_is_as_near_to_the_truth_as_plain_loops_on_the_networks_own_numbers() {
    for precision in NARROW {
        for architecture in Architecture::ALL {
            let graph = record(architecture, precision);
            check_every_node(architecture, precision, fuse(&graph, Processor::Cpu { threads: 1 }));
            check_every_node(architecture, precision, graph);
        }
    }
}

/// Runs a step that keeps all of its values, and judges every node by its definition on the values that it read.
fn check_every_node(architecture: Architecture, precision: Precision, mut graph: Graph) {
    for (index, value) in graph.values.iter_mut().enumerate() {
        if value.role == Role::Activation && value.producer.is_some() {
            (value.role, value.name) = (Role::Output, format!("kept.{index}.{}", value.name));
        }
    }
    let sources = start(&graph, precision);
    let mut session = bind(&graph, &sources, 2);
    session.run(0).unwrap();
    let dense = |session: &mut dyn Program, id: ValueId| -> Dense<f64> {
        let value = graph.value(id);
        // What the host gave; updates come later in the step than whoever reads it.
        let given = value.producer.is_none().then(|| sources[&value.name].clone());
        let bytes = given.unwrap_or_else(|| bytes_of(session, &value.name));
        Dense { shape: value.spec.shape, data: decode(value.spec, &bytes) }
    };
    // A single result can be near to the truth by luck, so the rule is applied to the worst of each kind, as a share of the
    // largest number of each result.
    let mut worst: BTreeMap<(&str, usize), [f64; 2]> = BTreeMap::new();
    for node in &graph.nodes {
        let inputs: Vec<Dense<f64>> = node.inputs.iter().map(|&id| dense(&mut *session, id)).collect();
        let narrow = |input: &Dense<f64>| Dense {
            shape: input.shape,
            data: input.data.iter().map(|&x| x as f32).collect::<Vec<f32>>(),
        };
        let narrowed: Vec<Dense<f32>> = inputs.iter().map(narrow).collect();
        let specs = graph.specs(&node.outputs);
        let (op, of) = (&*node.op, graph.specs(&node.inputs));
        let (truth, plain) = (f64::call_of(op, &inputs, &of, &specs), f32::call_of(op, &narrowed, &of, &specs));
        for (output, (truth, plain)) in truth.iter().zip(&plain).enumerate() {
            let fast = dense(&mut *session, node.outputs[output]);
            let plain: Vec<f64> = plain.data.iter().map(|&x| f64::from(x)).collect();
            let largest = truth.data.iter().fold(f64::MIN_POSITIVE, |a, b| a.max(b.abs()));
            let errors = [distance(&truth.data, &plain) / largest, distance(&truth.data, &fast.data) / largest];
            assert!(errors[1].is_finite(), "{architecture} {precision} {}: not a number", node.name);
            let worst = worst.entry((node.op.kind(), output)).or_default();
            worst.iter_mut().zip(errors).for_each(|(worst, error)| *worst = worst.max(error));
        }
    }
    for ((kind, output), [plain, fast]) in &worst {
        let allowed = 2.0 * plain + f64::from(f32::EPSILON);
        let what = format!("{architecture} {precision} {kind}, result {output}");
        assert!(*fast <= allowed, "{what}: error {fast:e}, allowed {allowed:e}");
    }
    assert!(worst.len() > 20, "only {} kinds of results", worst.len());
}

#[test]
fn the_gradient_of_a_step_is_as_near_to_the_truth_as_plain_loops_in_every_architecture() {
    for precision in NARROW {
        for architecture in Architecture::ALL {
            let graph = record(architecture, precision);
            let sources = start(&graph, precision);
            let truth = steps_by_definition::<f64>(&graph, &sources, 1);
            let plain = steps_by_definition::<f32>(&graph, &sources, 1);
            for (how, graph) in [("merged", fuse(&graph, Processor::Cpu { threads: 1 })), ("as recorded", graph)] {
                let mut session = bind(&graph, &sources, 2);
                session.run(0).unwrap();
                // The whole gradient as one vector: its length does not hang on single elements that rounding tips.
                let (mut length, mut of_plain, mut of_fast) = (0.0, 0.0, 0.0);
                for id in graph.ids().filter(|&id| matches!(graph.value(id).role, Role::Gradient(_))) {
                    let value = graph.value(id);
                    let fast = decode(value.spec, &bytes_of(&mut *session, &value.name));
                    for ((t, p), f) in truth[&id].iter().zip(&plain[&id]).zip(fast) {
                        length += t * t;
                        of_plain += (t - p).powi(2);
                        of_fast += (t - f).powi(2);
                    }
                }
                let [plain, fast] = [of_plain, of_fast].map(|sum| f64::sqrt(sum / length));
                println!(
                    "{architecture} {precision}, {how}: error of the gradient {fast:.3}, of plain loops {plain:.3}"
                );
                assert!(fast <= 2.0 * plain, "{architecture} {precision}, {how}: error {fast}, of plain loops {plain}");
            }
        }
    }
}

#[test]
fn twenty_steps_in_16_bits_have_losses_within_a_tenth_of_those_in_fp32() {
    for architecture in Architecture::ALL {
        let fp32 = losses(architecture, Precision::Fp32);
        for precision in NARROW {
            let losses = losses(architecture, precision);
            let worst = losses.iter().zip(&fp32).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{architecture} {precision}: off by {worst:.4}, {:.4} to {:.4}", losses[0], losses[19]);
            assert!(worst <= 0.1 * fp32[0], "{architecture} {precision}: {losses:?} against {fp32:?}");
            assert!(losses[19] <= 0.85 * losses[0], "{architecture} {precision}: {losses:?} do not fall");
        }
    }
}

/// The losses of twenty steps on two nested balls in noise.
fn losses(architecture: Architecture, precision: Precision) -> Vec<f32> {
    let graph = record(architecture, precision);
    let mut session = bind(&graph, &start(&graph, precision), 2);
    let mut stream = Stream::new(8, "balls");
    let [_, h, w] = EXTENT;
    let (mut labels, mut images) = (Vec::new(), Vec::new());
    for voxel in 0..EXTENT.iter().product() {
        let at = [voxel / (h * w), voxel / w % h, voxel % w].map(|axis| axis as f64);
        let radius = at.iter().zip([6.5, 8.0, 9.0]).map(|(a, centre)| (a - centre).powi(2)).sum::<f64>().sqrt();
        let label = u8::from(radius < 6.0) + u8::from(radius < 3.0);
        labels.push(label);
        images.extend([(); 2].map(|()| (f64::from(label) - 0.5 + 0.5 * stream.normal()) as f32));
    }
    session.set(names::LABELS, &labels).unwrap();
    session.set(names::IMAGES, &images).unwrap();
    let mut state = OptimizerState::default();
    let step = |step| {
        session.set(names::HYPER, &state.advance(&ADAM, 2e-3, f64::from(scale(precision)))).unwrap();
        if session.has(names::RNG) {
            let mut rng = session.get::<u32>(names::RNG).unwrap();
            rng[2] = step;
            session.set(names::RNG, &rng).unwrap();
        }
        session.run(0).unwrap();
        session.get::<f32>(names::LOSS).unwrap()[0]
    };
    (0..20).map(step).collect()
}

#[test]
fn a_step_in_16_bits_has_the_same_bits_on_one_two_and_three_threads() {
    for precision in NARROW {
        for architecture in Architecture::ALL {
            let graph = fuse(&record(architecture, precision), Processor::Cpu { threads: 1 });
            let sources = start(&graph, precision);
            let run = |threads| {
                let mut session = bind(&graph, &sources, threads);
                (0..2).for_each(|_| session.run(0).unwrap());
                all_bytes(&mut *session)
            };
            let first = run(1);
            assert!(first == run(2), "{architecture} {precision}: two threads");
            assert!(first == run(3), "{architecture} {precision}: three threads");
        }
    }
}

#[test]
fn a_step_whose_gradients_overflow_changes_no_weight_and_no_state_and_the_next_one_does() {
    let graph = record(Architecture::default(), Precision::Fp16);
    let sources = start(&graph, Precision::Fp16);
    let mut session = bind(&graph, &sources, 2);
    let is_kept = |name: &str| {
        let role = graph.value(graph.find(name).unwrap()).role;
        matches!(role, Role::Parameter | Role::OptimizerState)
    };
    let kept = |session: &mut dyn Program| -> BTreeMap<String, Vec<u8>> {
        all_bytes(session).into_iter().filter(|(name, _)| is_kept(name)).collect()
    };
    let before = kept(&mut *session);
    let far_too_large = 1e20f32;
    session.set(names::LOSS_SCALE, &[far_too_large]).unwrap();
    session.run(0).unwrap();
    assert_eq!(session.get::<u32>(names::OVERFLOW).unwrap(), [1]);
    assert!(session.get::<f32>(names::LOSS).unwrap()[0].is_finite());
    assert!(kept(&mut *session) == before, "a skipped step changed something");

    session.set(names::LOSS_SCALE, &[SCALE]).unwrap();
    session.run(0).unwrap();
    assert_eq!(session.get::<u32>(names::OVERFLOW).unwrap(), [0]);
    let after = kept(&mut *session);
    let unchanged: Vec<&String> =
        after.iter().filter(|(name, bytes)| before[*name] == **bytes).map(|(n, _)| n).collect();
    // Gradients that are exactly zero move nothing: those of the coarsest level, whose norms see a single voxel.
    assert!(unchanged.iter().all(|name| name.contains("encoder.5") || name.contains("decoder.4")), "{unchanged:?}");
}

fn bytes_of(session: &mut dyn Program, name: &str) -> Vec<u8> {
    session.read(session.bytes(name).unwrap()).unwrap()
}

/// All persistent values by name.
fn all_bytes(session: &mut dyn Program) -> BTreeMap<String, Vec<u8>> {
    let names: Vec<String> = session.persistent().map(|(name, _)| name.to_owned()).collect();
    names.into_iter().map(|name| (name.clone(), bytes_of(session, &name))).collect()
}
