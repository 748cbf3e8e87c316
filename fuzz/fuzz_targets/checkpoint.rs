//! Any bytes: a refusal, or a checkpoint that can be written and read again. Never a panic.

#![no_main]

use std::path::Path;

use gyrus::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;

// As given, and with the length and checksum made right, or the checksum would stop everything at the gate.
fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz");
    let _ = Checkpoint::from_bytes(path, bytes);
    let Some(repaired) = repair(bytes) else { return };
    if let Ok(checkpoint) = Checkpoint::from_bytes(path, &repaired) {
        let written = checkpoint.to_bytes().expect("what was read can be written");
        let again = Checkpoint::from_bytes(path, &written).expect("what was written can be read");
        assert_eq!(again.meta, checkpoint.meta);
        assert!(again.tensors.keys().eq(checkpoint.tensors.keys()));
        let _ = checkpoint.describe().to_string();
    }
});

fn repair(bytes: &[u8]) -> Option<Vec<u8>> {
    const BEGINNING: &[u8] = br#"{"__metadata__":{"format":"pt","crc32":"00000000"#;
    // The first two bytes say how much of the rest is header.
    let (length, rest) = bytes.split_at_checked(2)?;
    let header = usize::from(u16::from_le_bytes([length[0], length[1]])).min(rest.len()) + BEGINNING.len();
    let mut repaired = [&(header as u64).to_le_bytes()[..], BEGINNING, rest].concat();
    let digits = 8 + BEGINNING.len() - 8;
    let checksum = format!("{:08x}", crc32fast::hash(&repaired));
    repaired[digits..digits + 8].copy_from_slice(checksum.as_bytes());
    Some(repaired)
}
