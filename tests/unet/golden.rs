//! A fixture: what PyTorch computed, and the recipe to make the same network and batch here.

use std::collections::HashMap;

use gyrus::{
    graph::{
        Graph, Role, Tape, ValueId,
        reference::{Dense, Real},
    },
    nn::{Architecture, Mode, StepConfig, UNet, UNetConfig, names},
    ops::{
        activation::{Sigmoid, Softmax},
        dice::{LossKind, Sums},
        dropout,
        optimizer::{Optimizer, Rule},
    },
    tensor::{DType, Spec, Volume},
};

use crate::common::fixture::{Fixture, assert_within_rule, labels, scale, values};

pub const STEPS: usize = 3;

/// An optimizer's settings.
pub struct Recipe {
    pub name: String,
    pub rule: Rule,
    pub rate: f64,
    pub clip: f32,
}

impl Recipe {
    /// How far three steps can carry a weight whose gradient never exceeds this: momentum adds up to 8 gradients, and
    /// Adam divides by epsilon where gradients are small.
    pub fn reach(&self, gradient: f64) -> f64 {
        let divisor = match self.rule {
            Rule::Sgd { .. } => 1.0,
            Rule::Adam { epsilon, .. } | Rule::Nadam { epsilon, .. } => epsilon,
        };
        8.0 * self.rate / divisor * gradient
    }
}

/// A fixture and what it was made from.
pub struct Golden {
    pub name: String,
    pub fixture: Fixture,
    pub network: UNetConfig,
    pub batch: usize,
    pub extent: [usize; 3],
    pub loss: LossKind,
    pub class_weights: Vec<f32>,
    pub seed: u64,
}

impl Golden {
    pub fn open(name: &str) -> Self {
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

    pub fn step(&self, rule: Rule, clip: f32) -> StepConfig {
        let optimizer = Optimizer { rule, clip };
        StepConfig { network: self.network, batch: self.batch, extent: self.extent, loss: self.loss, optimizer }
    }

    pub fn voxels(&self) -> usize {
        self.extent.iter().product()
    }

    /// Images and initial tensors by the closed formula, by the names of the training graph.
    pub fn initial(&self, graph: &Graph) -> HashMap<String, Vec<f32>> {
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

    pub fn labels(&self) -> Vec<u8> {
        labels(&format!("{}/labels", self.seed), self.batch * self.voxels(), self.network.classes)
    }

    /// The training-mode forward pass, which a training step does not show: logits and probabilities.
    pub fn record_forward(&self) -> Graph {
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

    pub fn record_inference(&self) -> Graph {
        let mut tape = Tape::new();
        let shape = Volume { n: self.batch, extent: self.extent, c: self.network.channels }.shape();
        let images = tape.source(names::IMAGES, Spec::f32(shape), Role::Input);
        let logits = UNet::new(&mut tape, self.network, Mode::Inference).record(images).unwrap();
        tape.keep_output(logits, "inference.logits");
        tape.finish()
    }

    pub fn recipes(&self) -> Vec<Recipe> {
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
    pub fn metrics(&self, sums: &[f32]) -> [(&'static str, Vec<f64>); 3] {
        let classes = self.network.outputs();
        let mut samples = Sums::of_samples(sums, classes, self.voxels());
        let mut total = samples.next().unwrap();
        samples.for_each(|sample| total.add(&sample));
        let only = |class| (0..classes).map(|other| f32::from(u8::from(other == class))).collect::<Vec<_>>();
        let dice = (0..classes).map(|class| total.dice(&only(class))).collect();
        [("dice", dice), ("iou", vec![total.iou()]), ("accuracy", vec![total.accuracy()])]
    }

    pub fn within(&self, key: &str, found: &[f64]) {
        let what = format!("{}: {key}", self.name);
        assert_within_rule(&what, found, &self.fixture.f64(key), self.fixture.f32_error(key)[0]);
    }

    pub fn sources<T: Real>(&self, graph: &Graph, initial: &HashMap<String, Vec<f32>>) -> HashMap<ValueId, Dense<T>> {
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
