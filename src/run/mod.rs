//! The library's front door: everything that the command line does, as calls.
//!
//! A *recipe* is everything that a run is asked for, as plain data: it can be printed, compared, written to a TOML file and
//! read back ([`Recipe`]). What happens meanwhile is told to an [`Observer`]; nothing here writes to the terminal,
//! listens to signals or ends the process.
//!
//! ```no_run
//! use gyrus::run::{self, Silent, TrainRecipe};
//!
//! let mut recipe = TrainRecipe::for_dataset("Task04_Hippocampus");
//! recipe.network.unet_resize_factor = 4;
//! (recipe.network.mri_height, recipe.network.mri_width, recipe.network.mri_depth) = (48, 64, 48);
//! recipe.training.training_epochs = 5;
//! let trained = run::prepare(&recipe, &mut Silent)?.train(&|| false, &mut Silent)?;
//! println!("{}", trained.best_checkpoint.display());
//! # Ok::<(), gyrus::Error>(())
//! ```
//!
//! Names of settings are those that errors use, and those of the command line's options with underscores.

mod evaluate;
mod observer;
mod plan;
mod predict;
mod recipe;
mod source;
mod target;
mod train;

pub(crate) use self::target::check_threads;
pub use self::{
    evaluate::{EvaluateRecipe, evaluate},
    observer::{Event, Observer, Silent},
    plan::{PlanRecipe, Planned, plan},
    predict::{PredictRecipe, Predicted, checkpoint_path, predict},
    recipe::{
        DataRecipe, DeviceRecipe, LearningRate, MemoryRecipe, NetworkRecipe, OptimizerName, OptimizerRecipe,
        OutputRecipe, Recipe, TrainRecipe, TrainingRecipe,
    },
    source::{Folds, Source},
    target::Opened,
    train::{Prepared, Trained, prepare, prepare_cases, run_folder},
};
