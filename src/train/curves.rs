//! A picture of a run: loss, Dice and learning rate over the epochs.

use std::path::Path;

use super::history::{History, Row};
use crate::{
    Result,
    chart::{self, Chart, LineChart, Series},
    files::{self, Existing},
};

/// The name of the picture in the run's folder.
pub const SVG: &str = "curves.svg";

/// Draws the curves of a history as one SVG document.
pub fn svg(history: &History) -> String {
    let charts = [loss(history), dice(history), rate(history)];
    // A run without validation has no Dice per class, and a picture of nothing helps nobody.
    let charts: Vec<&dyn Chart> =
        charts.iter().filter(|chart| !chart.series.is_empty()).map(|c| c as &dyn Chart).collect();
    chart::stacked(&charts)
}

/// Draws the curves of a history into `folder`, in place of earlier ones.
///
/// # Errors
/// What the operating system says.
pub fn write(history: &History, folder: &Path) -> Result<()> {
    let text = svg(history);
    files::write(&folder.join(SVG), Existing::Replace, |writer| writer.write_all(text.as_bytes()))
}

fn loss(history: &History) -> LineChart {
    let training = line(history, "training", |row| Some(row.train.loss));
    let validation = line(history, "validation", |row| row.validation.map(|scores| scores.loss));
    over_epochs("Loss", "loss", [training, validation])
}

fn dice(history: &History) -> LineChart {
    let training = line(history, "training, soft", |row| Some(row.train.dice));
    let mut validation = line(history, "validation, soft", |row| row.validation.map(|scores| scores.dice));
    // The epoch that the best checkpoint is from.
    validation.highlight = best(&validation);
    let classes = history.classes().iter().enumerate();
    let hard = classes.map(|(class, name)| line(history, &format!("{name}, hard"), |row| row.dice[class]));
    over_epochs("Dice", "Dice coefficient", [training, validation].into_iter().chain(hard))
}

fn rate(history: &History) -> LineChart {
    over_epochs("Learning rate", "log10 of the learning rate", [line(history, "rate", |row| Some(row.lr.log10()))])
}

/// A value that an epoch does not have interrupts its line.
fn line(history: &History, name: &str, value: impl Fn(&Row) -> Option<f64>) -> Series {
    let points = history.rows().iter().map(|row| (row.epoch as f64, value(row).unwrap_or(f64::NAN))).collect();
    Series { name: name.into(), points, highlight: None }
}

/// The first of the largest, as the checkpoint takes it.
fn best(series: &Series) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, &(_, y)) in series.points.iter().enumerate() {
        if y.is_finite() && best.is_none_or(|best| y > series.points[best].1) {
            best = Some(i);
        }
    }
    best
}

fn over_epochs(title: &str, y_label: &str, series: impl IntoIterator<Item = Series>) -> LineChart {
    let series = series.into_iter().filter(|line| line.points.iter().any(|point| point.1.is_finite())).collect();
    LineChart { title: title.into(), x_label: "epoch".into(), y_label: y_label.into(), series }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::history::Scores;

    fn history(folder: &Path, epochs: u64, validated: bool) -> History {
        let mut history = History::create(folder, &["left <i>".into(), "right".into()], Existing::Keep).unwrap();
        for epoch in 1..=epochs {
            let scores = |dice| Scores { loss: 1.0 - dice, dice, iou: dice, accuracy: dice };
            // Best in epoch 3.
            let validation = validated.then(|| scores(0.9 - 0.1 * (epoch as f64 - 3.0).abs()));
            let dice = vec![validated.then_some(0.5), None];
            history
                .push(Row {
                    epoch,
                    step: epoch,
                    lr: 1e-4,
                    train: scores(0.1),
                    validation,
                    mean_dice: Row::mean_of(&dice),
                    dice,
                    seconds: 1.0,
                    ms_per_step: 1.0,
                    waiting: 0.0,
                    skipped: 0,
                })
                .unwrap();
        }
        history
    }

    #[test]
    fn the_best_epoch_is_marked_and_absent_classes_have_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let history = history(folder.path(), 5, true);
        let dice = dice(&history);
        let names: Vec<&str> = dice.series.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["training, soft", "validation, soft", "left <i>, hard"]);
        assert_eq!(dice.series[1].highlight, Some(2));
        let text = svg(&history);
        assert!(text.starts_with("<svg") && text.contains("left &lt;i&gt;") && !text.contains("<i>"));
    }

    #[test]
    fn runs_without_validation_or_epochs_have_a_picture_too() {
        for epochs in [0, 1, 4] {
            let folder = tempfile::tempdir().unwrap();
            let history = history(folder.path(), epochs, false);
            write(&history, folder.path()).unwrap();
            let text = std::fs::read_to_string(folder.path().join(SVG)).unwrap();
            assert!(text.starts_with("<svg") && !text.contains("NaN") && !text.contains("validation"));
            assert_eq!(text.contains("training"), epochs > 0);
        }
    }
}
