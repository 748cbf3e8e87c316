//! The definition, made to take the branches that the CPU took.
//!
//! A network is smooth but for its kinks: the sign before a ReLU, the greatest of a pooling window. Where a value lies on
//! a kink but for rounding, two correct computations may part, and all gradients with them. Forward the difference is as
//! small as the rounding; only two derivatives jump, and both find their branch in an operand. Given the CPU's operand
//! there, the definition computes what the CPU ought to have computed.

use std::collections::HashMap;

use gyrus::{
    graph::{Graph, Node, Role, ValueId, reference::Dense},
    session::Program,
};

pub use gyrus::graph::reference::Precision;

/// What decided the branches of one step: the operands, as the CPU computed them.
pub struct Branches {
    operands: HashMap<ValueId, Vec<f32>>,
}

fn decides(node: &Node) -> bool {
    matches!(node.op.kind(), "relu.backward" | "max_pool.backward")
}

fn deciding(graph: &Graph) -> impl Iterator<Item = ValueId> + '_ {
    graph.nodes.iter().filter(|node| decides(node)).map(|node| node.inputs[0])
}

impl Branches {
    /// The graph as it runs with the operands that decide in the recorded one kept until the end of a run.
    pub fn keep(graph: &Graph, merged: &Graph) -> Graph {
        let mut kept = merged.clone();
        let ids: Vec<ValueId> = deciding(graph).flat_map(|id| Operand::of(merged, id).ids()).collect();
        assert!(ids.len() >= 20, "the network has more kinks than {}", ids.len());
        for (id, value) in merged.ids().zip(&mut kept.values) {
            if ids.contains(&id) {
                value.role = Role::Output;
            }
        }
        kept
    }

    /// What a program of the kept graph has decided in its last run.
    pub fn read(graph: &Graph, merged: &Graph, session: &mut dyn Program) -> Self {
        let mut read = |id: ValueId| session.get::<f32>(&merged.value(id).name).unwrap();
        let mut operand = |id| match Operand::of(merged, id) {
            Operand::Made(id) => read(id),
            Operand::Normalised([x, scale, shift]) => {
                let (scale, shift) = (read(scale), read(shift));
                let coefficients = scale.iter().zip(&shift).cycle();
                read(x).iter().zip(coefficients).map(|(x, (scale, shift))| x.mul_add(*scale, *shift)).collect()
            }
        };
        Self { operands: deciding(graph).map(|id| (id, operand(id))).collect() }
    }

    /// All values of the graph, on these branches. Also how far from its kink the farthest tipped value lies, as a share
    /// of the greatest of its tensor.
    pub fn evaluate<T: Precision>(
        &self,
        graph: &Graph,
        sources: HashMap<ValueId, Dense<T>>,
    ) -> (HashMap<ValueId, Dense<T>>, f64) {
        let (mut known, mut tipped) = (sources, 0.0f64);
        for node in &graph.nodes {
            let mut inputs: Vec<Dense<T>> = node.inputs.iter().map(|id| known[id].clone()).collect();
            let specs = graph.specs(&node.outputs);
            if decides(node) {
                let own = T::call(&*node.op, &inputs, &specs).remove(0).data;
                let ours = std::mem::replace(&mut inputs[0].data, self.operand(node.inputs[0]));
                let forced = T::call(&*node.op, &inputs, &specs).remove(0).data;
                tipped = tipped.max(farthest(&ours, &inputs[0].data, &own, &forced));
            }
            let outputs = T::call(&*node.op, &inputs, &specs);
            known.extend(node.outputs.iter().copied().zip(outputs));
        }
        (known, tipped)
    }

    fn operand<T: Precision>(&self, id: ValueId) -> Vec<T> {
        self.operands[&id].iter().map(|&x| T::of(f64::from(x))).collect()
    }
}

/// Where a graph that was merged has an operand of the recorded one.
enum Operand {
    /// It makes it.
    Made(ValueId),
    /// Its readers take `x * scale + shift` when they load it.
    Normalised([ValueId; 3]),
}

impl Operand {
    fn of(merged: &Graph, id: ValueId) -> Self {
        if merged.value(id).producer.is_some() {
            return Self::Made(id);
        }
        // The numbers of a batch norm are called after it, as its result was.
        let name = &merged.value(id).name;
        let part = |what: &str| {
            let wanted = format!("{name}.{what}");
            merged.ids().find(|&id| merged.value(id).name == wanted).unwrap_or_else(|| panic!("no value {wanted}"))
        };
        let (scale, shift) = (part("scale"), part("shift"));
        let reader = merged.nodes.iter().find(|node| node.inputs.get(1) == Some(&scale)).expect("somebody reads it");
        Self::Normalised([reader.inputs[0], scale, shift])
    }

    fn ids(&self) -> Vec<ValueId> {
        match self {
            Self::Made(id) => vec![*id],
            Self::Normalised(ids) => ids.to_vec(),
        }
    }
}

/// The largest difference between the two operands where the derivatives differ, as a share of the operand.
fn farthest<T: Precision>(ours: &[T], theirs: &[T], own: &[T], forced: &[T]) -> f64 {
    let greatest = ours.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.f64().abs()));
    let differs = own.iter().zip(forced).map(|(own, forced)| own != forced);
    let gaps = ours.iter().zip(theirs).map(|(a, b)| (a.f64() - b.f64()).abs() / greatest);
    gaps.zip(differs).filter(|(_, differs)| *differs).fold(0.0, |m, (gap, _)| m.max(gap.max(f64::MIN_POSITIVE)))
}
