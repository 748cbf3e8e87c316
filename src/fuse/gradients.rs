//! Gradients: two of the same value added in passing, and the ReLU's mask applied in passing.

use std::sync::Arc;

use super::{
    editor::Editor,
    forms::{Form, cast},
};
use crate::graph::{Node, ValueId};
use crate::ops::{
    batch_norm_fused::{FusedBatchNormBackward, PooledBatchNormBackward},
    elementwise::Add,
    max_pool_fused::FusedMaxPoolBackward,
    relu::ReluBackward,
    sources::Load,
};

/// Where a value has two readers, the operation that makes the later of its two gradients adds the earlier one.
pub(super) fn sums(editor: &mut Editor) -> usize {
    editor.everywhere(|editor, index| {
        let node = editor.node(index).clone();
        let Add = cast(&*node.op)?;
        let [a, b] = [node.inputs[0], node.inputs[1]];
        let mut reversed = editor.clone();
        if add_to(&mut reversed, index, b, a, node.outputs[0]).is_some() {
            *editor = reversed;
            return Some(());
        }
        add_to(editor, index, a, b, node.outputs[0])
    })
}

/// The node that makes `gradient` makes the sum instead.
fn add_to(editor: &mut Editor, sum: usize, gradient: ValueId, addend: ValueId, result: ValueId) -> Option<()> {
    editor.only_reader(gradient)?;
    let (maker, 0) = editor.maker(gradient)? else { return None };
    // It must be there by then.
    if editor.maker(addend).is_some_and(|(other, _)| other >= maker) {
        return None;
    }
    let node = editor.node(maker).clone();
    let mut form = Form::of(&*node.op)?;
    let inputs = form.accumulate(addend, &node.inputs)?;
    let outputs = [result].iter().chain(&node.outputs[1..]).copied().collect();
    editor.replace(maker, Node { op: form.op(), inputs, outputs, ..node })?;
    editor.remove(sum);
    Some(())
}

/// Batch norm's backward pass masks its result, where what was normalised came from a ReLU.
pub(super) fn masks_of_norms(editor: &mut Editor) -> usize {
    editor.everywhere(|editor, index| {
        let node = editor.node(index).clone();
        let ReluBackward = cast(&*node.op)?;
        let [y, dy] = [node.inputs[0], node.inputs[1]];
        editor.only_reader(dy)?;
        let (maker, 0) = editor.maker(dy)? else { return None };
        let norm = editor.node(maker).clone();
        let Form::NormBackward(op @ FusedBatchNormBackward { relu: false, .. }) = Form::of(&*norm.op)? else {
            return None;
        };
        if norm.inputs[0] != y {
            return None;
        }
        let form = Form::NormBackward(FusedBatchNormBackward { relu: true, ..op });
        let outputs = [node.outputs[0]].iter().chain(&norm.outputs[1..]).copied().collect();
        editor.replace(maker, Node { op: form.op(), outputs, ..norm })?;
        editor.remove(index);
        Some(())
    })
}

/// Batch norm's backward pass takes the gradient from behind the max pool, where nobody else read the normalised tensor.
pub(super) fn pools(editor: &mut Editor) -> usize {
    editor.everywhere(|editor, index| {
        let pool = editor.node(index).clone();
        let FusedMaxPoolBackward { load: Load::Normalised, accumulate: false } = cast(&*pool.op)? else {
            return None;
        };
        let (reader, 4) = editor.only_reader(pool.outputs[0])? else { return None };
        let node = editor.node(reader).clone();
        let Form::NormBackward(norm) = Form::of(&*node.op)? else { return None };
        if node.inputs[0] != pool.inputs[0] {
            return None;
        }
        let inputs = node.inputs[..4].iter().chain(&pool.inputs[1..]).chain(&node.inputs[5..]).copied().collect();
        editor.replace(reader, Node { op: Arc::new(PooledBatchNormBackward { norm }), inputs, ..node })?;
        editor.remove(index);
        Some(())
    })
}

/// A convolution's gradients mask what they load. Both read the ReLU's result besides, which is still one pass less than
/// to read it and the gradient and to write a third tensor.
pub(super) fn masks_at_load(editor: &mut Editor) -> usize {
    editor.everywhere(|editor, index| {
        let node = editor.node(index).clone();
        let ReluBackward = cast(&*node.op)?;
        let ([y, dy], masked) = ([node.inputs[0], node.inputs[1]], node.outputs[0]);
        if !editor.is_private(masked) {
            return None;
        }
        while let Some(&(reader, operand)) = editor.readers(masked).first() {
            let node = editor.node(reader).clone();
            let mut form = Form::of(&*node.op)?;
            let inputs = form.mask(operand, [dy, y], &node.inputs)?;
            editor.replace(reader, Node { op: form.op(), inputs, ..node })?;
        }
        editor.remove(index);
        Some(())
    })
}
