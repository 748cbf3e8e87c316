//! A trained network, ready to label images: from a file's voxels to a label map on the file's own grid.

use std::path::Path;

use ndarray::ArrayView2;

use super::{Image, Options, segment};
use crate::{
    Error, Result,
    data::preprocess::{Fit, Preprocessing, normalize},
    formats::{self, Header},
    graph::fuse::Fuse,
    nn::{Precision, UNetConfig, names, record_prediction},
    plan,
    session::{Executor, RunsOn},
    size::bytes,
    train::{checkpoint::Checkpoint, state, trainer::configuration_of},
};

/// Network, preprocessing and labels from a checkpoint, bound to a session.
#[derive(Debug)]
pub struct Predictor {
    session: Executor,
    network: UNetConfig,
    preprocessing: Preprocessing,
    labels: Vec<String>,
    options: Options,
    /// Host memory that loading took: the checkpoint, and its weights converted.
    loading: usize,
}

/// A labelled image on the grid of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Labels, in the file's order (x fastest).
    pub labels: Vec<u8>,
    /// Probabilities `[C, z, y, x]`, if asked for; with two classes the foreground's alone.
    pub probabilities: Option<Vec<f32>>,
}

impl Predictor {
    /// Loads a checkpoint and binds its network.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another kind; options that cannot work; a machine that fails.
    pub fn load(path: &Path, options: Options, runs_on: impl Into<RunsOn>) -> Result<Self> {
        options.validate()?;
        let checkpoint = Checkpoint::load(path)?;
        let config = configuration_of(&checkpoint, path)?;
        let foreign =
            |error: &dyn std::fmt::Display| Error::input(path, error, "give a checkpoint that `gyrus train` wrote");
        let preprocessing: Preprocessing =
            serde_json::from_value(checkpoint.meta.preprocessing.clone()).map_err(|error| foreign(&error))?;
        preprocessing.check().map_err(|error| foreign(&error))?;
        config.network.check(preprocessing.extent).map_err(|error| foreign(&error))?;
        let precision = options.precision.unwrap_or(config.network.precision);
        let network = UNetConfig { precision, ..config.network };
        let runs_on = runs_on.into();
        let graph = Fuse::Auto.apply(record_prediction(network, 1, preprocessing.extent)?, runs_on.options().target);
        let saved = state::saved_values(&graph);
        let layout = plan::plan(std::slice::from_ref(&graph), runs_on.options());
        if let Some(budget) = options.memory_budget.filter(|&budget| layout.total > budget) {
            let cause = format!("memory: the network needs {}, the budget is {}", bytes(layout.total), bytes(budget));
            let advice = match precision {
                Precision::Fp32 => "--precision bf16 or fp16 takes about half",
                _ => "give more, or a network that was trained with smaller extents",
            };
            return Err(Error::Memory { cause, advice: advice.to_owned() });
        }
        let mut session = Executor::bind_planned(std::slice::from_ref(&graph), layout, runs_on)?;
        state::from_tensors(&mut session, &saved, &checkpoint, path)?;
        let elements = |shape: &[usize]| shape.iter().product::<usize>() * size_of::<f32>();
        let loading = checkpoint.tensors.values().map(|tensor| elements(&tensor.shape)).sum::<usize>()
            + saved.iter().map(|value| elements(&value.extents)).sum::<usize>();
        let labels = checkpoint.meta.labels.into_iter().map(|label| label.name).collect();
        Ok(Self { session, network, preprocessing, labels, options, loading })
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
        self.session.plan().total
    }

    /// Labels an image. `path` is for messages.
    ///
    /// # Errors
    /// An image with other channels than the network's, or with voxels that are not finite.
    pub fn predict(&mut self, image: formats::Image, path: &Path, with_probabilities: bool) -> Result<Prediction> {
        match self.preprocessing.fit {
            Fit::Pad => self.predict_windows(image, path, with_probabilities),
            Fit::Resize => self.predict_resized(image, path, with_probabilities),
        }
    }

    /// Whether an image can be labelled. `path` is for messages.
    ///
    /// # Errors
    /// An image with other channels than the network's, or with voxels that are not finite.
    pub fn check(&self, image: &formats::Image, path: &Path) -> Result<()> {
        self.check_header(&image.header, path)?;
        if image.voxels.iter().any(|value| !value.is_finite()) {
            return Err(Error::input(path, "voxels that are not finite", "replace them, for example by 0"));
        }
        Ok(())
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

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn loading_bytes(&self) -> usize {
        self.loading
    }

    /// Probabilities per voxel.
    pub(super) fn classes(&self) -> usize {
        self.network.outputs()
    }

    /// Runs the network over one window.
    pub(super) fn run(&mut self, window: &[f32], output: &mut [f32]) -> Result<()> {
        run(&mut self.session, window, output)
    }

    /// At the image's own resolution, window by window.
    fn predict_windows(&mut self, image: formats::Image, path: &Path, with_probabilities: bool) -> Result<Prediction> {
        let (extent, voxels) = self.interleaved(image, path)?;
        let classes = self.network.outputs();
        let count = extent.iter().product();
        let mut labels = vec![0; count];
        let mut probabilities = with_probabilities.then(|| vec![0.0; count * classes]);
        let (session, patch) = (&mut self.session, self.preprocessing.extent);
        let plane = extent[1] * extent[2];
        segment(
            &Image { voxels: &voxels, extent, channels: self.network.channels },
            classes,
            patch,
            &self.options,
            &mut |window, output| run(session, window, output),
            &mut |slice| {
                labels[slice.d * plane..][..plane].copy_from_slice(slice.labels);
                if let Some(all) = &mut probabilities {
                    for (voxel, p) in slice.probabilities.chunks_exact(classes).enumerate() {
                        for (class, &p) in p.iter().enumerate() {
                            all[class * count + slice.d * plane + voxel] = p;
                        }
                    }
                }
                Ok(())
            },
        )?;
        Ok(Prediction { labels, probabilities })
    }

    /// Stretched to the network's extents, and the probabilities stretched back.
    fn predict_resized(
        &mut self,
        mut image: formats::Image,
        path: &Path,
        with_probabilities: bool,
    ) -> Result<Prediction> {
        let extent = self.preprocessing.extent;
        let (count, classes) = (extent.iter().product::<usize>(), self.network.outputs());
        let mut fitted = vec![0.0; count * self.network.channels];
        let placement = self.preprocessing.image(&mut image, path, &mut fitted)?;
        let mut values = vec![0.0; count * classes];
        let session = &mut self.session;
        segment(
            &Image { voxels: &fitted, extent, channels: self.network.channels },
            classes,
            extent,
            &self.options,
            &mut |window, output| run(session, window, output),
            &mut |slice| {
                values[slice.d * slice.probabilities.len()..][..slice.probabilities.len()]
                    .copy_from_slice(slice.probabilities);
                Ok(())
            },
        )?;
        let mut outside = vec![0.0; classes];
        if classes > 1 {
            outside[0] = 1.0;
        }
        let values = placement.unfit_values(&values, &outside);
        let labels = values.chunks_exact(classes).map(most_likely).collect();
        let voxels = values.len() / classes;
        let planar =
            |values: &[f32]| (0..classes * voxels).map(|i| values[i % voxels * classes + i / voxels]).collect();
        Ok(Prediction { labels, probabilities: with_probabilities.then(|| planar(&values)) })
    }

    /// Normalises the whole image and puts its channels innermost; returns its extents D, H, W too.
    fn interleaved(&self, mut image: formats::Image, path: &Path) -> Result<([usize; 3], Vec<f32>)> {
        self.check(&image, path)?;
        let found = image.header.channels;
        let extent = image.header.grid.shape();
        normalize(&mut image.voxels, extent, self.preprocessing.normalization, &self.preprocessing.ct);
        if found == 1 {
            return Ok((extent, image.voxels));
        }
        let planar =
            ArrayView2::from_shape((found, image.header.voxels()), &image.voxels).expect("one plane per channel");
        Ok((extent, planar.t().iter().copied().collect()))
    }

    /// The extents on which the network slides: the image's own, or the network's if images are stretched.
    fn grid(&self, extent: [usize; 3]) -> [usize; 3] {
        match self.preprocessing.fit {
            Fit::Pad => extent,
            Fit::Resize => self.preprocessing.extent,
        }
    }
}

fn run(session: &mut Executor, window: &[f32], output: &mut [f32]) -> Result<()> {
    session.write_ahead(names::IMAGES, window)?;
    session.run(0)?;
    session.read_into(names::PROBABILITIES, output)
}

/// The class of the largest probability, the first of equal ones; with one probability, whether it exceeds a half.
fn most_likely(p: &[f32]) -> u8 {
    if let &[foreground] = p {
        return u8::from(foreground > 0.5);
    }
    let mut best = 0;
    for class in 1..p.len() {
        if p[class] > p[best] {
            best = class;
        }
    }
    best as u8
}
