//! The scores of many cases, their means, and their form as JSON.

use serde_json::{Value, json};

use super::metrics::ClassScores;

/// What the columns mean, printed under every table: name and definition.
pub const DEFINITIONS: [(&str, &str); 4] = [
    ("Dice", "2 |P and T| / (|P| + |T|), P predicted and T true voxels of the class"),
    (
        "HD95",
        "maximum of the two directed 95th percentiles of distances from border voxels to the nearest border voxel of \
         the other, in mm (a border voxel has one of its six face neighbours outside)",
    ),
    (
        "surface Dice",
        "share of both surfaces' area (marching-cubes surface elements) within the tolerance of the other surface, as \
         DeepMind defines it",
    ),
    (
        "n/a",
        "undefined: the class is in neither map, or for HD95 in only one of them; means leave undefined values out and \
         n counts the others",
    ),
];

/// A class that is scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its value in the label maps, from 1.
    pub label: u16,
    /// Its name; the value again if it has none.
    pub name: String,
}

/// The scores of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// One entry per class of the report, in its order.
    pub scores: Vec<ClassScores>,
}

/// The scores of all cases.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The surface Dice's tolerance in mm.
    pub tolerance_mm: f64,
    /// The foreground classes by rising label.
    pub classes: Vec<Class>,
    /// The cases by name.
    pub cases: Vec<CaseReport>,
}

/// The mean of the values that are defined.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    /// Their mean; none if no value is defined.
    pub mean: Option<f64>,
    /// How many values are defined.
    pub n: usize,
}

/// Means of each score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeanScores {
    /// Of the Dice.
    pub dice: Mean,
    /// Of the HD95, in mm.
    pub hd95_mm: Mean,
    /// Of the surface Dice.
    pub surface_dice: Mean,
    /// Of the predicted volume, in ml.
    pub prediction_ml: Mean,
    /// Of the true volume, in ml.
    pub truth_ml: Mean,
}

impl Mean {
    /// The mean of those values that are defined, summed in their order.
    pub fn of(values: impl Iterator<Item = Option<f64>>) -> Self {
        let (sum, n) = values.flatten().fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
        Self { mean: (n > 0).then(|| sum / n as f64), n }
    }
}

impl MeanScores {
    fn over<T>(items: &[T], score: impl Fn(&T) -> [Option<f64>; 5]) -> Self {
        let [dice, hd95_mm, surface_dice, prediction_ml, truth_ml] =
            std::array::from_fn(|column| Mean::of(items.iter().map(|item| score(item)[column])));
        Self { dice, hd95_mm, surface_dice, prediction_ml, truth_ml }
    }

    pub(super) fn columns(&self) -> [Mean; 5] {
        [self.dice, self.hd95_mm, self.surface_dice, self.prediction_ml, self.truth_ml]
    }
}

/// The names of the scores in JSON and CSV.
pub(super) const COLUMNS: [&str; 5] = ["dice", "hd95_mm", "surface_dice", "prediction_ml", "truth_ml"];

pub(super) fn columns(scores: &ClassScores) -> [Option<f64>; 5] {
    [scores.dice, scores.hd95_mm, scores.surface_dice, Some(scores.prediction_ml), Some(scores.truth_ml)]
}

impl Report {
    /// The means over the cases, one entry per class.
    pub fn class_means(&self) -> Vec<MeanScores> {
        (0..self.classes.len())
            .map(|class| MeanScores::over(&self.cases, |case| columns(&case.scores[class])))
            .collect()
    }

    /// The means of the class means, every class counting the same; `n` counts the classes that have a mean.
    pub fn overall_means(&self) -> MeanScores {
        MeanScores::over(&self.class_means(), |means| means.columns().map(|mean| mean.mean))
    }

    /// The report as JSON.
    ///
    /// | key | value |
    /// |---|---|
    /// | `format`, `version` | `"gyrus-evaluation"`, 1 |
    /// | `tolerance_mm` | the surface Dice's tolerance |
    /// | `definitions` | object: column name to its definition in words |
    /// | `classes` | array of `{label, name}` |
    /// | `cases` | array of `{case, classes}`, where `classes` is an array of `{label, name, dice, hd95_mm, surface_dice, prediction_ml, truth_ml}` |
    /// | `class_means` | array of `{label, name, dice, ...}`, each score `{mean, n}` over the cases where it is defined |
    /// | `means` | `{dice, ...}`, each `{mean, n}` over the classes that have a mean |
    ///
    /// Undefined values are `null`.
    pub fn json(&self) -> Value {
        let class = |class: &Class| json!({"label": class.label, "name": class.name});
        let with_class = |of: &Class, scores: Value| {
            let mut object = class(of);
            object.as_object_mut().expect("made above").extend(scores.as_object().cloned().unwrap_or_default());
            object
        };
        let scores = |scores: &ClassScores| object(columns(scores).map(Value::from));
        let means = |means: &MeanScores| object(means.columns().map(|mean| json!({"mean": mean.mean, "n": mean.n})));
        let cases = self.cases.iter().map(|case| {
            let classes = self.classes.iter().zip(&case.scores).map(|(class, of)| with_class(class, scores(of)));
            json!({"case": case.name, "classes": classes.collect::<Vec<_>>()})
        });
        let class_means = self.classes.iter().zip(self.class_means()).map(|(class, of)| with_class(class, means(&of)));
        json!({
            "format": "gyrus-evaluation",
            "version": 1,
            "tolerance_mm": self.tolerance_mm,
            "definitions": DEFINITIONS.map(|(name, text)| (name.to_owned(), Value::from(text)))
                .into_iter().collect::<serde_json::Map<_, _>>(),
            "classes": self.classes.iter().map(class).collect::<Vec<_>>(),
            "cases": cases.collect::<Vec<_>>(),
            "class_means": class_means.collect::<Vec<_>>(),
            "means": means(&self.overall_means()),
        })
    }
}

fn object(values: [Value; 5]) -> Value {
    COLUMNS.map(str::to_owned).into_iter().zip(values).collect::<serde_json::Map<_, _>>().into()
}
