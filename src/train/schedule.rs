//! When the learning rate falls, and when a run has learnt enough.
//!
//! The rules are data and the functions are pure: what changes lies in [`ScheduleState`] and [`EarlyStopState`], which
//! go into the checkpoint, so that a resumed run takes the same decisions.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    checkpoint::{EarlyStopState, ScheduleState},
};

/// A base rate, a warm-up, and a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The rate to begin with.
    pub lr: f64,
    /// Steps over which the rate rises linearly to the rule's: the n-th of N has n / N of it.
    pub warmup_steps: u64,
    /// What happens afterwards.
    pub rule: Decay,
}

/// How the rate changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Multiplied by `factor` after `patience` epochs without improvement of a metric that is to grow (Keras
    /// `ReduceLROnPlateau` with mode `max`).
    Plateau(Plateau),
    /// `end + (lr - end) (1 - step / steps)^power`, and `end` afterwards.
    Polynomial {
        /// Exponent; 1 is a straight line, nnU-Net's is 0.9.
        power: f64,
        /// The rate at the end.
        end: f64,
        /// Steps until then.
        steps: u64,
    },
    /// `end + (lr - end) (1 + cos(pi step / steps)) / 2`, and `end` afterwards.
    Cosine {
        /// The rate at the end.
        end: f64,
        /// Steps until then.
        steps: u64,
    },
}

/// The numbers of [`Decay::Plateau`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    /// What the rate is multiplied by.
    pub factor: f64,
    /// Epochs without improvement that are tolerated.
    pub patience: u32,
    /// The rate never falls below this.
    pub min_lr: f64,
    /// Only what exceeds the best by more than this is an improvement.
    pub min_delta: f64,
    /// Epochs after a reduction in which nothing is counted.
    pub cooldown: u32,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { factor: 0.1, patience: 20, min_lr: 1e-6, min_delta: 1e-4, cooldown: 0 }
    }
}

impl Schedule {
    /// The reference's: reduce on plateau, no warm-up.
    pub fn plateau(lr: f64) -> Self {
        Self { lr, warmup_steps: 0, rule: Decay::Plateau(Plateau::default()) }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the setting.
    pub fn validate(&self) -> Result<()> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let refuse = |option, x: f64, advice| Err(Error::usage(option, format!("{x} cannot work"), advice));
        if !positive(self.lr) {
            return refuse("lr", self.lr, "give a positive number");
        }
        let (end, steps) = match &self.rule {
            Decay::Constant => return Ok(()),
            Decay::Plateau(plateau) => {
                if !(positive(plateau.factor) && plateau.factor < 1.0) {
                    return refuse("plateau factor", plateau.factor, "give a number between 0 and 1");
                }
                if !(plateau.min_delta.is_finite() && plateau.min_delta >= 0.0) {
                    return refuse("plateau minimum improvement", plateau.min_delta, "give 0 or a positive number");
                }
                (plateau.min_lr, 1)
            }
            &Decay::Polynomial { power, .. } if !positive(power) => {
                return refuse("decay power", power, "give a positive number");
            }
            &Decay::Polynomial { end, steps, .. } | &Decay::Cosine { end, steps } => (end, steps),
        };
        if !(end.is_finite() && end >= 0.0) {
            return refuse("lowest learning rate", end, "give 0 or a positive number");
        }
        if steps == 0 {
            return refuse("decay steps", 0.0, "give a positive number");
        }
        Ok(())
    }

    /// The state before the first epoch.
    pub fn start(&self) -> ScheduleState {
        ScheduleState { lr: self.lr, best: None, wait: 0, cooldown: 0 }
    }

    /// The rate of optimizer step `step`, counted from 0 over the whole run.
    pub fn rate(&self, state: &ScheduleState, step: u64) -> f64 {
        let progress = |steps: u64| (step.min(steps) as f64) / steps as f64;
        let rate = match self.rule {
            Decay::Constant | Decay::Plateau(_) => state.lr,
            Decay::Polynomial { power, end, steps } => end + (state.lr - end) * (1.0 - progress(steps)).powf(power),
            Decay::Cosine { end, steps } => {
                end + (state.lr - end) * 0.5 * (1.0 + (std::f64::consts::PI * progress(steps)).cos())
            }
        };
        if step >= self.warmup_steps { rate } else { rate * (step + 1) as f64 / self.warmup_steps as f64 }
    }

    /// The state after an epoch whose validation gave `metric`. A metric that is not a number is no improvement.
    pub fn next(&self, state: &ScheduleState, metric: f64) -> ScheduleState {
        let Decay::Plateau(plateau) = &self.rule else { return state.clone() };
        let mut next = state.clone();
        if next.cooldown > 0 {
            next.cooldown -= 1;
            next.wait = 0;
        }
        if improves(metric, state.best, plateau.min_delta) {
            next.best = Some(metric);
            next.wait = 0;
        } else if next.cooldown == 0 {
            next.wait = next.wait.saturating_add(1);
            if next.wait >= plateau.patience && next.lr > plateau.min_lr {
                next.lr = (next.lr * plateau.factor).max(plateau.min_lr);
                next.cooldown = plateau.cooldown;
                next.wait = 0;
            }
        }
        next
    }
}

/// Ends a run after `patience` epochs without improvement of a metric that is to grow (Keras `EarlyStopping`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// Epochs without improvement that are tolerated.
    pub patience: u32,
    /// Only what exceeds the best by more than this is an improvement.
    pub min_delta: f64,
}

impl EarlyStop {
    /// The state after an epoch whose validation gave `metric`.
    pub fn next(&self, state: &EarlyStopState, metric: f64) -> EarlyStopState {
        if improves(metric, state.best, self.min_delta) {
            return EarlyStopState { best: Some(metric), wait: 0 };
        }
        EarlyStopState { best: state.best, wait: state.wait.saturating_add(1) }
    }

    /// Whether the run ends here. At least one epoch without improvement is needed.
    pub fn stops(&self, state: &EarlyStopState) -> bool {
        state.wait >= self.patience.max(1)
    }
}

fn improves(metric: f64, best: Option<f64>, min_delta: f64) -> bool {
    metric.is_finite() && best.is_none_or(|best| metric > best + min_delta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(schedule: &Schedule, metrics: &[f64]) -> Vec<f64> {
        let mut state = schedule.start();
        metrics
            .iter()
            .map(|&metric| {
                state = schedule.next(&state, metric);
                state.lr
            })
            .collect()
    }

    fn plateau(patience: u32, cooldown: u32) -> Schedule {
        let rule = Decay::Plateau(Plateau { patience, cooldown, min_lr: 1e-3, ..Plateau::default() });
        Schedule { lr: 0.5, warmup_steps: 0, rule }
    }

    #[test]
    fn the_rate_falls_when_and_only_when_patience_runs_out() {
        // Epoch 1 is the best; 0.50005 is within min_delta; epochs 2..4 are three without improvement.
        let rates = run(&plateau(3, 0), &[0.5, 0.50005, 0.4, 0.5, 0.4, 0.6, 0.6, 0.6, 0.6]);
        assert_eq!(rates, [0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05 * 0.1]);
    }

    #[test]
    fn the_rate_stops_at_its_minimum() {
        let rates = run(&plateau(1, 0), &[0.9, 0.1, 0.1, 0.1, 0.1, 0.1]);
        assert_eq!(rates, [0.5, 0.05, 0.05 * 0.1, 1e-3, 1e-3, 1e-3]);
    }

    #[test]
    fn nothing_is_counted_in_the_cooldown() {
        // Keras counts the cooldown down first and then looks whether it is over.
        let rates = run(&plateau(1, 3), &[0.9, 0.1, 0.1, 0.1, 0.1, 0.1]);
        assert_eq!(rates, [0.5, 0.05, 0.05, 0.05, 0.05 * 0.1, 0.05 * 0.1]);
    }

    #[test]
    fn a_metric_that_is_not_a_number_is_no_improvement() {
        assert_eq!(run(&plateau(2, 0), &[f64::NAN, f64::NAN]), [0.5, 0.05]);
        let state = plateau(2, 0).next(&plateau(2, 0).start(), f64::NAN);
        assert_eq!((state.best, state.wait), (None, 1));
    }

    #[test]
    fn decays_begin_at_the_rate_and_end_at_the_end() {
        let schedule = |rule| Schedule { lr: 0.2, warmup_steps: 0, rule };
        let polynomial = schedule(Decay::Polynomial { power: 1.0, end: 0.1, steps: 10 });
        let cosine = schedule(Decay::Cosine { end: 0.1, steps: 10 });
        for schedule in [polynomial, cosine] {
            let rate = |step| schedule.rate(&schedule.start(), step);
            approx::assert_relative_eq!(rate(0), 0.2, max_relative = 1e-15);
            approx::assert_relative_eq!(rate(5), 0.15, max_relative = 1e-15);
            assert_eq!((rate(10), rate(u64::MAX)), (0.1, 0.1));
            assert!((1..=10).all(|step| rate(step) < rate(step - 1)));
        }
    }

    #[test]
    fn warm_up_rises_linearly_to_the_rate() {
        let schedule = Schedule { lr: 0.5, warmup_steps: 4, rule: Decay::Constant };
        let rates: Vec<f64> = (0..6).map(|step| schedule.rate(&schedule.start(), step)).collect();
        assert_eq!(rates, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn a_resumed_schedule_takes_the_same_decisions() {
        let metrics: Vec<f64> = (0..40u32).map(|epoch| f64::from(epoch * 7 % 11) / 11.0).collect();
        let schedule = plateau(2, 1);
        let whole = run(&schedule, &metrics);
        let mut state = schedule.start();
        for (&metric, rate) in metrics.iter().zip(whole) {
            let text = serde_json::to_string(&(&schedule, &state)).unwrap();
            let (schedule, resumed): (Schedule, ScheduleState) = serde_json::from_str(&text).unwrap();
            assert_eq!(resumed, state);
            state = schedule.next(&resumed, metric);
            assert_eq!(state.lr.to_bits(), rate.to_bits());
        }
    }

    #[test]
    fn numbers_that_cannot_work_are_refused() {
        let schedule = |lr, rule| Schedule { lr, warmup_steps: 0, rule };
        let bad_factor = Plateau { factor: 1.0, ..Plateau::default() };
        for bad in [
            schedule(0.0, Decay::Constant),
            schedule(f64::NAN, Decay::Constant),
            schedule(f64::INFINITY, Decay::Constant),
            schedule(1.0, Decay::Plateau(bad_factor)),
            schedule(1.0, Decay::Cosine { end: 0.0, steps: 0 }),
            schedule(1.0, Decay::Polynomial { power: -1.0, end: 0.0, steps: 1 }),
            schedule(1.0, Decay::Polynomial { power: 1.0, end: -1.0, steps: 1 }),
        ] {
            assert_eq!(bad.validate().unwrap_err().exit_code(), 2, "{bad:?}");
        }
        Schedule::plateau(1e-4).validate().unwrap();
    }

    #[test]
    fn a_run_ends_after_its_patience_without_improvement() {
        let stop = EarlyStop { patience: 2, min_delta: 0.0 };
        let mut state = EarlyStopState::default();
        let ends: Vec<bool> = [0.1, 0.2, 0.2, 0.3, f64::NAN, 0.3]
            .iter()
            .map(|&metric| {
                state = stop.next(&state, metric);
                stop.stops(&state)
            })
            .collect();
        assert_eq!(ends, [false, false, false, false, false, true]);
        assert_eq!(state, EarlyStopState { best: Some(0.3), wait: 2 });
    }
}
