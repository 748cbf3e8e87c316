//! The training loop and what it leaves behind: checkpoints, history, curves.

pub mod checkpoint;
pub mod curves;
pub mod history;
pub mod progress;
pub mod schedule;
pub mod tensorboard;
