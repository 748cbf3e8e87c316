//! What a processor makes of an operation: launches, or a refusal, and the scratch memory that it takes.
//!
//! An operation says how it is lowered ([`Op::launches`]); here it is asked. The planner lowers without addresses, to learn
//! how much scratch memory a node wants; whoever binds a program lowers again with the planned ones. So no operation states
//! its workspace twice, and what a GPU cannot run is known from the attempt alone.

use crate::{
    Error, Result,
    graph::Op,
    machine::{
        Launch,
        lower::{Lower, Operand},
    },
    tensor::{ALIGNMENT, Spec},
};

/// The kind of processor that a program is prepared for: operations want different scratch memory, and are merged differently,
/// on a CPU and on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// This CPU, which runs every operation.
    Cpu {
        /// Worker threads, the caller included.
        threads: usize,
    },
    /// Any GPU, real or emulated: it runs what turns into launches of its kernels.
    Gpu,
}

impl Processor {
    /// Whether the operation can run on these operands.
    ///
    /// # Panics
    /// If the operation refuses the operands themselves.
    pub fn runs(self, op: &dyn Op, inputs: &[Spec]) -> bool {
        match self {
            Self::Cpu { .. } => true,
            Self::Gpu => refusal(op, inputs).is_none(),
        }
    }

    /// Scratch bytes that the operation wants; none if there is no kernel, which binding will report.
    pub fn workspace_bytes(self, op: &dyn Op, inputs: &[Spec], outputs: &[Spec]) -> usize {
        match self {
            Self::Cpu { threads } => op.cpu_workspace(inputs, outputs, threads),
            Self::Gpu => lowered(op, "", inputs, outputs, |cx| cx.workspace_bytes()).unwrap_or(0),
        }
    }
}

/// The launches of a node, with everything they may touch.
///
/// # Errors
/// If the operation has no kernel for these operands.
pub fn launches(
    op: &dyn Op,
    name: &str,
    inputs: &[Operand],
    outputs: &[Operand],
    workspace: u64,
) -> Result<Vec<Launch>> {
    let mut cx = Lower::new(name, inputs, outputs, workspace);
    op.launches(&mut cx)?;
    Ok(cx.finish())
}

/// Why the operation has no GPU kernel for these operands; none if it has.
///
/// # Panics
/// If the operation refuses the operands themselves.
pub fn refusal(op: &dyn Op, inputs: &[Spec]) -> Option<Error> {
    lowered(op, op.kind(), inputs, &inferred(op, inputs), |_| ()).err()
}

/// The least compute capability (times ten) of a GPU that can run the operation on these operands; none if none can.
///
/// # Panics
/// If the operation refuses the operands themselves.
pub fn least_compute(op: &dyn Op, inputs: &[Spec]) -> Option<u32> {
    let least = |cx: &Lower<'_>| cx.launched().iter().map(|launch| launch.compute).max();
    lowered(op, op.kind(), inputs, &inferred(op, inputs), least).ok()?
}

fn inferred(op: &dyn Op, inputs: &[Spec]) -> Vec<Spec> {
    op.infer(inputs).unwrap_or_else(|cause| panic!("{}: {cause}", op.kind()))
}

/// Lowers with addresses that nobody will use, and asks about the outcome.
fn lowered<T>(
    op: &dyn Op,
    name: &str,
    inputs: &[Spec],
    outputs: &[Spec],
    ask: impl FnOnce(&Lower<'_>) -> T,
) -> Result<T> {
    let (inputs, outputs) = (placed(inputs), placed(outputs));
    let mut cx = Lower::new(name, &inputs, &outputs, 0);
    op.launches(&mut cx)?;
    Ok(ask(&cx))
}

/// Operands at addresses that no rule about alignment or neighbourhood can object to.
fn placed(specs: &[Spec]) -> Vec<Operand> {
    let mut next = 0;
    let operand = |&spec: &Spec| {
        let address = next;
        next += (spec.bytes() as u64).next_multiple_of(ALIGNMENT as u64);
        Operand { spec, address }
    };
    specs.iter().map(operand).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{self, case::Case};

    #[test]
    fn every_case_of_the_catalogue_has_launches_inside_its_operands() {
        for case in ops::catalogue().into_iter().filter(Case::has_gpu_kernel) {
            let specs = case.specs();
            let outputs = case.op.infer(&specs).unwrap();
            let operand = |(index, &spec): (usize, &Spec)| Operand { spec, address: (index as u64 + 1) << 32 };
            let inputs: Vec<Operand> = specs.iter().enumerate().map(operand).collect();
            let outputs: Vec<Operand> = outputs.iter().enumerate().map(|(i, spec)| operand((i + 100, spec))).collect();
            let list = launches(&*case.op, &case.name, &inputs, &outputs, 1 << 60).unwrap();
            assert!(!list.is_empty(), "{}: no launch", case.name);
            assert!(
                list.iter().all(|launch| !launch.access.is_empty()),
                "{}: a launch that touches nothing",
                case.name
            );
        }
    }
}
