//! Room on disk for what was inflated.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Result, files::Spool};

/// Room for inflated voxels: one file without a name, which takes nothing in memory and is gone when nobody uses it.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    limit: u64,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    spool: Option<Arc<Mutex<Spool>>>,
    used: u64,
}

/// One image's part of a store.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    spool: Arc<Mutex<Spool>>,
    start: u64,
    is_shared: bool,
}

impl Store {
    /// The most that images share: beyond it, each has room only while it is being read.
    const LIMIT: u64 = 16 << 30;

    /// Room on the file system of a folder, which need not be there yet.
    pub fn beside(folder: &Path) -> Self {
        Self::with_limit(folder, Self::LIMIT)
    }

    /// The same, of which images that are kept share at most so many bytes.
    pub fn with_limit(folder: &Path, limit: u64) -> Self {
        // What is about to be made lies where its nearest ancestor does.
        let is_there = |folder: &&Path| folder.as_os_str().is_empty() || folder.is_dir();
        let folder = folder.ancestors().find(is_there).unwrap_or(folder).to_owned();
        Self { folder, limit, shared: Mutex::default() }
    }

    /// Room for so many bytes: shared if there is some left, else of its own.
    pub(super) fn take(&self, bytes: u64) -> Result<Shelf> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Spool::new(&self.folder.join("inflated")).map(|spool| Arc::new(Mutex::new(spool)));
        let end = shared.used.saturating_add(bytes);
        if end > self.limit {
            return Ok(Shelf { spool: new()?, start: 0, is_shared: false });
        }
        let spool = match &shared.spool {
            Some(spool) => spool.clone(),
            None => shared.spool.insert(new()?).clone(),
        };
        let start = std::mem::replace(&mut shared.used, end);
        Ok(Shelf { spool, start, is_shared: true })
    }
}

impl Shelf {
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(super) fn put(&self, place: u64, bytes: &[u8]) -> Result<()> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner).put(self.start + place, bytes)
    }

    pub(super) fn get(&self, place: u64, bytes: &mut [u8]) -> Result<()> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner).get(self.start + place, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_share_room_up_to_the_limit_and_then_have_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::with_limit(&folder.path().join("not/yet"), 5);
        let shelves = [2, 3, 1].map(|bytes| store.take(bytes).unwrap());
        assert_eq!(shelves.each_ref().map(Shelf::is_shared), [true, true, false]);
        shelves.iter().enumerate().for_each(|(index, shelf)| shelf.put(0, &[index as u8 + 1]).unwrap());
        let mut byte = [0];
        for (index, shelf) in shelves.iter().enumerate() {
            shelf.get(0, &mut byte).unwrap();
            assert_eq!(byte, [index as u8 + 1]);
        }
        drop((store, shelves));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
