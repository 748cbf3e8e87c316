//! The training loop and what it leaves behind: history, curves.

pub mod budget;
pub mod config;
pub mod curves;
pub mod figures;
pub mod history;
pub mod loss_scale;
pub mod observer;
pub mod record;
pub mod schedule;
mod slots;
pub mod tensorboard;
pub mod trainer;

pub use config::TrainConfig;
pub use trainer::{Ending, RunOptions, Trainer};
