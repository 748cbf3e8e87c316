//! Saved training state: one safetensors file that a run continues from, that prediction needs nothing else beside, and that
//! PyTorch users can open.
//!
//! # What the file holds
//!
//! - every parameter under its own name, fp32, in the layout that PyTorch expects (see [`Layout`]);
//! - running statistics, as they are;
//! - optimizer state, in the layout of its parameter: `optimizer.m.NAME`, `optimizer.v.NAME`, ... ([`slot_name`]);
//! - in `__metadata__`: `format` (`pt`), `crc32` (eight lower-case hexadecimal digits), `gyrus` (JSON of [`Meta`]).
//!
//! [`Meta`] describes the network, the preprocessing and the labels apart from the run: position, schedule, configuration.
//!
//! The checksum covers every byte of the file, its own digits read as zeros. The header always begins with the same
//! bytes, so that a file from elsewhere is told from a damaged one, and the header must be exactly what this crate
//! would write for its contents: names given twice, overlapping ranges and other spellings have no room.
//!
//! A load either returns everything, verified, or an error that names the file and the reason. Memory is bounded by
//! the file's size: the ranges in the header are checked against it before anything is allocated.

mod describe;
mod header;
mod layout;
mod meta;
mod read;
pub mod state;
mod write;

pub use describe::{Description, Group};
pub use layout::{Layout, Tensor};
pub use meta::{EarlyStopState, FORMAT_VERSION, Label, Meta, Position, ScheduleState};

use std::{collections::BTreeMap, path::Path};

use crate::{
    Error, Result,
    files::{self, Existing},
    nn::UNetConfig,
};

/// What precedes the name of a parameter in the names of its optimizer state.
pub const OPTIMIZER_PREFIX: &str = "optimizer.";

/// The name of one slot (`m`, `v`, `v_hat`, `momentum`) of a parameter's optimizer state.
pub fn slot_name(slot: &str, parameter: &str) -> String {
    format!("{OPTIMIZER_PREFIX}{slot}.{parameter}")
}

/// Everything that a run needs to continue, and all that prediction needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Weights, running statistics and optimizer state by name, in the layout of the file.
    pub tensors: BTreeMap<String, Tensor>,
    /// Everything that is not an array.
    pub meta: Meta,
}

impl Checkpoint {
    /// Writes the file in one step, replacing an older one of that name. Needs no memory beyond the header's.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for tensors that cannot be written (elements that do not fill the extents, a reserved
    /// name); otherwise what the operating system says.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_as(path, Existing::Replace)
    }

    /// The same, with the choice of keeping what is there.
    ///
    /// # Errors
    /// As [`Self::save`], and [`crate::Error::Input`] when the file exists and is to be kept.
    pub fn save_as(&self, path: &Path, existing: Existing) -> Result<()> {
        let header = write::header(self)?;
        files::write(path, existing, |writer| write::stream(&header, self, writer))
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let header = write::header(self)?;
        let mut bytes = Vec::new();
        write::stream(&header, self, &mut bytes).expect("writing into memory does not fail");
        Ok(bytes)
    }

    /// Reads and verifies a file.
    ///
    /// # Errors
    /// [`crate::Error::Input`] with the reason when the file is absent, foreign, truncated or damaged.
    pub fn load(path: &Path) -> Result<Self> {
        read::file(path)
    }

    /// Reads and verifies the bytes of a file; `path` is for the error only.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        read::stream(bytes, bytes.len() as u64).map_err(|refusal| refusal.at(path))
    }

    /// The network whose weights these are; `path` is for the error only.
    ///
    /// # Errors
    /// [`crate::Error::Input`] when nobody wrote it down.
    pub fn network(&self, path: &Path) -> Result<UNetConfig> {
        let cause = "does not say what network it is of";
        self.meta.network.ok_or_else(|| Error::input(path, cause, "give a checkpoint that `gyrus train` wrote"))
    }

    /// A summary for people (its `Display`) and programs (its serialisation).
    pub fn describe(&self) -> Description {
        Description::of(self)
    }
}
