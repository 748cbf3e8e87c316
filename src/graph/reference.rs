//! Executes a graph by the operations' definitions: plain loops, in double precision (what is true) or in single
//! precision (how far a straightforward computation strays from it). Slow, and the judge of everything fast.

use std::{collections::HashMap, fmt::Debug, ops};

use ptx_emulator::{Input, TensorCores};

use super::{Graph, ValueId};
use crate::tensor::{DType, Shape, Spec, Volume};

/// The arithmetic that a definition needs.
pub trait Real:
    Copy
    + Debug
    + PartialOrd
    + ops::Add<Output = Self>
    + ops::Sub<Output = Self>
    + ops::Mul<Output = Self>
    + ops::Div<Output = Self>
    + ops::Neg<Output = Self>
    + ops::AddAssign
    + Send
    + Sync
    + 'static
{
    /// The number nearest to this one.
    fn of(x: f64) -> Self;
    /// The same number in double precision.
    fn f64(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self;
    /// e to this power.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Sine.
    fn sin(self) -> Self;
    /// Cosine.
    fn cos(self) -> Self;
    /// Hyperbolic cosine.
    fn cosh(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The larger of two.
    fn max(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
    /// The smaller of two.
    fn min(self, other: Self) -> Self {
        if other < self { other } else { self }
    }
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            fn of(x: f64) -> Self {
                x as $t
            }
            fn f64(self) -> f64 {
                f64::from(self)
            }
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            fn ln(self) -> Self {
                <$t>::ln(self)
            }
            fn sin(self) -> Self {
                <$t>::sin(self)
            }
            fn cos(self) -> Self {
                <$t>::cos(self)
            }
            fn cosh(self) -> Self {
                <$t>::cosh(self)
            }
            fn tanh(self) -> Self {
                <$t>::tanh(self)
            }
        }
    };
}
real!(f32);
real!(f64);

/// A tensor of the reference: its extents and elements, row-major. Integers are held as numbers of the same value.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense<T> {
    /// Extents.
    pub shape: Shape,
    /// Elements.
    pub data: Vec<T>,
}

impl<T: Real> Dense<T> {
    /// All zero.
    pub fn zeros(shape: Shape) -> Self {
        Self { shape, data: vec![T::of(0.0); shape.elements()] }
    }

    /// The extents as a batch of volumes.
    ///
    /// # Panics
    /// If there are not five axes: operations have checked that when they were recorded.
    pub fn volume(&self) -> Volume {
        self.shape.volume().expect("an activation has five axes")
    }

    /// The element of a one-element tensor, or the first.
    pub fn first(&self) -> T {
        self.data[0]
    }
}

/// Implements the two reference methods of [`Op`](super::Op) through one generic inherent function
/// `fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>>`.
#[macro_export]
#[doc(hidden)]
macro_rules! reference_by_definition {
    () => {
        fn reference64(
            &self,
            inputs: &[$crate::graph::reference::Dense<f64>],
            outputs: &[$crate::tensor::Spec],
        ) -> Vec<$crate::graph::reference::Dense<f64>> {
            self.reference(inputs, outputs)
        }
        fn reference32(
            &self,
            inputs: &[$crate::graph::reference::Dense<f32>],
            outputs: &[$crate::tensor::Spec],
        ) -> Vec<$crate::graph::reference::Dense<f32>> {
            self.reference(inputs, outputs)
        }
    };
}

/// The precision in which [`evaluate`] computes.
///
/// Double precision is the truth: nothing is rounded, whatever the element types say. Single precision is what plain loops
/// give: every result is rounded once to its element type.
pub trait Precision: Real {
    /// Calls the operation's definition in this precision.
    fn call(op: &dyn super::Op, inputs: &[Dense<Self>], outputs: &[Spec]) -> Vec<Dense<Self>>;

    /// Calls the operation's definition for operands of these specs.
    fn call_of(op: &dyn super::Op, inputs: &[Dense<Self>], specs: &[Spec], outputs: &[Spec]) -> Vec<Dense<Self>>;

    /// The number as an element of this type.
    fn stored(self, dtype: DType) -> Self;
}

impl Precision for f64 {
    fn call(op: &dyn super::Op, inputs: &[Dense<Self>], outputs: &[Spec]) -> Vec<Dense<Self>> {
        op.reference64(inputs, outputs)
    }

    fn call_of(op: &dyn super::Op, inputs: &[Dense<Self>], _specs: &[Spec], outputs: &[Spec]) -> Vec<Dense<Self>> {
        op.reference64(inputs, outputs)
    }

    fn stored(self, _dtype: DType) -> Self {
        self
    }
}

impl Precision for f32 {
    fn call(op: &dyn super::Op, inputs: &[Dense<Self>], outputs: &[Spec]) -> Vec<Dense<Self>> {
        all_stored(op.reference32(inputs, outputs), outputs)
    }

    fn call_of(op: &dyn super::Op, inputs: &[Dense<Self>], specs: &[Spec], outputs: &[Spec]) -> Vec<Dense<Self>> {
        all_stored(op.reference32_of(inputs, specs, outputs), outputs)
    }

    fn stored(self, dtype: DType) -> Self {
        round_to(dtype, self)
    }
}

fn all_stored(mut results: Vec<Dense<f32>>, outputs: &[Spec]) -> Vec<Dense<f32>> {
    for (result, spec) in results.iter_mut().zip(outputs) {
        result.data.iter_mut().for_each(|value| *value = value.stored(spec.dtype));
    }
    results
}

/// Rounds elements to a floating-point type, from fp32: `half`'s conversion from double precision looks at the upper 32
/// bits alone and takes near ties for ties.
pub fn round_to(dtype: DType, value: f32) -> f32 {
    match dtype {
        DType::Bf16 => half::bf16::from_f32(value).to_f32(),
        DType::F16 => half::f16::from_f32(value).to_f32(),
        DType::F32 | DType::U8 | DType::U32 => value,
    }
}

/// How products of 16-bit numbers are added up where tensor cores do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Products {
    /// The generation.
    pub cores: TensorCores,
    /// The type of the factors.
    pub dtype: DType,
}

impl Products {
    /// For operands of these specs; none if no tensor core has to do with them.
    fn of(cores: TensorCores, specs: &[Spec]) -> Option<Self> {
        let dtype = specs.iter().map(|spec| spec.dtype).find(|dtype| matches!(dtype, DType::Bf16 | DType::F16))?;
        (cores != TensorCores::Sequential).then_some(Self { cores, dtype })
    }

    /// The number format, as the emulated GPU calls it.
    pub fn format(self) -> Input {
        if self.dtype == DType::F16 { Input::F16 } else { Input::Bf16 }
    }

    /// Calls the definition of an operation that is part of another one.
    pub fn call(self, op: &dyn super::Op, inputs: &[Dense<f32>], outputs: &[Spec]) -> Vec<Dense<f32>> {
        all_stored(op.reference_on(self, inputs, &[], outputs), outputs)
    }
}

/// Runs every node of the graph. `sources` holds the values that no node makes; the result holds all values.
///
/// # Panics
/// If a source is missing.
pub fn evaluate<T: Precision>(graph: &Graph, sources: HashMap<ValueId, Dense<T>>) -> HashMap<ValueId, Dense<T>> {
    evaluate_by(graph, sources, T::call_of)
}

/// [`evaluate`] in single precision, as straightforward computations on a GPU would: products of 16-bit numbers are added as
/// its tensor cores add them.
///
/// # Panics
/// If a source is missing.
pub fn evaluate_on(
    cores: TensorCores,
    graph: &Graph,
    sources: HashMap<ValueId, Dense<f32>>,
) -> HashMap<ValueId, Dense<f32>> {
    evaluate_by(graph, sources, |op, inputs, specs, outputs| match Products::of(cores, specs) {
        Some(products) => all_stored(op.reference_on(products, inputs, specs, outputs), outputs),
        None => f32::call_of(op, inputs, specs, outputs),
    })
}

/// Runs every node by a call of its operation with operands, their specs, and those of the results.
fn evaluate_by<T: Precision>(
    graph: &Graph,
    sources: HashMap<ValueId, Dense<T>>,
    call: impl Fn(&dyn super::Op, &[Dense<T>], &[Spec], &[Spec]) -> Vec<Dense<T>>,
) -> HashMap<ValueId, Dense<T>> {
    let mut known = sources;
    for node in &graph.nodes {
        let inputs: Vec<Dense<T>> = node.inputs.iter().map(|id| known[id].clone()).collect();
        let specs = graph.specs(&node.outputs);
        let outputs = call(&*node.op, &inputs, &graph.specs(&node.inputs), &specs);
        assert_eq!(outputs.len(), specs.len(), "{}: number of outputs", node.name);
        for ((&id, output), spec) in node.outputs.iter().zip(outputs).zip(specs) {
            assert_eq!(output.shape, spec.shape, "{}: extents of an output", node.name);
            assert_eq!(output.data.len(), spec.shape.elements(), "{}: elements of an output", node.name);
            known.insert(id, output);
        }
    }
    known
}
