//! `gyrus predict`: label maps for new images.

use std::path::{Path, PathBuf};

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

    /// Also write probabilities, as NAME_probabilities.nii.gz with the classes in the fourth axis
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

/// One image and where its results go.
struct Job {
    case: Case,
    labels: PathBuf,
    probabilities: PathBuf,
}

/// Runs the command.
pub fn run(options: Options) -> Result<()> {
    let threads = options.device.cpu()?;
    let jobs = options.jobs()?;
    let infer_options =
        infer::Options { overlap: options.overlap, mirror: [options.mirror; 3], ..infer::Options::default() };
    let mut predictor = Predictor::load(&checkpoint_path(&options.model_path), infer_options, threads)?;
    std::fs::create_dir_all(&options.output).map_err(|error| Error::io(&options.output, error))?;
    for (index, job) in jobs.iter().enumerate() {
        let image = nifti::read_image(&job.case.image)?;
        let header = image.header.clone();
        eprintln!("{}/{} {} ({} windows)", index + 1, jobs.len(), job.case.name, predictor.runs(header.extents));
        let prediction = predictor.predict(image, &job.case.image, options.probabilities)?;
        if let Some(probabilities) = &prediction.probabilities {
            let channels = probabilities.len() / header.voxels();
            nifti::write_f32(&job.probabilities, &header, channels, probabilities)?;
        }
        nifti::write_labels(&job.labels, &header, &prediction.labels[..])?;
    }
    println!("{} label maps in {}", jobs.len(), options.output.display());
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
                probabilities: self.output.join(format!("{}_probabilities.nii.gz", case.name)),
                case,
            };
            if jobs.iter().any(|other| other.labels == job.labels) {
                let cause = "two images have this file name";
                return Err(Error::input(&job.case.image, cause, "predict them into different folders"));
            }
            let is_input = |path: &Path| same_file(path, &job.case.image);
            if is_input(&job.labels) {
                let cause = "the label map would replace its image";
                return Err(Error::input(&job.case.image, cause, "choose another --output"));
            }
            if !self.overwrite {
                files::refuse_existing(&job.labels)?;
                if self.probabilities {
                    files::refuse_existing(&job.probabilities)?;
                }
            }
            jobs.push(job);
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

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
