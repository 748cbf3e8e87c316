//! `gyrus train`: from a dataset to a trained network.

mod data;
mod idle;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::{ArgAction, Args};

use self::data::DataOptions;
use super::{
    choice::choice,
    device::DeviceOptions,
    fuse::FuseOptions,
    given::Given,
    memory::{HostMemoryOptions, MemoryOptions},
    options::{NetworkOptions, OptimizerOptions, boolean},
    preset::PresetName,
    progress::Terminal,
};
use crate::{
    Error, Result,
    ops::dice::LossKind,
    run::{self, LearningRate, OutputRecipe, TrainRecipe, Trained, TrainingRecipe},
    size::duration,
    train::Ending,
};

/// Train a 3-D U-Net on a dataset.
///
/// Extents are named as in the training script that this program replaces: `--mri-height` is the NIfTI file's first
/// axis, `--mri-width` its second, `--mri-depth` its third. All must be multiples of 16.
#[derive(Debug, Args)]
pub struct Options {
    /// Defaults of another program; options that are typed override them
    #[arg(long, value_parser = choice::<PresetName>(), value_name = "NAME")]
    preset: Option<PresetName>,

    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    fuse: FuseOptions,
    #[command(flatten)]
    memory: MemoryOptions,
    #[command(flatten)]
    host: HostMemoryOptions,

    /// The loss
    #[arg(long, value_parser = choice::<LossKind>(), default_value = "log_dice", help_heading = "Training")]
    loss: LossKind,

    /// Weight classes by the inverse of their share of the training voxels
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_parser = boolean, value_name = "BOOL", help_heading = "Training")]
    weighted_classes: bool,

    /// Epochs of the whole run
    #[arg(long, default_value_t = 100, value_name = "N", help_heading = "Training")]
    training_epochs: usize,

    /// Learning rate
    #[arg(long, default_value_t = 1e-4, help_heading = "Training")]
    lr: f64,

    /// How the learning rate falls: on a plateau of the validation Dice coefficient, or over the whole run
    #[arg(long, value_parser = choice::<LearningRate>(), default_value = "plateau", help_heading = "Training")]
    lr_schedule: LearningRate,

    /// Steps over which the learning rate rises at first
    #[arg(long, default_value_t = 0, value_name = "STEPS", help_heading = "Training")]
    warmup_steps: u64,

    /// End after this many epochs without a better validation Dice coefficient [default: never]
    #[arg(long, value_name = "EPOCHS", help_heading = "Training")]
    early_stop: Option<u32>,

    /// End after this time (such as 90s, 15m, 2h), ready to be resumed
    #[arg(long, value_parser = duration, value_name = "TIME", help_heading = "Training")]
    time_budget: Option<Duration>,

    /// Samples per training step
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Training")]
    train_batch_size: usize,

    /// Samples per validation pass
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Training")]
    val_batch_size: usize,

    /// Of initial weights, folds, order, augmentation and dropout
    #[arg(long, default_value_t = 0, help_heading = "Training")]
    seed: u64,

    /// Folder for checkpoints, history and curves; of a Keras file's name (x.h5) what precedes the ending
    #[arg(long, default_value = "model", value_name = "DIR", help_heading = "Output")]
    model_path: PathBuf,

    /// Continue the run in --model-path from its last checkpoint
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_parser = boolean, value_name = "BOOL", help_heading = "Output")]
    resume_train: bool,

    /// Replace the run in --model-path
    #[arg(long, help_heading = "Output")]
    overwrite: bool,

    /// Train on several GPUs
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_parser = boolean, value_name = "BOOL", help_heading = "Device")]
    train_multi_gpu: bool,

    /// Number of GPUs
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Device")]
    num_gpus: usize,
}

/// Runs the command.
pub fn run(options: Options, given: &Given) -> Result<()> {
    if let Some(name) = options.preset {
        name.preset().check(given)?;
    }
    if options.train_multi_gpu || options.num_gpus != 1 {
        let cause = "training on several GPUs comes in a later version";
        return Err(Error::usage("train_multi_gpu", cause, "leave it out, and `num_gpus` too"));
    }
    let mut terminal = Terminal::default();
    let prepared = run::prepare(&options.recipe(), &mut terminal)?;
    given.remark(&options.idle(prepared.network().outputs(), options.device.device.resolve().0));
    terminal.classes = prepared.labels()[1..].to_vec();
    let stop = stop_flag();
    report(&prepared.train(&|| stop.load(Ordering::Relaxed), &mut terminal)?)
}

impl Options {
    /// What is asked for, in the library's words.
    fn recipe(&self) -> TrainRecipe {
        TrainRecipe {
            data: self.data.recipe(),
            network: self.network.recipe(),
            optimizer: self.optimizer.recipe(),
            training: TrainingRecipe {
                loss: self.loss,
                weighted_classes: self.weighted_classes,
                training_epochs: self.training_epochs,
                lr: self.lr,
                lr_schedule: self.lr_schedule,
                warmup_steps: self.warmup_steps,
                early_stop: self.early_stop,
                time_budget: self.time_budget,
                train_batch_size: self.train_batch_size,
                val_batch_size: self.val_batch_size,
                seed: self.seed,
                fuse: self.fuse.fuse,
            },
            device: self.device.recipe(),
            memory: self.memory.recipe(Some(&self.host)),
            output: OutputRecipe {
                model_path: self.model_path.clone(),
                resume_train: self.resume_train,
                overwrite: self.overwrite,
            },
        }
    }
}

/// Set by Ctrl-C and SIGTERM. A second one ends the program at once.
fn stop_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Without handlers a stop would lose the steps since the last checkpoint, which is no reason not to train.
        let _ = signal_hook::flag::register_conditional_default(signal, flag.clone());
        let _ = signal_hook::flag::register(signal, flag.clone());
    }
    flag
}

fn report(trained: &Trained) -> Result<()> {
    let resume = "continue with --resume-train true";
    match trained.ending {
        Ending::Completed => note!("done"),
        Ending::Stopped => note!("done: the validation Dice coefficient no longer improves"),
        Ending::TimeUp => note!("the time is up: {resume}"),
        Ending::OnRequest => note!("stopped; everything is saved: {resume}"),
    }
    if let Some((dice, epoch)) = trained.best {
        let path = trained.best_checkpoint.display();
        say!("best checkpoint: {path} (epoch {epoch}, soft validation Dice {dice:.4})");
    }
    say!("history and curves: {}", trained.folder.display());
    if trained.ending == Ending::OnRequest { Err(Error::Stopped) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use crate::{
        cli::{self, Command, Parsed},
        run::TrainRecipe,
    };

    /// The recipe of a command line.
    fn recipe(words: &str) -> TrainRecipe {
        let line = ["gyrus", "train"].into_iter().chain(words.split_whitespace()).map(Into::into);
        let Parsed { command: Command::Train(options), .. } = cli::parse(line).unwrap() else { unreachable!() };
        options.recipe()
    }

    #[test]
    fn defaults_are_the_same_on_the_command_line_and_in_the_library() {
        assert_eq!(recipe("--dataset data"), TrainRecipe::for_dataset("data"));
    }
}
