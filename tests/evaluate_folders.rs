//! Folders of label maps scored against folders: matching, refusals, means, and the report's three forms.

use std::{fs, num::NonZeroUsize, path::Path};

use gyrus::{
    evaluate::{Report, Unpredicted, evaluate_folders, match_folders},
    formats::{Header, write_f32, write_labels},
};
use serde_json::Value;
use tempfile::TempDir;

const EXTENTS: [usize; 3] = [5, 4, 3];
const VOXELS: usize = 60;

/// Folders `predictions` and `truth` with the label maps given.
fn folders(predictions: &[(&str, &[u8])], truth: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (side, maps) in [("predictions", predictions), ("truth", truth)] {
        fs::create_dir(folder.path().join(side)).unwrap();
        for (name, labels) in maps {
            write_labels(&folder.path().join(side).join(name), &header(), *labels).unwrap();
        }
    }
    folder
}

fn header() -> Header {
    Header::new(EXTENTS, [1.0, 2.0, 4.0])
}

/// A map with a label at each of these places in memory.
fn map(places: &[(usize, u8)]) -> Vec<u8> {
    let mut labels = vec![0; VOXELS];
    places.iter().for_each(|&(place, label)| labels[place] = label);
    labels
}

fn evaluate(folder: &TempDir, names: Option<&[&str]>, threads: usize) -> gyrus::Result<Report> {
    let names = names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    let [predictions, truth] = ["predictions", "truth"].map(|side| folder.path().join(side));
    evaluate_folders(&predictions, &truth, names, 1.0, NonZeroUsize::new(threads))
}

fn refusal(folder: &TempDir, names: Option<&[&str]>) -> String {
    let error = evaluate(folder, names, 2).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1);
    text
}

/// Two cases: in `a` label 1 overlaps by half and label 2 is only true; in `b` label 1 is perfect.
fn two_cases() -> TempDir {
    let (a, a_truth) = (map(&[(0, 1), (1, 1)]), map(&[(1, 1), (2, 1), (59, 2)]));
    let b = map(&[(30, 1)]);
    folders(&[("b.nii.gz", &b), ("a.nii", &a)], &[("a.nii.gz", &a_truth), ("b.nii", &b)])
}

#[test]
fn means_leave_out_what_is_undefined_and_count_the_rest() {
    let report = evaluate(&two_cases(), Some(&["background", "core", "rim", "none"]), 1).unwrap();
    assert_eq!(report.cases.iter().map(|case| &case.name[..]).collect::<Vec<_>>(), ["a", "b"]);
    let means = report.class_means();
    assert_eq!((means[0].dice.mean, means[0].dice.n), (Some(0.75), 2));
    assert_eq!((means[1].dice.mean, means[1].dice.n), (Some(0.0), 1));
    assert_eq!((means[1].hd95_mm.mean, means[1].hd95_mm.n), (None, 0));
    assert_eq!((means[2].dice.mean, means[2].dice.n), (None, 0));
    let overall = report.overall_means();
    assert_eq!((overall.dice.mean, overall.dice.n), (Some(0.375), 2));
    // The two voxels lie 1 mm apart along x, each border voxel's percentile lies between 0 and 1 mm.
    assert_eq!(report.cases[0].scores[0].hd95_mm, Some(0.95));
    assert_eq!(means[0].truth_ml.mean, Some(1.5 * 8.0 / 1000.0));
}

#[test]
fn spacing_follows_the_files_axes() {
    // Single voxels one step apart along x (1 mm), y (2 mm) and z (4 mm).
    for (step, distance) in [(1, 1.0), (5, 2.0), (20, 4.0)] {
        let folder = folders(&[("a.nii", &map(&[(0, 1)]))], &[("a.nii", &map(&[(step, 1)]))]);
        assert_eq!(evaluate(&folder, None, 1).unwrap().cases[0].scores[0].hd95_mm, Some(distance));
    }
}

#[test]
fn the_report_does_not_depend_on_threads_and_unnamed_labels_are_found() {
    let folder = two_cases();
    let report = evaluate(&folder, None, 1).unwrap();
    assert_eq!(report.classes.iter().map(|class| class.label).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(report, evaluate(&folder, None, 7).unwrap());
    // A gap stays a gap: label 7 does not make classes of 2 to 6.
    let labels = map(&[(3, 1), (9, 7)]);
    let report = evaluate(&folders(&[("a.nii", &labels)], &[("a.nii", &labels)]), None, 1).unwrap();
    assert_eq!(report.classes.iter().map(|class| &class.name[..]).collect::<Vec<_>>(), ["1", "7"]);
}

#[test]
fn what_does_not_match_is_named() {
    let labels = map(&[(3, 1)]);
    let two: &[(&str, &[u8])] = &[("a.nii", &labels), ("b.nii", &labels)];
    let one = &two[..1];
    assert!(refusal(&folders(one, two), None).contains("truth/b.nii: has no prediction"));
    assert!(refusal(&folders(two, one), None).contains("predictions/b.nii: has no truth"));
    assert!(refusal(&folders(one, &[]), None).contains("truth: no .nii"));
    assert!(refusal(&folders(one, one), Some(&["background"])).contains("no foreground"));

    let folder = folders(one, two);
    let [predictions, truth] = ["predictions", "truth"].map(|side| folder.path().join(side));
    assert_eq!(match_folders(&predictions, &truth, Unpredicted::LeaveOut).unwrap().len(), 1);

    let stray = map(&[(3, 1), (28, 4)]);
    let message = refusal(&folders(&[("a.nii", &stray)], one), Some(&["background", "core"]));
    assert!(message.contains("predictions/a.nii: label 4 at voxel (3, 1, 1)"), "{message}");
}

#[test]
fn predictions_on_another_grid_are_refused() {
    let labels = map(&[(3, 1)]);
    let folder = folders(&[("a.nii", &labels)], &[("a.nii", &labels)]);
    let prediction = folder.path().join("predictions/a.nii");

    write_labels(&prediction, &Header::new([4, 5, 3], [1.0; 3]), &labels[..]).unwrap();
    let message = refusal(&folder, None);
    assert!(message.contains("predictions/a.nii: 4 x 5 x 3 voxels, where "), "{message}");

    let mut moved = header();
    moved.grid.affine[1][3] = 0.5;
    write_labels(&prediction, &moved, &labels[..]).unwrap();
    let message = refusal(&folder, None);
    assert!(message.contains("lies up to 0.500 mm away"), "{message}");

    // Rounding of another program's header is no reason to refuse.
    moved.grid.affine[1][3] = 0.001;
    write_labels(&prediction, &moved, &labels[..]).unwrap();
    assert!(evaluate(&folder, None, 1).is_ok());

    write_f32(&prediction, &header(), 1, &[0.5; VOXELS]).unwrap();
    assert!(refusal(&folder, None).contains("label 0.5"));
    fs::write(&prediction, "no image").unwrap();
    assert!(refusal(&folder, None).contains("not a NIfTI file"));
}

#[test]
fn json_csv_and_table_say_the_same() {
    let report = evaluate(&two_cases(), Some(&["background", "co,re", "rim"]), 2).unwrap();
    let json = report.json();
    assert_eq!((&json["format"], &json["version"]), (&Value::from("gyrus-evaluation"), &Value::from(1)));
    assert_eq!(json["cases"][0]["case"], "a");
    let rim = &json["cases"][0]["classes"][1];
    assert_eq!((&rim["label"], &rim["name"], &rim["dice"]), (&2.into(), &"rim".into(), &0.0.into()));
    assert!(rim["hd95_mm"].is_null() && json["cases"][1]["classes"][1]["dice"].is_null());
    assert_eq!(json["class_means"][0]["dice"], serde_json::json!({"mean": 0.75, "n": 2}));
    assert_eq!(json["means"]["hd95_mm"]["n"], 1);

    let csv = report.csv();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "case,label,name,dice,hd95_mm,surface_dice,prediction_ml,truth_ml");
    assert_eq!(lines[1], "a,1,\"co,re\",0.5,0.95,1,0.016,0.016");
    assert_eq!(lines[4], "b,2,rim,,,,0,0");
    assert!(lines[5].starts_with("(mean),1,\"co,re\",0.75,"));
    assert!(lines[7].starts_with("(mean),,(mean),0.375,"));

    let table = report.table();
    assert!(table.contains("0.7500 (2)") && table.contains("n/a (0)") && table.contains("95th percentiles"));
    let columns: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(columns, ["a", "co,re", "0.5000", "0.950", "1.0000", "0.016", "0.016"]);
}

#[test]
fn a_missing_folder_is_named() {
    let message = evaluate_folders(Path::new("nowhere"), Path::new("nowhere"), None, 1.0, None).unwrap_err();
    assert_eq!(message.to_string(), "nowhere: no such file or folder (check the path)");
    assert!(evaluate_folders(Path::new("."), Path::new("."), None, f64::NAN, None).is_err());
}
