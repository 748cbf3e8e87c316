//! What a run leaves in its folder as it goes: history, event files, curves; and its progress on the terminal.

use std::path::{Path, PathBuf};

use super::{
    checkpoint::Position,
    curves,
    figures::{EpochFigures, Figures},
    history::{History, Row, Scores},
    observer::Observer,
    progress::Progress,
    tensorboard::Events,
};
use crate::{
    Error, Result,
    files::{self, Existing},
};

/// Name of the curves' file.
pub const CURVES: &str = "curves.svg";

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

/// Keeps history, event file and curves of a run, and shows its progress.
#[derive(Debug)]
pub struct Record {
    folder: PathBuf,
    history: History,
    events: Events,
    progress: Progress,
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
            Start::Replace => History::create(folder, &classes, Existing::Replace)?,
            Start::Resume => History::resume(folder, &classes, position.epoch)?,
        };
        let events = Events::create(folder, position.global_step)?;
        Ok(Self { folder: folder.to_owned(), history, events, progress: Progress::new() })
    }

    fn write_events(&mut self, row: &Row) -> Result<()> {
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

impl Observer for Record {
    fn epoch_starts(&mut self, epoch: usize, epochs: usize, steps: usize, first: usize) {
        self.progress.start(epoch, epochs, steps, first);
    }

    fn step(&mut self, so_far: &Figures) {
        self.progress.step(so_far.loss(), so_far.dice());
    }

    fn epoch_ends(&mut self, figures: &EpochFigures) -> Result<()> {
        let row = row(figures);
        self.progress.finish(&row, self.history.classes(), figures.is_best);
        self.write_events(&row)?;
        self.history.push(row)?;
        let svg = curves::draw(&self.history);
        files::write(&self.folder.join(CURVES), Existing::Replace, |writer| writer.write_all(svg.as_bytes()))
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
    }
}
