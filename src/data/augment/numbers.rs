//! A case's recipe, and what is left to do to its image, as a row of numbers for who does it elsewhere.
//!
//! A row holds, in this order: the matrix (9), the first voxel of the image and the one behind its last (3 + 3, D H W), the
//! deviation of the noise, its key in four pieces of 16 bits, lowest first; per channel gamma, scale and shift; per channel
//! the least and the greatest value; zeros up to a multiple of four; per slice and channel the four numbers of a [`Score`].
//! Every number is exact in single precision, the key's pieces and the voxels' positions too.

use std::ops::Range;

use super::{Changes, PointWise, Recipe};
use crate::data::preprocess::{Pending, Score};

/// Numbers before those of the channels.
pub const HEAD: usize = 20;

const BOUNDS: usize = 9;
const NOISE: usize = 15;
const KEY: usize = 16;

/// The layout of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Axial slices of the network's grid.
    pub depth: usize,
    /// Channels.
    pub channels: usize,
}

impl Layout {
    /// Numbers in a row: a multiple of four.
    pub fn row(self) -> usize {
        self.scores() + self.depth * self.channels * 4
    }

    /// The first number of the scores: a multiple of four.
    pub fn scores(self) -> usize {
        (HEAD + 5 * self.channels).next_multiple_of(4)
    }

    /// The row of a case.
    ///
    /// # Panics
    /// If the recipe or what is pending has another number of channels or slices.
    pub fn write(self, row: &mut [f32], recipe: &Recipe, pending: &Pending) {
        self.write_pending(row, pending);
        self.write_recipe(row, recipe);
    }

    /// A row that changes nothing, for images of these extents that are normalised.
    pub fn identity(self, extent: [usize; 3]) -> Vec<f32> {
        let mut row = vec![0.0; self.row()];
        self.write(&mut row, &Recipe::identity(self.channels), &Pending::nothing(extent, self.channels));
        row
    }

    /// Writes what the recipe says; the rest of the row stays.
    pub(crate) fn write_recipe(self, row: &mut [f32], recipe: &Recipe) {
        row[..BOUNDS].copy_from_slice(recipe.matrix.as_flattened());
        row[NOISE] = recipe.noise;
        let pieces = recipe.noise_key.iter().flat_map(|word| [word & 0xffff, word >> 16]);
        row[KEY..HEAD].iter_mut().zip(pieces).for_each(|(number, piece)| *number = piece as f32);
        row[HEAD..][..3 * self.channels].copy_from_slice(bytemuck::cast_slice(&recipe.channels));
    }

    /// Writes what is left to do; the rest of the row becomes 0.
    pub(crate) fn write_pending(self, row: &mut [f32], pending: &Pending) {
        row.fill(0.0);
        for (axis, Range { start, end }) in pending.bounds.iter().enumerate() {
            row[BOUNDS + axis] = *start as f32;
            row[BOUNDS + 3 + axis] = *end as f32;
        }
        row[HEAD + 3 * self.channels..][..2 * self.channels].copy_from_slice(pending.limits.as_flattened());
        row[self.scores()..].copy_from_slice(bytemuck::cast_slice(&pending.scores));
    }
}

/// A row, to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    layout: Layout,
    numbers: &'a [f32],
}

impl<'a> Row<'a> {
    /// These numbers, laid out so.
    pub fn new(layout: Layout, numbers: &'a [f32]) -> Self {
        assert_eq!(numbers.len(), layout.row());
        Self { layout, numbers }
    }

    /// The recipe.
    pub fn changes(self) -> Changes<'a> {
        let matrix = [0, 1, 2].map(|row| [0, 1, 2].map(|column| self.numbers[3 * row + column]));
        let key = [0, 2].map(|at| self.numbers[KEY + at] as u32 | (self.numbers[KEY + at + 1] as u32) << 16);
        let channels: &[PointWise] = bytemuck::cast_slice(&self.numbers[HEAD..][..3 * self.layout.channels]);
        Changes { matrix, channels, noise: self.numbers[NOISE], noise_key: key }
    }

    /// Where the image is, D H W.
    pub fn bounds(self) -> [Range<usize>; 3] {
        [0, 1, 2].map(|axis| self.numbers[BOUNDS + axis] as usize..self.numbers[BOUNDS + 3 + axis] as usize)
    }

    /// The least and the greatest value of a channel.
    pub fn limits(self, channel: usize) -> [f32; 2] {
        [0, 1].map(|end| self.numbers[HEAD + 3 * self.layout.channels + 2 * channel + end])
    }

    /// The score of a channel in a slice.
    pub fn score(self, slice: usize, channel: usize) -> Score {
        bytemuck::cast_slice(&self.numbers[self.layout.scores()..])[slice * self.layout.channels + channel]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augment::Augment;

    #[test]
    fn a_row_says_what_the_recipe_and_the_preprocessing_said() {
        for (depth, channels) in [(1, 1), (3, 2), (5, 4)] {
            let layout = Layout { depth, channels };
            let mut recipe = Recipe::draw(&Augment::Full.settings(), 3, 1, "a", [3.0, 1.0, 1.0], channels);
            recipe.noise_key = [0xffff_fffe, 0x0001_8000];
            let score = |i: usize| Score { mean: i as f32, rest: 0.5, scale: 2.0, keeps_zero: (i % 2) as f32 };
            let pending = Pending {
                bounds: [0..depth, 3..7, 16_777_214..16_777_215],
                limits: (0..channels).map(|c| [c as f32, f32::INFINITY]).collect(),
                scores: (0..depth * channels).map(score).collect(),
            };
            let mut row = vec![f32::NAN; layout.row()];
            layout.write(&mut row, &recipe, &pending);
            let read = Row::new(layout, &row);
            let Changes { matrix, channels: points, noise, noise_key } = read.changes();
            assert_eq!(recipe, Recipe { matrix, channels: points.to_vec(), noise, noise_key });
            assert_eq!(read.bounds(), pending.bounds);
            (0..channels).for_each(|channel| assert_eq!(read.limits(channel), pending.limits[channel]));
            for index in 0..depth * channels {
                assert_eq!(read.score(index / channels, index % channels), pending.scores[index]);
            }
        }
    }
}
