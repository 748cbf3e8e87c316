//! Prepared cases on disk, so that later epochs skip inflating and normalising.
//!
//! An entry: magic, key length and key, spacing (3 f64), image (f32), labels (u8), numbers (f32, where the image is raw), CRC-32
//! of all that. The key is text that says everything the content depends on: paths, sizes and times of the files, the
//! preprocessing, and how far it has gone. A file that
//! is damaged, or holds anything else, is as good as none: it is made anew.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use super::{Form, LoaderSettings, prepare::Place};
use crate::{
    Error, Result,
    data::dataset::Case,
    files::{self, Existing},
};

const MAGIC: &[u8; 12] = b"GYRUS CASE 1";

/// A folder of entries.
pub(super) struct Cache {
    folder: PathBuf,
    /// The settings' part of every key.
    settings: String,
}

/// One case's place in the cache.
pub(super) struct Entry {
    path: PathBuf,
    key: String,
}

impl Cache {
    pub(super) fn open(folder: &Path, settings: &LoaderSettings) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
        let preprocessing = serde_json::to_string(&settings.preprocessing).expect("plain data");
        let order = if cfg!(target_endian = "big") { "big" } else { "little" };
        let raw = if settings.form == Form::Raw { "raw, " } else { "" };
        let settings = format!("{order}-endian, {} classes, {raw}{preprocessing}", settings.classes);
        Ok(Self { folder: folder.to_owned(), settings })
    }

    pub(super) fn entry(&self, case: &Case) -> Result<Entry> {
        let mut key = self.settings.clone();
        for path in std::iter::once(&case.image).chain(&case.label) {
            let problem = |source| Error::io(path, source);
            let metadata = fs::metadata(path).map_err(problem)?;
            // Whole and fractional seconds; before 1970 they are negative.
            let modified = match metadata.modified().map_err(problem)?.duration_since(UNIX_EPOCH) {
                Ok(after) => format!("{after:?}"),
                Err(before) => format!("-{:?}", before.duration()),
            };
            let path = std::path::absolute(path).map_err(problem)?;
            key += &format!("\n{path:?} {} bytes {modified}", metadata.len());
        }
        // The name only has to be unlikely to clash: the key inside decides.
        let name = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Ok(Entry { path: self.folder.join(format!("{}-{name:016x}.case", case.name)), key })
    }
}

impl Entry {
    /// Fills the place and returns the spacing. None when there is no sound entry; the place may then hold anything.
    pub(super) fn load(&self, place: &mut Place<'_>) -> Option<[f64; 3]> {
        let Place { image, labels, numbers } = place;
        let mut file = File::open(&self.path).ok()?;
        let expected =
            MAGIC.len() + 4 + self.key.len() + 24 + size_of_val(*image) + labels.len() + size_of_val(*numbers) + 4;
        if file.metadata().ok()?.len() != expected as u64 {
            return None;
        }
        let mut checksum = crc32fast::Hasher::new();
        let mut fill = |bytes: &mut [u8]| {
            file.read_exact(bytes).ok()?;
            checksum.update(bytes);
            Some(())
        };
        let mut start = vec![0; MAGIC.len() + 4 + self.key.len()];
        fill(&mut start)?;
        if start != self.start() {
            return None;
        }
        let mut spacing = [[0; 8]; 3];
        fill(spacing.as_flattened_mut())?;
        fill(bytemuck::cast_slice_mut(image))?;
        fill(labels)?;
        fill(bytemuck::cast_slice_mut(numbers))?;
        let mut sum = [0; 4];
        file.read_exact(&mut sum).ok()?;
        (u32::from_le_bytes(sum) == checksum.finalize()).then(|| spacing.map(f64::from_le_bytes))
    }

    pub(super) fn store(&self, spacing: [f64; 3], place: &Place<'_>) -> Result<()> {
        let Place { image, labels, numbers } = place;
        let start = self.start();
        let spacing = spacing.map(f64::to_le_bytes);
        let (image, numbers) = (bytemuck::cast_slice(image), bytemuck::cast_slice(numbers));
        let parts = [&start[..], spacing.as_flattened(), image, labels, numbers];
        let mut checksum = crc32fast::Hasher::new();
        parts.iter().for_each(|part| checksum.update(part));
        let sum = checksum.finalize().to_le_bytes();
        files::write(&self.path, Existing::Replace, |file| {
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.write_all(&sum)
        })
    }

    fn start(&self) -> Vec<u8> {
        let length = u32::try_from(self.key.len()).expect("paths are short");
        [MAGIC, &length.to_le_bytes()[..], self.key.as_bytes()].concat()
    }
}
