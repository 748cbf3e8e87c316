//! The header of the file: written in one spelling, and read back only in that spelling.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;

/// What every header begins with. The eight digits of the checksum follow, at the same place in every file.
pub(super) const BEGINNING: &str = "{\"__metadata__\":{\"format\":\"pt\",\"crc32\":\"";

/// Digits of the checksum.
pub(super) const DIGITS: usize = 8;

/// Safetensors readers refuse larger headers.
pub(super) const MOST_BYTES: u64 = 100_000_000;

/// One array: its name and extents. Where it lies follows from those before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
}

impl Entry {
    /// Elements, unless they cannot be counted or addressed.
    pub(super) fn elements(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))?;
        elements.checked_mul(size_of::<f32>()).map(|_| elements)
    }
}

/// The header's text, its checksum digits zero, padded to a multiple of eight bytes so that arrays are aligned.
/// `None` when the extents cannot be counted.
pub(super) fn encode(meta: &str, entries: &[Entry]) -> Option<Vec<u8>> {
    let quoted = |text: &str| serde_json::to_string(text).expect("text is always JSON");
    let mut header = format!("{BEGINNING}{}\",\"gyrus\":{}}}", "0".repeat(DIGITS), quoted(meta));
    let mut offset = 0usize;
    for entry in entries {
        let end = offset.checked_add(entry.elements()? * size_of::<f32>())?;
        let info = TensorInfo { dtype: Dtype::F32, shape: entry.shape.clone(), data_offsets: (offset, end) };
        let info = serde_json::to_string(&info).expect("numbers are always JSON");
        header.push_str(&format!(",{}:{info}", quoted(&entry.name)));
        offset = end;
    }
    header.push('}');
    let mut bytes = header.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Some(bytes)
}

/// The text of the metadata and the arrays in the order of the file, or what is wrong with the header. The checksum
/// digits must be zeroed already.
pub(super) fn decode(header: &[u8]) -> Result<(String, Vec<Entry>), String> {
    let Parsed { mut metadata, tensors } =
        serde_json::from_slice(header).map_err(|error| format!("its header is not readable: {error}"))?;
    let mut tensors: Vec<(String, TensorInfo)> = tensors.into_iter().collect();
    tensors.sort_by_key(|(name, info)| (info.data_offsets, name.clone()));
    if let Some((name, info)) = tensors.iter().find(|(_, info)| info.dtype != Dtype::F32) {
        return Err(format!("its tensor {name:?} is {}, not F32", info.dtype));
    }
    if tensors.iter().any(|(name, _)| !is_name(name)) {
        return Err("the name of one of its tensors holds control characters".into());
    }
    // Overlaps, gaps, overflow, and ranges that do not fit the extents.
    Metadata::new(None, tensors.clone()).map_err(|error| format!("its header contradicts itself: {error}"))?;
    let meta = metadata.remove("gyrus").ok_or("its metadata has no \"gyrus\"")?;
    let entries: Vec<Entry> = tensors.into_iter().map(|(name, info)| Entry { name, shape: info.shape }).collect();
    // Names given twice, unknown members, another order or spacing: whatever is left shows here.
    if encode(&meta, &entries).as_deref() != Some(header) {
        return Err("its header is not as Gyrus writes it (something given twice, or edited)".into());
    }
    Ok((meta, entries))
}

/// Whether a tensor may be called this: names end up in tables on terminals.
pub(super) fn is_name(name: &str) -> bool {
    name != "__metadata__" && !name.contains(char::is_control)
}

#[derive(Deserialize)]
struct Parsed {
    #[serde(rename = "__metadata__")]
    metadata: HashMap<String, String>,
    #[serde(flatten)]
    tensors: HashMap<String, TensorInfo>,
}
