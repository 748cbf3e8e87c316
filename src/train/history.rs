//! One row per epoch, as CSV for people and spreadsheets and as JSON for programs.
//!
//! Both files are rewritten in one step after every epoch: a kill leaves the rows of all finished epochs. The JSON is
//! what a resumed run reads back; its rows beyond the resumed epoch belong to a past that did not happen, and go.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    Error, Result,
    files::{self, Existing},
};

/// The name of the CSV file in the run's folder.
pub const CSV: &str = "history.csv";

/// The name of the JSON file in the run's folder.
pub const JSON: &str = "history.json";

/// Averages over an epoch. NaN (a diverged run) is `null` in JSON and empty in CSV.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// The loss.
    #[serde(deserialize_with = "nan_from_null")]
    pub loss: f64,
    /// The soft Dice coefficient, background included.
    #[serde(deserialize_with = "nan_from_null")]
    pub dice: f64,
    /// The soft intersection over union.
    #[serde(deserialize_with = "nan_from_null")]
    pub iou: f64,
    /// The share of voxels whose arg-max class is the true one.
    #[serde(deserialize_with = "nan_from_null")]
    pub accuracy: f64,
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Optimizer steps since the run began.
    pub step: u64,
    /// The learning rate of the epoch's last step.
    pub lr: f64,
    /// While training, with dropout and augmentation.
    pub train: Scores,
    /// On the validation cases, if there are any.
    pub validation: Option<Scores>,
    /// Hard Dice of each foreground class on the validation cases, as [`History::classes`]; `None` where neither truth
    /// nor prediction has the class.
    pub dice: Vec<Option<f64>>,
    /// The mean of those that are defined.
    pub mean_dice: Option<f64>,
    /// Seconds for the epoch, validation included.
    pub seconds: f64,
    /// Milliseconds per optimizer step.
    pub ms_per_step: f64,
    /// The share of the training time that steps waited for data.
    pub waiting: f64,
    /// Steps that were skipped because their gradients overflowed, which fp16 may do.
    #[serde(default)]
    pub skipped: u64,
}

/// The rows of a run, and where they are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    folder: PathBuf,
    classes: Vec<String>,
    rows: Vec<Row>,
}

/// The JSON file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<C, R> {
    classes: C,
    epochs: R,
}

impl Row {
    /// The mean over the classes that are defined; `None` when none is.
    pub fn mean_of(dice: &[Option<f64>]) -> Option<f64> {
        let defined: Vec<f64> = dice.iter().copied().flatten().collect();
        (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
    }
}

impl History {
    /// An empty history that will be kept in `folder`. Writes nothing yet.
    ///
    /// # Errors
    /// [`Error::Input`] when a history is there already and is to be kept.
    pub fn create(folder: &Path, classes: &[String], existing: Existing) -> Result<Self> {
        if existing == Existing::Keep {
            files::refuse_existing(&folder.join(CSV))?;
            files::refuse_existing(&folder.join(JSON))?;
        }
        Ok(Self { folder: folder.into(), classes: classes.to_vec(), rows: Vec::new() })
    }

    /// Continues the history in `folder` after `epoch` completed epochs; later rows are dropped. Without a file it
    /// begins anew: a checkpoint may be resumed in another folder.
    ///
    /// # Errors
    /// [`Error::Input`] when the file is damaged or is about other classes.
    pub fn resume(folder: &Path, classes: &[String], epoch: u64) -> Result<Self> {
        if !folder.join(JSON).exists() {
            return Self::create(folder, classes, Existing::Replace);
        }
        let mut history = Self::read(folder)?;
        if history.classes != classes {
            let cause = format!("is about the classes {:?}, this run has {classes:?}", history.classes);
            return Err(Error::input(folder.join(JSON), cause, "resume in another folder"));
        }
        history.rows.retain(|row| row.epoch <= epoch);
        Ok(history)
    }

    /// Reads the history in `folder`.
    ///
    /// # Errors
    /// [`Error::Input`] when there is none, or it is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(JSON);
        let bytes = fs::read(&path).map_err(|error| Error::io(&path, error))?;
        let refuse = |cause: String| Error::input(&path, cause.replace(char::is_control, " "), "remove or restore it");
        let document: Document<Vec<String>, Vec<Row>> =
            serde_json::from_slice(&bytes).map_err(|error| refuse(format!("not a history: {error}")))?;
        let Document { classes, epochs: rows } = document;
        if let Some(row) = rows.iter().find(|row| row.dice.len() != classes.len()) {
            return Err(refuse(format!("epoch {} has {} classes, not {}", row.epoch, row.dice.len(), classes.len())));
        }
        if !rows.is_sorted_by(|a, b| a.epoch < b.epoch) {
            return Err(refuse("its epochs do not follow each other".into()));
        }
        Ok(Self { folder: folder.into(), classes, rows })
    }

    /// Adds an epoch and rewrites both files.
    ///
    /// # Errors
    /// What the operating system says; the row is kept in memory then, and written with the next.
    ///
    /// # Panics
    /// When the row has another number of classes, or does not come after the last one.
    pub fn push(&mut self, row: Row) -> Result<()> {
        assert_eq!(row.dice.len(), self.classes.len(), "one Dice per foreground class");
        assert!(self.rows.last().is_none_or(|last| last.epoch < row.epoch), "epochs in order");
        self.rows.push(row);
        self.write()
    }

    /// Rewrites both files, as [`Self::push`] does.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self) -> Result<()> {
        let csv = self.csv();
        files::write(&self.folder.join(CSV), Existing::Replace, |writer| writer.write_all(csv.as_bytes()))?;
        let document = Document { classes: &self.classes, epochs: &self.rows };
        files::write(&self.folder.join(JSON), Existing::Replace, |mut writer| {
            serde_json::to_writer_pretty(&mut writer, &document)?;
            writer.write_all(b"\n")
        })
    }

    /// The rows so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The foreground classes' names.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The table as CSV (RFC 4180, but lines end in a line feed); undefined values are empty.
    pub fn csv(&self) -> String {
        let mut csv = String::from("epoch,step,lr");
        for part in ["train", "validation"] {
            for score in ["loss", "dice", "iou", "accuracy"] {
                let _ = write!(csv, ",{part}_{score}");
            }
        }
        for class in &self.classes {
            let _ = write!(csv, ",{}", quoted(&format!("dice_{class}")));
        }
        csv.push_str(",mean_dice,skipped,seconds,ms_per_step,waiting\n");
        for row in &self.rows {
            let _ = write!(csv, "{},{},{}", row.epoch, row.step, cell(Some(row.lr)));
            for scores in [Some(row.train), row.validation] {
                for score in [|s: Scores| s.loss, |s: Scores| s.dice, |s: Scores| s.iou, |s: Scores| s.accuracy] {
                    let _ = write!(csv, ",{}", cell(scores.map(score)));
                }
            }
            for &value in row.dice.iter().chain(&[row.mean_dice]) {
                let _ = write!(csv, ",{}", cell(value));
            }
            // Times come last: what stands before them is the same for every run with the same settings.
            let _ = write!(csv, ",{}", row.skipped);
            for value in [row.seconds, row.ms_per_step, row.waiting] {
                let _ = write!(csv, ",{}", cell(Some(value)));
            }
            csv.push('\n');
        }
        csv
    }
}

/// The shortest digits that read back as the same number.
fn cell(value: Option<f64>) -> String {
    match value {
        Some(x) if x.is_finite() && x != 0.0 && (x.abs() < 1e-3 || x.abs() >= 1e15) => format!("{x:e}"),
        Some(x) if x.is_finite() => x.to_string(),
        _ => String::new(),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

fn nan_from_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: u64) -> Row {
        let scores = |loss| Scores { loss, dice: 0.1 + 0.2, iou: 0.25, accuracy: 1.0 };
        let dice = vec![Some(0.5), None];
        let mean_dice = Row::mean_of(&dice);
        Row {
            epoch,
            step: epoch * 10,
            lr: 1e-4,
            train: scores(0.75),
            validation: (epoch > 1).then(|| scores(1.0 / 3.0)),
            dice,
            mean_dice,
            seconds: 12.5,
            ms_per_step: 1250.0,
            waiting: 0.0,
            skipped: 0,
        }
    }

    fn classes() -> Vec<String> {
        vec!["anterior".into(), "posterior, \"tail\"".into()]
    }

    #[test]
    fn the_csv_is_what_a_spreadsheet_expects() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::create(folder.path(), &classes(), Existing::Keep).unwrap();
        history.push(row(1)).unwrap();
        history.push(row(2)).unwrap();
        let expected = "epoch,step,lr,train_loss,train_dice,train_iou,train_accuracy,validation_loss,validation_dice,\
            validation_iou,validation_accuracy,dice_anterior,\"dice_posterior, \"\"tail\"\"\",mean_dice,skipped,\
            seconds,ms_per_step,waiting\n\
            1,10,1e-4,0.75,0.30000000000000004,0.25,1,,,,,0.5,,0.5,0,12.5,1250,0\n\
            2,20,1e-4,0.75,0.30000000000000004,0.25,1,0.3333333333333333,0.30000000000000004,0.25,1,0.5,,0.5,0,12.5,\
            1250,0\n";
        assert_eq!(fs::read_to_string(folder.path().join(CSV)).unwrap(), expected);
        let refused = History::create(folder.path(), &classes(), Existing::Keep).unwrap_err();
        assert!(refused.to_string().contains("already exists"), "{refused}");
    }

    #[test]
    fn what_is_read_back_is_what_was_written_and_a_resumed_run_continues_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut whole = History::create(folder.path(), &classes(), Existing::Keep).unwrap();
        (1..=5).for_each(|epoch| whole.push(row(epoch)).unwrap());
        assert_eq!(History::read(folder.path()).unwrap(), whole);
        let files = || [CSV, JSON].map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
        let before = files();
        let mut resumed = History::resume(folder.path(), &classes(), 3).unwrap();
        assert_eq!(resumed.rows().last().unwrap().epoch, 3);
        resumed.push(row(4)).unwrap();
        resumed.push(row(5)).unwrap();
        assert_eq!((files(), resumed), (before, whole));
    }

    #[test]
    fn a_history_from_before_steps_could_be_skipped_reads_as_one_without_skipped_steps() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::create(folder.path(), &classes(), Existing::Keep).unwrap();
        history.push(row(1)).unwrap();
        let path = folder.path().join(JSON);
        let text = fs::read_to_string(&path).unwrap();
        let older = text.replace("\"waiting\": 0.0,\n", "\"waiting\": 0.0\n").replace("      \"skipped\": 0\n", "");
        assert!(older.len() < text.len() && !older.contains("skipped"));
        fs::write(&path, older).unwrap();
        assert_eq!(History::read(folder.path()).unwrap(), history);
    }

    #[test]
    fn a_diverged_epoch_is_null_and_still_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::create(folder.path(), &classes(), Existing::Keep).unwrap();
        let mut diverged = row(1);
        diverged.train.loss = f64::NAN;
        history.push(diverged).unwrap();
        assert!(fs::read_to_string(folder.path().join(JSON)).unwrap().contains("\"loss\": null"));
        assert!(History::read(folder.path()).unwrap().rows()[0].train.loss.is_nan());
    }

    #[test]
    fn damaged_and_foreign_histories_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JSON);
        let mut history = History::create(folder.path(), &classes(), Existing::Keep).unwrap();
        history.push(row(1)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let refusal = || History::resume(folder.path(), &classes(), 9).unwrap_err().to_string();
        for damaged in [&text[..text.len() - 5], "", "{}", &text.replace("null\n", "null,\n 0.5\n")] {
            fs::write(&path, damaged).unwrap();
            assert!(refusal().contains("history.json: "), "{damaged}");
        }
        fs::write(&path, text.replace("anterior", "cortex")).unwrap();
        assert!(refusal().contains("is about the classes"));
    }

    #[test]
    fn a_mean_of_nothing_is_undefined() {
        assert_eq!(Row::mean_of(&[None, None]), None);
        assert_eq!(Row::mean_of(&[Some(0.5), None, Some(1.0)]), Some(0.75));
    }
}
