//! Extents, and their reading as a batch of volumes.

/// Extents of up to five axes, outermost first. Copyable, so that specs can be passed around like numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    extents: [usize; Self::MAX_RANK],
    rank: u8,
}

/// The extents of a batch of multi-channel volumes, N D H W C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Volume {
    /// Number of samples.
    pub n: usize,
    /// Extents D, H, W.
    pub extent: [usize; 3],
    /// Channels, innermost.
    pub c: usize,
}

impl Shape {
    /// The most axes that a tensor can have.
    pub const MAX_RANK: usize = 5;

    /// Extents from a slice.
    ///
    /// # Panics
    /// With more than [`Self::MAX_RANK`] axes: ranks come from this crate, never from a file.
    pub fn new(extents: &[usize]) -> Self {
        assert!(extents.len() <= Self::MAX_RANK, "at most {} axes, got {extents:?}", Self::MAX_RANK);
        let mut all = [1; Self::MAX_RANK];
        all[..extents.len()].copy_from_slice(extents);
        Self { extents: all, rank: extents.len() as u8 }
    }

    /// One axis.
    pub fn vector(length: usize) -> Self {
        Self::new(&[length])
    }

    /// Extents, outermost first.
    pub fn extents(&self) -> &[usize] {
        &self.extents[..usize::from(self.rank)]
    }

    /// Number of elements. Extents that come from files are checked where they are read, so that this cannot overflow.
    pub fn elements(&self) -> usize {
        self.extents().iter().product()
    }

    /// The reading as N D H W C, when there are five axes.
    pub fn volume(&self) -> Option<Volume> {
        let &[n, d, h, w, c] = self.extents() else { return None };
        Some(Volume { n, extent: [d, h, w], c })
    }
}

impl Volume {
    /// The same as a five-axis shape.
    pub fn shape(&self) -> Shape {
        let [d, h, w] = self.extent;
        Shape::new(&[self.n, d, h, w, self.c])
    }

    /// Voxels of all samples: the number of channel vectors.
    pub fn voxels(&self) -> usize {
        self.n * self.extent.iter().product::<usize>()
    }

    /// The same volume with another number of channels.
    pub fn with_channels(self, c: usize) -> Self {
        Self { c, ..self }
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[")?;
        for (i, extent) in self.extents().iter().enumerate() {
            write!(f, "{}{extent}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_axes_read_as_a_volume_and_back() {
        let shape = Shape::new(&[2, 3, 4, 5, 6]);
        let volume = shape.volume().unwrap();
        assert_eq!((volume.n, volume.extent, volume.c), (2, [3, 4, 5], 6));
        assert_eq!(volume.shape(), shape);
        assert_eq!(volume.voxels() * volume.c, shape.elements());
        assert_eq!(Shape::vector(3).volume(), None);
    }
}
