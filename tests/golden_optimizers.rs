//! Five steps of every optimizer on given gradients, against NumPy and Keras.
//!
//! Adam's epsilon is added to the root of the second moment before the bias correction, and so is Nadam's here: the
//! recipes `nadam_epsilon_after_*` are today's Keras, and not ours.

mod common;

use std::collections::HashMap;

use common::fixture::{Fixture, assert_same_f64, assert_within_rule, largest_difference};
use gyrus::{
    cpu::Threads,
    graph::{
        Graph, Role, Tape, ValueId,
        reference::{Dense, Precision, evaluate},
    },
    ops::optimizer::{Optimizer, Rule, hyper_spec},
    optim::OptimizerState,
    session,
    tensor::Spec,
};

const STEPS: usize = 5;
const LENGTH: usize = 37;

/// The parameter after each step, then the state by the names of the fixture.
type Path = (Vec<Vec<f64>>, Vec<(&'static str, Vec<f64>)>);

#[test]
fn five_steps_of_every_rule_are_those_of_the_golden_numbers() {
    let fixture = Fixture::open("optimizers/optimizers");
    let recipes = fixture.entries("recipes");
    assert_eq!(recipes.len(), 10);
    let (mut checked, initial) = (0, fixture.f64("w"));
    for (recipe, settings) in &recipes {
        let number = |key: &str| settings[key].as_f64().unwrap_or_else(|| panic!("{recipe}: no {key}"));
        let Some(rule) = rule(recipe, || number("epsilon")) else { continue };
        let run = Run { rule, clip: number("clip") as f32, rate: number("lr"), fixture: &fixture };
        let (sharp, plain, fast) = (run.reference::<f64>(), run.reference::<f32>(), run.cpu());
        let expected = fixture.f64(&format!("{recipe}.w"));
        for (step, expected) in expected.chunks(LENGTH).enumerate() {
            let what = format!("{recipe}.w after step {}", step + 1);
            assert_same_f64(&what, &sharp.0[step], expected, 1e-14);
            let (f32_error, _) = largest_difference(&what, &plain.0[step], expected);
            assert_within_rule(&what, &fast.0[step], expected, f32_error);
        }
        for (index, (name, sharp)) in sharp.1.iter().enumerate() {
            let what = format!("{recipe}.{name}");
            let expected = fixture.f64(&what);
            assert_same_f64(&what, sharp, &expected, 1e-14);
            // Element by element: magnitudes differ by eighteen orders.
            for (i, &expected) in expected.iter().enumerate() {
                let (f32_error, _) = largest_difference(&what, &[plain.1[index].1[i]], &[expected]);
                assert_within_rule(&format!("{what}[{i}]"), &[fast.1[index].1[i]], &[expected], f32_error);
            }
        }
        assert!(largest_difference(recipe, &expected[expected.len() - LENGTH..], &initial).0 > 1e-3, "nothing moved");
        checked += 1;
    }
    assert_eq!(checked, 8, "recipes");
}

#[test]
fn nadam_with_epsilon_behind_the_correction_is_another_rule() {
    // Would both forms fit the numbers, the numbers could not tell which is ours.
    let fixture = Fixture::open("optimizers/optimizers");
    let (ours, other) = (fixture.f64("nadam_0.1.w"), fixture.f64("nadam_epsilon_after_0.1.w"));
    assert!(largest_difference("nadam", &ours, &other).0 > 1e-3);
}

/// The rule of a recipe, unless it is one that Gyrus does not have.
fn rule(recipe: &str, epsilon: impl Fn() -> f64) -> Option<Rule> {
    let (beta1, beta2) = (0.9, 0.999);
    Some(match recipe.split('_').next().unwrap() {
        "sgd" => Rule::Sgd { momentum: 0.9, nesterov: recipe == "sgd_nesterov" },
        "adam" => Rule::Adam { beta1, beta2, epsilon: epsilon(), amsgrad: false },
        "amsgrad" => Rule::Adam { beta1, beta2, epsilon: epsilon(), amsgrad: true },
        "nadam" if recipe.contains("after") => return None,
        "nadam" => Rule::Nadam { beta1, beta2, epsilon: epsilon() },
        other => panic!("no rule {other}"),
    })
}

struct Run<'a> {
    rule: Rule,
    clip: f32,
    rate: f64,
    fixture: &'a Fixture,
}

impl Run<'_> {
    /// The optimizer over one parameter, its sources, and what each becomes.
    fn graph(&self) -> (Graph, Vec<(ValueId, ValueId)>) {
        let mut tape = Tape::new();
        let spec = Spec::f32_vector(LENGTH);
        let mut operands = vec![
            tape.source("hyper", hyper_spec(), Role::Input),
            tape.source("w", spec, Role::Parameter),
            tape.source("gradient", spec, Role::Input),
        ];
        for kind in self.rule.state() {
            operands.push(tape.source(*kind, spec, Role::OptimizerState));
        }
        let results = tape.record("optimizer", Optimizer { rule: self.rule, clip: self.clip }, &operands).unwrap();
        let updated = [&operands[1..2], &operands[3..]].concat();
        assert_eq!(results.len(), updated.len());
        (tape.finish(), updated.into_iter().zip(results).collect())
    }

    fn gradient(&self, step: usize) -> Vec<f64> {
        self.fixture.f64("gradients")[step * LENGTH..][..LENGTH].to_vec()
    }

    fn named(&self, state: Vec<Vec<f64>>) -> Vec<(&'static str, Vec<f64>)> {
        // The fixture speaks of velocity.
        let name = |kind: &&'static str| if *kind == "momentum" { "velocity" } else { *kind };
        self.rule.state().iter().map(name).zip(state).collect()
    }

    fn reference<T: Precision>(&self) -> Path {
        let (graph, updated) = self.graph();
        let dense = |data: &[f64]| Dense {
            shape: Spec::f32_vector(data.len()).shape,
            data: data.iter().map(|&x| T::of(x)).collect(),
        };
        let mut kept: HashMap<ValueId, Dense<T>> =
            updated.iter().map(|&(source, _)| (source, dense(&[0.0; LENGTH]))).collect();
        kept.insert(updated[0].0, dense(&self.fixture.f64("w")));
        let (mut state, mut path) = (OptimizerState::default(), Vec::new());
        let wide = |dense: &Dense<T>| -> Vec<f64> { dense.data.iter().map(|x| x.f64()).collect() };
        for step in 0..STEPS {
            let mut sources = kept.clone();
            let hyper = state.advance_exactly(&self.rule, self.rate, 1.0);
            sources.insert(graph.find("hyper").unwrap(), dense(&hyper));
            sources.insert(graph.find("gradient").unwrap(), dense(&self.gradient(step)));
            let known = evaluate(&graph, sources);
            kept = updated.iter().map(|(source, result)| (*source, known[result].clone())).collect();
            path.push(wide(&kept[&updated[0].0]));
        }
        let slots = updated[1..].iter().map(|(source, _)| wide(&kept[source])).collect();
        (path, self.named(slots))
    }

    fn cpu(&self) -> Path {
        let (graph, _) = self.graph();
        let mut session = session::bind(&[graph], Threads::new(2)).unwrap();
        session.set("w", &self.fixture.f32("w")).unwrap();
        let (mut state, mut path) = (OptimizerState::default(), Vec::new());
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| f64::from(x)).collect() };
        for step in 0..STEPS {
            session.set("hyper", &state.advance(&self.rule, self.rate, 1.0)).unwrap();
            let gradient: Vec<f32> = self.gradient(step).into_iter().map(|x| x as f32).collect();
            session.set("gradient", &gradient).unwrap();
            session.run(0).unwrap();
            path.push(wide(&session.get("w").unwrap()));
        }
        let slots = self.rule.state().iter().map(|kind| wide(&session.get(kind).unwrap())).collect();
        (path, self.named(slots))
    }
}
