//! Scores against numbers that numpy, scipy and DeepMind's table of surface areas give: `fixtures/metrics/make.py`.

use gyrus::evaluate::{LabelVolume, score_classes};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    extents: [usize; 3],
    spacing: [f64; 3],
    classes: usize,
    tolerance_mm: f64,
    prediction: String,
    truth: String,
    scores: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    dice: Option<f64>,
    hd95_mm: Option<f64>,
    surface_dice: Option<f64>,
    prediction_ml: f64,
    truth_ml: f64,
}

#[test]
fn scores_equal_an_independent_computation() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("fixtures/metrics/expectations.json")).unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let digits = |text: &str| text.bytes().map(|digit| u16::from(digit - b'0')).collect::<Vec<_>>();
        let (prediction, truth) = (digits(&case.prediction), digits(&case.truth));
        let volume = |voxels| LabelVolume::new(voxels, case.extents, case.spacing);
        let scores = score_classes(volume(&prediction), volume(&truth), case.classes, case.tolerance_mm);
        assert_eq!(scores.len(), case.scores.len());
        for (class, (scores, expected)) in scores.iter().zip(&case.scores).enumerate() {
            let check = |name, ours: Option<f64>, theirs: Option<f64>| match (ours, theirs) {
                // Both sum in f64, in different orders.
                (Some(ours), Some(theirs)) if (ours - theirs).abs() <= 1e-12 * theirs.abs().max(1.0) => {}
                (None, None) => {}
                _ => panic!("{:?} class {}: {name} {ours:?}, expected {theirs:?}", case.extents, class + 1),
            };
            check("dice", scores.dice, expected.dice);
            check("hd95", scores.hd95_mm, expected.hd95_mm);
            check("surface dice", scores.surface_dice, expected.surface_dice);
            check("prediction volume", Some(scores.prediction_ml), Some(expected.prediction_ml));
            check("truth volume", Some(scores.truth_ml), Some(expected.truth_ml));
        }
    }
}
