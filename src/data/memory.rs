//! How many bytes of host memory checking and loading a dataset take, and how many threads may therefore do it.
//!
//! Results depend on neither, so a tight budget costs time alone.

use std::num::NonZeroUsize;

use super::{
    augment::numbers::Layout,
    dataset::Case,
    loader::{Form, LoaderSettings},
};
use crate::{Error, Result, formats::read_header, size::bytes};

/// Pieces before and behind a decompressor, its window and tables; twice, for an image and its labels.
const FILES: usize = 512 << 10;

/// Two histograms of 2 MiB per channel describe a case, and two more the whole set.
const HISTOGRAMS: usize = 4 << 20;

/// The largest case of a dataset, as its files' headers have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Largest {
    /// Voxels.
    pub voxels: usize,
    /// Channels.
    pub channels: usize,
}

/// What of a loader determines the bytes that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderShape {
    /// Extents D, H, W of the network.
    pub extent: [usize; 3],
    /// Cases per batch.
    pub batch: usize,
    /// Whether cases are augmented, by whoever does it.
    pub is_augmented: bool,
    /// How far cases come.
    pub form: Form,
}

impl Largest {
    /// The largest of these cases. A header that cannot be read counts as nothing: the survey names all that is wrong.
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Self {
        let headers = cases.into_iter().filter_map(|case| read_header(&case.image).ok());
        let none = Self { voxels: 0, channels: 1 };
        headers
            .map(|header| Self { voxels: header.voxels(), channels: header.channels })
            .max_by_key(|case| case.voxels * case.channels)
            .unwrap_or(none)
    }

    /// Bytes of a case as it is read: f32 values and u16 labels.
    fn case(&self) -> usize {
        self.voxels * (self.channels * size_of::<f32>() + size_of::<u16>()) + FILES
    }

    /// Bytes that checking cases takes.
    pub fn survey_bytes(&self, threads: usize) -> usize {
        (threads + 1) * self.channels * HISTOGRAMS + threads * self.case()
    }

    /// Bytes that a loader takes: what is under way and ready, one more batch in the caller's hands, and scratch space.
    pub fn loader_bytes(&self, shape: LoaderShape, workers: usize) -> usize {
        let voxels: usize = shape.extent.iter().product();
        let volumes = voxels * (self.channels * size_of::<f32>() + 1);
        let layout = Layout { depth: shape.extent[0], channels: self.channels };
        let (is_changed, numbers) = match shape.form {
            Form::Ready => (shape.is_augmented, 0),
            Form::Raw => (false, layout.row() * size_of::<f32>()),
        };
        let sample = volumes + numbers;
        let scratch = self.case() + if is_changed { volumes } else { 0 };
        let batches = if workers == 0 { 1 } else { workers + 2 };
        batches * shape.batch * sample + workers.max(1) * scratch
    }

    /// The most threads, up to those asked for, that check cases within a budget.
    ///
    /// # Errors
    /// [`Error::Memory`] with what one thread takes, if that is too much.
    pub fn survey_threads(&self, asked: NonZeroUsize, budget: usize) -> Result<NonZeroUsize> {
        let fitting = (1..=asked.get()).rev().find(|&threads| self.survey_bytes(threads) <= budget);
        fitting.and_then(NonZeroUsize::new).ok_or_else(|| refused("checking", self.survey_bytes(1), budget))
    }

    /// The most workers, up to those asked for, with which these loaders together stay within a budget; 0: the caller's own
    /// thread prepares batches.
    ///
    /// # Errors
    /// [`Error::Memory`] with what none takes, if that is too much.
    pub fn workers(&self, shapes: &[LoaderShape], asked: usize, budget: usize) -> Result<usize> {
        let bytes = |workers| shapes.iter().map(|&shape| self.loader_bytes(shape, workers)).sum::<usize>();
        let fitting = (0..=asked).rev().find(|&workers| bytes(workers) <= budget);
        fitting.ok_or_else(|| refused("loading", bytes(0), budget))
    }
}

fn refused(what: &str, least: usize, budget: usize) -> Error {
    let cause = format!("memory: {what} cases needs {}, the host budget is {}", bytes(least), bytes(budget));
    Error::Memory { cause, advice: "raise `host_memory_budget`, or crop the images".to_owned() }
}

impl From<&LoaderSettings> for LoaderShape {
    fn from(settings: &LoaderSettings) -> Self {
        Self {
            extent: settings.preprocessing.extent,
            batch: settings.batch,
            form: settings.form,
            is_augmented: settings.augmentation != super::augment::Augmentation::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: LoaderShape = LoaderShape { extent: [160, 240, 240], batch: 1, is_augmented: true, form: Form::Ready };

    #[test]
    fn a_tight_budget_takes_workers_away_before_it_refuses() {
        let largest = Largest { voxels: 240 * 240 * 155, channels: 4 };
        let eight = NonZeroUsize::new(8).unwrap();
        let workers = |budget| largest.workers(&[SHAPE; 2], 4, budget);
        assert_eq!(workers(64 << 30).unwrap(), 4);
        assert!(workers(3 << 30).unwrap() < 4);
        let refusal = workers(300 << 20).unwrap_err();
        assert_eq!(refusal.exit_code(), 2);
        assert!(refusal.to_string().contains("the host budget is 300 MiB"), "{refusal}");
        assert_eq!(largest.survey_threads(eight, 64 << 30).unwrap(), eight);
        assert!(largest.survey_threads(eight, 1 << 30).unwrap() < eight);
        assert!(largest.survey_threads(eight, 100 << 20).is_err());
    }
}
