//! Optimizer state on the host: the same bits, less memory, and chosen when it is faster than computing again.

use gyrus::{
    graph::Graph,
    machine::{Emulated, Machine},
    nn::{Architecture, StepConfig, UNetConfig, initial_parameters, names, record_training, record_validation},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    plan::{
        self, Options,
        budget::{self, Budget, Offload, Rematerialise},
        roofline::Rates,
    },
    session,
};

fn step(resize_factor: usize, extent: [usize; 3], architecture: Architecture) -> StepConfig {
    let network =
        UNetConfig { architecture, resize_factor, channels: 1, classes: 3, head_filters: 2, ..UNetConfig::default() };
    let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: true };
    StepConfig { network, batch: 1, extent, loss: LossKind::LogDice, optimizer: Optimizer { rule, clip: 50.0 } }
}

fn program(step: &StepConfig) -> Vec<Graph> {
    vec![record_training(step).unwrap(), record_validation(step).unwrap()]
}

fn budget(bytes: Option<usize>, offload: Offload) -> Budget {
    Budget { bytes, rematerialise: Rematerialise::Auto, offload }
}

/// Bits of everything that training changes, by name.
fn train(step: &StepConfig, offload: Offload) -> (usize, Vec<(String, Vec<u8>)>) {
    let program = program(step);
    let fitted = budget::fit(&program, Options::for_gpu(), budget(None, offload)).unwrap();
    assert_eq!(fitted.is_offloaded(), offload == Offload::Optimizer);
    let total = fitted.plan.total;
    let machine: Box<dyn Machine> = Box::new(Emulated::default());
    let mut session = session::bind_planned(&fitted.graphs, fitted.plan, machine).unwrap();
    for (name, values) in initial_parameters(&program[0], 3) {
        session.set(&name, &values).unwrap();
    }
    session.set(names::CLASS_WEIGHTS, &[1.0f32; 3]).unwrap();
    session.set(names::LOSS_SCALE, &[1.0f32]).unwrap();
    let voxels: usize = step.extent.iter().product();
    for count in 0..2u32 {
        let images: Vec<f32> = (0..voxels).map(|i| ((i + count as usize) % 13) as f32 / 13.0 - 0.4).collect();
        let labels: Vec<u8> = (0..voxels).map(|i| (i / 5 % 3) as u8).collect();
        session.set(names::IMAGES, &images).unwrap();
        session.set(names::LABELS, &labels).unwrap();
        session.set(names::RNG, &[3u32, 0, count, 0]).unwrap();
        session.set(names::HYPER, &[1e-2f32, 0.0, 0.0, 1.0]).unwrap();
        session.run_captured(0).unwrap();
    }
    let kept: Vec<String> = session.persistent().map(|(name, _)| name.to_owned()).collect();
    let is_trained = |name: &String| name.starts_with("optimizer.") || name.ends_with("weight") || name == names::LOSS;
    let kept = kept.into_iter().filter(is_trained);
    (total, kept.map(|name| (name.clone(), session.read(session.bytes(&name).unwrap()).unwrap())).collect())
}

#[test]
fn training_with_state_on_the_host_has_the_same_bits() {
    let step = step(16, [16, 16, 16], Architecture::UpsamplingDropout);
    let ((here, mut expected), (there, mut found)) = (train(&step, Offload::None), train(&step, Offload::Optimizer));
    expected.sort();
    found.sort();
    assert!(expected.len() > 50 && expected.iter().any(|(name, _)| name.starts_with("optimizer.v_hat.")));
    for ((name, expected), (other, found)) in expected.iter().zip(&found) {
        assert_eq!(name, other);
        assert!(expected == found, "{name}");
        assert!(expected.iter().any(|bits| *bits != 0) || name.contains("bias"), "{name} was never updated");
    }
    assert!(there < here, "{there} bytes with the state on the host, {here} without");
}

#[test]
fn the_host_is_chosen_when_that_is_faster_than_computing_again_and_only_then() {
    let program = program(&step(1, [48, 48, 48], Architecture::default()));
    let options = Options::for_gpu();
    let here = budget::fit(&program, options, budget(None, Offload::Auto)).unwrap();
    assert!(!here.is_offloaded() && here.forgotten == 0, "nothing is moved while everything fits");
    let levels = budget::levels(&program, options, Offload::Auto, &Rates::default());
    assert!(levels.iter().any(|level| level.is_offloaded()) && levels.iter().any(|level| !level.is_offloaded()));
    for level in levels.iter().step_by(4) {
        plan::verify(&level.graphs, &level.plan).unwrap();
        let chosen = budget::fit(&program, options, budget(Some(level.plan.total), Offload::Auto)).unwrap();
        let seconds = |fitted| Rates::default().step_seconds(fitted);
        assert!(chosen.plan.total <= level.plan.total && seconds(&chosen) <= seconds(level) * (1.0 + 1e-9));
    }
    // The state and the activations take each other's place: what is saved is the smaller of the two.
    let there = budget::fit(&program, options, budget(None, Offload::Optimizer)).unwrap();
    let staged = there.plan.staged.unwrap().place.bytes;
    let activations = there.plan.entries[0].transient;
    assert!(staged > 1 << 29 && activations > 1 << 27);
    let expected = there.plan.persistent_bytes + staged.max(activations);
    assert_eq!(there.plan.total, expected);
    assert!(here.plan.total.abs_diff(expected + staged.min(activations)) < 1 << 20);
}

#[test]
fn a_layout_whose_staged_bytes_are_used_by_another_graph_is_rejected() {
    let program = program(&step(16, [16, 16, 16], Architecture::default()));
    let fitted = budget::fit(&program, Options::for_gpu(), budget(None, Offload::Optimizer)).unwrap();
    plan::verify(&fitted.graphs, &fitted.plan).unwrap();
    let mut wrong = fitted.plan.clone();
    wrong.staged.as_mut().unwrap().entry = 0;
    assert!(plan::verify(&fitted.graphs, &wrong).is_err());
    let mut wrong = fitted.plan;
    wrong.staged = None;
    assert!(plan::verify(&fitted.graphs, &wrong).is_err());
}
