//! Sums of products, as definitions have them: one term after the other, or group by group as tensor cores add.

use crate::graph::reference::{Products, Real};

/// What a definition hands its terms to.
pub(super) trait Sums {
    /// `sums[row][j] += left[at] * right[from + j * stride]` for every column j.
    fn add(&mut self, row: usize, at: usize, from: usize);
}

/// Two tensors whose elements are multiplied, and how a row of sums meets the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors<'a, T> {
    pub(super) left: &'a [T],
    pub(super) right: &'a [T],
    /// Sums of a row.
    pub(super) columns: usize,
    /// From one column's factor to the next one's.
    pub(super) stride: usize,
}

/// Sums that take each term when it comes.
struct Plain<'a, T> {
    factors: Factors<'a, T>,
    sums: &'a mut [T],
}

impl<T: Real> Sums for Plain<'_, T> {
    fn add(&mut self, row: usize, at: usize, from: usize) {
        let Factors { left, right, columns, stride } = self.factors;
        let sums = &mut self.sums[row * columns..][..columns];
        for (sum, &factor) in sums.iter_mut().zip(right[from..].iter().step_by(stride)) {
            *sum += left[at] * factor;
        }
    }
}

/// Sums that wait until a row has a group of terms.
struct Grouped<'a> {
    products: Products,
    factors: Factors<'a, f32>,
    sums: &'a mut [f32],
    /// Per row: the terms that have come since the last group.
    waiting: Vec<Vec<(usize, usize)>>,
}

impl Sums for Grouped<'_> {
    fn add(&mut self, row: usize, at: usize, from: usize) {
        self.waiting[row].push((at, from));
        if self.waiting[row].len() == self.products.cores.terms(self.products.format()) {
            self.settle(row);
        }
    }
}

impl Grouped<'_> {
    /// Adds what waits.
    fn settle(&mut self, row: usize) {
        let Factors { left, right, columns, stride } = self.factors;
        let scalars: Vec<f32> = self.waiting[row].iter().map(|&(at, _)| left[at]).collect();
        let of_term = |&(_, from): &(usize, usize)| right[from..].iter().step_by(stride).take(columns).copied();
        let gathered: Vec<f32> = self.waiting[row].iter().flat_map(of_term).collect();
        let rows: Vec<&[f32]> = gathered.chunks(columns).collect();
        let sums = &mut self.sums[row * columns..][..columns];
        self.products.cores.multiply_add(self.products.format(), &scalars, &rows, sums);
        self.waiting[row].clear();
    }
}

/// A way to add up.
pub(super) trait Summation<T> {
    /// Adds the terms that a definition hands over.
    fn sum(self, factors: Factors<'_, T>, sums: &mut [T], definition: impl FnOnce(&mut dyn Sums));
}

/// One term after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneByOne;

impl<T: Real> Summation<T> for OneByOne {
    fn sum(self, factors: Factors<'_, T>, sums: &mut [T], definition: impl FnOnce(&mut dyn Sums)) {
        definition(&mut Plain { factors, sums });
    }
}

/// Group by group, in tensor cores.
impl Summation<f32> for Products {
    fn sum(self, factors: Factors<'_, f32>, sums: &mut [f32], definition: impl FnOnce(&mut dyn Sums)) {
        let rows = sums.len() / factors.columns;
        let mut grouped = Grouped { products: self, factors, sums, waiting: vec![Vec::new(); rows] };
        definition(&mut grouped);
        (0..rows).for_each(|row| grouped.settle(row));
    }
}
