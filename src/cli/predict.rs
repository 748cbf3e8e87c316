//! `gyrus predict`: label maps for new images.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    device::{Device, DeviceOptions},
    memory::HostMemoryOptions,
    options::mirrored_axes,
};
use crate::{
    Error, Result,
    cpu::memory,
    data::dataset::{Case, Dataset, case_name, images_in},
    files,
    formats::{self, Header, Store},
    infer::{self, Predictor},
    size::{self, bytes},
    train::trainer::BEST,
};

/// Label images with a trained network.
///
/// Writes one label map per image, under the image's own file name and on its own grid, with its geometry. Images pass
/// through memory slice by slice, so that their length does not matter; what an image takes is known before it starts.
#[derive(Debug, Args)]
pub struct Options {
    /// Checkpoint, or the folder of a run (its best checkpoint)
    #[arg(long, value_name = "FILE|DIR")]
    model_path: PathBuf,

    /// Images: .nii or .nii.gz files, or folders of them
    #[arg(value_name = "IMAGE|DIR", required_unless_present = "dataset", conflicts_with = "dataset")]
    images: Vec<PathBuf>,

    /// Dataset folder: its validation cases, as --fold and --folds or --splits deal them
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,

    /// Which fold, counted from 0
    #[arg(long, default_value_t = 0, value_name = "K", requires = "dataset")]
    fold: usize,

    /// Number of folds
    #[arg(long, default_value_t = 5, value_name = "N", requires = "dataset")]
    folds: usize,

    /// Seed of the folds
    #[arg(long, default_value_t = 0, requires = "dataset")]
    seed: u64,

    /// Folds from a file in nnU-Net's splits_final.json format instead
    #[arg(long, value_name = "FILE", requires = "dataset")]
    splits: Option<PathBuf>,

    /// Folder for the label maps
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// Replace label maps that are there already
    #[arg(long)]
    overwrite: bool,

    /// Also write probabilities, into DIR/probabilities under the images' names, with the classes in the fourth axis
    #[arg(long)]
    probabilities: bool,

    /// Share by which neighbouring windows overlap
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    overlap: f64,

    /// Average over copies mirrored along these axes: any of H, W, D, the file's first, second and third axis, or true for
    /// all; each doubles the work. Mirror only what training mirrored (its --flip)
    #[arg(long, default_value = "false", value_parser = mirrored_axes, value_name = "AXES")]
    mirror: [bool; 3],

    /// Memory for the network on its device, such as 2GiB [default: as much as it takes]
    #[arg(long, value_parser = size::parse, value_name = "SIZE", help_heading = "Memory")]
    memory_budget: Option<usize>,

    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    host: HostMemoryOptions,
}

/// The folder of the probabilities, within that of the label maps.
const PROBABILITIES: &str = "probabilities";

/// One image and where its results go.
struct Job {
    case: Case,
    labels: PathBuf,
    probabilities: PathBuf,
}

/// Runs the command.
pub fn run(options: Options) -> Result<()> {
    let jobs = options.jobs()?;
    let device = options.device.open()?;
    let infer_options = infer::Options {
        overlap: options.overlap,
        mirror: options.mirror,
        precision: options.device.precision,
        memory_budget: options.memory_budget,
        ..infer::Options::default()
    };
    let is_on_host = !matches!(device.device, Device::Cuda(_));
    let mut predictor = Predictor::load(&checkpoint_path(&options.model_path), infer_options, device.runs_on)?;
    note!("device: {}", device.description);
    let host = options.host.bytes(if is_on_host { predictor.arena_bytes() } else { 0 });
    for job in &jobs {
        let header = formats::read_header(&job.case.image)?;
        options.require(&predictor, &header, host, &job.case.name)?;
    }
    // Every image is read before the first is labelled, so that the last one cannot end the command when the others are
    // written. Beside the network's work that is little.
    let store = Store::beside(&options.output);
    let examined = jobs.iter().map(|job| predictor.examine(&job.case.image, &store)).collect::<Result<Vec<_>>>()?;
    let folder = if options.probabilities { options.output.join(PROBABILITIES) } else { options.output.clone() };
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    for (index, (job, examined)) in jobs.iter().zip(&examined).enumerate() {
        let windows = predictor.runs(examined.header.grid.extents);
        note!("{}/{} {} ({windows} windows)", index + 1, jobs.len(), job.case.name);
        let probabilities = options.probabilities.then_some(&*job.probabilities);
        predictor.predict_file(&job.case.image, examined, &store, &job.labels, probabilities)?;
    }
    let planned = examined.iter().map(|examined| predictor.host_memory(&examined.header).peak()).max().unwrap_or(0);
    if let Some(peak) = memory::peak() {
        note!(
            "memory: at most {} in use; planned were {} and the network's {}",
            bytes(peak),
            bytes(planned),
            bytes(predictor.arena_bytes())
        );
    }
    say!("{} label maps in {}", jobs.len(), options.output.display());
    Ok(())
}

impl Options {
    /// Refuses an image that takes more host memory than there is, with what would fit.
    fn require(&self, predictor: &Predictor, header: &Header, budget: usize, name: &str) -> Result<()> {
        let needs = predictor.host_memory(header);
        if needs.peak() <= budget {
            return Ok(());
        }
        let plain = predictor.host_memory_unmirrored(header).peak();
        let advice = if self.mirror.contains(&true) && plain <= budget {
            format!("--mirror false fits in {}", bytes(plain))
        } else {
            format!("--host-memory-budget {} is enough", bytes(needs.peak().next_multiple_of(1 << 20)))
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
                    return Err(Error::input(&job.case.image, cause, "choose another --output"));
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
            let dataset = Dataset::open(root)?;
            let split = match &self.splits {
                Some(file) => dataset.split_by_file(file, self.fold)?,
                None => dataset.fold(self.fold, self.folds, self.seed)?,
            };
            return Ok(split.validation);
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
    if path.is_dir() { path.join(BEST) } else { path.to_owned() }
}
