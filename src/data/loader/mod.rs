//! Keeps the trainer fed: reads, prepares and augments cases on worker threads, and hands out batches in order.
//!
//! What a batch holds depends on seed, epoch and step alone, never on the number of workers or their luck. Memory holds
//! a few batches, however many cases there are; buffers that are given back are used again.

mod cache;
mod prepare;
mod queue;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use self::{
    cache::Cache,
    prepare::{Place, Scratch},
    queue::Queue,
};
use super::{
    augment::{Augmentation, numbers::Layout},
    dataset::Case,
    preprocess::Preprocessing,
    sampler::{Sampler, Turn},
};
use crate::{Error, Result, random::Stream};

/// How cases become batches.
#[derive(Clone, Debug)]
pub struct LoaderSettings {
    /// From file to network grid.
    pub preprocessing: Preprocessing,
    /// Which part of a case a sample shows.
    pub sampler: Sampler,
    /// Labels must be below this; at most 256.
    pub classes: usize,
    /// Changes that are drawn anew each epoch.
    pub augmentation: Augmentation,
    /// Names the order of the cases and their augmentation.
    pub seed: u64,
    /// Which cases go into which batch.
    pub order: Order,
    /// How far cases come.
    pub form: Form,
    /// Cases per batch.
    pub batch: usize,
    /// Threads that prepare batches; 0: the caller's own.
    pub workers: usize,
    /// Folder that keeps prepared cases, whole and before augmentation, between epochs and runs.
    pub cache: Option<PathBuf>,
}

impl LoaderSettings {
    /// The layout of a case's numbers.
    pub fn layout(&self) -> Layout {
        Layout { depth: self.preprocessing.extent[0], channels: self.preprocessing.channels }
    }

    /// Numbers of a case.
    fn row(&self) -> usize {
        match self.form {
            Form::Ready => 0,
            Form::Raw => self.layout().row(),
        }
    }
}

/// Which cases go into which batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// For training: an order drawn anew each epoch. Every batch is full: the last is filled up from the epoch's start.
    Shuffled,
    /// For validation: the order given, each case once. The last batch may be shorter.
    Fixed,
}

/// How far a loader brings cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Ready for the network: what the workers' processor does, a step on that processor need not.
    Ready,
    /// Placed on the network's grid. Normalising and augmenting are left to who computes the step
    /// ([`crate::ops::augment`]); how, is said in numbers.
    Raw,
}

/// Cases, as far as the loader's [`Form`] says.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The step of its epoch, from 0.
    pub step: usize,
    /// The names of its cases.
    pub cases: Vec<String>,
    /// `[N, D, H, W, C]`, N being the number of cases.
    pub images: Vec<f32>,
    /// `[N, D, H, W]`.
    pub labels: Vec<u8>,
    /// A row for each case ([`Layout`]) if the form is raw; else nothing.
    pub numbers: Vec<f32>,
}

impl Batch {
    /// The number of cases.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is no case; batches from a loader have at least one.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }
}

/// Makes epochs of batches from cases.
pub struct Loader {
    shared: Arc<Shared>,
}

/// What workers need.
struct Shared {
    cases: Vec<Case>,
    settings: LoaderSettings,
    cache: Option<Cache>,
    /// Batches and scratch space whose buffers can be used again.
    batches: Mutex<Vec<Batch>>,
    scratch: Mutex<Vec<Scratch>>,
}

impl Loader {
    /// A loader of labelled cases.
    ///
    /// # Errors
    /// No cases, a case without labels, settings that cannot work, a cache folder that cannot be made.
    pub fn new(cases: Vec<Case>, settings: LoaderSettings) -> Result<Self> {
        settings.preprocessing.check()?;
        settings.sampler.check(settings.preprocessing.fit)?;
        let Preprocessing { extent, channels, .. } = settings.preprocessing;
        let factors = extent.iter().chain([&channels, &settings.batch, &size_of::<f32>()]);
        let bytes = factors.copied().try_fold(1usize, usize::checked_mul);
        if bytes.is_none_or(|bytes| bytes == 0 || isize::try_from(bytes).is_err()) {
            let cause = format!("{} x {extent:?} x {channels} values", settings.batch);
            return Err(Error::usage("batch", cause, "every extent must be at least 1 and the batch fit into memory"));
        }
        if settings.classes > 256 {
            return Err(Error::usage(
                "classes",
                format!("{} classes", settings.classes),
                "labels are bytes: at most 256",
            ));
        }
        if let Some(case) = cases.iter().find(|case| case.label.is_none()) {
            return Err(Error::input(&case.image, "an image without labels", "leave it out or add its labels"));
        }
        if cases.is_empty() {
            return Err(Error::usage("dataset", "no cases to load", "give a dataset with labelled cases"));
        }
        let cache = settings.cache.as_deref().map(|folder| Cache::open(folder, &settings)).transpose()?;
        let shared = Shared { cases, settings, cache, batches: Mutex::default(), scratch: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Steps of an epoch.
    pub fn steps(&self) -> usize {
        self.shared.steps()
    }

    /// How far cases come.
    pub fn form(&self) -> Form {
        self.shared.settings.form
    }

    /// The batches of an epoch from a step on; workers start at once. An error ends the epoch.
    pub fn epoch(&self, epoch: usize, first_step: usize) -> Epoch {
        let order = Arc::new(self.shared.order(epoch));
        let workers = self.shared.settings.workers;
        // One batch in the making per worker, and one that is ready.
        let queue = Arc::new(Queue::new(first_step, self.steps(), workers + 1));
        let threads = (0..workers).map(|_| {
            let (shared, order, queue) = (self.shared.clone(), order.clone(), queue.clone());
            thread::spawn(move || queue.work(|step, is_wanted| shared.load(epoch, step, &order, is_wanted)))
        });
        Epoch { threads: threads.collect(), shared: self.shared.clone(), epoch, order, queue, waited: Duration::ZERO }
    }

    /// Takes a batch back, so that its buffers are used again.
    pub fn recycle(&self, batch: Batch) {
        let mut batches = self.shared.batches.lock().expect("no thread panics with the lock held");
        // More than can be under way at once would only pile up.
        if batches.len() <= self.shared.settings.workers + 1 {
            batches.push(batch);
        }
    }
}

/// The batches of one epoch, in order. Dropping it stops the workers.
pub struct Epoch {
    shared: Arc<Shared>,
    epoch: usize,
    order: Arc<Vec<usize>>,
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
}

impl Epoch {
    /// How long the caller has waited for batches so far; without workers, how long loading took.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let start = Instant::now();
        let batch = match self.threads.is_empty() {
            false => self.queue.take(),
            true => self.queue.take_here(|step| self.shared.load(self.epoch, step, &self.order, &|| true)),
        };
        self.waited += start.elapsed();
        batch
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.queue.stop();
        for thread in self.threads.drain(..) {
            // A worker that panicked has printed why, and `next` has passed it on if it was still wanted.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn steps(&self) -> usize {
        self.cases.len().div_ceil(self.settings.batch)
    }

    /// The cases of an epoch in order; as many as its batches take.
    fn order(&self, epoch: usize) -> Vec<usize> {
        match self.settings.order {
            Order::Fixed => (0..self.cases.len()).collect(),
            Order::Shuffled => {
                let order = Stream::new(self.settings.seed, &format!("order {epoch}")).permutation(self.cases.len());
                order.iter().copied().cycle().take(self.steps() * self.settings.batch).collect()
            }
        }
    }

    /// Makes a batch; gives up with an empty one when it is no longer wanted.
    fn load(&self, epoch: usize, step: usize, order: &[usize], is_wanted: &dyn Fn() -> bool) -> Result<Batch> {
        let LoaderSettings { preprocessing: Preprocessing { extent, channels, .. }, batch: size, .. } = self.settings;
        let cases = &order[step * size..][..size.min(order.len() - step * size)];
        let voxels: usize = extent.iter().product();
        let mut batch = pop(&self.batches);
        let mut scratch = pop(&self.scratch);
        batch.step = step;
        batch.cases.clear();
        // Every element is overwritten, so the old values need not be cleared.
        batch.images.resize(cases.len() * voxels * channels, 0.0);
        batch.labels.resize(cases.len() * voxels, 0);
        let row = self.settings.row();
        batch.numbers.resize(cases.len() * row, 0.0);
        let images = batch.images.chunks_exact_mut(voxels * channels);
        let volumes = images.zip(batch.labels.chunks_exact_mut(voxels));
        for (position, (index, (image, labels))) in cases.iter().zip(volumes).enumerate() {
            if !is_wanted() {
                return Ok(Batch::default());
            }
            let case = &self.cases[*index];
            let numbers = &mut batch.numbers[position * row..][..row];
            let place = Place { image, labels, numbers };
            let turn = Turn { epoch, position: step * size + position, batch: size };
            prepare::case(&self.settings, self.cache.as_ref(), turn, case, &mut scratch, place)?;
            batch.cases.push(case.name.clone());
        }
        self.scratch.lock().expect("no thread panics with the lock held").push(scratch);
        Ok(batch)
    }
}

fn pop<T: Default>(pool: &Mutex<Vec<T>>) -> T {
    pool.lock().expect("no thread panics with the lock held").pop().unwrap_or_default()
}

#[cfg(test)]
mod patch_tests;
#[cfg(test)]
mod tests;
