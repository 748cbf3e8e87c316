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
//! A module uses those that its row names, and what stands in the first two rows. Every row names only rows above its own, so
//! there is no circle. `tests/architecture.rs` holds the code to this table, and the table to the code.
//!
//! | module | what it holds | uses |
//! |---|---|---|
//! | [`error`], [`size`], [`random`], [`tensor`] | the error type; bytes as text; Philox; extents, element types, places in an arena | |
//! | [`files`] | writing whole files or none | |
//! | [`serial`] | how settings stand in files | |
//! | [`chart`] | pictures as SVG and text | |
//! | [`cpu`] | threads, the arena, SIMD microkernels, direct convolutions | |
//! | [`machine`] | launches as data; NVIDIA's driver, the emulated GPU, and one that only checks | [`cpu`] |
//! | [`volume`] | voxels that know where they lie: orientation, regions, resampling, and the way back | |
//! | [`formats`] | files that hold volumes, whatever their format: one folder each | [`volume`] |
//! | [`data`] | datasets, validation, fingerprint, normalisation, sampling, augmentation, loader | [`volume`], [`formats`] |
//! | [`graph`] | values, nodes, tape, [`graph::Op`], differentiation, the f64 interpreter | [`cpu`], [`machine`] |
//! | [`lowering`] | what a processor makes of an operation: launches or a refusal, scratch memory | [`graph`], [`machine`] |
//! | [`ops`] | one folder per operation, and the catalogue of cases | [`graph`], [`lowering`], [`cpu`], [`machine`], [`data`] |
//! | [`mod@fuse`] | operations merged into their neighbours | [`graph`], [`lowering`], [`ops`] |
//! | [`mod@rematerialise`] | activations computed again instead of kept | [`graph`] |
//! | [`plan`] | lifetimes, placement, memory budget, report, pictures, independent verification | [`graph`], [`lowering`], [`mod@rematerialise`], [`chart`] |
//! | [`session`] | binds a planned program and runs it: [`session::Program`], on the CPU or on a machine | [`plan`], [`lowering`], [`graph`], [`machine`], [`cpu`] |
//! | [`peaks`] | what a GPU does at its best | [`session`], [`ops`], [`graph`], [`machine`] |
//! | [`nn`] | the U-Nets and the graphs of a step | [`ops`], [`graph`] |
//! | [`optim`] | learning-rate corrections | [`ops`] |
//! | [`checkpoint`] | weights, optimizer state, the network's description in one file | [`nn`], [`session`], [`graph`] |
//! | [`train`] | the loop and its records | [`data`], [`graph`], [`lowering`], [`ops`], [`mod@fuse`], [`plan`], [`session`], [`nn`], [`optim`], [`checkpoint`], [`chart`] |
//! | [`infer`] | windows, blending, prediction | [`data`], [`mod@fuse`], [`plan`], [`session`], [`nn`], [`checkpoint`], [`formats`] |
//! | [`selftest`] | judges a device by the definitions | [`cpu`], [`machine`], [`graph`], [`lowering`], [`ops`], [`mod@fuse`], [`plan`], [`session`], [`nn`], [`train`] |
//! | [`evaluate`] | metrics | [`data`], [`chart`], [`volume`], [`formats`] |
//! | [`explore`] | surveys of datasets | [`data`], [`evaluate`], [`chart`] |
//! | [`demo`] | synthetic data | [`data`], [`volume`], [`formats`] |
//! | [`run`] | the library's front door: recipes; prepare, train, predict, evaluate, plan as calls | everything |
//! | [`cli`] | one file per command | everything |
//!
//! # Words
//!
//! *fprop, dgrad, wgrad*: a convolution's forward pass and its gradients by input and filter. *filter*: a convolution's
//! weights ("kernel" is a GPU function, or the extents of a filter). *arena*: the one allocation. *levels*: the network's
//! depth ("depth" is the D axis). *rematerialise*: compute an activation again instead of keeping it. *checkpoint*: saved
//! training state. *case*: an image with its labels. *patch, spacing, affine, fold, fingerprint*: as nnU-Net uses them.

#![deny(unsafe_code)]

pub mod chart;
pub mod checkpoint;
pub mod cli;
pub mod cpu;
pub mod data;
pub mod demo;
pub mod error;
pub mod evaluate;
pub mod explore;
pub mod files;
pub mod formats;
pub mod fuse;
pub mod graph;
pub mod infer;
pub mod lowering;
pub mod machine;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod peaks;
pub mod plan;
pub mod random;
pub mod rematerialise;
pub mod run;
pub mod selftest;
pub mod serial;
pub mod session;
pub mod size;
pub mod tensor;
pub mod train;
pub mod volume;

pub use error::{Error, Result};
