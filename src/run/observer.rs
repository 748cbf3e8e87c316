//! Who is told what a run is doing.

use std::{fmt, path::PathBuf};

use crate::{
    size::bytes,
    train::{figures::EpochFigures, observer::Observer as Steps},
};

/// Something that a person would want to know, as data; displayed, it is one line.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Cases are being read and checked.
    Checking {
        /// Cases that train.
        training: usize,
        /// Cases that validate.
        validation: usize,
    },
    /// Where it will run.
    Device(String),
    /// Fewer threads prepare batches than were asked for, to stay within the host's memory.
    FewerWorkers {
        /// So many do.
        workers: usize,
        /// So many were asked for.
        asked: usize,
    },
    /// Everything is allocated.
    Allocated {
        /// Bytes in all.
        total: usize,
        /// Of parameters, gradients and optimizer state.
        persistent: usize,
    },
    /// Activations will be computed again in every step.
    Rematerialised {
        /// How many.
        activations: usize,
        /// The work that this adds, in per cent.
        extra_percent: f64,
    },
    /// Optimizer state stays on the host between updates.
    Offloaded {
        /// Bytes.
        bytes: usize,
    },
    /// The run's folder is not the path that names it.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What named it.
        named: PathBuf,
    },
    /// An image is being labelled.
    Labelling {
        /// Counted from 1.
        position: usize,
        /// Images in all.
        images: usize,
        /// Its name.
        name: String,
        /// Runs of the network.
        windows: usize,
    },
    /// Memory that labelling took.
    Peak {
        /// The process's largest resident set.
        used: usize,
        /// Planned for data.
        planned: usize,
        /// Planned for the network.
        network: usize,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
        match self {
            Self::Checking { training, validation } => {
                write!(f, "checking {training} training and {validation} validation cases")
            }
            Self::Device(description) => write!(f, "device: {description}"),
            Self::FewerWorkers { workers, asked } => {
                write!(f, "memory: {workers} threads prepare batches instead of {asked}, to stay within it")
            }
            Self::Allocated { total, persistent } => write!(
                f,
                "memory: {:.2} GiB planned and allocated, {:.2} of it parameters, gradients and optimizer state",
                gib(*total),
                gib(*persistent)
            ),
            Self::Rematerialised { activations, extra_percent } => write!(
                f,
                "memory: {activations} activations are computed again to stay within it: {extra_percent:.1} % more work"
            ),
            Self::Offloaded { bytes } => {
                write!(
                    f,
                    "memory: {:.2} GiB of optimizer state are on the host, and copied for each update",
                    gib(*bytes)
                )
            }
            Self::Folder { folder, named } => {
                write!(f, "run: {} (a run is a folder; {} names it)", folder.display(), named.display())
            }
            Self::Labelling { position, images, name, windows } => {
                write!(f, "{position}/{images} {name} ({windows} windows)")
            }
            Self::Peak { used, planned, network } => write!(
                f,
                "memory: at most {} in use; planned were {} and the network's {}",
                bytes(*used),
                bytes(*planned),
                bytes(*network)
            ),
        }
    }
}

/// Is told how a run goes: its steps and epochs as well as what [`Event`]s say.
pub trait Observer: Steps {
    /// Something happened.
    fn event(&mut self, event: Event);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Steps for Silent {
    fn epoch_ends(&mut self, _figures: &EpochFigures) -> crate::Result<()> {
        Ok(())
    }
}

impl Observer for Silent {
    fn event(&mut self, _event: Event) {}
}
