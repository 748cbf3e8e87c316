//! Concatenations: read side by side where they would be made, and their gradients written apart.

use super::{
    editor::Editor,
    forms::{Form, cast},
};
use crate::graph::Node;
use crate::ops::{
    concat::{Concat, Split},
    conv3d_fused::FusedConv3dDgrad,
};

/// Every reader of a concatenation reads its two parts instead, if all of them can: then it is never made.
pub(super) fn join(editor: &mut Editor) -> usize {
    editor.everywhere(|editor, index| {
        let node = editor.node(index).clone();
        let Concat = cast(&*node.op)?;
        let (joined, parts) = (node.outputs[0], [node.inputs[0], node.inputs[1]]);
        if !editor.is_private(joined) {
            return None;
        }
        while let Some(&(reader, operand)) = editor.readers(joined).first() {
            let node = editor.node(reader).clone();
            let mut form = Form::of(&*node.op)?;
            let inputs = form.join(operand, parts, &node.inputs)?;
            editor.replace(reader, Node { op: form.op(), inputs, ..node })?;
        }
        editor.remove(index);
        Some(())
    })
}

/// A dgrad whose result is only split writes the two parts itself.
pub(super) fn split(editor: &mut Editor) -> usize {
    editor.everywhere(|editor, index| {
        let node = editor.node(index).clone();
        let Split { first } = cast(&*node.op)?;
        editor.only_reader(node.inputs[0])?;
        let (maker, _) = editor.maker(node.inputs[0])?;
        let dgrad = editor.node(maker).clone();
        let Form::ConvDgrad(FusedConv3dDgrad { kernel, first: None, relu }) = Form::of(&*dgrad.op)? else {
            return None;
        };
        let form = Form::ConvDgrad(FusedConv3dDgrad { kernel, first: Some(first), relu });
        editor.replace(maker, Node { op: form.op(), outputs: node.outputs, ..dgrad })?;
        editor.remove(index);
        Some(())
    })
}
