//! The 48 ways in which voxel axes can follow a body's axes.

use serde::{Deserialize, Serialize};

use super::grid::{Affine, column_lengths};

/// Every order of three axes.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Ends of the body's axes, the negative one first: left to right, posterior to anterior, inferior to superior.
const ENDS: [[char; 2]; 3] = [['L', 'R'], ['P', 'A'], ['I', 'S']];

/// For each voxel axis x, y, z the end of the body's axis that it runs to. Its text is the axis code, such as `RAS` or
/// `LPS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Orientation {
    /// The body's axis (0: left-right, 1: posterior-anterior, 2: inferior-superior) of each voxel axis.
    body: [usize; 3],
    /// Whether a voxel axis runs to the negative end (left, posterior, inferior).
    is_negative: [bool; 3],
}

impl Orientation {
    /// x to the right, y to the front, z up: the canonical one.
    pub const RAS: Self = Self { body: [0, 1, 2], is_negative: [false; 3] };

    /// All 48.
    pub fn all() -> impl Iterator<Item = Self> {
        let signs =
            |body| (0..8).map(move |bits| Self { body, is_negative: [0, 1, 2].map(|axis| bits >> axis & 1 == 1) });
        ORDERS.into_iter().flat_map(signs)
    }

    /// The one that explains most of a matrix whose columns all have a length: among the assignments of voxel axes to
    /// the body's axes, the one with the largest sum of direction cosines.
    pub fn of(affine: &Affine) -> Self {
        let lengths = column_lengths(affine);
        let explained =
            |order: &[usize; 3]| (0..3).map(|axis| (affine[order[axis]][axis] / lengths[axis]).abs()).sum::<f64>();
        let mut body = ORDERS[0];
        for order in ORDERS {
            if explained(&order) > explained(&body) {
                body = order;
            }
        }
        // What is neither positive nor negative has no direction; calling it negative keeps the code of a matrix of zeros.
        let is_negative =
            [0, 1, 2].map(|axis| affine[body[axis]][axis].partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater));
        Self { body, is_negative }
    }

    /// For each axis of `to`, the axis of this orientation that runs along the same axis of the body, and whether it runs
    /// the other way.
    pub(super) fn turn(self, to: Self) -> [(usize, bool); 3] {
        [0, 1, 2].map(|axis| {
            let from = (0..3).find(|&from| self.body[from] == to.body[axis]).expect("both name every axis of the body");
            (from, self.is_negative[from] != to.is_negative[axis])
        })
    }
}

impl std::fmt::Display for Orientation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = (0..3).map(|axis| ENDS[self.body[axis]][usize::from(!self.is_negative[axis])]);
        f.write_str(&code.collect::<String>())
    }
}

impl From<Orientation> for String {
    fn from(orientation: Orientation) -> Self {
        orientation.to_string()
    }
}

impl TryFrom<String> for Orientation {
    type Error = String;

    fn try_from(code: String) -> Result<Self, Self::Error> {
        code.parse()
    }
}

impl std::str::FromStr for Orientation {
    type Err = String;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        let found = Self::all().find(|orientation| orientation.to_string() == code);
        found.ok_or_else(|| format!("{code:?} is no axis code: it takes one letter each of LR, PA and IS"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_48_has_a_code_of_its_own_that_reads_back() {
        let codes: std::collections::BTreeSet<String> = Orientation::all().map(|o| o.to_string()).collect();
        assert_eq!(codes.len(), 48);
        for code in &codes {
            assert_eq!(code.parse::<Orientation>().unwrap().to_string(), *code);
        }
        assert_eq!(Orientation::RAS.to_string(), "RAS");
        assert!("RAL".parse::<Orientation>().unwrap_err().contains("RAL"));
    }

    #[test]
    fn an_oblique_matrix_is_assigned_as_a_whole() {
        // Columns 0 and 1 both lean to the first row; only one can have it.
        let affine = [[0.8, -0.9, 0.0, 0.0], [0.6, 0.44, 0.0, 0.0], [0.0, 0.0, -2.0, 0.0]];
        assert_eq!(Orientation::of(&affine).to_string(), "ALI");
    }
}
