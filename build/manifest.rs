//! `kernels/compiled/manifest.txt`: which files of compiled kernels there are, and the digests of what they were made of and
//! of the files themselves. A line is `NAME SOURCES COMPILED`.

use std::{collections::BTreeMap, fs, path::Path};

/// Its name in the folder of compiled kernels.
pub const FILE: &str = "manifest.txt";

/// What the manifest says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Digest of everything that the file depends on.
    pub sources: String,
    /// Digest of the file.
    pub compiled: String,
}

/// Entries by name, such as `relu.compute_75`.
pub type Manifest = BTreeMap<String, Entry>;

/// Reads the text of a manifest.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &str) -> Result<Manifest, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines
        .map(|(number, line)| match line.split(' ').collect::<Vec<_>>()[..] {
            [name, sources, compiled] => {
                Ok((name.to_owned(), Entry { sources: sources.to_owned(), compiled: compiled.to_owned() }))
            }
            _ => Err(format!("{FILE}: line {}: expected NAME SOURCES COMPILED", number + 1)),
        })
        .collect()
}

/// The text of a manifest.
pub fn print(manifest: &Manifest) -> String {
    let title = "# Compiled kernels: digests of their sources and of the files; see build.rs.\n".to_owned();
    let line = |(name, Entry { sources, compiled }): (&String, &Entry)| format!("{name} {sources} {compiled}\n");
    title + &manifest.iter().map(line).collect::<String>()
}

/// The file of an entry.
pub fn file(name: &str) -> String {
    format!("{name}.ptx.gz")
}

/// Whether the file of an entry is the one that was listed.
///
/// # Errors
/// Naming the file, if it is gone or another one.
pub fn check(folder: &Path, name: &str, entry: &Entry) -> Result<(), String> {
    let path = folder.join(file(name));
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if fingerprint(&bytes) == entry.compiled {
        return Ok(());
    }
    Err(format!("{}: not the file that {FILE} lists", path.display()))
}

/// FNV-1a, 128 bits: this guards against forgetting and damage, not against malice.
pub fn fingerprint(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash: u128, &byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}")
}
