//! The plain layout: `images` and `masks` (or `labels`), matched by name.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Case, Dataset, case_name};
use crate::{Error, Result, formats};

pub(super) fn open(root: &Path) -> Result<Dataset> {
    if !root.is_dir() {
        return Err(Error::input(root, "no such folder", "check the path"));
    }
    let image_folder = root.join("images");
    let candidates = ["masks", "labels"].map(|name| root.join(name)).into_iter().filter(|path| path.is_dir());
    let candidates: Vec<PathBuf> = candidates.collect();
    if !image_folder.is_dir() || candidates.is_empty() {
        let cause = "not a dataset: neither dataset.json nor folders images and masks (or labels)";
        return Err(Error::input(root, cause, "give a decathlon folder, or one with images and masks"));
    }
    let [label_folder] = &candidates[..] else {
        return Err(Error::input(root, "both masks and labels are there", "remove or rename one of them"));
    };
    let images = volumes(&image_folder)?;
    let mut labels = volumes(label_folder)?;
    let mut cases = Vec::with_capacity(images.len());
    for (name, image) in images {
        let Some(label) = labels.remove(&name) else {
            if name.strip_suffix("_0000").is_some_and(|case| labels.contains_key(case)) {
                return Err(one_file_per_channel(&image));
            }
            let advice = format!("put its labels into {} under the same name", label_folder.display());
            return Err(Error::input(&image, "an image without labels", advice));
        };
        cases.push(Case { name, image, label: Some(label) });
    }
    if let Some(label) = labels.into_values().next() {
        let advice = format!("put its image into {} under the same name", image_folder.display());
        return Err(Error::input(&label, "labels without an image", advice));
    }
    let (root, name) = (root.to_owned(), folder_name(root));
    Ok(Dataset { root, name, channels: Vec::new(), labels: Vec::new(), cases, test: Vec::new() })
}

/// Every volume of a folder as a case without labels, sorted by name.
///
/// # Errors
/// A folder that is missing or holds no volume; two files of one case (`a.nii` and `a.nii.gz`).
pub fn images_in(folder: &Path) -> Result<Vec<Case>> {
    Ok(volumes(folder)?.into_iter().map(|(name, image)| Case { name, image, label: None }).collect())
}

/// The volumes of a folder by case name.
fn volumes(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut volumes = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|source| Error::io(folder, source))? {
        let path = entry.map_err(|source| Error::io(folder, source))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(case_name) else { continue };
        if let Some(other) = volumes.insert(name.to_owned(), path.clone()) {
            let (first, second) = (path.clone().min(other.clone()), path.max(other));
            return Err(Error::input(second, format!("the same case as {}", first.display()), "remove one of them"));
        }
    }
    if volumes.is_empty() {
        return Err(Error::input(folder, format!("no {} files", formats::endings()), "check the path"));
    }
    Ok(volumes)
}

pub(super) fn folder_name(root: &Path) -> String {
    let name = root.file_name().or_else(|| root.components().next_back().map(|part| part.as_os_str()));
    name.map_or_else(|| root.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// nnU-Net keeps each channel in a file of its own; that layout is not read.
pub(super) fn one_file_per_channel(image: &Path) -> Error {
    let advice = "join the _0000, _0001, ... files of each case into one file with four axes; drop the suffix if there is one channel";
    Error::input(image, "one file per channel (nnU-Net's _0000 suffix)", advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(files: &[&str]) -> (tempfile::TempDir, Result<Dataset>) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let dataset = Dataset::open(folder.path());
        (folder, dataset)
    }

    #[test]
    fn files_are_matched_by_name_and_not_by_position() {
        let (folder, dataset) = layout(&[
            "images/b.nii.gz",
            "images/a.nii",
            "images/._a.nii",
            "images/notes.txt",
            "masks/a.nii.gz",
            "masks/b.nii",
        ]);
        let cases = dataset.unwrap().cases;
        assert_eq!(cases.iter().map(|case| &case.name[..]).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(cases[0].label, Some(folder.path().join("masks/a.nii.gz")));
    }

    #[test]
    fn what_does_not_match_is_named() {
        for (files, cause) in [
            (&["images/a.nii", "images/b.nii", "labels/a.nii"][..], "images/b.nii: an image without labels"),
            (&["images/a.nii", "labels/a.nii", "labels/b.nii"], "labels/b.nii: labels without an image"),
            (&["images/a.nii", "labels/a.nii", "masks/a.nii"], "both masks and labels"),
            (&["images/a.nii", "images/a.nii.gz", "labels/a.nii"], "images/a.nii.gz: the same case"),
            (&["images/a_0000.nii", "labels/a.nii"], "one file per channel"),
            (&["images/a.nii"], "not a dataset"),
            (&["images/a.txt", "masks/a.nii"], "images: no .nii or .nii.gz files"),
        ] {
            let message = layout(files).1.unwrap_err().to_string();
            assert!(message.contains(cause), "{message}");
        }
    }
}
