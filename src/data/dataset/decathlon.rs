//! The decathlon layout. Its `dataset.json` files differ in the fields that nobody needs (`release` is misspelt in an
//! official one), so only those that are needed are read.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Component, Path},
};

use serde::Deserialize;
use serde_json::Value;

use super::{Case, Dataset, case_name};
use crate::{Error, Result, formats};

/// The largest official `dataset.json` is under 100 kB.
const LARGEST_JSON: u64 = 64 << 20;

const LAYOUT: &str = "see dataset.json of any Medical Segmentation Decathlon task";

#[derive(Deserialize)]
struct Description {
    name: Option<Value>,
    modality: Option<BTreeMap<String, Value>>,
    labels: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    training: Vec<Value>,
    #[serde(default)]
    test: Vec<Value>,
}

/// Reads `root/dataset.json`, and checks that the files of the training cases are there.
pub(super) fn open(root: &Path) -> Result<Dataset> {
    let path = root.join("dataset.json");
    let file = File::open(&path).map_err(|source| Error::io(&path, source))?;
    let mut bytes = Vec::new();
    file.take(LARGEST_JSON + 1).read_to_end(&mut bytes).map_err(|source| Error::io(&path, source))?;
    if bytes.len() as u64 > LARGEST_JSON {
        return Err(Error::input(&path, "larger than 64 MiB", LAYOUT));
    }
    let dataset = parse(root, &bytes)?;
    for case in &dataset.cases {
        for file in std::iter::once(&case.image).chain(&case.label) {
            if !file.is_file() {
                return Err(missing(file));
            }
        }
    }
    Ok(dataset)
}

/// The dataset that these bytes of a `dataset.json` in `root` describe; looks at no other file.
///
/// # Errors
/// Malformed JSON, missing or gapped channels and labels, malformed, escaping or repeated entries.
pub fn parse(root: &Path, bytes: &[u8]) -> Result<Dataset> {
    let path = root.join("dataset.json");
    let bad = |cause: String| Error::input(&path, cause, LAYOUT);
    let description: Description = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    let channels = numbered("modality", description.modality).map_err(bad)?;
    let labels = numbered("labels", description.labels).map_err(bad)?;
    let mut cases = Vec::new();
    for (index, entry) in description.training.iter().enumerate() {
        let [image, label] = ["image", "label"].map(|field| entry.get(field).and_then(Value::as_str));
        let (Some(image), Some(label)) = (image, label) else {
            return Err(bad(format!("training entry {index} is not an object with image and label")));
        };
        cases.extend(case(root, image, Some(label)).map_err(bad)?);
    }
    let mut test = Vec::new();
    for (index, entry) in description.test.iter().enumerate() {
        let Some(image) = entry.as_str().or_else(|| entry.get("image")?.as_str()) else {
            return Err(bad(format!("test entry {index} is not a path")));
        };
        test.extend(case(root, image, None).map_err(bad)?);
    }
    if cases.is_empty() && test.is_empty() {
        return Err(bad("no training and no test cases".into()));
    }
    for list in [&mut cases, &mut test] {
        list.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = list.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(bad(format!("two cases are called {:?}", pair[0].name)));
        }
    }
    let name = match description.name {
        Some(Value::String(name)) if is_line(&name) => name,
        _ => super::folders::folder_name(root),
    };
    Ok(Dataset { root: root.to_owned(), name, channels, labels, cases, test })
}

/// The names of `{"0": name, "1": name, ...}` in order.
fn numbered(field: &str, names: Option<BTreeMap<String, Value>>) -> Result<Vec<String>, String> {
    let names = names.filter(|names| !names.is_empty()).ok_or_else(|| format!("no {field:?}"))?;
    if names.values().all(Value::is_number) {
        return Err(format!(
            "{field:?} maps names to numbers, as nnU-Net does, where the decathlon maps numbers to names"
        ));
    }
    (0..names.len())
        .map(|number| {
            let name = names.get(&number.to_string()).ok_or_else(|| {
                format!(
                    "{field:?} has {} entries but none called \"{number}\": they count from 0 without gaps",
                    names.len()
                )
            })?;
            let name = name.as_str().filter(|name| is_line(name));
            name.map(str::to_owned).ok_or_else(|| format!("entry {number} of {field:?} is not a line of text"))
        })
        .collect()
}

/// The case of an entry; none for the junk files of some archives.
fn case(root: &Path, image: &str, label: Option<&str>) -> Result<Option<Case>, String> {
    for path in std::iter::once(image).chain(label) {
        let stays_inside =
            Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !stays_inside || !is_line(path) {
            return Err(format!("{path:?} does not stay inside the dataset's folder"));
        }
    }
    let file_name = Path::new(image).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if file_name.starts_with("._") {
        return Ok(None);
    }
    let Some(name) = case_name(file_name) else {
        return Err(format!("{image:?} is not the name of a {} file", formats::endings()));
    };
    // Through components, so that "./imagesTr/a.nii" becomes "ROOT/imagesTr/a.nii" in messages.
    let inside = |path: &str| {
        root.components().chain(Path::new(path).components().filter(|c| *c != Component::CurDir)).collect()
    };
    Ok(Some(Case { name: name.to_owned(), image: inside(image), label: label.map(inside) }))
}

fn missing(file: &Path) -> Error {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let split = case_name(name).map(|case| file.with_file_name(format!("{case}_0000{}", &name[case.len()..])));
    if split.is_some_and(|split| split.exists()) {
        return super::folders::one_file_per_channel(file);
    }
    Error::input(file, "named in dataset.json but missing", "unpack the archive again")
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn description() -> Value {
        json!({
            "name": "Blobs", "relase": "1.0", "modality": {"0": "T1", "1": "T2"},
            "labels": {"0": "background", "1": "core", "2": "edge"},
            "training": [
                {"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"},
                {"image": "./imagesTr/._b.nii.gz", "label": "./labelsTr/._b.nii.gz"},
                {"image": "imagesTr/a.nii", "label": "labelsTr/a.nii.gz"},
            ],
            "test": ["./imagesTs/c.nii.gz"],
        })
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut changed = description();
        change(&mut changed);
        parse(Path::new("task"), changed.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_official_description_is_understood() {
        let dataset = parse(Path::new("task"), description().to_string().as_bytes()).unwrap();
        assert_eq!((&dataset.name[..], dataset.channels.len(), dataset.labels.len()), ("Blobs", 2, 3));
        assert_eq!(dataset.labels[2], "edge");
        let names: Vec<_> = dataset.cases.iter().map(|case| &case.name[..]).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(dataset.cases[1].label.as_deref(), Some(Path::new("task/labelsTr/b.nii.gz")));
        assert_eq!(dataset.test[0].image.to_str(), Some("task/imagesTs/c.nii.gz"));
    }

    #[test]
    fn no_entry_leads_out_of_the_folder() {
        for path in ["/etc/passwd.nii", "../x.nii.gz", "imagesTr/../../x.nii", "a\nb.nii", ""] {
            let message = refusal(|d| d["training"][0]["image"] = path.into());
            assert!(message.contains("inside the dataset"), "{message}");
            let message = refusal(|d| d["training"][0]["label"] = path.into());
            assert!(message.lines().count() == 1, "{message}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (change, cause) in [
            (json!(["labels", {"0": "background", "2": "edge"}]), "none called \"1\""),
            (json!(["labels", {"background": 0, "edge": 1}]), "nnU-Net"),
            (json!(["modality", null]), "no \"modality\""),
            (json!(["modality", {"0": 3, "1": "T2"}]), "entry 0 of \"modality\""),
            (json!(["training", ["./imagesTr/a.nii"]]), "training entry 0"),
            (json!(["test", [5]]), "test entry 0"),
            (json!(["test", ["a.nii", "b/a.nii.gz"]]), "two cases are called \"a\""),
            (json!(["test", ["a.png"]]), "not the name of a .nii"),
        ] {
            let message = refusal(|d| d[change[0].as_str().unwrap()] = change[1].clone());
            assert!(message.starts_with("task/dataset.json: ") && message.contains(cause), "{message}");
        }
    }

    #[test]
    fn files_that_are_missing_or_split_by_channel_are_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("dataset.json"), description().to_string()).unwrap();
        fs::create_dir_all(folder.path().join("imagesTr")).unwrap();
        let message = open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("imagesTr/a.nii: named in dataset.json but missing"), "{message}");
        fs::write(folder.path().join("imagesTr/a_0000.nii"), "").unwrap();
        let message = open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("_0000"), "{message}");
    }

    proptest! {
        #[test]
        fn no_mutation_of_a_description_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = description().to_string().into_bytes();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Err(error) = parse(Path::new("task"), &bytes) {
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }
    }
}
