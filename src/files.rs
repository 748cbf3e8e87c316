//! Writes files so that a reader never sees half of one, and a kill at any moment leaves the old file or the new one.
//!
//! The bytes go to a temporary file in the same folder (a rename is atomic only within one file system), are synced,
//! and then renamed over the final name; the folder is synced last, because the name lives there.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{Error, Result};

/// What to do when a file of that name is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse: it may be the only copy of somebody's work.
    Keep,
    /// Replace it in one step.
    Replace,
}

/// Writes `path` with what `fill` puts into the writer.
///
/// On any failure the older file of that name is untouched and nothing is left behind; after a kill, at most a hidden
/// `.NAME.*.tmp` is.
///
/// # Errors
/// [`Error::Input`] when the file exists and is to be kept, or the path does not end in a name; otherwise what the
/// operating system, or `fill`, says.
pub fn write(path: &Path, existing: Existing, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    if existing == Existing::Keep {
        refuse_existing(path)?;
    }
    let temporary = temporary_beside(path)?;
    let outcome = write_and_sync(&temporary, fill).and_then(|()| publish(&temporary, path, existing));
    if let Err(source) = outcome {
        // The first failure is the one worth telling; a temporary file that cannot be removed either is only untidy.
        let _ = fs::remove_file(&temporary);
        if existing == Existing::Keep && source.kind() == io::ErrorKind::AlreadyExists {
            return Err(taken(path));
        }
        return Err(Error::io(path, source));
    }
    sync_folder(path)
}

/// Bytes that do not fit into memory: a file beside the one that they are for, gone when this is dropped. Where a file can be
/// unlinked while it is open, it is gone even after a kill.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
}

impl Spool {
    /// An empty one, on the file system of `beside`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(beside: &Path) -> Result<Self> {
        let path = temporary_beside(beside)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let spool = file.map(|file| Self { file, path: path.clone() }).map_err(|error| Error::io(path, error))?;
        if cfg!(unix) {
            // If it cannot be, it goes when this is dropped.
            let _ = fs::remove_file(&spool.path);
        }
        Ok(spool)
    }

    /// Fills in the bytes at a place.
    ///
    /// # Errors
    /// The operating system's; fewer bytes than asked for.
    pub fn get(&mut self, place: u64, bytes: &mut [u8]) -> Result<()> {
        let read = self.file.seek(SeekFrom::Start(place)).and_then(|_| self.file.read_exact(bytes));
        read.map_err(|error| Error::io(&self.path, error))
    }

    /// Writes bytes at a place.
    ///
    /// # Errors
    /// The operating system's.
    pub fn put(&mut self, place: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.seek(SeekFrom::Start(place)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| Error::io(&self.path, error))
    }

    /// Hands all bytes, from the first on, to `take`.
    ///
    /// # Errors
    /// The operating system's, and those of `take`.
    pub fn play(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut piece = vec![0; 1 << 18];
        self.file.seek(SeekFrom::Start(0)).map_err(|error| Error::io(&self.path, error))?;
        loop {
            match self.file.read(&mut piece).map_err(|error| Error::io(&self.path, error))? {
                0 => return Ok(()),
                length => take(&piece[..length])?,
            }
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // A temporary file that cannot be removed is only untidy.
        let _ = fs::remove_file(&self.path);
    }
}

/// Refuses a path at which something exists: for commands that check all their outputs before they begin.
///
/// # Errors
/// [`Error::Input`] that names the path.
pub fn refuse_existing(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(taken(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(path, error)),
    }
}

fn taken(path: &Path) -> Error {
    Error::input(path, "already exists", "choose another name, or replace it with `overwrite`")
}

fn write_and_sync(temporary: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    let mut writer = BufWriter::with_capacity(1 << 18, file);
    fill(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// A rename replaces whatever is there; a hard link refuses to. The link therefore decides between two processes that
/// both found the name free. File systems without links get the rename, after a second look.
fn publish(temporary: &Path, path: &Path, existing: Existing) -> io::Result<()> {
    if existing == Existing::Replace {
        return fs::rename(temporary, path);
    }
    match fs::hard_link(temporary, path) {
        Ok(()) => fs::remove_file(temporary),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if fs::symlink_metadata(path).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(temporary, path),
    }
}

fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Some systems cannot open or sync a folder; the file itself is complete and synced in any case.
    if let Ok(handle) = File::open(folder) {
        let _ = handle.sync_all();
    }
    Ok(())
}

/// A name that no other thread or process uses: `.NAME.PID.COUNTER.tmp`.
fn temporary_beside(path: &Path) -> Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(Error::input(path, "not the name of a file", "give a path that ends in a file name"));
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.{}.tmp", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, existing: Existing, bytes: &[u8]) -> Result<()> {
        write(path, existing, |writer| writer.write_all(bytes))
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.bin");
        put(&path, Existing::Replace, b"old").unwrap();
        let failed = write(&path, Existing::Replace, |writer| {
            writer.write_all(b"ne")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_existing_file_is_replaced_only_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.bin");
        put(&path, Existing::Keep, b"first").unwrap();
        let refused = put(&path, Existing::Keep, b"second").unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("already exists"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        put(&path, Existing::Replace, b"third").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_taken_while_we_were_writing_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.bin");
        let refused = write(&path, Existing::Keep, |writer| {
            fs::write(&path, b"theirs")?;
            writer.write_all(b"ours")
        });
        assert!(refused.unwrap_err().to_string().contains("already exists"));
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_path_without_a_name_or_folder_is_refused() {
        assert_eq!(put(Path::new("/"), Existing::Replace, b"").unwrap_err().exit_code(), 2);
        let folder = tempfile::tempdir().unwrap();
        let refused = put(&folder.path().join("absent/out.bin"), Existing::Replace, b"").unwrap_err();
        assert!(refused.to_string().contains("no such file or folder"), "{refused}");
    }
}
