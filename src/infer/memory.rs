//! How many bytes of host memory labelling an image takes, known before it starts.

use super::{PredictOptions, Segmentation, stream};
use crate::{
    Error,
    data::preprocess::{Fit, Preprocessing},
    formats::{Header, SliceReader},
    size::bytes,
};

/// The program itself: code, threads' stacks, what describes the network, buffers of files being written.
const PROGRAM: usize = 48 << 20;

/// What labelling an image takes, the network's own arena not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// While the checkpoint is loaded.
    pub loading: usize,
    /// While slices pass.
    pub streaming: usize,
}

impl HostMemory {
    /// For an image with this header, labelled by a network of a checkpoint that takes `loading` bytes while it is loaded.
    pub fn of(
        header: &Header,
        preprocessing: &Preprocessing,
        classes: usize,
        options: &PredictOptions,
        loading: usize,
    ) -> Self {
        let (channels, patch) = (header.channels, preprocessing.extent);
        let volume = Segmentation { extent: header.grid.shape(), channels, classes };
        let [_, height, width] = volume.extent;
        let slice = height * width;
        let float = size_of::<f32>();
        let window: usize = patch.iter().product();
        // A slice as it comes from the file, and the network's answer on its way from the device.
        let reading = SliceReader::bytes(header) + slice * channels * float + window * classes * float;
        let streaming = match preprocessing.fit {
            Fit::Pad => stream::bytes(volume, patch, options) + slice * float,
            // Two slices to stretch between, the window with its answer, and a slice of the answer stretched back.
            Fit::Resize => {
                2 * slice * channels * float
                    + stream::window_bytes(volume, patch, options)
                    + slice * (classes * float + 1)
            }
        };
        Self { loading, streaming: reading + streaming }
    }

    /// The most at any time.
    pub fn peak(&self) -> usize {
        PROGRAM + self.loading.max(self.streaming)
    }

    /// The error for an image, called `name`, that takes more than the budget.
    pub fn refusal(&self, header: &Header, budget: usize, name: &str, advice: String) -> Error {
        let [x, y, z] = header.grid.extents;
        let (needs, has) = (bytes(self.peak()), bytes(budget));
        let cause = format!("memory: needs {needs} on the host for {name} ({x}x{y}x{z}), the host budget is {has}");
        Error::Memory { cause, advice }
    }
}
