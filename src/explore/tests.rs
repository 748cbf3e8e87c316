use std::{fs, path::Path};

use serde_json::Value;

use super::*;
use crate::{
    demo::synthesize,
    formats::{Header, write_f32, write_labels},
};

/// Two cases of 4 x 3 x 2 voxels, one channel; label 1 takes 6 voxels of case `a` and none of case `b`.
fn small(folder: &Path) -> Dataset {
    for name in ["images", "labels"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    for (name, spacing, labelled) in [("a", [1.0, 1.0, 2.0], 6), ("b", [1.0, 1.0, 4.0], 0)] {
        let header = Header::new([4, 3, 2], spacing);
        let image: Vec<f32> = (0..24).map(|voxel| voxel as f32).collect();
        let labels: Vec<u8> = (0..24).map(|voxel| u8::from(voxel < labelled)).collect();
        write_f32(&folder.join("images").join(format!("{name}.nii")), &header, 1, &image).unwrap();
        write_labels(&folder.join("labels").join(format!("{name}.nii.gz")), &header, &labels[..]).unwrap();
    }
    Dataset::open(folder).unwrap()
}

#[test]
fn json_states_what_the_files_hold() {
    let folder = tempfile::tempdir().unwrap();
    let json = explore(&small(folder.path()), None, &|| ()).unwrap().json();
    let overall = &json["overall"];
    assert_eq!((&overall["cases"], &overall["height"]["median"]), (&2.into(), &4.0.into()));
    assert_eq!(
        overall["spacing_z_mm"],
        serde_json::json!({"minimum": 2.0, "median": 3.0, "maximum": 4.0, "mean": 3.0})
    );
    // One voxel of 24 is 0.
    assert_eq!(overall["channels"][0]["nonzero"]["voxels"], 46);
    assert_eq!(overall["channels"][0]["nonzero"]["mean"], 12.0);
    let label = &overall["labels"][1];
    assert_eq!((&label["voxels"], &label["share"], &label["cases"]), (&6.into(), &0.125.into(), &1.into()));
    assert_eq!(label["share_per_case"]["maximum"], 0.25);
    let case = &json["cases"][0];
    assert_eq!((&case["case"], &case["depth"], &case["labels"][1]["ml"]), (&"a".into(), &2.into(), &0.012.into()));
    assert_eq!(json["cases"][1]["channels"][0]["foreground"], Value::Null);
    let counts: u64 =
        overall["channels"][0]["histogram"]["counts"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(counts, 46);
}

#[test]
fn the_report_does_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = synthesize(&folder.path().join("blobs"), 1, 5).unwrap();
    let reports = [1, 4].map(|threads| explore(&dataset, NonZeroUsize::new(threads), &|| ()).unwrap());
    assert_eq!(reports[0].json(), reports[1].json());
    assert_eq!(reports[0].table(), reports[1].table());
    assert!(reports[0].table().contains("body"));
}

#[test]
fn the_page_is_one_file_whose_texts_are_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = small(folder.path());
    dataset.name = "<script>alert(1)</script>".into();
    dataset.labels = vec!["background".into(), "<b onclick=\"x\">".into()];
    dataset.channels = vec!["T1 & T2".into()];
    let page = explore(&dataset, None, &|| ()).unwrap().html();
    assert!(!page.contains("<script") && !page.contains("<b ") && page.contains("T1 &amp; T2"));
    // Six sizes, two of the channel, the shares, one foreground label.
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (10, 10));
    assert!(
        ["http://", "https://", "src=", "href="]
            .iter()
            .all(|link| !page.replace("http://www.w3.org/2000/svg", "").contains(link))
    );
    assert_eq!(page.matches("<tr>").count(), 3);
}

#[test]
fn what_is_wrong_with_a_dataset_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = small(folder.path());
    fs::write(folder.path().join("images/b.nii"), "no image").unwrap();
    let message = explore(&dataset, None, &|| ()).unwrap_err().to_string();
    assert!(message.contains("images/b.nii: not a NIfTI file"), "{message}");
    let none = Dataset { cases: Vec::new(), ..dataset };
    assert!(explore(&none, None, &|| ()).unwrap_err().to_string().contains("no cases"));
}

#[test]
fn images_without_labels_are_explored_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = small(folder.path());
    dataset.test = std::mem::take(&mut dataset.cases);
    dataset.test.iter_mut().for_each(|case| case.label = None);
    let report = explore(&dataset, None, &|| ()).unwrap();
    assert!(report.labels.is_empty() && report.table().contains("no labels"));
    assert_eq!(report.html().matches("<svg").count(), 8);
    assert_eq!(report.json()["cases"][0]["labels"], serde_json::json!([]));
}
