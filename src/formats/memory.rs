//! Volumes that are in memory and are read like files: for callers that have arrays and no files.
//!
//! They have a path each, which is nowhere on a disk. Whatever takes the path of an image or a label map takes theirs, and
//! reads the same bits as from a file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{BUILT_IN, Header, VoxelType};
use crate::{Error, Result};

type Bytes = Arc<[u8]>;

/// What is held, by the path that stands for it.
static HELD: RwLock<BTreeMap<PathBuf, Bytes>> = RwLock::new(BTreeMap::new());

/// A volume in memory; it can be read as long as this lives.
#[derive(Debug)]
pub struct Held(PathBuf);

impl Held {
    /// The path that stands for it.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.write().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Holds an image: values `[channel, z, y, x]` row-major on the grid of `like`. The name is for messages and need not be
/// unique. The values are copied.
///
/// # Errors
/// If the values do not fill the grid; a grid that no file could have.
pub fn hold_image(name: &str, like: &Header, channels: usize, values: &[f32]) -> Result<Held> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    hold(name, like, channels, VoxelType::F32, values.len(), &bytes)
}

/// Holds a label map: `[z, y, x]` row-major on the grid of `like`. Like [`hold_image`].
///
/// # Errors
/// As [`hold_image`].
pub fn hold_labels(name: &str, like: &Header, labels: &[u8]) -> Result<Held> {
    hold(name, like, 1, VoxelType::U8, labels.len(), labels)
}

fn hold(
    name: &str,
    like: &Header,
    channels: usize,
    voxel_type: VoxelType,
    count: usize,
    voxels: &[u8],
) -> Result<Held> {
    static VOLUMES: AtomicU64 = AtomicU64::new(0);
    let format = BUILT_IN[0];
    // A folder of its own for each, which no file system has: a name may be used twice.
    let number = VOLUMES.fetch_add(1, Ordering::Relaxed);
    let path = Path::new("memory:").join(number.to_string()).join(format!("{name}{}", format.ending()));
    if channels == 0 || Some(count) != like.voxels().checked_mul(channels) {
        let cause = format!("{count} values for {:?} x {channels}", like.grid.extents);
        return Err(Error::input(path, cause, "give one value for each voxel and channel"));
    }
    let made = format.writer(like, channels, voxel_type);
    let mut writer = made.map_err(|(cause, advice)| Error::input(&path, cause, advice))?;
    let mut bytes = Vec::with_capacity(voxels.len() + (1 << 10));
    writer
        .begin(&mut bytes)
        .and_then(|()| writer.voxels(&mut bytes, voxels))
        .and_then(|()| writer.end(&mut bytes))
        .map_err(|error| Error::io(&path, error))?;
    HELD.write().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), bytes.into());
    Ok(Held(path))
}

/// The bytes that this path stands for, if it is one of these.
pub(super) fn find(path: &Path) -> Option<Bytes> {
    HELD.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{read_image, read_labels};

    #[test]
    fn what_is_held_is_read_like_a_file_as_long_as_it_is_held() {
        let like = Header::new([3, 2, 2], [1.0, 2.0, 3.0]);
        let values: Vec<f32> = (0..24).map(|value| value as f32 / 3.0).collect();
        let image = hold_image("case", &like, 2, &values).unwrap();
        let labels = hold_labels("case", &like, &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]).unwrap();
        let read = read_image(image.path()).unwrap();
        assert_eq!((read.voxels, read.header.channels), (values, 2));
        assert_eq!(read.header.grid, like.grid);
        assert_eq!(read_labels(labels.path()).unwrap().voxels[..3], [0, 1, 2]);
        let path = image.path().to_owned();
        drop(image);
        assert!(read_image(&path).unwrap_err().to_string().contains("no such file"));
    }

    #[test]
    fn a_number_of_values_that_does_not_fill_the_grid_is_refused() {
        let like = Header::new([3, 2, 2], [1.0; 3]);
        for (channels, count) in [(2, 12), (0, 0), (1, 11), (usize::MAX, 12)] {
            let error = hold_image("case", &like, channels, &vec![0.0; count]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }
}
