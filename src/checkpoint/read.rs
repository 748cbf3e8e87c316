//! From a stranger's bytes to a checkpoint, or to the reason why not.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use crc32fast::Hasher;
use serde::Deserialize;

use super::{
    Checkpoint, FORMAT_VERSION, Meta, Tensor,
    header::{self, BEGINNING, DIGITS},
    meta::Version,
};
use crate::{Error, Result};

/// Why a file is not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Not from Gyrus, or from another version of it.
    Foreign(String),
    /// From a newer Gyrus, which says who it is.
    Newer { format: u64, written_by: String },
    /// From Gyrus, and no longer what was written.
    Damaged(String),
    /// The system could not read it.
    Io(io::Error),
}

impl Refusal {
    /// The same as an error about this file.
    pub(super) fn at(self, path: &Path) -> Error {
        // Causes may quote the file; an error is one line, whatever the file says.
        let line = |cause: String| cause.replace(char::is_control, " ");
        match self {
            Self::Foreign(cause) => {
                Error::input(path, line(cause), "give a checkpoint that this version of gyrus wrote")
            }
            Self::Newer { format, written_by } => {
                let cause = format!("checkpoint format {format}, this version of gyrus reads 1 to {FORMAT_VERSION}");
                let advice = format!("use the version of gyrus that wrote it, {}, or a newer one", line(written_by));
                Error::input(path, cause, advice)
            }
            Self::Damaged(cause) => {
                let cause = format!("damaged checkpoint: {}", line(cause));
                Error::input(path, cause, "use another checkpoint or a backup copy")
            }
            Self::Io(source) => Error::io(path, source),
        }
    }
}

/// Reads a file. Only a regular file has a size that bounds what its header may claim.
pub(super) fn file(path: &Path) -> Result<Checkpoint> {
    let io = |source| Error::io(path, source);
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(Error::input(path, "not a regular file", "give the checkpoint file itself"));
    }
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    stream(BufReader::with_capacity(1 << 18, file), bytes).map_err(|refusal| refusal.at(path))
}

/// Reads what must be exactly `bytes` bytes.
pub(super) fn stream(mut reader: impl Read, bytes: u64) -> Result<Checkpoint, Refusal> {
    let (header, checksum, mut hasher) = read_header(&mut reader, bytes)?;
    let (text, entries) = header::decode(&header).map_err(|cause| newer(&header).unwrap_or(Refusal::Damaged(cause)))?;
    // The header's ranges follow each other from zero, so their sum is the last one's end.
    let arrays = entries
        .iter()
        .try_fold(0u64, |sum, entry| sum.checked_add((entry.elements()? as u64).checked_mul(size_of::<f32>() as u64)?));
    let begin = 8 + header.len() as u64;
    if arrays.and_then(|arrays| arrays.checked_add(begin)) != Some(bytes) {
        let named = arrays.map_or("more".into(), |arrays| (begin as u128 + arrays as u128).to_string());
        return Err(Refusal::Damaged(format!("its header describes {named} bytes, the file has {bytes}")));
    }
    let mut tensors = BTreeMap::new();
    for entry in entries {
        // Bounded by the file's size, by the check above.
        let mut data = vec![0f32; entry.elements().expect("counted above")];
        read_exactly(&mut reader, bytemuck::cast_slice_mut(&mut data))?;
        hasher.update(bytemuck::cast_slice(&data));
        if cfg!(target_endian = "big") {
            data.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits().swap_bytes()));
        }
        tensors.insert(entry.name, Tensor { shape: entry.shape, data });
    }
    if reader.read(&mut [0]).map_err(Refusal::Io)? != 0 {
        return Err(Refusal::Damaged("it grew while it was read".into()));
    }
    let found = format!("{:08x}", hasher.finalize());
    if found.as_bytes() != checksum {
        let written = String::from_utf8_lossy(&checksum).into_owned();
        return Err(Refusal::Damaged(format!("its checksum is {found}, written was {written:?}")));
    }
    Ok(Checkpoint { tensors, meta: Meta::parse(&text)? })
}

/// The header with its checksum digits zeroed, the digits, and the checksum's state so far.
fn read_header(reader: &mut impl Read, bytes: u64) -> Result<(Vec<u8>, [u8; DIGITS], Hasher), Refusal> {
    let foreign = || Refusal::Foreign("not a Gyrus checkpoint".into());
    let least = 8 + (BEGINNING.len() + DIGITS) as u64;
    if bytes < least {
        return Err(Refusal::Foreign(format!("not a Gyrus checkpoint: only {bytes} bytes")));
    }
    let mut length = [0; 8];
    read_exactly(reader, &mut length)?;
    let mut beginning = [0; BEGINNING.len()];
    read_exactly(reader, &mut beginning)?;
    if beginning != BEGINNING.as_bytes() {
        return Err(foreign());
    }
    let claimed = u64::from_le_bytes(length);
    if claimed > bytes - 8 || claimed < least - 8 || claimed > header::MOST_BYTES {
        return Err(Refusal::Damaged(format!("its header claims {claimed} bytes, the file has {bytes}")));
    }
    let mut header = vec![0; claimed as usize];
    header[..BEGINNING.len()].copy_from_slice(&beginning);
    read_exactly(reader, &mut header[BEGINNING.len()..])?;
    let digits = &mut header[BEGINNING.len()..][..DIGITS];
    let mut checksum = [0; DIGITS];
    checksum.copy_from_slice(digits);
    digits.fill(b'0');
    let mut hasher = Hasher::new();
    hasher.update(&length);
    hasher.update(&header);
    Ok((header, checksum, hasher))
}

/// Whether a header that cannot be read is a newer version's, which may hold other arrays.
fn newer(header: &[u8]) -> Option<Refusal> {
    #[derive(Deserialize)]
    struct Any {
        #[serde(rename = "__metadata__")]
        metadata: BTreeMap<String, String>,
    }
    let Any { metadata } = serde_json::from_slice(header).ok()?;
    Version::newer(metadata.get("gyrus")?)
}

fn read_exactly(reader: &mut impl Read, buffer: &mut [u8]) -> Result<(), Refusal> {
    reader.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Refusal::Damaged("it shrank while it was read".into()),
        _ => Refusal::Io(error),
    })
}
