//! Normalises and augments a batch where it is used: what a loader's worker does on the CPU ([`Recipe::apply`]) from the
//! same numbers, so that a worker that feeds a GPU only has to read and place.
//!
//! Per case, with its row of [`numbers`](crate::data::augment::numbers):
//!
//! - **Score.** A voxel `v` of the placed image becomes `((min(max(v, low), high) - mean) - rest) * scale` with the numbers
//!   of its channel and axial slice, or stays 0 where zeros mark the background. Outside the image's bounds everything is 0.
//! - **Gather.** A result at `x` (offsets from the centre) comes from `M x`: images by trilinear interpolation of scored
//!   voxels, labels from the nearest voxel, 0 from outside. Positions are fp32 numbers by definition, computed as
//!   `(m0 z + m1 y + centre) + m2 x`, each operation rounded: no device takes a label from another voxel than the others do.
//! - **Intensity**, of what is not 0: gamma over the range of the channel's non-zero results, scale and shift, noise.
//!
//! It has no derivative: nothing trained stands before it.
//!
//! [`Recipe::apply`]: crate::data::augment::Recipe::apply

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

use std::sync::Arc;

pub use cases::cases;

use super::operands;
use crate::{
    Result,
    cpu::CpuCall,
    data::augment::numbers::Layout,
    graph::{Op, ValueId},
    machine::lower::Lower,
    reference_by_definition,
    tensor::{DType, Shape, Spec, Volume},
};

/// Operands `[images, labels, numbers]`, results `[images, labels]`; or without the labels. Images are fp32 `[N, D, H, W, C]`,
/// labels u8 `[N, D, H, W, 1]`, numbers fp32 `[N, numbers of a row]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augment {
    /// Whether there are labels.
    pub labels: bool,
}

/// The layout of the numbers of these images.
pub fn layout(images: Volume) -> Layout {
    Layout { depth: images.extent[0], channels: images.c }
}

/// The numbers of these images.
pub fn numbers_spec(images: Volume) -> Spec {
    Spec::f32(Shape::new(&[images.n, layout(images).row()]))
}

/// What [`Augment::infer`] has accepted before.
fn volume(images: &Spec) -> Volume {
    images.shape.volume().expect("checked when recorded")
}

impl Op for Augment {
    fn kind(&self) -> &'static str {
        "augment"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let (images, labels, numbers) = if self.labels {
            let [images, labels, numbers] = operands(inputs)?;
            (images, Some(labels), numbers)
        } else {
            let [images, numbers] = operands(inputs)?;
            (images, None, numbers)
        };
        let volume = images.shape.volume().filter(|_| images.dtype == DType::F32);
        let volume = volume.ok_or_else(|| format!("the images are {images}, expected [N, D, H, W, C] fp32"))?;
        let of_images = Spec::new(volume.with_channels(1).shape(), DType::U8);
        if let Some(labels) = labels.filter(|labels| *labels != of_images) {
            return Err(format!("the labels are {labels}, expected {of_images}"));
        }
        if numbers != numbers_spec(volume) {
            return Err(format!("the numbers are {numbers}, expected {}", numbers_spec(volume)));
        }
        Ok([Some(images), labels].into_iter().flatten().collect())
    }

    /// The images, without another copy of the labels.
    fn again(&self, inputs: &[ValueId], _outputs: &[ValueId]) -> Option<(Arc<dyn Op>, Vec<ValueId>)> {
        let numbers = *inputs.last()?;
        Some((Arc::new(Self { labels: false }), vec![inputs[0], numbers]))
    }

    /// One scored case, and two masks for one that has no labels.
    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], _threads: usize) -> usize {
        let volume = volume(&inputs[0]);
        let voxels = volume.extent.iter().product::<usize>();
        let masks = if self.labels { 0 } else { 2 * voxels };
        size_of::<f32>() * voxels * volume.c + masks.next_multiple_of(size_of::<f32>())
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::run(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::lower(self, cx)
    }
}
