//! Segments a volume that enters slice by slice: windows are cut from a ring of slices, as many as a window is deep.

use super::{Accumulator, Network, PredictOptions, Sink, WindowRunner, windows, windows::overlap};
use crate::{Error, Result};

/// What is known of a volume before its voxels come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// Extents D, H, W.
    pub extent: [usize; 3],
    /// Channels.
    pub channels: usize,
    /// Classes that the network tells apart.
    pub classes: usize,
}

impl Segmentation {
    /// Whether it can be segmented with windows of these extents.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check(&self, patch: [usize; 3]) -> Result<()> {
        let Self { extent, channels, classes } = *self;
        let refuse = |cause: String| Err(Error::shape("segmentation", cause));
        if extent.contains(&0) || patch.contains(&0) || channels == 0 {
            return refuse(format!("a volume of {extent:?} x {channels} with windows of {patch:?} is empty"));
        }
        if !(1..=256).contains(&classes) {
            return refuse(format!("{classes} classes do not fit label maps of 8 bits"));
        }
        match elements(patch, channels.max(classes)).and_then(|n| n.checked_mul(size_of::<f32>())) {
            Some(_) => Ok(()),
            None => refuse(format!("windows of {patch:?} are larger than any memory")),
        }
    }
}

/// Number of elements of a volume, if it can be counted.
pub(super) fn elements(extent: [usize; 3], channels: usize) -> Option<usize> {
    extent.iter().try_fold(channels, |n, &e| n.checked_mul(e))
}

/// Whoever provides slices `[H, W, C]` in order of D, already normalised: fills in the next one.
pub type Feed<'a> = dyn FnMut(&mut [f32]) -> Result<()> + 'a;

/// Segments a volume, slice by slice; it need not be in memory.
///
/// `network` gets a window `[D, H, W, C]` of extents `patch` and fills in probabilities `[D, H, W, classes]`; with one
/// class that is the foreground's probability. `sink` gets every slice of the volume once, in order of D.
///
/// # Errors
/// [`Error::Shape`] when extents do not fit each other or the network's probabilities are not finite,
/// [`Error::Usage`] for options that cannot work, and whatever `read`, `network` or `sink` return.
pub fn segment_stream(
    volume: Segmentation,
    patch: [usize; 3],
    options: &PredictOptions,
    read: &mut Feed,
    network: &mut Network,
    sink: &mut Sink,
) -> Result<()> {
    options.validate()?;
    volume.check(patch)?;
    let mut runner = WindowRunner::new(volume.channels, volume.classes, patch, options);
    let mut accumulator = Accumulator::new(volume.extent, patch, volume.classes);
    let mut ring = Ring::new(volume, patch);
    for window in windows(volume.extent, patch, options.overlap) {
        accumulator.finish_before(window[0], sink)?;
        ring.read_for(window[0], read)?;
        ring.cut(window, options.fill, &mut runner.window);
        accumulator.add(window, runner.predict(network)?)?;
    }
    accumulator.finish(sink)
}

/// Bytes that [`segment_stream`] takes: a function of the window and of the extents across D.
pub(super) fn bytes(volume: Segmentation, patch: [usize; 3], options: &PredictOptions) -> usize {
    let slices = patch[0].min(volume.extent[0]);
    slices * volume.extent[1] * volume.extent[2] * volume.channels * size_of::<f32>()
        + Accumulator::bytes_for(volume.extent, patch, volume.classes)
        + window_bytes(volume, patch, options)
}

/// Bytes of a window, its answer and their mirrored copies.
pub(super) fn window_bytes(volume: Segmentation, patch: [usize; 3], options: &PredictOptions) -> usize {
    WindowRunner::bytes_for(volume.channels, volume.classes, patch, options)
}

/// The slices that the windows at hand need.
struct Ring {
    volume: Segmentation,
    patch: [usize; 3],
    /// Slice `d` of the volume lies at `d % slices`.
    slices: usize,
    values: Vec<f32>,
    /// Slices that have been read.
    have: usize,
}

impl Ring {
    fn new(volume: Segmentation, patch: [usize; 3]) -> Self {
        let slices = patch[0].min(volume.extent[0]);
        let values = vec![0.0; slices * volume.extent[1] * volume.extent[2] * volume.channels];
        Self { volume, patch, slices, values, have: 0 }
    }

    fn slice(&self) -> usize {
        self.volume.extent[1] * self.volume.extent[2] * self.volume.channels
    }

    /// Reads on until the windows at `start` along D are complete.
    fn read_for(&mut self, start: usize, read: &mut Feed) -> Result<()> {
        let d = overlap(self.volume.extent[0], self.patch[0], start);
        let slice = self.slice();
        while self.have < d.volume + d.count {
            read(&mut self.values[self.have % self.slices * slice..][..slice])?;
            self.have += 1;
        }
        Ok(())
    }

    /// Copies the window that begins at `start` of the padded volume.
    fn cut(&self, start: [usize; 3], fill: f32, window: &mut [f32]) {
        let Segmentation { extent: [_, _, width], channels: c, .. } = self.volume;
        let [d, h, w] = [0, 1, 2].map(|axis| overlap(self.volume.extent[axis], self.patch[axis], start[axis]));
        if w.count < self.patch[2] || h.count < self.patch[1] || d.count < self.patch[0] {
            window.fill(fill);
        }
        for z in 0..d.count {
            let slice = &self.values[(d.volume + z) % self.slices * self.slice()..][..self.slice()];
            for y in 0..h.count {
                let from = ((h.volume + y) * width + w.volume) * c;
                let to = (((d.window + z) * self.patch[1] + h.window + y) * self.patch[2] + w.window) * c;
                window[to..to + w.count * c].copy_from_slice(&slice[from..from + w.count * c]);
            }
        }
    }
}
