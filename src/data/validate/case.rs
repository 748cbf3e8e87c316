//! Checks one case, and describes it when nothing is wrong.

use std::path::Path;

use super::Expectation;
use crate::{
    Error, Result,
    data::{
        dataset::Case,
        fingerprint::{CaseCollector, CaseFingerprint},
    },
    formats::{Header, Image, Labels, read_image_into, read_labels_into},
};

/// Examines cases one after the other, reusing its buffers.
pub(super) struct Examiner<'a> {
    expectation: &'a Expectation,
    collector: CaseCollector,
    voxels: Vec<f32>,
    labels: Vec<u16>,
}

impl<'a> Examiner<'a> {
    pub(super) fn new(expectation: &'a Expectation) -> Self {
        Self { expectation, collector: CaseCollector::new(), voxels: Vec::new(), labels: Vec::new() }
    }

    /// The intensities of the case that was examined last, if nothing was wrong with it.
    pub(super) fn collector(&self) -> &CaseCollector {
        &self.collector
    }

    pub(super) fn examine(&mut self, case: &Case) -> Result<CaseFingerprint, Vec<Error>> {
        let mut problems = Vec::new();
        let image = read_image_into(&case.image, std::mem::take(&mut self.voxels));
        let image = image.map_err(|error| problems.push(error)).ok();
        let mut labels = None;
        if let Some(path) = &case.label {
            let read = read_labels_into(path, std::mem::take(&mut self.labels));
            labels = read.map_err(|error| problems.push(error)).ok();
        }
        if let Some(image) = &image {
            problems.extend(self.image_problems(&case.image, image));
        }
        let mut label_voxels = Vec::new();
        if let (Some(labels), Some(path)) = (&labels, &case.label) {
            label_voxels = count(&labels.voxels);
            problems.extend(self.label_problems(path, labels, &label_voxels));
            if let Some(image) = &image {
                problems.extend(self.pair_problems(case, path, &image.header, &labels.header));
            }
        }
        let fingerprint = image.as_ref().filter(|_| problems.is_empty()).map(|image| {
            let header = &image.header;
            let known = labels.as_ref().map_or(&[][..], |labels| &labels.voxels);
            let [nonzero, foreground] = self.collector.collect(&image.voxels, header.channels, known);
            let (name, extents, spacing) = (case.name.clone(), header.grid.extents, header.grid.spacing);
            CaseFingerprint { name, extents, spacing, nonzero, foreground, label_voxels }
        });
        self.voxels = image.map(|image| image.voxels).unwrap_or_default();
        self.labels = labels.map(|labels| labels.voxels).unwrap_or_default();
        fingerprint.ok_or(problems)
    }

    fn image_problems(&self, path: &Path, image: &Image) -> Vec<Error> {
        let mut problems = Vec::new();
        let header = &image.header;
        if let Some(expected) = self.expectation.channels.filter(|expected| *expected != header.channels) {
            let cause = format!("{} channels, where {expected} are expected", header.channels);
            problems.push(Error::input(path, cause, "set `num_channels`, or give images that have it"));
        }
        let strays = image.voxels.iter().filter(|value| !value.is_finite()).count();
        if let Some(first) = image.voxels.iter().position(|value| !value.is_finite()) {
            let [x, y, z] = header.grid.position(first % header.voxels());
            let cause = format!("{strays} voxels are not finite, the first at ({x}, {y}, {z})");
            problems.push(Error::input(path, cause, "replace them, for example by 0"));
        } else if image.voxels.iter().all(|value| *value == image.voxels[0]) {
            let cause = format!("empty: every voxel is {}", image.voxels[0]);
            problems.push(Error::input(path, cause, "export the image again or leave the case out"));
        }
        problems
    }

    fn label_problems(&self, path: &Path, labels: &Labels, counts: &[u64]) -> Option<Error> {
        let classes = self.expectation.classes.filter(|classes| *classes < counts.len())?;
        let strays: u64 = counts[classes..].iter().sum();
        let at = labels.voxels.iter().position(|label| usize::from(*label) >= classes)?;
        let [x, y, z] = labels.header.grid.position(at);
        let (label, last) = (labels.voxels[at], classes.saturating_sub(1));
        let cause = format!("label {label} at voxel ({x}, {y}, {z}); {strays} voxels are outside 0..={last}");
        Some(Error::input(path, cause, "correct the labels or `num_classes`"))
    }

    fn pair_problems(&self, case: &Case, path: &Path, image: &Header, labels: &Header) -> Option<Error> {
        let name = case.image.display();
        let (image, labels) = (&image.grid, &labels.grid);
        if image.extents != labels.extents {
            let text = |[x, y, z]: [usize; 3]| format!("{x} x {y} x {z}");
            let cause = format!("{} voxels, where {name} has {}", text(labels.extents), text(image.extents));
            return Some(Error::input(path, cause, "resample the labels to the image's grid"));
        }
        let distance = image.farthest_apart(labels);
        // Not `distance > tolerance`: a distance that is not a number must not pass.
        if distance <= self.expectation.tolerance {
            return None;
        }
        let cause = format!("lies up to {distance:.3} mm away from {name}");
        Some(Error::input(path, cause, "copy the image's geometry, or resample"))
    }
}

fn count(labels: &[u16]) -> Vec<u64> {
    let mut counts = vec![0; labels.iter().max().map_or(0, |highest| usize::from(*highest) + 1)];
    for label in labels {
        counts[usize::from(*label)] += 1;
    }
    counts
}
