//! What a run leaves in its folder as it goes: history, event files, curves.

use std::path::{Path, PathBuf};

use super::{
    curves,
    figures::{EpochFigures, Figures},
    history::{self, History, Row, Scores},
    observer::Observer,
    tensorboard::Events,
    trainer::{BEST, LAST},
};
use crate::{Error, Result, checkpoint::Position, files::Existing};

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In an empty folder.
    New,
    /// Instead of the run that is there.
    Replace,
    /// Where the run that is there stopped.
    Resume,
}

/// Keeps history, event file and curves of a run.
pub struct Record {
    folder: PathBuf,
    history: History,
    events: Events,
}

impl Record {
    /// Opens the records of a run in its folder, which is made if need be. `classes` are the foreground's names.
    ///
    /// # Errors
    /// If the folder holds another run's history that may not be replaced, or cannot be written to.
    pub fn open(folder: &Path, classes: Vec<String>, start: Start, position: Position) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        let history = match start {
            Start::New => History::create(folder, &classes, Existing::Keep)?,
            Start::Replace => {
                remove_run(folder)?;
                History::create(folder, &classes, Existing::Replace)?
            }
            Start::Resume => History::resume(folder, &classes, position.epoch)?,
        };
        let events = Events::create(folder, position.global_step)?;
        Ok(Self { folder: folder.to_owned(), history, events })
    }

    fn write_events(&mut self, row: &Row, loss_scale: Option<f64>) -> Result<()> {
        let mut scalars = vec![
            ("loss/train".to_owned(), row.train.loss),
            ("dice/train".to_owned(), row.train.dice),
            ("iou/train".to_owned(), row.train.iou),
            ("accuracy/train".to_owned(), row.train.accuracy),
            ("learning_rate".to_owned(), row.lr),
            ("time/epoch_seconds".to_owned(), row.seconds),
            ("time/ms_per_step".to_owned(), row.ms_per_step),
            ("time/waiting_for_data".to_owned(), row.waiting),
        ];
        if let Some(scale) = loss_scale {
            scalars.extend([("loss_scale".to_owned(), scale), ("skipped_steps".to_owned(), row.skipped as f64)]);
        }
        if let Some(scores) = &row.validation {
            scalars.extend([
                ("loss/validation".to_owned(), scores.loss),
                ("dice/validation".to_owned(), scores.dice),
                ("iou/validation".to_owned(), scores.iou),
                ("accuracy/validation".to_owned(), scores.accuracy),
            ]);
        }
        for (class, dice) in self.history.classes().iter().zip(&row.dice) {
            scalars.extend(dice.map(|dice| (format!("hard_dice/{class}"), dice)));
        }
        scalars.extend(row.mean_dice.map(|dice| ("hard_dice/mean".to_owned(), dice)));
        let scalars: Vec<(&str, f64)> = scalars.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.events.scalars(row.step, &scalars)
    }
}

/// Removes what an earlier run left. Its best checkpoint must not pass for one of the run that replaces it.
fn remove_run(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    for entry in entries {
        let path = entry.map_err(|error| Error::io(folder, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_events = name.starts_with("events.out.tfevents.") && name.ends_with(".gyrus");
        if is_events || [BEST, LAST, history::CSV, history::JSON, curves::SVG].contains(&&*name) {
            std::fs::remove_file(&path).map_err(|error| Error::io(&path, error))?;
        }
    }
    Ok(())
}

impl Observer for Record {
    fn epoch_ends(&mut self, figures: &EpochFigures) -> Result<()> {
        let row = row(figures);
        self.write_events(&row, figures.loss_scale)?;
        self.history.push(row)?;
        curves::write(&self.history, &self.folder)
    }
}

fn row(figures: &EpochFigures) -> Row {
    let scores = |figures: &Figures| Scores {
        loss: figures.loss(),
        dice: figures.dice(),
        iou: figures.iou(),
        accuracy: figures.accuracy(),
    };
    Row {
        epoch: figures.epoch,
        step: figures.global_step,
        lr: figures.learning_rate,
        train: scores(&figures.training),
        validation: Some(scores(&figures.validation)),
        dice: figures.validation.hard_dice(),
        mean_dice: figures.validation.mean_hard_dice(),
        seconds: figures.seconds,
        ms_per_step: figures.step_seconds * 1e3,
        waiting: figures.waited,
        skipped: figures.skipped,
    }
}
