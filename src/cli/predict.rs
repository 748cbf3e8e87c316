//! `gyrus predict`: label maps for new images.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args};

use super::device::DeviceOptions;
use crate::{
    Error, Result,
    data::{
        dataset::{Case, Dataset, case_name, images_in},
        nifti,
    },
    files,
    infer::{self, Predictor},
    train::trainer::BEST,
};

/// Label images with a trained network.
///
/// Writes one label map per image, under the image's own file name and on its own grid, with its geometry.
#[derive(Debug, Args)]
pub struct Options {
    /// Checkpoint, or the folder of a run (its best checkpoint)
    #[arg(long, value_name = "FILE|DIR")]
    model_path: PathBuf,

    /// Images: NIfTI files, or folders of them
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

    /// Average over mirrored copies along all three axes: eight times the work
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    mirror: bool,

    #[command(flatten)]
    device: DeviceOptions,
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
        mirror: [options.mirror; 3],
        precision: options.device.precision,
        ..infer::Options::default()
    };
    let mut predictor = Predictor::load(&checkpoint_path(&options.model_path), infer_options, device.runs_on)?;
    note!("device: {}", device.description);
    // Every image is read twice, so that the last one cannot end the command when the others are written. Beside the
    // network's work that is little.
    for job in &jobs {
        predictor.check(&nifti::read_image(&job.case.image)?, &job.case.image)?;
    }
    let folder = if options.probabilities { options.output.join(PROBABILITIES) } else { options.output.clone() };
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    for (index, job) in jobs.iter().enumerate() {
        let image = nifti::read_image(&job.case.image)?;
        let header = image.header.clone();
        note!("{}/{} {} ({} windows)", index + 1, jobs.len(), job.case.name, predictor.runs(header.extents));
        let prediction = predictor.predict(image, &job.case.image, options.probabilities)?;
        if let Some(probabilities) = &prediction.probabilities {
            let channels = probabilities.len() / header.voxels();
            nifti::write_f32(&job.probabilities, &header, channels, probabilities)?;
        }
        nifti::write_labels(&job.labels, &header, &prediction.labels[..])?;
    }
    say!("{} label maps in {}", jobs.len(), options.output.display());
    Ok(())
}

impl Options {
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
                return Err(Error::input(path, "not a .nii or .nii.gz file", "give NIfTI files, or a folder of them"));
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
