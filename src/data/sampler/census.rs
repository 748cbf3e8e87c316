//! How many voxels of each class each axial slice of a case has: enough to draw any voxel of a class, all alike, and to look
//! at one slice only.

use super::Spot;
use crate::random::Stream;

/// The census of a label map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    classes: usize,
    /// `[D, classes]`.
    counts: Vec<u32>,
}

impl Census {
    /// Of labels `[D, H, W]`, all of them below the number of classes.
    pub fn of(labels: &[u16], depth: usize, classes: usize) -> Self {
        let mut counts = vec![0; depth * classes];
        for (slice, counts) in labels.chunks_exact(labels.len() / depth).zip(counts.chunks_exact_mut(classes)) {
            slice.iter().for_each(|label| counts[usize::from(*label)] += 1);
        }
        Self { classes, counts }
    }

    /// From its numbers, `[D, classes]`.
    pub fn from_counts(counts: Vec<u32>, classes: usize) -> Self {
        Self { classes, counts }
    }

    /// Its numbers, `[D, classes]`.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// A voxel of the foreground: each class that occurs is as likely as the others, and so is each of its voxels. None where
    /// there is only background.
    pub fn draw(&self, stream: &mut Stream) -> Option<Spot> {
        let total = |class: usize| -> usize { self.of_class(class).sum() };
        let present: Vec<usize> = (1..self.classes).filter(|class| total(*class) > 0).collect();
        if present.is_empty() {
            return None;
        }
        let class = present[stream.below(present.len())];
        let mut rank = stream.below(total(class));
        let slice = self.of_class(class).position(|count| {
            let is_here = rank < count;
            rank -= if is_here { 0 } else { count };
            is_here
        })?;
        Some(Spot { slice, class: class as u16, rank })
    }

    fn of_class(&self, class: usize) -> impl Iterator<Item = usize> + '_ {
        self.counts.iter().skip(class).step_by(self.classes).map(|count| *count as usize)
    }
}
