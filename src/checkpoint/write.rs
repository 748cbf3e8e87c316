//! From a checkpoint to bytes, array by array.

use std::io::{self, Write};

use crc32fast::Hasher;

use super::{
    Checkpoint, Meta,
    header::{self, BEGINNING, DIGITS, Entry},
};
use crate::{Error, Result};

/// The first bytes of the file: the header's length and the header, its checksum final. The arrays lie in memory, so
/// that going over them twice (checksum, then output) costs no copy.
pub(super) fn header(checkpoint: &Checkpoint) -> Result<Vec<u8>> {
    let mut entries = Vec::with_capacity(checkpoint.tensors.len());
    for (name, tensor) in &checkpoint.tensors {
        let entry = Entry { name: name.clone(), shape: tensor.shape.clone() };
        if !header::is_name(name) || entry.elements() != Some(tensor.data.len()) {
            let cause = format!("{} elements under extents {:?}", tensor.data.len(), tensor.shape);
            return Err(Error::shape(format!("checkpoint tensor {name:?}"), cause));
        }
        entries.push(entry);
    }
    let text = header::encode(&meta_text(&checkpoint.meta)?, &entries)
        .filter(|text| text.len() as u64 <= header::MOST_BYTES)
        .ok_or_else(|| Error::shape("checkpoint", "a header over 100 MB, or more elements than can be addressed"))?;
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    let mut hasher = Hasher::new();
    hasher.update(&bytes);
    arrays(checkpoint, |chunk| {
        hasher.update(chunk);
        Ok(())
    })
    .expect("hashing does not fail");
    let place = 8 + BEGINNING.len();
    bytes[place..place + DIGITS].copy_from_slice(format!("{:08x}", hasher.finalize()).as_bytes());
    Ok(bytes)
}

/// The whole file.
pub(super) fn stream(header: &[u8], checkpoint: &Checkpoint, writer: &mut dyn Write) -> io::Result<()> {
    writer.write_all(header)?;
    arrays(checkpoint, |chunk| writer.write_all(chunk))
}

/// The metadata as JSON that reads back: a NaN where a number belongs becomes null, and would only be noticed when the
/// run is to be resumed.
fn meta_text(meta: &Meta) -> Result<String> {
    let text = serde_json::to_string(meta);
    text.and_then(|text| serde_json::from_str::<Meta>(&text).map(|_| text))
        .map_err(|error| Error::shape("checkpoint metadata", format!("does not survive JSON: {error}")))
}

/// The elements' bytes, little-endian, in the order of the file.
fn arrays(checkpoint: &Checkpoint, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    for tensor in checkpoint.tensors.values() {
        if cfg!(target_endian = "little") {
            sink(bytemuck::cast_slice(&tensor.data))?;
            continue;
        }
        for chunk in tensor.data.chunks(1 << 14) {
            sink(&chunk.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
        }
    }
    Ok(())
}
