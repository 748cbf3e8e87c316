//! One operation with its derivative, recorded on stored operands and computed in three ways: by the definition in
//! double precision, by the definition in single precision, and on the CPU.

#![allow(dead_code)] // each test binary uses its own part of this module

use std::{collections::HashMap, sync::Arc};

use gyrus::{
    cpu::Threads,
    graph::{
        Graph, Op, Role, Tape, ValueId, differentiate,
        reference::{Dense, Precision, evaluate},
    },
    ops::elementwise::Add,
    session,
    tensor::{DType, Shape, Spec},
};

use super::fixture::{Fixture, assert_same_f64, assert_within_rule, largest_difference};

/// An operation on operands with known values.
pub struct Recorded {
    graph: Graph,
    sources: HashMap<ValueId, Dense<f64>>,
    results: Vec<(String, ValueId)>,
}

/// An operand: its name and values, and whether it gets a gradient.
pub struct Operand {
    name: String,
    spec: Spec,
    data: Vec<f64>,
    role: Role,
}

impl Operand {
    /// fp32, with a gradient that becomes the result `d{name}`.
    pub fn trained(name: &str, extents: &[usize], data: Vec<f64>) -> Self {
        Self { role: Role::Parameter, ..Self::given(name, extents, data) }
    }

    /// fp32, without a gradient.
    pub fn given(name: &str, extents: &[usize], data: Vec<f64>) -> Self {
        Self { name: name.to_owned(), spec: Spec::f32(Shape::new(extents)), data, role: Role::Input }
    }

    /// Labels.
    pub fn labels(name: &str, extents: &[usize], data: Vec<f64>) -> Self {
        let spec = Spec::new(Shape::new(extents), DType::U8);
        Self { name: name.to_owned(), spec, data, role: Role::Input }
    }
}

impl Recorded {
    /// Records `op`; its outputs get these names. `seed` is the gradient of the first output.
    pub fn new(op: impl Op, operands: Vec<Operand>, outputs: &[&str], seed: Option<Vec<f64>>) -> Self {
        let mut tape = Tape::new();
        let mut sources = HashMap::new();
        let mut inputs = Vec::new();
        for operand in &operands {
            let id = tape.source(&operand.name, operand.spec, operand.role);
            sources.insert(id, Dense { shape: operand.spec.shape, data: operand.data.clone() });
            inputs.push(id);
        }
        let updated: Vec<usize> = op.updates(inputs.len()).into_iter().map(|(_, output)| output).collect();
        let values = tape.record("node", op, &inputs).unwrap();
        assert_eq!(values.len(), outputs.len(), "outputs");
        let mut results = Vec::new();
        for (index, (&id, name)) in values.iter().zip(outputs).enumerate() {
            if !updated.contains(&index) {
                tape.keep_output(id, *name);
            }
            results.push(((*name).to_owned(), id));
        }
        if let Some(data) = seed {
            let spec = tape.graph().value(values[0]).spec;
            let id = tape.source("seed", spec, Role::Input);
            sources.insert(id, Dense { shape: spec.shape, data });
            let pairs = differentiate(&mut tape, &[(values[0], id)], &(Arc::new(Add) as _)).unwrap();
            let trained = operands.iter().filter(|operand| operand.role == Role::Parameter).count();
            assert_eq!(pairs.len(), trained, "operands without a gradient");
            for (parameter, gradient) in pairs {
                results.push((format!("d{}", tape.graph().value(parameter).name), gradient));
            }
        }
        Self { graph: tape.finish(), sources, results }
    }

    /// By the definition, as results by name.
    pub fn reference<T: Precision>(&self) -> HashMap<String, Vec<f64>> {
        let convert =
            |dense: &Dense<f64>| Dense { shape: dense.shape, data: dense.data.iter().map(|&x| T::of(x)).collect() };
        let known = evaluate(&self.graph, self.sources.iter().map(|(&id, dense)| (id, convert(dense))).collect());
        let wide = |id| known[id].data.iter().map(|x: &T| x.f64()).collect();
        self.results.iter().map(|(name, id)| (name.clone(), wide(id))).collect()
    }

    /// On the CPU with two threads.
    pub fn cpu(&self) -> HashMap<String, Vec<f64>> {
        let mut session = session::bind(std::slice::from_ref(&self.graph), Threads::new(2)).unwrap();
        for (&id, dense) in &self.sources {
            let value = self.graph.value(id);
            match value.spec.dtype {
                DType::F32 => session.set(&value.name, &dense.data.iter().map(|&x| x as f32).collect::<Vec<_>>()),
                DType::U8 => session.set(&value.name, &dense.data.iter().map(|&x| x as u8).collect::<Vec<_>>()),
                other => panic!("{}: {other:?} operands are not written here", value.name),
            }
            .unwrap();
        }
        session.run(0).unwrap();
        let mut read =
            |id| session.get::<f32>(&self.graph.value(id).name).unwrap().into_iter().map(f64::from).collect();
        self.results.iter().map(|(name, id)| (name.clone(), read(*id))).collect()
    }

    /// Holds every pair (result, stored tensor) against the fixture: the definition sharply, the CPU by the rule.
    pub fn check(&self, fixture: &Fixture, case: &str, pairs: &[(&str, &str)]) {
        let (sharp, plain, fast) = (self.reference::<f64>(), self.reference::<f32>(), self.cpu());
        for (result, stored) in pairs {
            let what = format!("{case}.{stored}");
            let expected = fixture.f64(&what);
            assert_same_f64(&what, &sharp[*result], &expected, 1e-11);
            let (f32_error, _) = largest_difference(&what, &plain[*result], &expected);
            assert_within_rule(&what, &fast[*result], &expected, f32_error);
        }
    }
}

fn write<T>(to: &mut [T], from: &[f64], convert: impl Fn(f64) -> T) {
    assert_eq!(to.len(), from.len());
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = convert(from));
}
