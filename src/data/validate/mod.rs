//! Looks at every voxel before training does, and names everything that is wrong at once.
//!
//! One pass over the files checks them and collects the training set's [`Fingerprint`]. Memory holds one case per
//! thread, and the results do not depend on the number of threads.

mod case;
mod problems;

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use self::case::Examiner;
pub use self::problems::Problems;
use super::{
    dataset::Case,
    fingerprint::{CaseFingerprint, Fingerprint, Totals},
};
use crate::Error;

/// What the cases should be.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Channels of each image. None: whatever the first case has.
    pub channels: Option<usize>,
    /// Label values are below this. None: whatever occurs.
    pub classes: Option<usize>,
    /// Names of the classes for messages; may be shorter than the classes.
    pub class_names: Vec<String>,
    /// How far apart, in mm, the same voxel of an image and of its labels may lie.
    pub tolerance: f64,
    /// Threads that read files; none: one per core.
    pub threads: Option<NonZeroUsize>,
}

impl Default for Expectation {
    fn default() -> Self {
        // Files written by different programs differ by the rounding of single precision, about 1e-5 of a metre.
        Self { channels: None, classes: None, class_names: Vec::new(), tolerance: 0.01, threads: None }
    }
}

/// Reads all cases; checks all, and describes the training cases. Calls `progress` after each case, from any thread.
///
/// Checked are: that files can be read to the end; that channels are as many as expected; that voxels are finite and
/// not all equal; that image and labels have the same extents and lie in the same place; that labels are in range; that
/// every class occurs in the training cases.
///
/// # Errors
/// All problems found.
pub fn survey(
    training: &[Case],
    validation: &[Case],
    expectation: &Expectation,
    progress: &(dyn Fn() + Sync),
) -> Result<Fingerprint, Problems> {
    let count = training.len() + validation.len();
    let next = AtomicUsize::new(0);
    let totals = Mutex::new(Totals::new());
    let results = Mutex::new((0..count).map(|_| None).collect::<Vec<_>>());
    let available = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = expectation.threads.map_or(available, NonZeroUsize::get).min(count);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut examiner = Examiner::new(expectation);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = training.get(index).or_else(|| validation.get(index - training.len())) else {
                        break;
                    };
                    let result = examiner.examine(case);
                    if result.is_ok() && index < training.len() {
                        totals.lock().expect("no thread panicked").add(examiner.collector());
                    }
                    results.lock().expect("no thread panicked")[index] = Some(result);
                    progress();
                }
            });
        }
    });
    let results = results.into_inner().expect("no thread panicked").into_iter().flatten().collect();
    conclude(training, validation, expectation, results, totals.into_inner().expect("no thread panicked"))
}

/// Puts the cases together and checks what no case can know alone.
fn conclude(
    training: &[Case],
    validation: &[Case],
    expectation: &Expectation,
    results: Vec<Result<CaseFingerprint, Vec<Error>>>,
    totals: Totals,
) -> Result<Fingerprint, Problems> {
    let mut problems = Vec::new();
    let mut cases = Vec::with_capacity(training.len());
    let mut channels = expectation.channels;
    for (case, result) in training.iter().chain(validation).zip(results) {
        match result {
            Ok(fingerprint) => {
                let found = fingerprint.nonzero.len();
                if *channels.get_or_insert(found) != found {
                    let cause =
                        format!("{found} channels, where the cases before have {}", channels.unwrap_or_default());
                    problems.push(Error::input(&case.image, cause, "give every case the same channels"));
                }
                cases.push(fingerprint);
            }
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    let highest = cases.iter().map(|case| case.label_voxels.len()).max().unwrap_or(0);
    cases.truncate(training.len());
    let mut label_voxels = vec![0; expectation.classes.unwrap_or(highest)];
    for case in &cases {
        label_voxels.iter_mut().zip(&case.label_voxels).for_each(|(total, voxels)| *total += voxels);
    }
    let is_labelled = |case: &Case| case.label.is_some();
    for (class, _) in label_voxels.iter().enumerate().filter(|(_, voxels)| **voxels == 0) {
        let Some(first) = training.iter().find(|case| is_labelled(case)).and_then(|case| case.label.as_deref()) else {
            break;
        };
        let name = expectation.class_names.get(class).map(|name| format!(" ({name})")).unwrap_or_default();
        let cause = format!("class {class}{name} occurs in none of the {} training cases", training.len());
        let folder = first.parent().unwrap_or(first);
        problems.push(Error::input(folder, cause, "add a case that shows it, or leave the class out"));
    }
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    Ok(totals.finish(cases, label_voxels))
}

#[cfg(test)]
mod tests;
