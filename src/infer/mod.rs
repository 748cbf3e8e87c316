//! From a trained network to label maps: tiling, blending, mirroring.
//!
//! A volume of any extents is covered by windows of the network's extents. Each window's class probabilities are
//! averaged over mirrored copies, then blended into the volume with weights that fall off towards the window's border,
//! where a network sees least context. Windows come in order of D, so finished slices leave at one end while windows
//! enter at the other: memory holds as many slices as a window is deep, however deep the volume.

mod blend;
mod files;
mod memory;
mod mirror;
mod predictor;
mod stream;
mod windows;

pub use blend::{Accumulator, Slice, gaussian};
pub use files::Examined;
pub use memory::HostMemory;
pub use mirror::{flip, flips};
pub use predictor::Predictor;
pub use stream::{Segmentation, segment_stream};
pub use windows::{padding_before, starts, windows};

use crate::{Error, Result, nn::Precision};

/// A network: gets a window `[D, H, W, C]` and fills in probabilities `[D, H, W, classes]`.
pub type Network<'a> = dyn FnMut(&[f32], &mut [f32]) -> Result<()> + 'a;

/// Whoever takes the finished slices.
pub type Sink<'a> = dyn FnMut(Slice) -> Result<()> + 'a;

/// How a volume is covered, and what the network computes in.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictOptions {
    /// The share of a window's extent by which neighbours overlap at least; in [0, 1). nnU-Net's is 0.5.
    pub overlap: f64,
    /// The axes D, H, W to mirror: every combination is predicted and averaged, 2^n runs of the network.
    pub mirror: [bool; 3],
    /// What surrounds a volume that is smaller than a window; 0 is the mean of a standardised image.
    pub fill: f32,
    /// The format of activations; none: what the network was trained in.
    pub precision: Option<Precision>,
    /// The most bytes that the network may take on its device; none: as many as it takes.
    pub memory_budget: Option<usize>,
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self { overlap: 0.5, mirror: [false; 3], fill: 0.0, precision: None, memory_budget: None }
    }
}

impl PredictOptions {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the option.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.overlap) {
            return Err(Error::usage("overlap", format!("{} cannot work", self.overlap), "give 0 or more, below 1"));
        }
        if !self.fill.is_finite() {
            return Err(Error::usage("padding value", format!("{} cannot work", self.fill), "give a finite number"));
        }
        Ok(())
    }

    /// How often the network runs for a volume: for progress bars.
    pub fn runs(&self, extent: [usize; 3], patch: [usize; 3]) -> usize {
        windows(extent, patch, self.overlap).len() * flips(self.mirror).len()
    }
}

/// Buffers for one window and its mirrored copies.
struct WindowRunner {
    patch: [usize; 3],
    channels: usize,
    classes: usize,
    flips: Vec<[bool; 3]>,
    /// The window as it lies in the volume.
    window: Vec<f32>,
    mirrored: Vec<f32>,
    output: Vec<f32>,
    mean: Vec<f32>,
}

impl WindowRunner {
    fn new(channels: usize, classes: usize, patch: [usize; 3], options: &PredictOptions) -> Self {
        let voxels: usize = patch.iter().product();
        let flips = flips(options.mirror);
        let copies = usize::from(flips.len() > 1);
        Self {
            patch,
            channels,
            classes,
            flips,
            window: vec![0.0; voxels * channels],
            mirrored: vec![0.0; voxels * channels * copies],
            output: vec![0.0; voxels * classes],
            mean: vec![0.0; voxels * classes * copies],
        }
    }

    /// Bytes of its buffers.
    fn bytes_for(channels: usize, classes: usize, patch: [usize; 3], options: &PredictOptions) -> usize {
        let copies = if options.mirror.contains(&true) { 2 } else { 1 };
        patch.iter().product::<usize>() * (channels + classes) * copies * size_of::<f32>()
    }

    /// The probabilities of the window, averaged over its mirrored copies.
    fn predict(&mut self, network: &mut Network) -> Result<&[f32]> {
        if self.flips.len() == 1 {
            network(&self.window, &mut self.output)?;
            return Ok(&self.output);
        }
        for (run, &axes) in self.flips.iter().enumerate() {
            flip(&self.window, self.patch, self.channels, axes, &mut self.mirrored);
            network(&self.mirrored, &mut self.output)?;
            let share = 1.0 / (run + 1) as f32;
            // A running mean leaves equal predictions exactly as they are.
            mirror::for_each_pair(self.patch, self.classes, axes, |here, there| {
                for (mean, p) in self.mean[here].iter_mut().zip(&self.output[there]) {
                    *mean = if run == 0 { *p } else { *mean + (p - *mean) * share };
                }
            });
        }
        Ok(&self.mean)
    }
}

#[cfg(test)]
mod tests;
