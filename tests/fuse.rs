//! Merging operations changes passes over memory, and numbers only by rounding.

use std::collections::{BTreeSet, HashMap};

use gyrus::{
    cpu::Threads,
    fuse::{PATTERNS, fuse, fuse_with, passes},
    graph::{
        Graph, Node, Role, Stage, ValueId,
        reference::{Dense, Precision, evaluate},
    },
    lowering::{self, Processor},
    nn::{
        self, Architecture, StepConfig, UNetConfig, initial_parameters, names, record_prediction, record_training,
        record_validation,
    },
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    plan::{self, Options},
    random::Stream,
    rematerialise::{Forgotten, candidates, rematerialise},
    session,
};

/// Three steps of plain gradient descent: nothing divides by a second moment, which would turn the last bits of gradients
/// that are zero by theory into whole steps.
const RULE: Rule = Rule::Sgd { momentum: 0.9, nesterov: false };

fn step(architecture: Architecture, precision: nn::Precision) -> StepConfig {
    let network = UNetConfig {
        architecture,
        resize_factor: 16,
        dropout_rate: 0.3,
        channels: 2,
        classes: 3,
        head_filters: 2,
        precision,
    };
    StepConfig {
        network,
        batch: 1,
        extent: [16, 32, 16],
        loss: LossKind::LogDice,
        optimizer: Optimizer { rule: RULE, clip: 50.0 },
    }
}

/// Training step, validation pass, prediction.
fn program(architecture: Architecture, precision: nn::Precision) -> [Graph; 3] {
    let step = step(architecture, precision);
    [
        record_training(&step).unwrap(),
        record_validation(&step).unwrap(),
        record_prediction(step.network, step.batch, step.extent).unwrap(),
    ]
}

/// The programs in every precision.
fn everything(architecture: Architecture) -> impl Iterator<Item = Graph> {
    let precisions = [nn::Precision::Fp32, nn::Precision::Bf16, nn::Precision::Fp16];
    precisions.into_iter().flat_map(move |precision| program(architecture, precision))
}

fn kinds(graph: &Graph) -> BTreeSet<&'static str> {
    graph.nodes.iter().map(|node| node.op.kind()).collect()
}

/// Random numbers for what the host provides: scales of both signs, variances above zero.
fn sources<T: Precision>(graph: &Graph) -> HashMap<ValueId, Dense<T>> {
    let ids = graph.ids().filter(|&id| graph.value(id).producer.is_none() && graph.value(id).role.is_persistent());
    ids.map(|id| {
        let value = graph.value(id);
        let mut stream = Stream::new(5, &value.name);
        let mut draw = || match value.name.as_str() {
            name if name.contains("labels") => stream.below(3) as f64,
            name if name.ends_with("running_var") => stream.between(0.5, 1.5),
            name if name.contains("norm") && name.ends_with("weight") => stream.between(-1.5, 1.5),
            names::RNG => stream.below(1000) as f64,
            names::HYPER | names::LOSS_SCALE | names::CLASS_WEIGHTS => 1.0,
            _ => stream.between(-0.5, 0.5),
        };
        let data = (0..value.spec.shape.elements()).map(|_| T::of(f64::from(draw() as f32))).collect();
        (id, Dense { shape: value.spec.shape, data })
    })
    .collect()
}

/// What outlives a run of the graph, by name.
fn results<T: Precision>(graph: &Graph) -> Vec<(String, Vec<f64>)> {
    let known = evaluate(graph, sources::<T>(graph));
    let ids = graph.ids().filter(|&id| graph.value(id).role.is_persistent() && known.contains_key(&id));
    ids.map(|id| (graph.value(id).name.clone(), known[&id].data.iter().map(|x| x.f64()).collect())).collect()
}

fn assert_same(what: &str, found: &[(String, Vec<f64>)], expected: &[(String, Vec<f64>)]) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for ((name, found), (other, expected)) in found.iter().zip(expected) {
        assert_eq!(name, other, "{what}: order of values");
        let magnitude = expected.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-9 * magnitude, "{what}: {name}: {a} instead of {b}");
        }
    }
}

#[test]
fn every_pattern_alone_and_all_together_compute_the_same_in_double_precision() {
    for architecture in Architecture::ALL {
        for graph in program(architecture, nn::Precision::Fp32) {
            let expected = results::<f64>(&graph);
            for pattern in PATTERNS {
                let (fused, counts) = fuse_with(&graph, Processor::Cpu { threads: 1 }, &[pattern]);
                if counts[0] > 0 {
                    let what = format!("{architecture}, {} x {}", counts[0], pattern.name);
                    assert_same(&what, &results::<f64>(&fused), &expected);
                    println!("{what}");
                }
            }
            assert_same(
                &format!("{architecture}"),
                &results::<f64>(&fuse(&graph, Processor::Cpu { threads: 1 })),
                &expected,
            );
        }
        let [mixed, ..] = program(architecture, nn::Precision::Bf16);
        let fused = fuse(&mixed, Processor::Cpu { threads: 1 });
        assert_same(&format!("{architecture} in bf16"), &results::<f64>(&fused), &results::<f64>(&mixed));
    }
}

#[test]
fn nothing_that_can_be_merged_is_left_in_any_network() {
    let mergeable = [
        "concat",
        "concat.split",
        "batch_norm",
        "batch_norm.inference",
        "batch_norm.statistics",
        "relu.backward",
        "add",
    ];
    let mut applied = vec![0; PATTERNS.len()];
    for architecture in Architecture::ALL {
        for graph in everything(architecture) {
            let (fused, counts) = fuse_with(&graph, Processor::Cpu { threads: 1 }, &PATTERNS);
            let left: Vec<_> = mergeable.into_iter().filter(|kind| kinds(&fused).contains(kind)).collect();
            assert!(left.is_empty(), "{architecture}: {left:?} are left");
            applied.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            let [before, after] = [&graph, &fused].map(|graph| (passes(graph), graph.traffic()));
            println!("{architecture}: {before:?} -> {after:?} passes and bytes");
            assert!(after.0 < before.0 && after.1 < before.1);
        }
    }
    for (pattern, count) in PATTERNS.iter().zip(applied) {
        assert!(count > 0, "{} is never applied", pattern.name);
    }
}

#[test]
fn names_roles_stages_and_the_order_of_persistent_values_survive() {
    for architecture in Architecture::ALL {
        for graph in everything(architecture) {
            let fused = fuse(&graph, Processor::Cpu { threads: 1 });
            for (id, value) in graph.ids().zip(&graph.values) {
                let other = fused.value(id);
                assert_eq!((&value.name, value.spec, value.role), (&other.name, other.spec, other.role));
                assert_eq!(value.updates, other.updates);
                assert!(!value.role.is_persistent() || value.producer.is_some() == other.producer.is_some());
            }
            for id in fused.ids().filter(|id| id >= &graph.ids().last().unwrap()).skip(1) {
                assert_eq!(fused.value(id).role, Role::Activation);
            }
            let stages: Vec<Stage> = fused.nodes.iter().map(|node| node.stage).collect();
            let rank = |stage: &Stage| *stage as usize;
            assert!(stages.is_sorted_by_key(rank), "{architecture}: stages are mixed");
            let names: BTreeSet<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
            assert!(fused.nodes.iter().all(|node| names.contains(node.name.as_str())), "{architecture}: a new name");
        }
    }
}

#[test]
fn a_fused_graph_can_be_forgotten_and_laid_out() {
    for architecture in Architecture::ALL {
        let graphs =
            program(architecture, nn::Precision::Fp32).map(|graph| fuse(&graph, Processor::Cpu { threads: 1 }));
        let list = candidates(&graphs[0]);
        assert!(list.len() > 15, "{architecture}: only {} values can be computed again", list.len());
        let full = rematerialise(&graphs[0], &Forgotten::shared(list.iter().map(|candidate| candidate.value)));
        assert_same(&format!("{architecture}"), &results::<f64>(&full), &results::<f64>(&graphs[0]));
        let plain = plan::plan(&program(architecture, nn::Precision::Fp32), Options::for_threads(2));
        for graphs in [graphs.to_vec(), vec![full, graphs[1].clone(), graphs[2].clone()]] {
            let planned = plan::plan(&graphs, Options::for_threads(2));
            plan::verify(&graphs, &planned).unwrap();
            assert!(planned.total < plain.total, "{architecture}: {} against {}", planned.total, plain.total);
        }
    }
}

/// Parameters, averages and optimizer state as bits, after three steps on so many threads.
fn train(graph: &Graph, threads: usize) -> Vec<(String, Vec<u32>)> {
    let mut session = session::bind(std::slice::from_ref(graph), Threads::new(threads)).unwrap();
    for (name, values) in initial_parameters(graph, 7) {
        session.set(&name, &values).unwrap();
    }
    let elements = |name: &str| graph.value(graph.find(name).unwrap()).spec.shape.elements();
    session.set(names::CLASS_WEIGHTS, &vec![1.0f32; elements(names::CLASS_WEIGHTS)]).unwrap();
    session.set(names::LOSS_SCALE, &[1.0f32]).unwrap();
    for count in 1..=3u32 {
        let mut stream = Stream::new(u64::from(count), "batch");
        let [images, labels] = [names::IMAGES, names::LABELS].map(&elements);
        let images: Vec<f32> = (0..images).map(|_| stream.between(-1.0, 1.0) as f32).collect();
        session.set(names::IMAGES, &images).unwrap();
        let labels: Vec<u8> = (0..labels).map(|_| stream.below(3) as u8).collect();
        session.set(names::LABELS, &labels).unwrap();
        session.set(names::RNG, &[7, 0, count, 0]).unwrap();
        session.set(names::HYPER, &[1e-2f32, 0.0, 0.0, 1.0]).unwrap();
        session.run(0).unwrap();
    }
    let ids = [Role::Parameter, Role::Running, Role::OptimizerState].map(|role| graph.with_role(role)).concat();
    let mut bits = |name: &str| session.get::<f32>(name).unwrap().iter().map(|x| x.to_bits()).collect();
    ids.iter().map(|&id| (graph.value(id).name.clone(), bits(&graph.value(id).name))).collect()
}

#[test]
fn a_fused_step_has_the_same_bits_on_any_number_of_threads_and_whatever_is_forgotten() {
    for architecture in Architecture::ALL {
        let graph = fuse(&program(architecture, nn::Precision::Fp32)[0], Processor::Cpu { threads: 1 });
        let expected = train(&graph, 1);
        let forgotten = Forgotten::shared(candidates(&graph).iter().map(|candidate| candidate.value));
        for (what, state) in [
            ("two threads", train(&graph, 2)),
            ("three threads", train(&graph, 3)),
            ("everything forgotten", train(&rematerialise(&graph, &forgotten), 2)),
        ] {
            for ((name, bits), (_, expected)) in state.iter().zip(&expected) {
                assert_eq!(bits, expected, "{architecture}, {what}: {name}");
            }
        }
    }
}

#[test]
fn a_graph_for_a_gpu_gains_nothing_that_has_no_kernel() {
    let without = |graph: &Graph| -> BTreeSet<String> {
        let is_missing = |node: &&Node| lowering::refusal(&*node.op, &graph.specs(&node.inputs)).is_some();
        graph.nodes.iter().filter(is_missing).map(|node| node.name.clone()).collect()
    };
    for architecture in Architecture::ALL {
        for graph in everything(architecture) {
            let (before, after) = (without(&graph), without(&fuse(&graph, Processor::Gpu)));
            assert!(after.is_subset(&before), "{architecture}: {:?}", after.difference(&before));
        }
    }
}
