//! Gyrus: a 3-D U-Net training and inference engine for medical images.
//!
//! # One idea
//!
//! Record, differentiate, plan, bind, replay. A training step (forward, loss, backward, optimizer) is data: a list of
//! operations over values of known shape, recorded on a tape. Everything hard is a pure function on that list.
//! A device sees one arena and a list of operations, and nothing is allocated after binding.

pub mod cpu;
pub mod data;
pub mod demo;
pub mod error;
pub mod evaluate;
pub mod graph;
pub mod infer;
pub mod machine;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod random;
pub mod session;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
