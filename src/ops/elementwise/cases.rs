//! Short and long runs, every conversion.

use super::{Add, Axpy, Cast};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::{DType, Shape, Spec},
};

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut list = Vec::new();
    for (length, timed) in [(1, false), (1023, false), (1 << 20, true)] {
        let x = Operand::new(Shape::vector(length), Fill::Uniform(-1.0, 1.0));
        let mut push = |case: Case| list.push(Case { timed, ..case.without_gradient() });
        push(Case::new(Add, vec![x, x]));
        push(Case::new(Axpy { alpha: -0.3 }, vec![x, x]));
        for narrow in [DType::Bf16, DType::F16] {
            push(Case::new(Cast { to: narrow }, vec![x]));
            // Eighths are exact in both 16-bit types.
            let spec = Spec::new(Shape::vector(length), narrow);
            let fill = Fill::Constant(-0.375);
            push(Case::new(Cast { to: DType::F32 }, vec![Operand { spec, fill, differentiable: false }]));
        }
    }
    list.dedup_by(|a, b| a.name == b.name && a.operands[0].spec.dtype == b.operands[0].spec.dtype);
    for case in &mut list {
        if case.operands[0].spec.dtype != DType::F32 {
            case.name = format!("{} from {}", case.name, case.operands[0].spec.dtype);
        }
    }
    list
}
