//! Prepared cases on disk, so that later epochs skip inflating and normalising. They keep their own extents: whatever part
//! of them a sample shows, it is cut from there, and only its axial slices are read.
//!
//! An entry: magic, key length and key, extents D H W and channels (u64), spacing (f64), what is left to do (limits and scores,
//! f32), the census (u32), a CRC-32 of each slice of the image and of the labels, and one of all that; then the image `[C, D,
//! H, W]` (f32) and the labels `[D, H, W]` (u8). The key is text that says everything the content depends on: paths, sizes and
//! times of the files, how intensities are changed, and how far that has gone. A file that is damaged where it is read, or
//! holds anything else, is as good as none: it is made anew.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use super::{Form, LoaderSettings, prepare::Prepared};
use crate::{
    Error, Result,
    data::{
        dataset::Case,
        preprocess::{Fit, Pending, Preprocessing},
        sampler::Census,
    },
    files::{self, Existing},
};

const MAGIC: &[u8; 12] = b"GYRUS CASE 2";

/// Labels that are converted at once.
const PIECE: usize = 1 << 16;

/// A folder of entries.
pub(super) struct Cache {
    folder: PathBuf,
    /// The settings' part of every key.
    settings: String,
    channels: usize,
    classes: usize,
}

/// One case's place in the cache.
pub(super) struct Entry {
    path: PathBuf,
    key: String,
    channels: usize,
    classes: usize,
}

/// The voxels of an entry that was found.
pub(super) struct Stored {
    file: File,
    shape: [usize; 3],
    channels: usize,
    /// Of the image's slices `[C, D]`, then of the labels'.
    checksums: Vec<u32>,
    /// Where the image begins.
    start: u64,
}

impl Cache {
    pub(super) fn open(folder: &Path, settings: &LoaderSettings) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
        let Preprocessing { channels, normalization, fit, ref ct, .. } = settings.preprocessing;
        let intensities = serde_json::to_string(&(normalization, ct)).expect("plain data");
        let order = if cfg!(target_endian = "big") { "big" } else { "little" };
        let classes = settings.classes;
        // What is stretched is normalised before.
        let raw = if settings.form == Form::Raw && fit == Fit::Pad { "raw, " } else { "" };
        let settings = format!("{order}-endian, {channels} channels, {classes} classes, {raw}{intensities}");
        Ok(Self { folder: folder.to_owned(), settings, channels, classes })
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
        let path = self.folder.join(format!("{}-{name:016x}.case", case.name));
        Ok(Entry { path, key, channels: self.channels, classes: self.classes })
    }
}

impl Entry {
    /// The entry, if there is one whose head is sound; its voxels are verified when they are read.
    pub(super) fn find(&self) -> Option<(Prepared, Stored)> {
        let mut file = File::open(&self.path).ok()?;
        let length = file.metadata().ok()?.len();
        let mut checksum = crc32fast::Hasher::new();
        let mut take = |count: usize| {
            let mut bytes = vec![0; count];
            file.read_exact(&mut bytes).ok()?;
            checksum.update(&bytes);
            Some(bytes)
        };
        let beginning = self.beginning();
        if take(beginning.len())? != beginning {
            return None;
        }
        let sizes: Vec<u64> = words(&take(32)?).map(u64::from_le_bytes).collect();
        // Sizes are believed when the file is as long as they say.
        let voxels = sizes[..3].iter().try_fold(1, |product: u64, extent| product.checked_mul(*extent))?;
        let bytes = voxels.checked_mul(sizes[3].checked_mul(4)?.checked_add(1)?)?;
        let [depth, _, _, channels] = [0, 1, 2, 3].map(|i| sizes[i] as usize);
        let start = (length.checked_sub(bytes)?) as usize;
        let fixed = beginning.len() + 32 + 24 + 4;
        let rest = [8 * channels, 16 * channels * depth, 4 * self.classes * depth, 4 * (channels + 1) * depth];
        if channels != self.channels || voxels == 0 || start != fixed + rest.iter().sum::<usize>() {
            return None;
        }
        let spacing = words(&take(24)?).map(f64::from_le_bytes).collect::<Vec<_>>();
        let [limits, scores, counts, checksums] = rest.map(&mut take);
        let mut sum = [0; 4];
        file.read_exact(&mut sum).ok()?;
        if u32::from_le_bytes(sum) != checksum.finalize() {
            return None;
        }
        let shape = [0, 1, 2].map(|axis| sizes[axis] as usize);
        let pending = Pending {
            bounds: shape.map(|extent| 0..extent),
            limits: bytemuck::pod_collect_to_vec(&limits?),
            scores: bytemuck::pod_collect_to_vec(&scores?),
        };
        let census = Census::from_counts(bytemuck::pod_collect_to_vec(&counts?), self.classes);
        let prepared = Prepared { shape, spacing: [spacing[0], spacing[1], spacing[2]], pending, census };
        let checksums = bytemuck::pod_collect_to_vec(&checksums?);
        Some((prepared, Stored { file, shape, channels, checksums, start: start as u64 }))
    }

    /// Keeps a case: its image `[C, D, H, W]` and its labels `[D, H, W]`, which are below 256.
    pub(super) fn store(&self, prepared: &Prepared, image: &[f32], labels: &[u16]) -> Result<()> {
        let Prepared { shape, spacing, pending, census } = prepared;
        let slice = shape[1] * shape[2];
        let of_image = image.chunks_exact(slice).map(|slice| crc32fast::hash(bytemuck::cast_slice(slice)));
        let of_labels = labels.chunks_exact(slice).map(|slice| {
            let mut checksum = crc32fast::Hasher::new();
            as_bytes(slice, |bytes| checksum.update(bytes));
            checksum.finalize()
        });
        let checksums: Vec<u32> = of_image.chain(of_labels).collect();
        let sizes = [shape[0], shape[1], shape[2], self.channels].map(|size| (size as u64).to_le_bytes());
        let mut head = self.beginning();
        head.extend_from_slice(sizes.as_flattened());
        head.extend_from_slice(spacing.map(f64::to_le_bytes).as_flattened());
        head.extend_from_slice(bytemuck::cast_slice(&pending.limits));
        head.extend_from_slice(bytemuck::cast_slice(&pending.scores));
        head.extend_from_slice(bytemuck::cast_slice(census.counts()));
        head.extend_from_slice(bytemuck::cast_slice(&checksums));
        let sum = crc32fast::hash(&head).to_le_bytes();
        files::write(&self.path, Existing::Replace, |file| {
            file.write_all(&head)?;
            file.write_all(&sum)?;
            file.write_all(bytemuck::cast_slice(image))?;
            let mut outcome = Ok(());
            as_bytes(labels, |bytes| {
                if outcome.is_ok() {
                    outcome = file.write_all(bytes);
                }
            });
            outcome
        })
    }

    fn beginning(&self) -> Vec<u8> {
        let length = u32::try_from(self.key.len()).expect("paths are short");
        [MAGIC, &length.to_le_bytes()[..], self.key.as_bytes()].concat()
    }
}

impl Stored {
    /// Reads these axial slices of the image, `[C, slices, H, W]`. None where they are damaged; the buffer then holds anything.
    pub(super) fn image(&mut self, slices: &Range<usize>, out: &mut Vec<f32>) -> Option<()> {
        let [depth, h, w] = self.shape;
        reserve(out, self.channels * slices.len() * h * w);
        for channel in 0..self.channels {
            let first = channel * depth + slices.start;
            let out = &mut out[channel * slices.len() * h * w..][..slices.len() * h * w];
            self.file.seek(SeekFrom::Start(self.start + (first * h * w * 4) as u64)).ok()?;
            self.file.read_exact(bytemuck::cast_slice_mut(out)).ok()?;
            for (slice, expected) in out.chunks_exact(h * w).zip(&self.checksums[first..]) {
                if crc32fast::hash(bytemuck::cast_slice(slice)) != *expected {
                    return None;
                }
            }
        }
        Some(())
    }

    /// Reads these axial slices of the labels, `[slices, H, W]`, as [`Self::image`] does.
    pub(super) fn labels(&mut self, slices: &Range<usize>, out: &mut Vec<u16>) -> Option<()> {
        let [depth, h, w] = self.shape;
        reserve(out, slices.len() * h * w);
        let start = self.start + (self.channels * depth * h * w * 4 + slices.start * h * w) as u64;
        self.file.seek(SeekFrom::Start(start)).ok()?;
        let checksums = &self.checksums[self.channels * depth + slices.start..];
        let mut piece = vec![0; PIECE.min(h * w)];
        for (slice, expected) in out.chunks_exact_mut(h * w).zip(checksums) {
            let mut checksum = crc32fast::Hasher::new();
            for labels in slice.chunks_mut(PIECE) {
                let bytes = &mut piece[..labels.len()];
                self.file.read_exact(bytes).ok()?;
                checksum.update(bytes);
                labels.iter_mut().zip(&*bytes).for_each(|(label, byte)| *label = u16::from(*byte));
            }
            if checksum.finalize() != *expected {
                return None;
            }
        }
        Some(())
    }
}

/// Eight bytes each.
fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 8]> + '_ {
    bytes.as_chunks().0.iter().copied()
}

/// Hands labels over as bytes, piece by piece.
fn as_bytes(labels: &[u16], mut take: impl FnMut(&[u8])) {
    let mut piece = Vec::with_capacity(PIECE.min(labels.len()));
    for labels in labels.chunks(PIECE) {
        piece.clear();
        piece.extend(labels.iter().map(|label| *label as u8));
        take(&piece);
    }
}

/// Makes a buffer this long, without a moment at which there are two; what it holds may be anything.
fn reserve<T: Default + Clone>(buffer: &mut Vec<T>, count: usize) {
    if buffer.capacity() < count {
        *buffer = Vec::new();
        buffer.reserve_exact(count);
    }
    buffer.resize(count, T::default());
}
