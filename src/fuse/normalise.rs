//! Batch norm: its result applied where it is loaded, its statistics taken where its input is made.

use std::sync::Arc;

use super::{
    editor::Editor,
    forms::{Form, cast},
};
use crate::graph::{Node, ValueId};
use crate::ops::{
    batch_norm::{BatchNorm, BatchNormInference},
    batch_norm_fused::{BatchNormFinish, BatchNormStatistics},
    upsample::Upsample,
};

/// A batch norm becomes two numbers per channel, if everybody who reads its result can apply them while loading: from the
/// batch's statistics, which are taken in a pass of their own until [`statistics`] finds a better place, or from moving
/// averages.
pub(super) fn at_load(editor: &mut Editor) -> usize {
    editor.everywhere(|editor, index| {
        let node = editor.node(index).clone();
        let (x, gamma, beta, y) = (node.inputs[0], *node.inputs.get(1)?, *node.inputs.get(2)?, node.outputs[0]);
        let (epsilon, mean, variance) = match (cast(&*node.op), cast(&*node.op)) {
            (Some(BatchNorm { epsilon }), _) => (epsilon, node.outputs[1], node.outputs[2]),
            (_, Some(BatchNormInference { epsilon })) => (epsilon, node.inputs[3], node.inputs[4]),
            _ => return None,
        };
        let [scale, shift] = ["scale", "shift"].map(|what| format!("{}.{what}", node.name));
        let outputs = [scale, shift].map(|name| editor.add_value(name, editor.spec(gamma)));
        let finish = Node {
            op: Arc::new(BatchNormFinish { epsilon }),
            inputs: vec![gamma, beta, mean, variance],
            outputs: outputs.to_vec(),
            ..node.clone()
        };
        editor.replace(index, finish)?;
        if node.outputs.len() > 1 {
            let statistics = Node {
                name: format!("{}.statistics", node.name),
                op: Arc::new(BatchNormStatistics),
                inputs: vec![x],
                outputs: vec![mean, variance],
                ..node
            };
            editor.insert(index, statistics)?;
        }
        load(editor, y, [x, outputs[0], outputs[1]])
    })
}

/// Makes every reader of `y` read `x * scale + shift` instead.
fn load(editor: &mut Editor, y: ValueId, normalised: [ValueId; 3]) -> Option<()> {
    if !editor.is_private(y) {
        return None;
    }
    while let Some(&(reader, operand)) = editor.readers(y).first() {
        let node = editor.node(reader).clone();
        if let Some(Upsample) = cast(&*node.op) {
            // Repeating a voxel and scaling it may change places: whoever reads the larger tensor does the scaling.
            let [x, scale, shift] = normalised;
            let large = node.outputs[0];
            let raw = editor.add_value(editor.name(large).to_owned(), editor.spec(large));
            editor.replace(reader, Node { inputs: vec![x], outputs: vec![raw], ..node })?;
            load(editor, large, [raw, scale, shift])?;
            continue;
        }
        let mut form = Form::of(&*node.op)?;
        let inputs = form.normalise(operand, normalised, &node.inputs)?;
        editor.replace(reader, Node { op: form.op(), inputs, ..node })?;
    }
    Some(())
}

/// The convolution that makes what is normalised takes its statistics. A batch norm that [`at_load`] had to leave whole is
/// applied with them in a pass of its own, which still saves the passes that they would take.
pub(super) fn statistics(editor: &mut Editor) -> usize {
    editor.everywhere(|editor, index| {
        let node = editor.node(index).clone();
        let x = *node.inputs.first()?;
        let statistics = match (cast(&*node.op), cast(&*node.op)) {
            (Some(BatchNormStatistics), _) => {
                editor.remove(index);
                [node.outputs[0], node.outputs[1]]
            }
            (_, Some(BatchNorm { epsilon })) => {
                let (mean, variance) = (node.outputs[1], node.outputs[2]);
                let apply = Node {
                    op: Arc::new(BatchNormInference { epsilon }),
                    inputs: vec![x, node.inputs[1], node.inputs[2], mean, variance],
                    outputs: vec![node.outputs[0]],
                    ..node
                };
                editor.replace(index, apply)?;
                [mean, variance]
            }
            _ => return None,
        };
        let (maker, 0) = editor.maker(x)? else { return None };
        let made = editor.node(maker).clone();
        let mut form = Form::of(&*made.op)?;
        form.take_statistics()?;
        let outputs = made.outputs.iter().copied().chain(statistics).collect();
        editor.replace(maker, Node { op: form.op(), outputs, ..made })
    })
}
