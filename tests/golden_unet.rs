//! The whole network against PyTorch: forward, loss, metrics, every gradient, running statistics, three steps.
//!
//! By the definition in double precision, nothing but rounding may differ. On the CPU in single precision the rule holds:
//! at most twice the error of the straightforward computation, of which the fixtures store what PyTorch makes in three
//! ways. Two things no stored error can know, so a run that goes beyond it is looked at again (`forced.rs`):
//! rounding may tip a ReLU or a pooling window another way than it tipped PyTorch's, and three ways may all be lucky.

mod common;
mod unet {
    pub mod forced;
}

use std::collections::HashMap;

use common::fixture::{
    Fixture, assert_same_f64, assert_within_rule, labels, largest_difference, scale, summary, values,
};
use gyrus::{
    cpu::Threads,
    graph::{
        Graph, Role, Tape, ValueId,
        fuse::{Device, fuse},
        reference::{Dense, Real, evaluate},
    },
    nn::{
        Architecture, Mode, StepConfig, UNet, UNetConfig, names, record_prediction, record_training, record_validation,
    },
    ops::{
        activation::{Sigmoid, Softmax},
        dice::{LossKind, Sums},
        dropout,
        optimizer::{Optimizer, Rule},
    },
    optim::OptimizerState,
    session::Session,
    tensor::{DType, Spec, Volume},
};
use unet::forced::{self, Branches};

const STEPS: usize = 3;
const ROW: usize = 9;
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

/// An optimizer's settings.
struct Recipe {
    name: String,
    rule: Rule,
    rate: f64,
    clip: f32,
}

impl Recipe {
    /// How far three steps can carry a weight whose gradient never exceeds this: momentum adds up to 8 gradients, and
    /// Adam divides by epsilon where gradients are small.
    fn reach(&self, gradient: f64) -> f64 {
        let divisor = match self.rule {
            Rule::Sgd { .. } => 1.0,
            Rule::Adam { epsilon, .. } | Rule::Nadam { epsilon, .. } => epsilon,
        };
        8.0 * self.rate / divisor * gradient
    }
}

/// What three steps leave: losses, the first step's gradients, and all tensors at the end.
struct Run {
    losses: Vec<f64>,
    gradients: HashMap<String, Vec<f64>>,
    tensors: HashMap<String, Vec<f64>>,
}

/// The numbers to be met, as the fixture holds them: rows of norm and projections, and an error for each row.
struct Expected {
    losses: (Vec<f64>, f64),
    gradients: Vec<([f64; ROW], f64)>,
    changes: Vec<([f64; ROW], f64)>,
}

/// A fixture and what it was made from.
struct Golden {
    name: String,
    fixture: Fixture,
    network: UNetConfig,
    batch: usize,
    extent: [usize; 3],
    loss: LossKind,
    class_weights: Vec<f32>,
    seed: u64,
}

impl Golden {
    fn open(name: &str) -> Self {
        let fixture = Fixture::open(&format!("unet/{name}"));
        let case = fixture.json("case");
        let number = |key: &str| case[key].as_u64().unwrap_or_else(|| panic!("{name}: no {key}")) as usize;
        let network = UNetConfig {
            architecture: serde_json::from_value::<Architecture>(case["architecture"].clone()).unwrap(),
            resize_factor: number("resize_factor"),
            dropout_rate: 0.0,
            channels: number("channels"),
            classes: number("classes"),
            ..UNetConfig::default()
        };
        let mut class_weights: Vec<f32> = serde_json::from_value(case["class_weights"].clone()).unwrap();
        class_weights.truncate(network.outputs());
        Self {
            name: name.to_owned(),
            network,
            batch: number("batch"),
            extent: serde_json::from_value(case["extent"].clone()).unwrap(),
            loss: serde_json::from_value(case["loss"].clone()).unwrap(),
            class_weights,
            seed: number("seed") as u64,
            fixture,
        }
    }

    fn step(&self, rule: Rule, clip: f32) -> StepConfig {
        let optimizer = Optimizer { rule, clip };
        StepConfig { network: self.network, batch: self.batch, extent: self.extent, loss: self.loss, optimizer }
    }

    fn voxels(&self) -> usize {
        self.extent.iter().product()
    }

    /// Images and initial tensors by the closed formula, by the names of the training graph.
    fn initial(&self, graph: &Graph) -> HashMap<String, Vec<f32>> {
        let count = self.batch * self.voxels() * self.network.channels;
        let mut initial = HashMap::new();
        initial.insert(names::IMAGES.to_owned(), values(&format!("{}/input", self.seed), count, 2.0, 0.0));
        initial.insert(names::CLASS_WEIGHTS.to_owned(), self.class_weights.clone());
        initial.insert(names::LOSS_SCALE.to_owned(), vec![1.0]);
        let expected = self.fixture.names("tensors");
        let sources = [Role::Parameter, Role::Running].map(|role| graph.with_role(role)).concat();
        assert_eq!(sources.len(), expected.len(), "{}: tensors", self.name);
        for name in expected {
            let id = graph.find(&name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name));
            let shape = graph.value(id).spec.shape;
            let (amplitude, offset) = scale(&name, shape.extents(), self.network.architecture.is_transposed());
            let data = values(&format!("{}/{name}", self.seed), shape.elements(), amplitude, offset);
            initial.insert(name, data);
        }
        initial
    }

    fn labels(&self) -> Vec<u8> {
        labels(&format!("{}/labels", self.seed), self.batch * self.voxels(), self.network.classes)
    }

    /// The training-mode forward pass, which a training step does not show: logits and probabilities.
    fn record_forward(&self) -> Graph {
        let mut tape = Tape::new();
        let shape = Volume { n: self.batch, extent: self.extent, c: self.network.channels }.shape();
        let images = tape.source(names::IMAGES, Spec::f32(shape), Role::Input);
        let rng = tape.source(names::RNG, dropout::rng_spec(), Role::Input);
        let logits = UNet::new(&mut tape, self.network, Mode::Training { rng }).record(images).unwrap();
        let probabilities = if self.network.outputs() == 1 {
            tape.record1("sigmoid", Sigmoid, &[logits]).unwrap()
        } else {
            tape.record1("softmax", Softmax, &[logits]).unwrap()
        };
        tape.keep_output(logits, "training.logits");
        tape.keep_output(probabilities, "training.probabilities");
        tape.finish()
    }

    fn record_inference(&self) -> Graph {
        let mut tape = Tape::new();
        let shape = Volume { n: self.batch, extent: self.extent, c: self.network.channels }.shape();
        let images = tape.source(names::IMAGES, Spec::f32(shape), Role::Input);
        let logits = UNet::new(&mut tape, self.network, Mode::Inference).record(images).unwrap();
        tape.keep_output(logits, "inference.logits");
        tape.finish()
    }

    fn recipes(&self) -> Vec<Recipe> {
        let recipes = self.fixture.entries("recipes");
        assert_eq!(recipes.len(), 7, "{}: recipes", self.name);
        recipes
            .into_iter()
            .map(|(name, settings)| {
                let number = |key: &str| settings[key].as_f64().unwrap_or_else(|| panic!("{name}: no {key}"));
                let flag = |key: &str| settings[key].as_bool().unwrap_or_else(|| panic!("{name}: no {key}"));
                let (beta1, beta2) = (0.9, 0.999);
                let rule = match settings["rule"].as_str().unwrap() {
                    "sgd" => Rule::Sgd { momentum: number("momentum"), nesterov: flag("nesterov") },
                    "adam" => Rule::Adam { beta1, beta2, epsilon: number("epsilon"), amsgrad: flag("amsgrad") },
                    "nadam" => Rule::Nadam { beta1, beta2, epsilon: number("epsilon") },
                    other => panic!("no rule {other}"),
                };
                assert_eq!(number("steps"), STEPS as f64);
                let (rate, clip) = (number("lr"), number("clip") as f32);
                Recipe { name, rule, rate, clip }
            })
            .collect()
    }

    /// Dice per class, intersection over union and accuracy from the sums that a step leaves.
    fn metrics(&self, sums: &[f32]) -> [(&'static str, Vec<f64>); 3] {
        let classes = self.network.outputs();
        let mut samples = Sums::of_samples(sums, classes, self.voxels());
        let mut total = samples.next().unwrap();
        samples.for_each(|sample| total.add(&sample));
        let only = |class| (0..classes).map(|other| f32::from(u8::from(other == class))).collect::<Vec<_>>();
        let dice = (0..classes).map(|class| total.dice(&only(class))).collect();
        [("dice", dice), ("iou", vec![total.iou()]), ("accuracy", vec![total.accuracy()])]
    }

    fn within(&self, key: &str, found: &[f64]) {
        let what = format!("{}: {key}", self.name);
        assert_within_rule(&what, found, &self.fixture.f64(key), self.fixture.f32_error(key)[0]);
    }

    fn check_cpu(&self) {
        self.check_forward();
        let (mut again, mut tipped) = (0, 0);
        let recipes = self.recipes();
        for (index, recipe) in recipes.iter().enumerate() {
            let config = self.step(recipe.rule, recipe.clip);
            let program = [record_training(&config).unwrap(), record_validation(&config).unwrap()];
            let initial = self.initial(&program[0]);
            for merged in [program.clone(), program.each_ref().map(|graph| fuse(graph, Device::Cpu))] {
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

    /// Three steps on the CPU; `observe` sees the session after each.
    fn run_cpu(
        &self,
        program: &[Graph],
        recipe: &Recipe,
        initial: &HashMap<String, Vec<f32>>,
        observe: &mut dyn FnMut(usize, &Session),
    ) -> Run {
        let mut session = self.session(program, initial);
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| f64::from(x)).collect() };
        let (mut state, mut losses, mut gradients) = (OptimizerState::default(), Vec::new(), HashMap::new());
        for step in 0..STEPS {
            session.f32_mut(names::HYPER).copy_from_slice(&state.advance(&recipe.rule, recipe.rate, 1.0));
            session.run(0);
            losses.push(f64::from(session.f32(names::LOSS)[0]));
            if step == 0 {
                let parameters = self.fixture.names("parameters").into_iter();
                gradients = parameters.map(|name| (name.clone(), wide(session.f32(&gradient_of(&name))))).collect();
            }
            observe(step, &session);
        }
        let tensors = self.fixture.names("tensors").into_iter();
        Run { losses, gradients, tensors: tensors.map(|name| (name.clone(), wide(session.f32(&name)))).collect() }
    }

    fn expected(&self, recipe: &Recipe, run: &Run) -> Expected {
        let rows = |key: &str| -> Vec<([f64; ROW], f64)> {
            let (table, errors) = (self.fixture.f64(key), self.fixture.f32_error(key));
            assert_eq!(table.len(), errors.len() * ROW, "{}: {key}", self.name);
            table.chunks(ROW).map(|row| row.try_into().unwrap()).zip(errors).collect()
        };
        let changes = |name: &str| rows(&format!("{name}/changes"));
        let mut own = changes(&recipe.name);
        // A few elements can be near to the truth by luck: for them the worst of all recipes counts, in proportion.
        let others: Vec<_> = self.recipes().iter().map(|other| changes(&other.name)).collect();
        for (index, name) in self.fixture.names("tensors").iter().enumerate() {
            if run.tensors[name].len() < FEW {
                let share = |(row, error): &([f64; ROW], f64)| error / magnitude(row).max(ZERO);
                let worst = others.iter().map(|rows| share(&rows[index])).fold(0.0, f64::max);
                own[index].1 = worst * magnitude(&own[index].0);
            }
        }
        let key = format!("{}/losses", recipe.name);
        Expected {
            losses: (self.fixture.f64(&key), self.fixture.f32_error(&key)[0]),
            gradients: rows("gradients"),
            changes: own,
        }
    }

    /// The same from a run by the definition in double precision; errors are the stored ones, or those of the definition
    /// in single precision where these are larger.
    fn expected_of(&self, initial: &HashMap<String, Vec<f32>>, sharp: &Run, plain: &Run, stored: Expected) -> Expected {
        let row = |name: &str, of: &dyn Fn(&Run) -> Vec<f64>, stored: f64| {
            let [sharp, plain] = [sharp, plain].map(|run| summary(name, of(run).into_iter()));
            (sharp, stored.max(largest_difference(name, &plain, &sharp).0))
        };
        let (parameters, tensors) = (self.fixture.names("parameters"), self.fixture.names("tensors"));
        let (losses, _) = largest_difference("losses", &plain.losses, &sharp.losses);
        Expected {
            losses: (sharp.losses.clone(), stored.losses.1.max(losses)),
            gradients: (parameters.iter().zip(stored.gradients))
                .map(|(name, (_, error))| row(name, &|run| run.gradients[name].clone(), error))
                .collect(),
            changes: (tensors.iter().zip(stored.changes))
                .map(|(name, (_, error))| row(name, &|run| moved(&run.tensors[name], &initial[name]), error))
                .collect(),
        }
    }

    /// Every number of a run that breaks the rule, as a sentence.
    fn violations(
        &self,
        recipe: &Recipe,
        initial: &HashMap<String, Vec<f32>>,
        run: &Run,
        expected: &Expected,
    ) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |what: &str, values: &[f64], expected: &[f64], error: f64, floor: f64| {
            let (difference, at) = largest_difference(what, values, expected);
            let allowed = (2.0 * error.max(magnitude(expected) * f64::from(f32::EPSILON))).max(floor);
            if difference > allowed {
                let (name, recipe) = (&self.name, &recipe.name);
                found.push(format!("{name}: {recipe}: {what}[{at}]: off by {difference:.2e}, allowed {allowed:.2e}"));
            }
        };
        check("losses", &run.losses, &expected.losses.0, expected.losses.1, 0.0);
        // A gradient that is zero by theory is a difference of equal numbers: each element has their rounding, and a
        // projection adds the elements up.
        let greatest = expected.gradients.iter().map(|(row, _)| magnitude(row)).fold(0.0, f64::max);
        let noise = |row: &[f64], elements: usize| {
            let is_zero = magnitude(row) < ZERO;
            if is_zero { 2.0 * greatest * f64::from(f32::EPSILON) * (elements as f64).sqrt() } else { 0.0 }
        };
        let parameters = self.fixture.names("parameters");
        // The first step's gradients are the same whatever the recipe.
        let once = if recipe.name == self.recipes()[0].name { parameters.len() } else { 0 };
        for (name, (row, error)) in parameters.iter().zip(&expected.gradients).take(once) {
            let gradient = &run.gradients[name];
            let found = summary(name, gradient.iter().copied());
            check(&format!("gradient of {name}"), &found, row, *error, noise(row, gradient.len()));
        }
        for (name, (row, error)) in self.fixture.names("tensors").iter().zip(&expected.changes) {
            let change = moved(&run.tensors[name], &initial[name]);
            // A change is the difference of two tensors whose elements were rounded to single precision.
            let rounding = 2.0 * magnitude(&run.tensors[name]) * f64::from(f32::EPSILON);
            let floor = rounding.max(recipe.reach(noise(row, change.len())));
            check(&format!("change of {name}"), &summary(name, change.into_iter()), row, *error, floor);
        }
        found
    }

    /// Holds a run against the definition on the branches that the CPU took at each ReLU and in each pooling window,
    /// which must be PyTorch's unless a value that decides lies within rounding of its kink. Says whether any was tipped.
    /// The first graph is as it was recorded, the second as it ran.
    fn check_on_the_same_branches(
        &self,
        recipe: &Recipe,
        [graph, merged]: [&Graph; 2],
        initial: &HashMap<String, Vec<f32>>,
        run: &Run,
        stored: Expected,
    ) -> bool {
        let mut branches = Vec::new();
        let kept = Branches::keep(graph, merged);
        let again = self.run_cpu(&[kept], recipe, initial, &mut |_, session| {
            branches.push(Branches::read(graph, merged, session));
        });
        assert!(again.tensors == run.tensors, "{}: keeping activations changed a result", self.name);
        let (sharp, tipped) = self.run_definition::<f64>(recipe, graph, initial, Some(&branches));
        let (plain, _) = self.run_definition::<f32>(recipe, graph, initial, Some(&branches));
        if tipped == 0.0 {
            // Nothing was tipped, so this is PyTorch's own computation.
            assert!(largest_difference("losses", &sharp.losses, &stored.losses.0).0 < TIGHT, "{}", self.name);
        }
        // What decides a branch is off by the same share as the logits are, or, behind the first step, as what the plain loops
        // have made of the weights and of the loss.
        let logits = self.fixture.f32_error("logits")[0] / magnitude(&self.fixture.f64("logits"));
        let share =
            |what: &str, plain: &[f64], sharp: &[f64]| largest_difference(what, plain, sharp).0 / magnitude(sharp);
        let filters = run.tensors.keys().filter(|name| magnitude(&initial_of(initial, name)) > ZERO);
        let moved = filters.map(|name| share(name, &plain.tensors[name], &sharp.tensors[name])).fold(0.0, f64::max);
        let losses = share("losses", &plain.losses, &sharp.losses);
        let allowed = 2.0 * logits.max(moved).max(losses);
        assert!(tipped <= allowed, "{}: {}: tipped at {tipped:.2e} > {allowed:.2e}", self.name, recipe.name);
        let expected = self.expected_of(initial, &sharp, &plain, stored);
        let violations = self.violations(recipe, initial, run, &expected);
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        tipped > 0.0
    }

    /// Three steps by the definition. On given branches, also how far from its kink the farthest tipped value lies, as
    /// a share of the greatest of its tensor.
    fn run_definition<T: forced::Precision>(
        &self,
        recipe: &Recipe,
        graph: &Graph,
        initial: &HashMap<String, Vec<f32>>,
        branches: Option<&[Branches]>,
    ) -> (Run, f64) {
        let mut sources = self.sources::<T>(graph, initial);
        let (mut state, mut tipped) = (OptimizerState::default(), 0.0f64);
        let (mut losses, mut gradients) = (Vec::new(), HashMap::new());
        let wide = |dense: &Dense<T>| -> Vec<f64> { dense.data.iter().map(|x| x.f64()).collect() };
        for step in 0..STEPS {
            let hyper = state.advance_exactly(&recipe.rule, recipe.rate, 1.0);
            let id = graph.find(names::HYPER).unwrap();
            let data = hyper.iter().map(|&x| T::of(x)).collect();
            sources.insert(id, Dense { shape: graph.value(id).spec.shape, data });
            let known = match branches {
                None => evaluate(graph, sources.clone()),
                Some(branches) => {
                    let (known, here) = branches[step].evaluate(graph, sources.clone());
                    tipped = tipped.max(here);
                    known
                }
            };
            losses.push(known[&graph.find(names::LOSS).unwrap()].first().f64());
            if step == 0 {
                let of = |name: &str| wide(&known[&graph.find(&gradient_of(name)).unwrap()]);
                gradients =
                    self.fixture.names("parameters").into_iter().map(|name| (name.clone(), of(&name))).collect();
            }
            for id in graph.ids().filter(|&id| graph.value(id).updates.is_some()) {
                sources.insert(graph.origin(id), known[&id].clone());
            }
        }
        let tensors = self.fixture.names("tensors").into_iter();
        let tensors = tensors.map(|name| (name.clone(), wide(&sources[&graph.find(&name).unwrap()]))).collect();
        (Run { losses, gradients, tensors }, tipped)
    }

    fn session(&self, program: &[Graph], initial: &HashMap<String, Vec<f32>>) -> Session {
        let mut session = Session::bind(program, Threads::new(2)).unwrap();
        for (name, data) in initial.iter().filter(|(name, _)| session_has(program, name)) {
            session.f32_mut(name).copy_from_slice(data);
        }
        if session.has(names::LABELS) {
            session.u8_mut(names::LABELS).copy_from_slice(&self.labels());
        }
        session
    }

    /// Logits and probabilities in both modes.
    fn check_forward(&self) {
        let program = [
            self.record_inference(),
            record_prediction(self.network, self.batch, self.extent).unwrap(),
            self.record_forward(),
        ];
        self.check_forward_of(&program.each_ref().map(|graph| fuse(graph, Device::Cpu)));
        self.check_forward_of(&program);
    }

    fn check_forward_of(&self, program: &[Graph]) {
        let initial = self.initial(&program[0]);
        let mut session = self.session(program, &initial);
        session.run(0);
        self.within("inference_logits", &sparse(session.f32("inference.logits"), SPARSE));
        session.run(1);
        self.check_prediction(session.f32("inference.logits"), session.f32(names::PROBABILITIES));
        session.run(2);
        let stride = if self.name == "transpose_norm_3" { 1 } else { 7 };
        self.within("logits", &sparse(session.f32("training.logits"), stride));
        self.within("probabilities", &sparse(session.f32("training.probabilities"), SPARSE));
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
    fn check_first_step(&self, session: &Session) {
        let wide = |name: &str| session.f32(name).iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        self.within("loss", &wide(names::LOSS));
        for (key, found) in self.metrics(session.f32(names::SUMS)) {
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

    fn sources<T: Real>(&self, graph: &Graph, initial: &HashMap<String, Vec<f32>>) -> HashMap<ValueId, Dense<T>> {
        let roles = [Role::Parameter, Role::Running, Role::OptimizerState, Role::Input, Role::Batch];
        let ids = roles.map(|role| graph.with_role(role)).concat();
        ids.into_iter()
            .map(|id| {
                let Spec { shape, dtype } = graph.value(id).spec;
                let data = match initial.get(&graph.value(id).name) {
                    Some(data) => data.iter().map(|&x| T::of(f64::from(x))).collect(),
                    None if dtype == DType::U8 => self.labels().into_iter().map(|x| T::of(f64::from(x))).collect(),
                    None => vec![T::of(0.0); shape.elements()],
                };
                (id, Dense { shape, data })
            })
            .collect()
    }
}

fn initial_of(initial: &HashMap<String, Vec<f32>>, name: &str) -> Vec<f64> {
    initial[name].iter().map(|&x| f64::from(x)).collect()
}

/// Between two computations in double precision: thirty layers forth and back, and three steps, cost some digits.
const TIGHT: f64 = 1e-9;
/// Elements of a tensor whose error may be small by luck.
const FEW: usize = 16;
/// Golden numbers below this are zero by theory.
const ZERO: f64 = 1e-12;

fn sparse(values: &[f32], stride: usize) -> Vec<f64> {
    values.iter().step_by(stride).map(|&x| f64::from(x)).collect()
}

fn session_has(program: &[Graph], name: &str) -> bool {
    program.iter().any(|graph| graph.find(name).is_some())
}

fn gradient_of(parameter: &str) -> String {
    format!("gradient.{parameter}")
}

fn moved(after: &[f64], before: &[f32]) -> Vec<f64> {
    after.iter().zip(before).map(|(after, &before)| after - f64::from(before)).collect()
}

fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, x| m.max(x.abs()))
}
