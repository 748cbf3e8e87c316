//! The whole network against PyTorch: forward, loss, metrics, every gradient, running statistics, three steps.
//!
//! By the definition in double precision, nothing but rounding may differ. On the CPU in single precision the rule holds:
//! at most twice the error of the straightforward computation, of which the fixtures store what PyTorch makes in three
//! ways. Two things no stored error can know, so a run that goes beyond it is looked at again (`unet/forced.rs`):
//! rounding may tip a ReLU or a pooling window another way than it tipped PyTorch's, and three ways may all be lucky.

mod common;
mod unet {
    pub mod forced;
    pub mod golden;
    pub mod steps;
}

use common::fixture::{assert_same_f64, summary};
use gyrus::{
    fuse::fuse,
    graph::Graph,
    lowering::Processor,
    nn::{names, record_prediction, record_training, record_validation},
    session::Program,
};
use unet::{
    golden::Golden,
    steps::{TIGHT, moved},
};

/// Every how many elements there is one of the probabilities and inference logits.
const SPARSE: usize = 97;

#[test]
fn transposed_networks_with_norms_are_those_of_pytorch() {
    ["transpose_norm_2", "transpose_norm_3", "transpose_norm_lone"]
        .into_iter()
        .for_each(|name| Golden::open(name).check_cpu());
}

#[test]
fn transposed_networks_with_dropout_are_those_of_pytorch() {
    ["transpose_dropout_2", "transpose_dropout_3"].into_iter().for_each(|name| Golden::open(name).check_cpu());
}

#[test]
fn upsampling_networks_with_norms_are_those_of_pytorch() {
    ["upsampling_norm_2", "upsampling_norm_3"].into_iter().for_each(|name| Golden::open(name).check_cpu());
}

#[test]
fn upsampling_networks_with_dropout_are_those_of_pytorch() {
    ["upsampling_dropout_2", "upsampling_dropout_3"].into_iter().for_each(|name| Golden::open(name).check_cpu());
}

#[test]
fn the_default_network_by_its_definition_is_pytorchs_in_double_precision() {
    Golden::open("transpose_norm_3").check_definition();
}

#[test]
fn an_upsampling_network_by_its_definition_is_pytorchs_in_double_precision() {
    Golden::open("upsampling_dropout_3").check_definition();
}

impl Golden {
    fn check_cpu(&self) {
        self.check_forward();
        let (mut again, mut tipped) = (0, 0);
        let recipes = self.recipes();
        for (index, recipe) in recipes.iter().enumerate() {
            let config = self.step(recipe.rule, recipe.clip);
            let program = [record_training(&config).unwrap(), record_validation(&config).unwrap()];
            let initial = self.initial(&program[0]);
            for merged in [program.clone(), program.each_ref().map(|graph| fuse(graph, Processor::Cpu { threads: 1 }))]
            {
                let run = self.run_cpu(&merged, recipe, &initial, &mut |step, session| {
                    if (index, step) == (0, 0) {
                        self.check_first_step(session);
                    }
                });
                let expected = self.expected(recipe, &run);
                if self.violations(recipe, &initial, &run, &expected).is_empty() {
                    continue;
                }
                again += 1;
                let graphs = [&program[0], &merged[0]];
                tipped += usize::from(self.check_on_the_same_branches(recipe, graphs, &initial, &run, expected));
            }
        }
        println!("{}: {} recipes, {again} looked at again, {tipped} with tipped branches", self.name, recipes.len());
    }

    /// Logits and probabilities in both modes.
    fn check_forward(&self) {
        let program = [
            self.record_inference(),
            record_prediction(self.network, self.batch, self.extent).unwrap(),
            self.record_forward(),
        ];
        self.check_forward_of(&program.each_ref().map(|graph| fuse(graph, Processor::Cpu { threads: 1 })));
        self.check_forward_of(&program);
    }

    fn check_forward_of(&self, program: &[Graph]) {
        let initial = self.initial(&program[0]);
        let mut session = self.session(program, &initial);
        session.run(0).unwrap();
        self.within("inference_logits", &sparse(&session.get::<f32>("inference.logits").unwrap(), SPARSE));
        session.run(1).unwrap();
        self.check_prediction(
            &session.get::<f32>("inference.logits").unwrap(),
            &session.get::<f32>(names::PROBABILITIES).unwrap(),
        );
        session.run(2).unwrap();
        let stride = if self.name == "transpose_norm_3" { 1 } else { 7 };
        self.within("logits", &sparse(&session.get::<f32>("training.logits").unwrap(), stride));
        self.within("probabilities", &sparse(&session.get::<f32>("training.probabilities").unwrap(), SPARSE));
    }

    /// There are no golden inference probabilities: they are the softmax or sigmoid of the logits, which are golden.
    fn check_prediction(&self, logits: &[f32], probabilities: &[f32]) {
        let classes = self.network.outputs();
        for (logits, found) in logits.chunks(classes).zip(probabilities.chunks(classes)) {
            let exp: Vec<f64> = logits.iter().map(|&z| f64::from(z).exp()).collect();
            let total = if classes == 1 { 1.0 + exp[0] } else { exp.iter().sum() };
            for (exp, &found) in exp.iter().zip(found) {
                assert!((exp / total - f64::from(found)).abs() < 1e-6, "{}: prediction", self.name);
            }
        }
    }

    /// Loss, metrics and running statistics.
    fn check_first_step(&self, session: &mut dyn Program) {
        let sums = session.get::<f32>(names::SUMS).unwrap();
        let mut wide = |name: &str| session.get::<f32>(name).unwrap().into_iter().map(f64::from).collect::<Vec<f64>>();
        self.within("loss", &wide(names::LOSS));
        for (key, found) in self.metrics(&sums) {
            self.within(key, &found);
        }
        for name in self.fixture.names("tensors").iter().filter(|name| name.contains(".running_")) {
            self.within(&format!("statistics/{name}"), &wide(name));
        }
    }

    /// All of it in double precision, by the definitions of the recorded operations.
    fn check_definition(&self) {
        for recipe in self.recipes() {
            let graph = record_training(&self.step(recipe.rule, recipe.clip)).unwrap();
            let initial = self.initial(&graph);
            let (run, _) = self.run_definition::<f64>(&recipe, &graph, &initial, None);
            let expected = self.expected(&recipe, &run);
            let what = format!("{}: {}", self.name, recipe.name);
            assert_same_f64(&format!("{what}: losses"), &run.losses, &expected.losses.0, TIGHT);
            for (name, (row, _)) in self.fixture.names("parameters").iter().zip(&expected.gradients) {
                let found = summary(name, run.gradients[name].iter().copied());
                assert_same_f64(&format!("{what}: gradient of {name}"), &found, row, TIGHT);
                let key = format!("gradient/{name}");
                if self.fixture.has(&key) {
                    // Stored rounded to single precision.
                    assert_same_f64(&key, &run.gradients[name], &self.fixture.f64(&key), f64::from(f32::EPSILON));
                }
            }
            for (name, (row, _)) in self.fixture.names("tensors").iter().zip(&expected.changes) {
                let found = summary(name, moved(&run.tensors[name], &initial[name]).into_iter());
                assert_same_f64(&format!("{what}: change of {name}"), &found, row, TIGHT);
            }
        }
    }
}

fn sparse(values: &[f32], stride: usize) -> Vec<f64> {
    values.iter().step_by(stride).map(|&x| f64::from(x)).collect()
}
