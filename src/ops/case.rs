//! A shape of an operation worth testing.

use std::sync::Arc;

use crate::{
    cpu::{Element, with_element},
    graph::Op,
    lowering,
    random::Stream,
    tensor::{DType, Shape, Spec},
};

/// What the elements of an operand are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Uniform in [low, high).
    Uniform(f64, f64),
    /// Uniform in [-1, 1) but at least a hundredth away from zero, for operations with a kink there.
    AwayFromZero,
    /// A random order of evenly spaced numbers in [-1, 1): no two are equal, for operations that compare.
    Distinct,
    /// Integers in [0, n).
    Integers(u32),
    /// This number throughout.
    Constant(f64),
    /// Uniform in [-1, 1) but for one element, which is infinite or no number.
    OneNotFinite,
    /// These, exact in the operand's type.
    Listed(&'static [f64]),
}

/// One operand.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Extents and element type.
    pub spec: Spec,
    /// Elements.
    pub fill: Fill,
    /// Whether the gradient by this operand is checked.
    pub differentiable: bool,
}

/// An operation with operands.
#[derive(Clone, Debug)]
pub struct Case {
    /// `KIND SHAPE`, unique in the catalogue.
    pub name: String,
    /// The operation.
    pub op: Arc<dyn Op>,
    /// Its operands, in its order.
    pub operands: Vec<Operand>,
    /// Whether it is as large as in a real network: too large for machines that execute every instruction in software.
    pub large: bool,
    /// Outputs through which gradients flow.
    pub seeded: Vec<usize>,
    /// Whether mixed precision has the same case with 16-bit activations.
    pub narrows: bool,
}

impl Operand {
    /// An fp32 operand whose gradient is checked.
    pub fn new(shape: Shape, fill: Fill) -> Self {
        Self { spec: Spec::f32(shape), fill, differentiable: true }
    }

    /// An fp32 operand without gradient.
    pub fn fixed(shape: Shape, fill: Fill) -> Self {
        Self { spec: Spec::f32(shape), fill, differentiable: false }
    }

    /// An integer operand.
    pub fn integers(shape: Shape, dtype: DType, below: u32) -> Self {
        Self { spec: Spec::new(shape, dtype), fill: Fill::Integers(below), differentiable: false }
    }

    /// The same operand in a 16-bit type, if it is an activation or a filter: what has five axes.
    fn narrowed(self, dtype: DType) -> Self {
        let is_narrowed = self.spec.dtype == DType::F32 && self.spec.shape.extents().len() == 5;
        Self { spec: Spec { dtype: if is_narrowed { dtype } else { self.spec.dtype }, ..self.spec }, ..self }
    }

    /// Elements that are exact in the operand's type, the same for the same name.
    pub fn elements(&self, name: &str) -> Vec<f64> {
        let mut stream = Stream::new(0x0067_7972_7573, name);
        let count = self.spec.shape.elements();
        let exact = |x: f64| exact(self.spec.dtype, x);
        match self.fill {
            Fill::Uniform(low, high) => (0..count).map(|_| exact(stream.between(low, high))).collect(),
            Fill::AwayFromZero => (0..count)
                .map(|_| exact(stream.between(0.01, 1.0) * if stream.chance(0.5) { 1.0 } else { -1.0 }))
                .collect(),
            Fill::Distinct => {
                let step = 2.0 / count as f64;
                stream.permutation(count).into_iter().map(|rank| exact(-1.0 + step * rank as f64)).collect()
            }
            Fill::Integers(below) => (0..count).map(|_| stream.below(below as usize) as f64).collect(),
            Fill::OneNotFinite => {
                let mut list: Vec<f64> = (0..count).map(|_| exact(stream.between(-1.0, 1.0))).collect();
                list[stream.below(count)] = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN][stream.below(3)];
                list
            }
            Fill::Constant(value) => vec![exact(value); count],
            Fill::Listed(values) => values.to_vec(),
        }
    }
}

/// The number nearest to `x` in this type.
fn exact(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::U8 | DType::U32 => x,
        _ => with_element!(dtype, E => f64::from(E::narrow(x as f32).widen())),
    }
}

impl Case {
    /// A case; the name is made from the operation and the extents of the operands.
    pub fn new(op: impl Op, operands: Vec<Operand>) -> Self {
        let shapes: Vec<String> = operands.iter().take(3).map(|operand| operand.spec.shape.to_string()).collect();
        let more = if operands.len() > 3 { " ..." } else { "" };
        let name = format!("{op:?} {}{more}", shapes.join(" "));
        Self { name, op: Arc::new(op), operands, large: false, seeded: vec![0], narrows: true }
    }

    /// The same case with the extents of every operand in its name, where the first few do not tell cases apart.
    pub fn named_by_all_operands(self) -> Self {
        let shapes: Vec<String> = self.operands.iter().map(|operand| operand.spec.shape.to_string()).collect();
        Self { name: format!("{:?} {}", self.op, shapes.join(" ")), ..self }
    }

    /// The same case, known to be a large one.
    pub fn large(self) -> Self {
        Self { large: true, ..self }
    }

    /// The same case for an operation through which no gradient flows.
    pub fn without_gradient(self) -> Self {
        Self { seeded: Vec::new(), ..self }
    }

    /// The case with its activations and filters in a 16-bit type, as mixed precision has them; none if it has none.
    pub fn narrowed(&self, dtype: DType) -> Option<Self> {
        let operands: Vec<Operand> = self.operands.iter().map(|operand| operand.narrowed(dtype)).collect();
        let changes = operands.iter().zip(&self.operands).any(|(new, old)| new.spec != old.spec);
        // What derivatives record is the same for both types, and neighbours that become equal have no derivative.
        let is_smooth = dtype == DType::Bf16 && operands.iter().all(|operand| operand.fill != Fill::Distinct);
        let seeded = if is_smooth { self.seeded.clone() } else { Vec::new() };
        (self.narrows && changes).then(|| Self {
            name: format!("{} {dtype}", self.name),
            operands,
            seeded,
            ..self.clone()
        })
    }

    /// The element type of its activations.
    pub fn dtype(&self) -> DType {
        let narrow = self
            .operands
            .iter()
            .map(|operand| operand.spec.dtype)
            .find(|dtype| matches!(dtype, DType::Bf16 | DType::F16));
        narrow.unwrap_or(DType::F32)
    }

    /// Whether a GPU can run the case.
    pub fn has_gpu_kernel(&self) -> bool {
        lowering::refusal(&*self.op, &self.specs()).is_none()
    }

    /// Specs of the operands.
    pub fn specs(&self) -> Vec<Spec> {
        self.operands.iter().map(|operand| operand.spec).collect()
    }
}
