//! A trained network, ready to label images.

use std::path::Path;

use super::PredictOptions;
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, state},
    data::preprocess::{Fit, Preprocessing},
    formats::Header,
    fuse::Fuse,
    nn::{Precision, UNetConfig, names, record_prediction},
    plan,
    session::{self, Program, Slot, Target},
    size::bytes,
};

/// Network, preprocessing and labels from a checkpoint, bound to a program.
#[derive(Debug)]
pub struct Predictor {
    bound: Bound,
    network: UNetConfig,
    preprocessing: Preprocessing,
    labels: Vec<String>,
    options: PredictOptions,
    /// Host memory that loading took: the checkpoint, and its weights converted.
    loading: usize,
}

/// The network's program, and what goes in and comes out.
#[derive(Debug)]
struct Bound {
    program: Box<dyn Program>,
    images: Slot<f32>,
    probabilities: Slot<f32>,
}

impl Predictor {
    /// Loads a checkpoint and binds its network.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another kind; options that cannot work; a machine that fails.
    pub fn load(path: &Path, options: PredictOptions, target: impl Into<Target>) -> Result<Self> {
        options.validate()?;
        let checkpoint = Checkpoint::load(path)?;
        let trained = checkpoint.network(path)?;
        let foreign =
            |error: &dyn std::fmt::Display| Error::input(path, error, "give a checkpoint that `gyrus train` wrote");
        let preprocessing: Preprocessing =
            serde_json::from_value(checkpoint.meta.preprocessing.clone()).map_err(|error| foreign(&error))?;
        preprocessing.check().map_err(|error| foreign(&error))?;
        trained.check(preprocessing.extent).map_err(|error| foreign(&error))?;
        let precision = options.precision.unwrap_or(trained.precision);
        let network = UNetConfig { precision, ..trained };
        let target = target.into();
        let graph = Fuse::Auto.apply(record_prediction(network, 1, preprocessing.extent)?, target.processor());
        let saved = state::saved_values(&graph);
        let layout = plan::plan(std::slice::from_ref(&graph), target.options());
        if let Some(budget) = options.memory_budget.filter(|&budget| layout.total > budget) {
            let cause = format!("memory: the network needs {}, the budget is {}", bytes(layout.total), bytes(budget));
            let advice = match precision {
                Precision::Fp32 => "`precision = bf16` or fp16 takes about half",
                _ => "give more, or a network that was trained with smaller extents",
            };
            return Err(Error::Memory { cause, advice: advice.to_owned() });
        }
        let mut program = session::bind_planned(std::slice::from_ref(&graph), layout, target)?;
        state::from_tensors(&mut *program, &saved, &checkpoint, path)?;
        let elements = |shape: &[usize]| shape.iter().product::<usize>() * size_of::<f32>();
        let loading = checkpoint.tensors.values().map(|tensor| elements(&tensor.shape)).sum::<usize>()
            + saved.iter().map(|value| elements(&value.extents)).sum::<usize>();
        let labels = checkpoint.meta.labels.into_iter().map(|label| label.name).collect();
        let (images, probabilities) = (program.slot(names::IMAGES)?, program.slot(names::PROBABILITIES)?);
        Ok(Self { bound: Bound { program, images, probabilities }, network, preprocessing, labels, options, loading })
    }

    /// Names of the classes, background first.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How often the network will run for an image of these extents x, y, z.
    pub fn runs(&self, [x, y, z]: [usize; 3]) -> usize {
        self.options.runs(self.grid([z, y, x]), self.preprocessing.extent)
    }

    /// Bytes of the network's arena.
    pub fn arena_bytes(&self) -> usize {
        self.bound.program.plan().total
    }

    pub(super) fn check_header(&self, header: &Header, path: &Path) -> Result<()> {
        let found = header.channels;
        if found != self.network.channels {
            let cause = format!("{found} channels, where the network expects {}", self.network.channels);
            return Err(Error::input(path, cause, "give images like those of the training set"));
        }
        Ok(())
    }

    pub(super) fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    pub(super) fn options(&self) -> &PredictOptions {
        &self.options
    }

    pub(super) fn loading_bytes(&self) -> usize {
        self.loading
    }

    /// Probabilities per voxel.
    pub(super) fn classes(&self) -> usize {
        self.network.outputs()
    }

    /// Runs the network over one window `[D, H, W, C]`; fills in probabilities `[D, H, W, classes]`.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run(&mut self, window: &[f32], output: &mut [f32]) -> Result<()> {
        self.bound.run(window, output)
    }

    /// The extents on which the network slides: the image's own, or the network's if images are stretched.
    fn grid(&self, extent: [usize; 3]) -> [usize; 3] {
        match self.preprocessing.fit {
            Fit::Pad => extent,
            Fit::Resize => self.preprocessing.extent,
        }
    }
}

impl Bound {
    fn run(&mut self, window: &[f32], output: &mut [f32]) -> Result<()> {
        self.program.write_ahead(self.images, window)?;
        self.program.run_captured(0)?;
        self.program.read_into(self.probabilities, output)
    }
}
