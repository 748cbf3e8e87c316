//! Writes files so that a reader never sees half of one: temporary file in the same folder, synced, renamed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{Error, Result};

/// Writes `path` with what `fill` puts into the writer. The file appears under its name only when it is complete and
/// on disk; on any failure nothing is left behind and an older file of that name is untouched.
///
/// # Errors
/// Whatever the operating system says, or `fill` returns.
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let temporary = temporary_beside(path)?;
    let outcome = write_and_sync(&temporary, fill).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = outcome {
        // The first failure is the one worth telling; a temporary file that cannot be removed either is only untidy.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io(path, source));
    }
    // The rename itself lives in the folder, so the folder is synced too. Some file systems refuse: then it is theirs.
    if let Some(Ok(folder)) = folder_of(path).map(File::open) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn write_and_sync(temporary: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    let mut writer = BufWriter::with_capacity(1 << 18, file);
    fill(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// A name that no other thread or process uses: `.NAME.PID.COUNTER.tmp`.
fn temporary_beside(path: &Path) -> Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(Error::input(path, "not the name of a file", "give a path that ends in a file name"));
    };
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    Ok(path.with_file_name(format!(".{}.{}.{count}.tmp", name.to_string_lossy(), process::id())))
}

fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.bin");
        write_atomically(&path, |w| w.write_all(b"old")).unwrap();
        let failed = write_atomically(&path, |w| {
            w.write_all(b"ne")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
