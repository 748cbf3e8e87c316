//! Scores a folder of predicted label maps against a folder of true ones.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    metrics::{ClassScores, LabelVolume, score_classes},
    report::{CaseReport, Class, Report},
};
use crate::{
    Error, Result,
    data::dataset::{Case, images_in},
    formats::{Labels, read_labels},
    volume::Grid,
};

/// How far apart, in mm, the same voxel of a prediction and of the truth may lie: the rounding of single precision in
/// files that different programs wrote, far below any voxel.
const PLACE_TOLERANCE_MM: f64 = 0.01;

/// A predicted label map and the true one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The case's name.
    pub name: String,
    /// The predicted label map.
    pub prediction: PathBuf,
    /// The true label map.
    pub truth: PathBuf,
}

/// What to do about true label maps without a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpredicted {
    /// They are an error: a case that was forgotten would flatter the mean.
    Refuse,
    /// They are left out, as when only one fold of a dataset was predicted.
    LeaveOut,
}

/// Scores every label map in `predictions` against the one of the same name in `truth`.
///
/// `labels` names the label values, background first; values beyond it are errors. Without it, every value that occurs
/// anywhere is a class, named by its number. `threads` read and score cases; none: one per core. The report does not
/// depend on their number.
///
/// # Errors
/// As [`match_folders`] (unpredicted cases are refused) and [`evaluate_pairs`].
pub fn evaluate_folders(
    predictions: &Path,
    truth: &Path,
    labels: Option<Vec<String>>,
    tolerance_mm: f64,
    threads: Option<NonZeroUsize>,
) -> Result<Report> {
    let pairs = match_folders(predictions, truth, Unpredicted::Refuse)?;
    evaluate_pairs(&pairs, labels, tolerance_mm, threads, &|| ())
}

/// The label maps of two folders by name (without its ending), sorted by name.
///
/// # Errors
/// A folder that is missing or holds no label maps; a prediction without truth; a truth without prediction, if refused.
pub fn match_folders(predictions: &Path, truth: &Path, unpredicted: Unpredicted) -> Result<Vec<Pair>> {
    let (predicted, known) = (images_in(predictions)?, images_in(truth)?);
    let find = |cases: &[Case], name: &str| cases.iter().position(|case| case.name == name);
    let others = |count: usize| if count > 1 { format!(" (nor have {} others)", count - 1) } else { String::new() };

    let extra: Vec<&Case> = predicted.iter().filter(|case| find(&known, &case.name).is_none()).collect();
    if let Some(first) = extra.first() {
        let cause = format!("has no truth of that name in {}{}", truth.display(), others(extra.len()));
        return Err(Error::input(&first.image, cause, "names must match; remove what has no truth"));
    }
    let missing: Vec<&Case> = known.iter().filter(|case| find(&predicted, &case.name).is_none()).collect();
    if let Some(first) = missing.first().filter(|_| unpredicted == Unpredicted::Refuse) {
        let cause = format!("has no prediction of that name in {}{}", predictions.display(), others(missing.len()));
        return Err(Error::input(&first.image, cause, "predict all cases, or leave out the others on purpose"));
    }
    let pairs = predicted.into_iter().map(|case| {
        let place = find(&known, &case.name).expect("extra predictions were refused");
        Pair { name: case.name, prediction: case.image, truth: known[place].image.clone() }
    });
    Ok(pairs.collect())
}

/// Scores pairs of label maps, as [`evaluate_folders`] does. Calls `progress` after each case, from any thread.
///
/// # Errors
/// No pairs; a tolerance that is negative or not finite; a file that cannot be read or holds an unnamed label value; a
/// prediction whose extents or place differ from the truth's. Of several errors, the one of the first case.
pub fn evaluate_pairs(
    pairs: &[Pair],
    labels: Option<Vec<String>>,
    tolerance_mm: f64,
    threads: Option<NonZeroUsize>,
    progress: &(dyn Fn() + Sync),
) -> Result<Report> {
    if !(tolerance_mm >= 0.0 && tolerance_mm.is_finite()) {
        return Err(Error::usage("tolerance", format!("{tolerance_mm} mm"), "give a distance of 0 mm or more"));
    }
    if labels.as_ref().is_some_and(|labels| labels.len() < 2) {
        return Err(Error::usage("labels", "no foreground class", "name the background and at least one class"));
    }
    if pairs.is_empty() {
        return Err(Error::usage("evaluate", "no cases to score", "give at least one prediction with its truth"));
    }
    let available = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = threads.map_or(available, NonZeroUsize::get).min(pairs.len());
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results = Mutex::new((0..pairs.len()).map(|_| None).collect::<Vec<_>>());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Cases are taken in order, so when one fails all before it are done or under way: the first error in
                // the results is the same whatever the number of threads.
                while !failed.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(pair) = pairs.get(index) else { break };
                    let result = score_pair(pair, labels.as_deref(), tolerance_mm);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    results.lock().expect("no thread panicked")[index] = Some(result);
                    progress();
                }
            });
        }
    });
    let results = results.into_inner().expect("no thread panicked");
    let scored = results.into_iter().flatten().collect::<Result<Vec<Scored>>>()?;
    let classes: Vec<Class> = match labels {
        Some(names) => (0..=u16::MAX).zip(names).skip(1).map(|(label, name)| Class { label, name }).collect(),
        None => {
            let occurring: BTreeSet<u16> = scored.iter().flat_map(|case| case.occurring()).collect();
            occurring.into_iter().map(|label| Class { label, name: label.to_string() }).collect()
        }
    };
    let cases = scored.into_iter().map(|case| case.report(&classes)).collect();
    Ok(Report { tolerance_mm, classes, cases })
}

/// The scores of one case for the labels 1, 2, ... up to the highest that it has.
struct Scored {
    name: String,
    scores: Vec<ClassScores>,
}

impl Scored {
    fn occurring(&self) -> impl Iterator<Item = u16> + '_ {
        let occurs = |scores: &ClassScores| scores.dice.is_some();
        (1..=u16::MAX).zip(&self.scores).filter(move |(_, scores)| occurs(scores)).map(|(label, _)| label)
    }

    fn report(self, classes: &[Class]) -> CaseReport {
        let scores = |class: &Class| self.scores.get(usize::from(class.label) - 1).copied().unwrap_or_default();
        CaseReport { scores: classes.iter().map(scores).collect(), name: self.name }
    }
}

fn score_pair(pair: &Pair, labels: Option<&[String]>, tolerance_mm: f64) -> Result<Scored> {
    let (prediction, truth) = (read_labels(&pair.prediction)?, read_labels(&pair.truth)?);
    check_grids(pair, &prediction.header.grid, &truth.header.grid)?;
    let mut highest = 0;
    for (path, map) in [(&pair.prediction, &prediction), (&pair.truth, &truth)] {
        highest = highest.max(highest_label(path, map, labels)?);
    }
    // D, H, W are z, y, x. The truth's spacing counts for both.
    let (shape, [dx, dy, dz]) = (truth.header.grid.shape(), truth.header.grid.spacing);
    let scores = score_classes(
        LabelVolume::new(&prediction.voxels, shape, [dz, dy, dx]),
        LabelVolume::new(&truth.voxels, shape, [dz, dy, dx]),
        usize::from(highest) + 1,
        tolerance_mm,
    );
    Ok(Scored { name: pair.name.clone(), scores })
}

fn highest_label(path: &Path, map: &Labels, names: Option<&[String]>) -> Result<u16> {
    let highest = map.voxels.iter().copied().max().unwrap_or(0);
    let Some(count) = names.map(<[String]>::len).filter(|&count| usize::from(highest) >= count) else {
        return Ok(highest);
    };
    let at = map.voxels.iter().position(|&label| label == highest).unwrap_or(0);
    let [x, y, z] = map.header.grid.position(at);
    let cause = format!("label {highest} at voxel ({x}, {y}, {z}), where {count} labels have names, 0 included");
    Err(Error::input(path, cause, "name all labels, or correct the file"))
}

fn check_grids(pair: &Pair, prediction: &Grid, truth: &Grid) -> Result<()> {
    let of_truth = pair.truth.display();
    if prediction.extents != truth.extents {
        let text = |[x, y, z]: [usize; 3]| format!("{x} x {y} x {z}");
        let cause = format!("{} voxels, where {of_truth} has {}", text(prediction.extents), text(truth.extents));
        return Err(Error::input(&pair.prediction, cause, "predict on the image's own grid"));
    }
    let distance = prediction.farthest_apart(truth);
    // Not `distance > tolerance`: what is not a number must not pass.
    if distance <= PLACE_TOLERANCE_MM {
        return Ok(());
    }
    let cause = format!("lies up to {distance:.3} mm away from {of_truth}");
    Err(Error::input(&pair.prediction, cause, "copy the image's geometry to the prediction"))
}
