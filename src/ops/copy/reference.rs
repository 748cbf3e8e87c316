//! The definition.

use super::Copy;
use crate::{
    graph::reference::{Dense, Real},
    tensor::Spec,
};

impl Copy {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        inputs.to_vec()
    }
}
