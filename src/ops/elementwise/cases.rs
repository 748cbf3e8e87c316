//! Short and long runs, every conversion.

use super::{Add, Axpy, Cast};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::{DType, Spec, Volume},
};

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut list = Vec::new();
    for (extent, large) in [([1, 1, 1], false), ([3, 11, 31], false), ([64, 128, 128], true)] {
        let shape = Volume { n: 1, extent, c: 1 }.shape();
        let x = Operand::new(shape, Fill::Uniform(-1.0, 1.0));
        let mut push = |case: Case| list.push(Case { large, ..case.without_gradient() });
        push(Case::new(Add, vec![x, x]));
        push(Case::new(Axpy { alpha: -0.3 }, vec![x, x]));
        for narrow in [DType::Bf16, DType::F16] {
            push(Case { narrows: false, ..Case::new(Cast { to: narrow }, vec![x]) });
            let operand = Operand { spec: Spec::new(shape, narrow), ..x };
            let case = Case::new(Cast { to: DType::F32 }, vec![operand]);
            push(Case { name: format!("{} from {narrow}", case.name), ..case });
        }
    }
    list
}
