//! What a waiting person sees: a bar per epoch on a terminal, plain lines anywhere else.
//!
//! Everything goes to standard error, so that standard output stays for results. Without a terminal (a log file, CI)
//! there is one line per finished epoch, and one about every ten seconds in epochs that take longer.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::flags::in_flags;
use crate::{
    Result,
    run::{Event, Observer},
    train::{figures::EpochFigures, observer::Observer as Steps},
};

/// How often an epoch speaks up when there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// Averages of an epoch so far, for the display only: the history has the exact ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Running {
    steps: u64,
    loss: f64,
    dice: f64,
    busy: Duration,
    skipped: u64,
}

/// The display of one epoch's training steps.
pub struct Progress {
    title: String,
    steps: u64,
    running: Running,
    output: Output,
}

enum Output {
    Bar(ProgressBar),
    Lines { sink: Box<dyn Write + Send>, last: Instant },
}

impl Progress {
    /// The display of an epoch, counted from 1, of `epochs`, with `steps` steps still to come in it.
    pub fn epoch(epoch: u64, epochs: u64, steps: u64) -> Self {
        let title = format!("epoch {epoch}/{epochs}");
        if !io::stderr().is_terminal() {
            return Self::lines(title, steps, Box::new(io::stderr()));
        }
        let style = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len}  {msg}")
            .expect("a constant template")
            .progress_chars("=> ");
        let bar = ProgressBar::new(steps).with_style(style).with_prefix(title.clone());
        Self { title, steps, running: Running::default(), output: Output::Bar(bar) }
    }

    fn lines(title: String, steps: u64, sink: Box<dyn Write + Send>) -> Self {
        Self { title, steps, running: Running::default(), output: Output::Lines { sink, last: Instant::now() } }
    }

    /// After a step: its loss, its soft Dice, and how long it took.
    pub fn step(&mut self, loss: f64, dice: f64, took: Duration) {
        self.running.add(loss, dice, took);
        match &mut self.output {
            Output::Bar(bar) => {
                bar.set_message(self.running.message(self.steps));
                bar.inc(1);
            }
            Output::Lines { sink, last } if last.elapsed() >= INTERVAL => {
                let Running { steps, .. } = self.running;
                // A closed standard error is no reason to end a training run.
                let _ = writeln!(sink, "{} {steps}/{}  {}", self.title, self.steps, self.running.message(self.steps));
                *last = Instant::now();
            }
            Output::Lines { .. } => {}
        }
    }

    /// Steps of the epoch that were skipped so far.
    pub fn skipped(&mut self, steps: u64) {
        self.running.skipped = steps;
    }

    /// Ends the epoch: the bar gives way to one line, the title and `summary`.
    pub fn finish(self, summary: &str) {
        let line = format!("{}  {summary}", self.title);
        match self.output {
            Output::Bar(bar) => {
                bar.finish_and_clear();
                // A terminal that has gone is no reason to end a training run either.
                let _ = writeln!(io::stderr(), "{line}");
            }
            Output::Lines { mut sink, .. } => {
                let _ = writeln!(sink, "{line}");
            }
        }
    }
}

/// Tells a person at the terminal how a run goes.
#[derive(Default)]
pub struct Terminal {
    /// Names of the foreground's classes.
    pub classes: Vec<String>,
    progress: Option<Progress>,
}

impl Steps for Terminal {
    fn epoch_starts(&mut self, epoch: usize, epochs: usize, steps: usize, first: usize) {
        self.progress = Some(Progress::epoch(epoch as u64, epochs as u64, (steps - first) as u64));
    }

    fn step(&mut self, loss: f64, dice: f64, took: Duration) {
        if let Some(progress) = &mut self.progress {
            progress.step(loss, dice, took);
        }
    }

    fn loss_scale(&mut self, _scale: f32, skipped_in_epoch: u64) {
        if let Some(progress) = &mut self.progress {
            progress.skipped(skipped_in_epoch);
        }
    }

    fn epoch_ends(&mut self, figures: &EpochFigures) -> Result<()> {
        if let Some(progress) = self.progress.take() {
            progress.finish(&summary(figures, &self.classes));
        }
        Ok(())
    }
}

impl Observer for Terminal {
    fn event(&mut self, event: Event) {
        note!("{}", in_flags(&event.to_string()));
    }
}

/// An epoch in one line.
fn summary(figures: &EpochFigures, classes: &[String]) -> String {
    let EpochFigures { training, validation, .. } = figures;
    let mut line = format!("loss {:.4} dice {:.4}", training.loss(), training.dice());
    line += &format!("  validation loss {:.4} dice {:.4}", validation.loss(), validation.dice());
    for (class, dice) in classes.iter().zip(validation.hard_dice()) {
        line += &dice.map_or_else(|| format!("  {class} n/a"), |dice| format!("  {class} {dice:.4}"));
    }
    line += &format!(
        "  {:.1} s, {:.0} ms/step, {:.1} % waiting for data",
        figures.seconds,
        1e3 * figures.step_seconds,
        100.0 * figures.waited
    );
    line += &skipped(figures.skipped);
    line + if figures.is_best { "  (best)" } else { "" }
}

impl Running {
    fn add(&mut self, loss: f64, dice: f64, took: Duration) {
        self.steps += 1;
        self.loss += (loss - self.loss) / self.steps as f64;
        self.dice += (dice - self.dice) / self.steps as f64;
        self.busy += took;
    }

    /// `loss 0.4321  dice 0.5679  812 ms/step  ETA 1:23`, with the time to go until `steps` are done.
    fn message(&self, steps: u64) -> String {
        let per_step = self.busy.as_secs_f64() / self.steps.max(1) as f64;
        let left = per_step * steps.saturating_sub(self.steps) as f64;
        let (loss, dice) = (self.loss, self.dice);
        let skipped = skipped(self.skipped);
        format!("loss {loss:.4}  dice {dice:.4}{skipped}  {}  ETA {}", milliseconds(per_step), clock(left))
    }
}

/// `  2 steps skipped`, and nothing if none was.
pub fn skipped(steps: u64) -> String {
    match steps {
        0 => String::new(),
        1 => "  1 step skipped".to_owned(),
        _ => format!("  {steps} steps skipped"),
    }
}

/// `812 ms/step`, and `0.53 ms/step` for small ones.
fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms/step") } else { format!("{ms:.0} ms/step") }
}

/// `0:07`, `12:34`, `1:02:03`: rounded up, so that nothing is promised too early.
pub fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0).ceil() as u64;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Shared {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_short_epoch_is_one_plain_line() {
        let shared = Shared::default();
        let mut progress = Progress::lines("epoch 2/5".into(), 3, Box::new(shared.clone()));
        (0..3).for_each(|_| progress.step(0.5, 0.5, Duration::from_millis(1)));
        assert_eq!(shared.text(), "");
        progress.finish("loss 0.5000");
        assert_eq!(shared.text(), "epoch 2/5  loss 0.5000\n");
    }

    #[test]
    fn a_long_epoch_speaks_up_about_every_ten_seconds() {
        let shared = Shared::default();
        let mut progress = Progress::lines("epoch 1/1".into(), 100, Box::new(shared.clone()));
        for step in 0..4 {
            let Output::Lines { last, .. } = &mut progress.output else { unreachable!("made with lines") };
            // As if the step had taken 5.1 seconds.
            *last -= Duration::from_millis(5100);
            progress.step(f64::from(step), 0.25, Duration::from_millis(5100));
        }
        let expected = "epoch 1/1 2/100  loss 0.5000  dice 0.2500  5100 ms/step  ETA 8:20\n\
                        epoch 1/1 4/100  loss 1.5000  dice 0.2500  5100 ms/step  ETA 8:10\n";
        assert_eq!(shared.text(), expected);
    }

    #[test]
    fn times_read_as_on_a_clock() {
        assert_eq!([0.0, 6.2, 754.0, 3723.0].map(clock), ["0:00", "0:07", "12:34", "1:02:03"]);
        assert_eq!([0.000_53, 0.0123].map(milliseconds), ["0.53 ms/step", "12 ms/step"]);
        assert!(Running::default().message(3).contains("ETA 0:00"));
        assert!(Running { skipped: 2, ..Running::default() }.message(3).contains("  2 steps skipped  "));
    }
}
