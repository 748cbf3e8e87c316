//! The one error type, by stage. Fields are data; the sentence says what was wrong and what to do next.
//!
//! Settings are named as in a recipe, and in a sentence between backticks: "use `device = cpu`". Whoever has another way to
//! set them puts his own words there, as the command line does.
//!
//! Everything here ends as one line on standard error, `error: ...`, and exit status 2 (bad input, a configuration
//! that cannot work) or 1 (the machine failed: disk full, driver lost). A panic means a bug in this crate.

use std::{fmt::Display, io, path::PathBuf};

/// What can go wrong, by stage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder that the user gave is not usable.
    #[error("{}: {cause} ({advice})", path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
        /// What the user can do.
        advice: String,
    },
    /// A setting or a combination of settings that cannot work.
    #[error("{setting}: {cause} ({advice})")]
    Usage {
        /// Its name, as in a recipe; or several, or one with its value: `device = cuda`.
        setting: String,
        /// What is wrong with its value.
        cause: String,
        /// What the user can do.
        advice: String,
    },
    /// Extents that do not fit each other, found while a graph is recorded.
    #[error("{node}: {cause}")]
    Shape {
        /// The node's name and operation.
        node: String,
        /// The extents, and what was expected.
        cause: String,
    },
    /// A graph does not fit into the memory that it may use.
    #[error("{cause} ({advice})")]
    Memory {
        /// Needed and available bytes.
        cause: String,
        /// The nearest things that would fit.
        advice: String,
    },
    /// A device cannot be opened, or fails.
    #[error("{device}: {cause} ({advice})")]
    Device {
        /// The device, as the user names it.
        device: String,
        /// What it answered.
        cause: String,
        /// What the user can do.
        advice: String,
    },
    /// Reading or writing failed for a reason outside this program.
    #[error("{}: {source} (see to the machine, then try again)", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The user asked to stop (Ctrl-C or SIGTERM); everything that was to be kept is on disk.
    #[error("stopped on request")]
    Stopped,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A file or folder that cannot be used: `PATH: CAUSE (ADVICE)`.
    pub fn input(path: impl Into<PathBuf>, cause: impl Display, advice: impl Display) -> Self {
        Self::Input { path: path.into(), cause: cause.to_string(), advice: advice.to_string() }
    }

    /// A setting that cannot work: `SETTING: CAUSE (ADVICE)`.
    pub fn usage(setting: impl Display, cause: impl Display, advice: impl Display) -> Self {
        Self::Usage { setting: setting.to_string(), cause: cause.to_string(), advice: advice.to_string() }
    }

    /// Extents that do not fit: `NODE: CAUSE`.
    pub fn shape(node: impl Display, cause: impl Display) -> Self {
        Self::Shape { node: node.to_string(), cause: cause.to_string() }
    }

    /// An operating-system failure at a path. What lies in the path itself is the user's to mend; the rest, such as a
    /// full disk, is the machine's.
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        let (cause, advice) = match source.kind() {
            io::ErrorKind::NotFound => ("no such file or folder", "check the path"),
            io::ErrorKind::NotADirectory => ("a part of the path is a file, not a folder", "check the path"),
            io::ErrorKind::IsADirectory => ("a folder, where a file is meant", "check the path"),
            io::ErrorKind::AlreadyExists => ("exists already", "choose another name"),
            io::ErrorKind::InvalidFilename => ("not a name that the file system takes", "choose a shorter one"),
            io::ErrorKind::PermissionDenied => ("permission denied", "choose another place, or change its permissions"),
            io::ErrorKind::ReadOnlyFilesystem => ("a read-only file system", "choose another place"),
            _ => return Self::Io { path, source },
        };
        Self::input(path, cause, advice)
    }

    /// The process exit status that this error means: 2 for what the user can mend, 130 for a requested stop, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Device { .. } => 1,
            Self::Stopped => 130,
            _ => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_the_users_to_mend() {
        let error = Error::io("a.nii.gz", io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(error.exit_code(), 2);
        assert_eq!(error.to_string(), "a.nii.gz: no such file or folder (check the path)");
        assert_eq!(Error::io("a", io::Error::from(io::ErrorKind::StorageFull)).exit_code(), 1);
    }
}
