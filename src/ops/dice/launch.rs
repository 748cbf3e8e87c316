//! On a GPU: sums per CTA, added in a fixed order, then the loss; or the slopes, then the gradient of every voxel.

use super::{DiceLoss, DiceLossBackward, LossKind, SUMS};
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    ops::by_type::{ByType, by_type},
    tensor::Volume,
};

const FAMILY: &str = "dice";
static SUM: ByType<DiceSumsArguments> = by_type!(FAMILY, "dice_sums", 128);
const FINISH: Kernel<DiceFinishArguments> = Kernel::new(FAMILY, "dice_finish", 128);
const LOSS: Kernel<DiceLossArguments> = Kernel::new(FAMILY, "dice_loss", 1);
const SLOPES: Kernel<DiceLossArguments> = Kernel::new(FAMILY, "dice_slopes", 32);
static BACKWARD: ByType<DiceBackwardArguments> = by_type!(FAMILY, "dice_backward", 256);

/// Voxels of a CTA of the summing kernel: eight for each of its threads.
const VOXELS_PER_CTA: usize = 8 * 128;

arguments!(DiceSumsArguments { logits: u64, labels: u64, partials: u64, voxels: i64, classes: i32, unused: i32 });
arguments!(DiceFinishArguments { partials: u64, sums: u64, rows: i64, count: i32, unused: i32 });
arguments!(DiceLossArguments {
    sums: u64,
    weights: u64,
    dloss: u64,
    result: u64,
    samples: i32,
    unused: i32,
    classes: i32,
    is_log: i32,
});
arguments!(DiceBackwardArguments {
    logits: u64,
    labels: u64,
    slopes: u64,
    dlogits: u64,
    voxels: i64,
    classes: i32,
    unused: i32,
});

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    let typed = SUM.abi().into_iter().chain(BACKWARD.abi());
    typed.chain([FINISH.abi(), LOSS.abi(), SLOPES.abi()]).collect()
}

pub(super) fn forward(op: &DiceLoss, cx: &mut Lower<'_>) -> Result<()> {
    let volume = cx.input(0).spec.shape.volume().expect("checked when recorded");
    let (voxels, count) = (volume.voxels() / volume.n, volume.c * SUMS);
    let rows = voxels.div_ceil(VOXELS_PER_CTA);
    let partials = cx.workspace(4 * volume.n * rows * count);
    let [logits, labels, weights] = [0, 1, 2].map(|index| cx.input(index).address);
    let [loss, sums] = [0, 1].map(|index| cx.output(index).address);
    let samples = volume.n as u64;
    let classes = volume.c as i32;
    let sum = DiceSumsArguments { logits, labels, partials, voxels: voxels as i64, classes, unused: 0 };
    cx.launch(SUM.of(cx.input(0)), [rows as u64, samples, 1], &sum)?;
    let finish = DiceFinishArguments { partials, sums, rows: rows as i64, count: count as i32, unused: 0 };
    cx.launch(&FINISH, [count as u64, samples, 1], &finish)?;
    cx.launch(&LOSS, [1; 3], &loss_arguments(op.kind, volume, [sums, weights, 0, loss]))
}

fn loss_arguments(kind: LossKind, logits: Volume, [sums, weights, dloss, result]: [u64; 4]) -> DiceLossArguments {
    let (samples, classes) = (logits.n as i32, logits.c as i32);
    let is_log = i32::from(kind == LossKind::LogDice);
    DiceLossArguments { sums, weights, dloss, result, samples, unused: 0, classes, is_log }
}

pub(super) fn backward(op: &DiceLossBackward, cx: &mut Lower<'_>) -> Result<()> {
    let volume = cx.input(0).spec.shape.volume().expect("checked when recorded");
    let slopes = cx.workspace(4 * 2 * volume.c);
    let [logits, labels, weights, sums, dloss] = [0, 1, 2, 3, 4].map(|index| cx.input(index).address);
    let (voxels, classes) = (volume.voxels() as i64, volume.c as i32);
    cx.launch(&SLOPES, [1; 3], &loss_arguments(op.kind, volume, [sums, weights, dloss, slopes]))?;
    let dlogits = cx.output(0).address;
    let arguments = DiceBackwardArguments { logits, labels, slopes, dlogits, voxels, classes, unused: 0 };
    cx.launch_over(BACKWARD.of(cx.input(0)), volume.voxels(), &arguments)
}
