//! The training loop and what it leaves behind: checkpoints, history, curves.

pub mod checkpoint;
pub mod config;
pub mod figures;
pub mod observer;
pub mod schedule;
pub mod state;
pub mod trainer;

pub use config::TrainConfig;
pub use trainer::{Ending, RunOptions, Trainer};
