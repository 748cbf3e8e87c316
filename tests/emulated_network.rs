//! Whole training steps on the emulated GPU: as near to the truth as plain loops are, in each architecture; and a captured
//! step has the bits of one that was run launch by launch.

mod common;

use std::collections::HashMap;

use common::steps::{sources, steps_by_definition};
use gyrus::{
    cpu::Threads,
    graph::{Graph, Role},
    machine::Emulated,
    nn::{Architecture, StepConfig, UNetConfig, names, record_training},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    selftest::distance,
    session::{self, Program, Target},
    tensor::DType,
};

const STEPS: u32 = 3;

#[test]
fn three_steps_end_as_near_to_the_truth_as_plain_loops_do_in_every_architecture() {
    for architecture in Architecture::ALL {
        let graph = step(architecture);
        let sources = sources(&graph, HYPER, 1.0);
        let (truth, plain) =
            (steps_by_definition::<f64>(&graph, &sources, STEPS), steps_by_definition::<f32>(&graph, &sources, STEPS));
        let emulated = emulated_steps(&graph, &sources, Program::run);
        let mut cpu = session::bind(std::slice::from_ref(&graph), Threads::new(2)).unwrap();
        sources.iter().for_each(|(name, bytes)| cpu.write(cpu.bytes(name).unwrap(), bytes).unwrap());
        for step in 0..STEPS {
            if cpu.has(names::RNG) {
                let mut rng = cpu.get::<u32>(names::RNG).unwrap();
                rng[2] = step;
                cpu.set(names::RNG, &rng).unwrap();
            }
            cpu.run(0).unwrap();
        }
        let on_cpu = fp32_values(&mut *cpu);
        for role in [Role::Parameter, Role::OptimizerState, Role::Running, Role::Output] {
            let ids = graph.with_role(role);
            // As a share of the role's largest number: a tensor whose true value is nothing has no scale of its own.
            let scale = ids.iter().flat_map(|id| &truth[id]).fold(f64::MIN_POSITIVE, |a: f64, b| a.max(b.abs()));
            let error = |of: &dyn Fn(&str) -> Vec<f64>| -> f64 {
                let errors = ids.iter().map(|&id| distance(&truth[&id], &of(&graph.value(id).name)) / scale);
                errors.fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
            };
            let allowed = 2.0 * error(&|name| plain[&graph.find(name).unwrap()].clone()) + f64::from(f32::EPSILON);
            let widen = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| f64::from(x)).collect() };
            let (of_cpu, of_gpu) = (error(&|name| widen(&on_cpu[name])), error(&|name| widen(&emulated[name])));
            println!("{architecture} {role:?}: allowed {allowed:.2e}, cpu {of_cpu:.2e}, emulated {of_gpu:.2e}");
            assert!(of_gpu <= allowed, "{architecture} {role:?}: error {of_gpu:e}, allowed {allowed:e}");
            assert!(of_cpu <= allowed, "{architecture} {role:?} on the CPU: error {of_cpu:e}, allowed {allowed:e}");
        }
    }
}

#[test]
fn a_captured_step_has_the_bits_of_its_launches() {
    let graph = step(Architecture::default());
    let sources = sources(&graph, HYPER, 1.0);
    let launched = emulated_steps(&graph, &sources, Program::run);
    let captured = emulated_steps(&graph, &sources, Program::run_captured);
    for (name, values) in launched {
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(&captured[&name]), "{name}");
    }
}

/// A training step of a network that is small enough for plain loops.
fn step(architecture: Architecture) -> Graph {
    let network = UNetConfig { architecture, resize_factor: 16, channels: 2, classes: 3, ..UNetConfig::default() };
    // Momentum alone: Adam would blow the noise of vanishing gradients up to whole steps.
    let optimizer = Optimizer { rule: Rule::Sgd { momentum: 0.9, nesterov: true }, clip: 50.0 };
    record_training(&StepConfig { network, batch: 1, extent: [16; 3], loss: LossKind::LogDice, optimizer }).unwrap()
}

/// Small steps: the coarsest level has one voxel, and without a variance to divide by, gradients are huge.
const HYPER: [f64; 4] = [1e-4, 0.0, 0.0, 1.0];

/// All fp32 persistent values after the steps on the emulated GPU.
fn emulated_steps(
    graph: &Graph,
    sources: &HashMap<String, Vec<u8>>,
    run: impl Fn(&mut (dyn Program + 'static), usize) -> gyrus::Result<()>,
) -> HashMap<String, Vec<f32>> {
    let machine = Target::Machine(Box::new(Emulated::default()));
    let mut session = session::bind(std::slice::from_ref(graph), machine).unwrap();
    sources.iter().for_each(|(name, bytes)| session.write(session.bytes(name).unwrap(), bytes).unwrap());
    for step in 0..STEPS {
        if session.has(names::RNG) {
            session.set(names::RNG, &[5u32, 0, step, 0]).unwrap();
        }
        run(&mut *session, 0).unwrap();
    }
    fp32_values(&mut *session)
}

/// All fp32 persistent values by name.
fn fp32_values(program: &mut dyn Program) -> HashMap<String, Vec<f32>> {
    let names: Vec<String> =
        program.persistent().filter(|(_, spec)| spec.dtype == DType::F32).map(|(name, _)| name.to_owned()).collect();
    names.into_iter().map(|name| (name.clone(), program.get::<f32>(&name).unwrap())).collect()
}
