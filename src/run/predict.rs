//! Label maps for images, with a trained network.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{DeviceRecipe, Event, Folds, MemoryRecipe, Observer, Recipe, target::Opened, train::run_folder};
use crate::{
    Error, Result,
    cpu::memory,
    data::dataset::{Case, Dataset, case_name, images_in},
    files,
    formats::{self, Header, Store},
    infer::{self, Predictor},
    size::bytes,
    train::trainer::BEST,
};

/// The folder of the probabilities, within that of the label maps.
const PROBABILITIES: &str = "probabilities";

/// Everything that a prediction is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PredictRecipe {
    /// Checkpoint, or the folder of a run: its best checkpoint.
    pub model_path: PathBuf,
    /// Images, or folders of them.
    pub images: Vec<PathBuf>,
    /// Instead of `images`: the validation cases of a dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PathBuf>,
    /// Which fold of it.
    pub fold: usize,
    /// Number of folds.
    pub folds: usize,
    /// Seed of the folds.
    pub seed: u64,
    /// Folds from a file in nnU-Net's `splits_final.json` format instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splits: Option<PathBuf>,
    /// Folder for the label maps.
    pub output: PathBuf,
    /// Replace label maps that are there already.
    pub overwrite: bool,
    /// Also write probabilities, into a folder of their own within `output`.
    pub probabilities: bool,
    /// Share by which neighbouring windows overlap.
    pub overlap: f64,
    /// Average over copies mirrored along these axes D, H, W of tensors.
    pub mirror: [bool; 3],
    /// Where to compute.
    pub device: DeviceRecipe,
    /// What may be used.
    pub memory: MemoryRecipe,
}

impl Recipe for PredictRecipe {}

impl Default for PredictRecipe {
    fn default() -> Self {
        let infer::PredictOptions { overlap, mirror, .. } = infer::PredictOptions::default();
        Self {
            model_path: "model".into(),
            images: Vec::new(),
            dataset: None,
            fold: 0,
            folds: 5,
            seed: 0,
            splits: None,
            output: PathBuf::new(),
            overwrite: false,
            probabilities: false,
            overlap,
            mirror,
            device: DeviceRecipe::default(),
            memory: MemoryRecipe::default(),
        }
    }
}

/// What a prediction leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicted {
    /// The label maps, in the order of the images.
    pub label_maps: Vec<PathBuf>,
    /// Names of the classes by their values, background first.
    pub labels: Vec<String>,
}

/// One image and where its results go.
struct Job {
    case: Case,
    labels: PathBuf,
    probabilities: PathBuf,
}

/// Labels images. Nothing is written before every image has been looked at.
///
/// # Errors
/// Settings that cannot work, a checkpoint or an image that cannot be used, outputs that are there already, too little
/// memory; what computing or writing says.
pub fn predict(recipe: &PredictRecipe, observer: &mut dyn Observer) -> Result<Predicted> {
    let jobs = recipe.jobs()?;
    let opened = recipe.device.open()?;
    let is_on_host = opened.is_on_host();
    let Opened { target, description, .. } = opened;
    let options = infer::PredictOptions {
        overlap: recipe.overlap,
        mirror: recipe.mirror,
        precision: recipe.device.precision,
        memory_budget: recipe.memory.memory_budget,
        ..infer::PredictOptions::default()
    };
    let mut predictor = Predictor::load(&checkpoint_path(&recipe.model_path), options, target)?;
    observer.event(Event::Device(description));
    let host = recipe.memory.host_bytes(if is_on_host { predictor.arena_bytes() } else { 0 });
    for job in &jobs {
        let header = formats::read_header(&job.case.image)?;
        recipe.require(&predictor, &header, host, &job.case.name)?;
    }
    // Every image is read before the first is labelled, so that the last one cannot end the call when the others are
    // written. Beside the network's work that is little.
    let store = Store::beside(&recipe.output);
    let examined = jobs.iter().map(|job| predictor.examine(&job.case.image, &store)).collect::<Result<Vec<_>>>()?;
    let folder = if recipe.probabilities { recipe.output.join(PROBABILITIES) } else { recipe.output.clone() };
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    for (index, (job, examined)) in jobs.iter().zip(&examined).enumerate() {
        let windows = predictor.runs(examined.header.grid.extents);
        let (position, images, name) = (index + 1, jobs.len(), job.case.name.clone());
        observer.event(Event::Labelling { position, images, name, windows });
        let probabilities = recipe.probabilities.then_some(&*job.probabilities);
        predictor.predict_file(&job.case.image, examined, &store, &job.labels, probabilities)?;
    }
    let planned = examined.iter().map(|examined| predictor.host_memory(&examined.header).peak()).max().unwrap_or(0);
    if let Some(used) = memory::peak() {
        observer.event(Event::Peak { used, planned, network: predictor.arena_bytes() });
    }
    let label_maps = jobs.into_iter().map(|job| job.labels).collect();
    Ok(Predicted { label_maps, labels: predictor.labels().to_vec() })
}

impl PredictRecipe {
    /// Refuses an image that takes more host memory than there is, with what would fit.
    fn require(&self, predictor: &Predictor, header: &Header, budget: usize, name: &str) -> Result<()> {
        let needs = predictor.host_memory(header);
        if needs.peak() <= budget {
            return Ok(());
        }
        let plain = predictor.host_memory_unmirrored(header).peak();
        let advice = if self.mirror.contains(&true) && plain <= budget {
            format!("`mirror = false` fits in {}", bytes(plain))
        } else {
            format!("`host_memory_budget = {}` is enough", bytes(needs.peak().next_multiple_of(1 << 20)))
        };
        Err(needs.refusal(header, budget, name, advice))
    }

    /// All images with their outputs, checked before anything is computed or written.
    fn jobs(&self) -> Result<Vec<Job>> {
        let mut jobs: Vec<Job> = Vec::new();
        for case in self.cases()? {
            let file_name = case.image.file_name().unwrap_or_default().to_owned();
            let job = Job {
                labels: self.output.join(&file_name),
                // In a folder of their own, so that the folder of label maps can be evaluated as it is.
                probabilities: self.output.join(PROBABILITIES).join(&file_name),
                case,
            };
            jobs.push(job);
        }
        // By sorted sets, as a folder may hold thousands of images.
        let images: BTreeSet<PathBuf> = jobs.iter().filter_map(|job| job.case.image.canonicalize().ok()).collect();
        let mut outputs = BTreeSet::new();
        for job in &jobs {
            for path in std::iter::once(&job.labels).chain(self.probabilities.then_some(&job.probabilities)) {
                if !outputs.insert(path) {
                    let cause = format!("{} would be the output of two images", path.display());
                    return Err(Error::input(&job.case.image, cause, "predict them into different folders"));
                }
                if path.canonicalize().is_ok_and(|path| images.contains(&path)) {
                    let cause = format!("{} would replace an image", path.display());
                    return Err(Error::input(&job.case.image, cause, "choose another `output`"));
                }
                if !self.overwrite {
                    files::refuse_existing(path)?;
                }
            }
        }
        Ok(jobs)
    }

    fn cases(&self) -> Result<Vec<Case>> {
        if let Some(root) = &self.dataset {
            let folds = Folds { fold: self.fold, folds: self.folds, splits: self.splits.as_deref() };
            return Ok(folds.split(&Dataset::open(root)?, self.seed)?.validation);
        }
        let mut cases = Vec::new();
        for path in &self.images {
            if path.is_dir() {
                cases.extend(images_in(path)?);
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str()).and_then(case_name);
            let Some(name) = name else {
                let cause = format!("not a {} file", formats::endings());
                return Err(Error::input(path, cause, "give images, or a folder of them"));
            };
            cases.push(Case { name: name.to_owned(), image: path.clone(), label: None });
        }
        Ok(cases)
    }
}

/// The checkpoint itself, or the best one of a run's folder.
pub fn checkpoint_path(path: &Path) -> PathBuf {
    let folder = run_folder(path);
    if !path.is_file() && folder.is_dir() { folder.join(BEST) } else { path.to_owned() }
}
