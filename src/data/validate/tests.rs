use super::*;
use crate::formats::{Header, write_f32, write_labels};

struct Scratch(tempfile::TempDir);

impl Scratch {
    /// A good case of 3 x 4 x 2 voxels, two channels and labels 0..3.
    fn case(&self, name: &str) -> Case {
        self.case_with(name, |_, _, _, _| {})
    }

    /// That case after a change of image header, image, label header, labels.
    fn case_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut Header, &mut Vec<f32>, &mut Header, &mut Vec<u8>),
    ) -> Case {
        let path = |kind: &str| self.0.path().join(format!("{kind}_{name}.nii"));
        let mut image_header = Header::new([3, 4, 2], [1.0, 1.0, 2.0]);
        let mut label_header = image_header.clone();
        let mut image: Vec<f32> = (0..48).map(|i| i as f32).collect();
        let mut labels: Vec<u8> = (0..24).map(|i| i % 3).collect();
        change(&mut image_header, &mut image, &mut label_header, &mut labels);
        write_f32(&path("image"), &image_header, image.len() / image_header.voxels(), &image).unwrap();
        write_labels(&path("label"), &label_header, &labels[..]).unwrap();
        Case { name: name.into(), image: path("image"), label: Some(path("label")) }
    }
}

fn scratch() -> Scratch {
    Scratch(tempfile::tempdir().unwrap())
}

fn expectation(threads: usize) -> Expectation {
    let class_names = vec!["background".into(), "core".into(), "edge".into()];
    Expectation {
        channels: Some(2),
        classes: Some(3),
        class_names,
        threads: NonZeroUsize::new(threads),
        ..Expectation::default()
    }
}

fn causes(case: Case) -> Vec<String> {
    let problems = survey(&[case], &[], &expectation(1), &|| {}).unwrap_err();
    problems.all().iter().map(Error::to_string).collect()
}

#[test]
fn each_kind_of_problem_names_file_and_cause() {
    let scratch = scratch();
    for (index, (cause, case)) in [
        ("image_0.nii: 1 channels, where 2", scratch.case_with("0", |_, image, _, _| image.truncate(24))),
        ("image_1.nii: 2 voxels are not finite, the first at (1, 0, 0)", {
            scratch.case_with("1", |_, image, _, _| image[25..27].copy_from_slice(&[f32::NAN, f32::INFINITY]))
        }),
        ("image_2.nii: empty: every voxel is 7", scratch.case_with("2", |_, image, _, _| image.fill(7.0))),
        ("label_3.nii: label 9 at voxel (2, 3, 1); 1 voxels are outside 0..=2", {
            scratch.case_with("3", |_, _, _, labels| labels[23] = 9)
        }),
        (
            "label_4.nii: 4 x 3 x 2 voxels, where",
            scratch.case_with("4", |_, _, header, _| header.grid.extents = [4, 3, 2]),
        ),
        ("label_5.nii: lies up to 0.500 mm away", {
            scratch.case_with("5", |_, _, header, _| header.grid.affine[1][3] = 0.5)
        }),
    ]
    .into_iter()
    .enumerate()
    {
        let found = causes(case);
        assert!(found.len() == 1 && found[0].contains(cause), "{index}: {found:?}");
    }
}

#[test]
fn all_problems_of_all_cases_are_collected() {
    let scratch = scratch();
    let mut cases: Vec<Case> = (0..30)
        .map(|i| scratch.case_with(&format!("{i:02}"), |_, image, _, labels| (image[0], labels[0]) = (f32::NAN, 200)))
        .collect();
    cases[7].image = "missing.nii".into();
    let problems = survey(&cases[..20], &cases[20..], &expectation(3), &|| {}).unwrap_err();
    assert_eq!(problems.all().len(), 60);
    assert!(problems.all()[14].to_string().starts_with("missing.nii: no such file"));
    let error = Error::from(problems);
    let message = error.to_string();
    assert!(message.contains("image_00.nii: 1 voxels") && message.contains("and 39 more"), "{message}");
    assert!(message.find("label_00").unwrap() < message.find("image_01").unwrap(), "{message}");
    assert!(message.lines().count() == 1 && message.contains("60 problems in all"), "{message}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_class_that_no_training_case_shows_is_named() {
    let scratch = scratch();
    let without_edge = scratch.case_with("a", |_, _, _, labels| labels.iter_mut().for_each(|label| *label %= 2));
    let with_edge = scratch.case("b");
    let problems =
        survey(std::slice::from_ref(&without_edge), std::slice::from_ref(&with_edge), &expectation(1), &|| {})
            .unwrap_err();
    assert!(problems.to_string().contains("class 2 (edge) occurs in none of the 1 training cases"), "{problems}");
    let fingerprint = survey(&[without_edge, with_edge], &[], &expectation(1), &|| {}).unwrap();
    assert_eq!(fingerprint.label_voxels, [24, 16, 8]);
}

#[test]
fn a_fingerprint_does_not_depend_on_threads_and_survives_json() {
    let scratch = scratch();
    let cases: Vec<Case> = (0..9)
        .map(|i| {
            scratch.case_with(&i.to_string(), |_, image, _, _| {
                image.iter_mut().for_each(|v| *v = (*v * 0.3 + i as f32).sin())
            })
        })
        .collect();
    let alone = survey(&cases, &[], &expectation(1), &|| {}).unwrap();
    let together = survey(&cases, &[], &expectation(4), &|| {}).unwrap();
    assert!(alone == together);
    assert_eq!(alone.channels.len(), 2);
    assert_eq!((alone.cases[3].extents, alone.cases[3].spacing), ([3, 4, 2], [1.0, 1.0, 2.0]));
    let text = serde_json::to_string(&alone).unwrap();
    assert!(serde_json::from_str::<Fingerprint>(&text).unwrap() == alone, "not bit for bit");
}

#[test]
fn what_is_not_known_is_taken_from_the_cases() {
    let scratch = scratch();
    let unknown = Expectation { channels: None, classes: None, ..expectation(2) };
    let one = scratch.case_with("one", |_, image, _, _| image.truncate(24));
    let fingerprint = survey(&[scratch.case("a"), scratch.case("b")], &[], &unknown, &|| {}).unwrap();
    assert_eq!((fingerprint.channels.len(), fingerprint.label_voxels.len()), (2, 3));
    let problems = survey(&[scratch.case("a"), one], &[], &unknown, &|| {}).unwrap_err();
    assert!(problems.to_string().contains("1 channels, where the cases before have 2"), "{problems}");
    let unlabelled = Case { label: None, ..scratch.case("c") };
    let fingerprint = survey(&[unlabelled], &[], &unknown, &|| {}).unwrap();
    assert_eq!((fingerprint.label_voxels.len(), fingerprint.channels[0].foreground.count), (0, 0));
}
