//! `gyrus predict`: label maps for new images.

use std::path::PathBuf;

use clap::Args;

use super::{
    device::DeviceOptions,
    given::{Given, Idle},
    memory::HostMemoryOptions,
    options::mirrored_axes,
    progress::Terminal,
};
use crate::{
    Result,
    run::{self, MemoryRecipe, PredictRecipe},
    session::Device,
    size,
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

/// Runs the command.
pub fn run(options: Options, given: &Given) -> Result<()> {
    given.remark(&options.idle(options.device.device.resolve().0));
    let output = options.output.clone();
    let predicted = run::predict(&options.recipe(), &mut Terminal::default())?;
    say!("{} label maps in {}", predicted.label_maps.len(), output.display());
    Ok(())
}

impl Options {
    fn recipe(self) -> PredictRecipe {
        PredictRecipe {
            model_path: self.model_path,
            images: self.images,
            dataset: self.dataset,
            fold: self.fold,
            folds: self.folds,
            seed: self.seed,
            splits: self.splits,
            output: self.output,
            overwrite: self.overwrite,
            probabilities: self.probabilities,
            overlap: self.overlap,
            mirror: self.mirror,
            device: self.device.recipe(),
            memory: MemoryRecipe {
                memory_budget: self.memory_budget,
                host_memory_budget: self.host.host_memory_budget,
                ..MemoryRecipe::default()
            },
        }
    }

    /// What has no effect beside the other options, on this device.
    fn idle(&self, device: Device) -> Vec<Idle> {
        let dealt = ["folds", "seed"].map(|option| (option, self.splits.is_some(), "--splits deals the cases"));
        dealt.into_iter().chain(DeviceOptions::idle(device)).collect()
    }
}
