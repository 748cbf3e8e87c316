//! Matrix instructions: fragments, products, descriptors.

mod cores;
mod held;
mod matrices;
mod product;
mod warpgroup;

pub use cores::TensorCores;
pub(crate) use cores::{Factors, LANES, Rule, accumulate as accumulate_groups, add_group};
pub(crate) use held::Held;
pub(crate) use matrices::{LoadMatrix, StoreMatrix, TransposeMatrix};
pub use product::Input;
pub(crate) use product::{Left, Multiply, Right, Scratch, Sums, accumulate};
pub(crate) use warpgroup::{PendingMatrix, Shape, Source, Wgmma, WgmmaCommit, WgmmaWait};

use crate::execute::Context;
use crate::fault::{Checked, FaultKind, problem};

/// `.aligned` instructions need all 32 lanes of the warp, together.
pub(crate) fn whole_warp(cx: &Context, mask: u32) -> Checked {
    if mask == u32::MAX {
        return Ok(());
    }
    let missing = !mask;
    let message = format!("lanes 0x{missing:08x} are missing from an instruction of the whole warp");
    problem(FaultKind::SyncMask, mask.trailing_zeros() as usize, message).inspect_err(|_| {
        debug_assert!(cx.warp.live & mask == mask);
    })
}
