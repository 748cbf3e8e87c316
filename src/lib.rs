//! Gyrus: a 3-D U-Net training and inference engine for medical images.
//!
//! # One idea
//!
//! Record, differentiate, plan, bind, replay. A training step (forward, loss, backward, clipping, update) is data: a
//! list of operations over values of known shape, recorded on a tape. Everything hard is a pure function on that list.
//! A device sees one arena and a list of operations, and nothing is allocated after binding.
//!
//! # The house, floor by floor
//!
//! | module | what it holds | uses |
//! |---|---|---|
//! | [`tensor`], [`random`], [`error`], [`files`], [`size`] | extents and element types; Philox; the error type; atomic writing; bytes as text | |
//! | [`cpu`] | threads, SIMD microkernels, direct convolutions | nothing above |
//! | [`volume`] | voxels that know where they lie: orientation, regions, resampling, and the way back | nothing |
//! | [`graph`] | values, nodes, tape, [`graph::Op`], differentiation, merging, rematerialisation, the f64 interpreter | [`tensor`] |
//! | [`ops`] | one folder per operation, and the catalogue of cases | [`graph`], [`cpu`] |
//! | [`machine`] | launches as data; NVIDIA's driver, the emulated GPU, and one that only checks | |
//! | [`plan`] | lifetimes, placement, memory budget, report, pictures, independent verification | [`graph`] |
//! | [`session`] | the arena; binds a planned program and runs it, on the CPU or on a machine | [`plan`], [`cpu`], [`machine`] |
//! | [`nn`], [`optim`] | the U-Nets and the graphs of a step; learning-rate corrections | [`ops`], [`graph`] |
//! | [`selftest`] | judges a device by the definitions | [`ops`], [`session`] |
//! | [`formats`] | files that hold volumes, whatever their format: one folder each | [`volume`] |
//! | [`data`] | datasets, validation, fingerprint, normalisation, augmentation, loader | [`tensor`], [`volume`], [`formats`] |
//! | [`train`], [`infer`], [`evaluate`], [`explore`], [`demo`], [`chart`] | the loop and its records; windows; metrics; surveys; synthetic data; pictures | all of the above |
//! | [`cli`] | one file per command | everything |
//!
//! # Words
//!
//! *fprop, dgrad, wgrad*: a convolution's forward pass and its gradients by input and filter. *filter*: a convolution's
//! weights ("kernel" is a GPU function, or the extents of a filter). *arena*: the one allocation. *levels*: the network's
//! depth ("depth" is the D axis). *rematerialise*: compute an activation again instead of keeping it. *checkpoint*: saved
//! training state. *case*: an image with its labels. *patch, spacing, affine, fold, fingerprint*: as nnU-Net uses them.

pub mod chart;
pub mod cli;
pub mod cpu;
pub mod data;
pub mod demo;
pub mod error;
pub mod evaluate;
pub mod explore;
pub mod files;
pub mod formats;
pub mod graph;
pub mod infer;
pub mod machine;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod random;
pub mod selftest;
pub mod session;
pub mod size;
pub mod tensor;
pub mod train;
pub mod volume;

pub use error::{Error, Result};
