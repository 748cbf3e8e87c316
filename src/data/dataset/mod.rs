//! Finds the cases of a dataset, and splits them for training and validation.
//!
//! Two layouts: the decathlon's (`dataset.json`, `imagesTr`, `labelsTr`, `imagesTs`), and a folder with `images` and
//! `masks` or `labels`, whose files are matched by name. Only names are looked at here; voxels are for `validate`.

mod decathlon;
mod folders;
mod split;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use decathlon::parse as parse_decathlon;
pub use folders::images_in;
pub use split::Split;

use crate::{Result, formats};

/// One volume, and its label map when there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// The image's file name without its ending; unique in its dataset.
    pub name: String,
    /// The image file.
    pub image: PathBuf,
    /// The label file.
    pub label: Option<PathBuf>,
}

/// The cases of a dataset and what it says about channels and labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The folder.
    pub root: PathBuf,
    /// The dataset's name; the folder's when it has none.
    pub name: String,
    /// Channel names in order; empty when the layout does not say.
    pub channels: Vec<String>,
    /// Label names by value, background first; empty when the layout does not say.
    pub labels: Vec<String>,
    /// The cases with labels, sorted by name.
    pub cases: Vec<Case>,
    /// The cases without, sorted by name. Their files are not looked for until they are used.
    pub test: Vec<Case>,
}

impl Dataset {
    /// Opens a folder of either layout: the decathlon's when there is a `dataset.json`.
    ///
    /// # Errors
    /// Neither layout; a `dataset.json` that is malformed or points out of the folder; a missing file; images and
    /// labels that do not match by name.
    pub fn open(root: &Path) -> Result<Self> {
        if root.join("dataset.json").exists() { decathlon::open(root) } else { folders::open(root) }
    }
}

/// The case's name by its file name: what precedes a volume's ending. None for other files and for hidden ones, such
/// as the `._*` files that one operating system adds to archives.
pub fn case_name(file_name: &str) -> Option<&str> {
    let name = formats::stem(file_name)?;
    (!name.is_empty() && !name.starts_with('.')).then_some(name)
}
