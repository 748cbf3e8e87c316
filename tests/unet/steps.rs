//! Three training steps: on the CPU, by the definition, and how far from each other they may be.

use std::collections::HashMap;

use gyrus::{
    cpu::Threads,
    graph::{
        Graph,
        reference::{Dense, evaluate},
    },
    nn::names,
    optim::OptimizerState,
    session::{self, Program},
};

use super::{
    forced::{self, Branches},
    golden::{Golden, Recipe, STEPS},
};
use crate::common::fixture::{largest_difference, summary};

const ROW: usize = 9;
/// Between two computations in double precision: thirty layers forth and back, and three steps, cost some digits.
pub const TIGHT: f64 = 1e-9;
/// Elements of a tensor whose error may be small by luck.
const FEW: usize = 16;
/// Golden numbers below this are zero by theory.
const ZERO: f64 = 1e-12;

/// What three steps leave: losses, the first step's gradients, and all tensors at the end.
pub struct Run {
    pub losses: Vec<f64>,
    pub gradients: HashMap<String, Vec<f64>>,
    pub tensors: HashMap<String, Vec<f64>>,
}

/// The numbers to be met, as the fixture holds them: rows of norm and projections, and an error for each row.
pub struct Expected {
    pub losses: (Vec<f64>, f64),
    pub gradients: Vec<([f64; ROW], f64)>,
    pub changes: Vec<([f64; ROW], f64)>,
}

impl Golden {
    pub fn session(&self, program: &[Graph], initial: &HashMap<String, Vec<f32>>) -> Box<dyn Program> {
        let mut session = session::bind(program, Threads::new(2)).unwrap();
        for (name, data) in initial.iter().filter(|(name, _)| session_has(program, name)) {
            session.set(name, data).unwrap();
        }
        if session.has(names::LABELS) {
            session.set(names::LABELS, &self.labels()).unwrap();
        }
        session
    }

    /// Three steps on the CPU; `observe` sees the program after each.
    pub fn run_cpu(
        &self,
        program: &[Graph],
        recipe: &Recipe,
        initial: &HashMap<String, Vec<f32>>,
        observe: &mut dyn FnMut(usize, &mut dyn Program),
    ) -> Run {
        let mut session = self.session(program, initial);
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| f64::from(x)).collect() };
        let (mut state, mut losses, mut gradients) = (OptimizerState::default(), Vec::new(), HashMap::new());
        for step in 0..STEPS {
            session.set(names::HYPER, &state.advance(&recipe.rule, recipe.rate, 1.0)).unwrap();
            session.run(0).unwrap();
            losses.push(f64::from(session.get::<f32>(names::LOSS).unwrap()[0]));
            if step == 0 {
                let parameters = self.fixture.names("parameters").into_iter();
                gradients =
                    parameters.map(|name| (name.clone(), wide(&session.get(&gradient_of(&name)).unwrap()))).collect();
            }
            observe(step, &mut *session);
        }
        let tensors = self.fixture.names("tensors").into_iter();
        Run {
            losses,
            gradients,
            tensors: tensors.map(|name| (name.clone(), wide(&session.get(&name).unwrap()))).collect(),
        }
    }

    pub fn expected(&self, recipe: &Recipe, run: &Run) -> Expected {
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
    pub fn expected_of(
        &self,
        initial: &HashMap<String, Vec<f32>>,
        sharp: &Run,
        plain: &Run,
        stored: Expected,
    ) -> Expected {
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
    pub fn violations(
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
    pub fn check_on_the_same_branches(
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
    pub fn run_definition<T: forced::Precision>(
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
}

fn initial_of(initial: &HashMap<String, Vec<f32>>, name: &str) -> Vec<f64> {
    initial[name].iter().map(|&x| f64::from(x)).collect()
}

fn session_has(program: &[Graph], name: &str) -> bool {
    program.iter().any(|graph| graph.find(name).is_some())
}

fn gradient_of(parameter: &str) -> String {
    format!("gradient.{parameter}")
}

pub fn moved(after: &[f64], before: &[f32]) -> Vec<f64> {
    after.iter().zip(before).map(|(after, &before)| after - f64::from(before)).collect()
}

fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, x| m.max(x.abs()))
}
