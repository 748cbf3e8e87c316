//! Whole training steps of a small network: what they start from, and what they leave by the operations' definitions.

#![allow(dead_code)] // each test binary uses its own part of this module

use std::collections::HashMap;

use gyrus::{
    graph::{
        Graph, ValueId,
        reference::{Dense, Precision, evaluate},
    },
    nn::{initial_parameters, names},
    random::Stream,
    selftest::{decode, encode},
};

/// The bytes of everything that a step starts from, by name: random images and labels, initial weights, and the numbers
/// that the optimizer reads. Three classes.
pub fn sources(graph: &Graph, hyper: [f64; 4], loss_scale: f64) -> HashMap<String, Vec<u8>> {
    let initial = initial_parameters(graph, 3);
    let ids = graph.nodes.iter().flat_map(|node| &node.inputs).filter(|&&id| graph.value(id).producer.is_none());
    ids.map(|&id| {
        let value = graph.value(id);
        let count = value.spec.shape.elements();
        let mut stream = Stream::new(4, &value.name);
        let data: Vec<f64> = match value.name.as_str() {
            names::IMAGES => (0..count).map(|_| stream.normal()).collect(),
            names::LABELS => (0..count).map(|_| stream.below(3) as f64).collect(),
            names::CLASS_WEIGHTS => vec![0.5, 1.0, 2.0],
            names::RNG => vec![5.0, 0.0, 0.0, 0.0],
            names::HYPER => hyper.to_vec(),
            names::LOSS_SCALE => vec![loss_scale],
            name => initial.get(name).map_or(vec![0.0; count], |x| x.iter().map(|&x| f64::from(x)).collect()),
        };
        (value.name.clone(), encode(value.spec, &data))
    })
    .collect()
}

/// All persistent values after so many steps, by the operations' definitions.
pub fn steps_by_definition<T: Precision>(
    graph: &Graph,
    sources: &HashMap<String, Vec<u8>>,
    steps: u32,
) -> HashMap<ValueId, Vec<f64>> {
    let mut state: HashMap<ValueId, Dense<T>> = HashMap::new();
    for (name, bytes) in sources {
        let id = graph.find(name).unwrap();
        let spec = graph.value(id).spec;
        let data = decode(spec, bytes).into_iter().map(T::of).collect();
        state.insert(id, Dense { shape: spec.shape, data });
    }
    let rng = graph.find(names::RNG);
    let mut results = HashMap::new();
    for step in 0..steps {
        if let Some(rng) = rng.and_then(|id| state.get_mut(&id)) {
            rng.data[2] = T::of(f64::from(step));
        }
        let known = evaluate(graph, state.clone());
        for id in graph.nodes.iter().flat_map(|node| node.outputs.iter().copied()) {
            let value = graph.value(id);
            if value.role.is_persistent() {
                results.insert(graph.origin(id), known[&id].data.iter().map(|x| x.f64()).collect());
            }
            if value.updates.is_some() {
                state.insert(graph.origin(id), known[&id].clone());
            }
        }
    }
    results
}
