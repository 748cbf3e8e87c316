//! Event files that TensorBoard reads: scalars by step.
//!
//! A file is a sequence of records (the TFRecord framing): length as u64, masked CRC-32C of the length, data, masked
//! CRC-32C of the data, all little-endian. The data is an `Event` message of protocol buffers, of which we need six
//! fields: `wall_time` = 1 (double), `step` = 2 (int64), `file_version` = 3 (string), `summary` = 5, `session_log` = 7;
//! in a summary `value` = 1 (repeated), in a value `tag` = 1 and `simple_value` = 2 (float).
//!
//! Records are appended and flushed one by one. A kill leaves at most half a record at the end, at which readers stop;
//! a resumed run writes a new file that begins by taking back the steps from its own first one on.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Error, Result};

/// An event file that is being written.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a new event file in `folder`, which is made if needed. `first_step` is the first step that this run will
    /// write: what earlier files in the folder say about it and later ones is taken back.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create(folder: &Path, first_step: u64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        let now = wall_time();
        // Readers go through the files of a folder in the order of their names, which begin with the second.
        let (path, file) = (0u32..)
            .find_map(|n| {
                let path = folder.join(format!("events.out.tfevents.{:010}.{n:03}.gyrus", now as u64));
                match OpenOptions::new().write(true).create_new(true).open(&path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
                    outcome => Some(outcome.map(|file| (path.clone(), file)).map_err(|error| Error::io(path, error))),
                }
            })
            .expect("some number is free")?;
        let mut events = Self { path, file };
        events.append(&version_event(now))?;
        if first_step > 0 {
            events.append(&restart_event(now, first_step))?;
        }
        Ok(events)
    }

    /// Writes scalars of one step, by tag, such as `loss/train`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.append(&scalar_event(wall_time(), step, values))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        // One write call per record: a kill can only cut between records or in the last one.
        self.file.write_all(&record(event)).map_err(|error| Error::io(&self.path, error))
    }
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, wall_time);
    event.bytes(3, b"brain.Event:2");
    event.0
}

/// `SessionLog` with status START: readers drop events of this step and later ones from before.
fn restart_event(wall_time: f64, step: u64) -> Vec<u8> {
    let mut log = Message::default();
    log.integer(1, 1);
    let mut event = Message::default();
    event.double(1, wall_time);
    event.integer(2, step);
    event.bytes(7, &log.0);
    event.0
}

fn scalar_event(wall_time: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Message::default();
    for &(tag, value) in values {
        let mut message = Message::default();
        message.bytes(1, tag.as_bytes());
        message.float(2, value as f32);
        summary.bytes(1, &message.0);
    }
    let mut event = Message::default();
    event.double(1, wall_time);
    event.integer(2, step);
    event.bytes(5, &summary.0);
    event.0
}

/// A protocol-buffers message under construction: each field is its number and wire type, then the value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn integer(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(data);
    record.extend(masked(crc32c(data)).to_le_bytes());
    record
}

/// Records may hold checksums themselves, and a CRC over its own value is degenerate; hence TensorFlow's mask.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected polynomial 0x82f63b78. Bit by bit: an event is a hundred bytes.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_gives_the_published_vectors() {
        // RFC 3720, appendix B.4, and the check value of the catalogues of CRCs.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(&(0..32).rev().collect::<Vec<u8>>()), 0x113f_db5c);
    }

    #[test]
    fn the_bytes_are_those_that_tensorboard_read() {
        // make.py beside the file had the real reader confirm its contents.
        let values = |step: u64| [("loss/train", 0.5 / step as f64), ("dice/validation", 0.25), ("lr", 1e-4)];
        let mut bytes = record(&version_event(1_700_000_000.5));
        bytes.extend(record(&scalar_event(1_700_000_001.25, 7, &values(7))));
        bytes.extend(record(&scalar_event(1_700_000_002.0, 300, &values(300))));
        bytes.extend(record(&restart_event(1_700_000_003.0, 300)));
        bytes.extend(record(&scalar_event(1_700_000_004.0, 5_000_000_000, &[("loss/train", f64::NAN)])));
        assert_eq!(bytes, include_bytes!("../../tests/fixtures/tensorboard/events.out.tfevents.golden"));
    }

    #[test]
    fn each_run_gets_a_file_of_its_own_and_names_sort_by_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tensorboard");
        let mut paths = Vec::new();
        for run in 0..3 {
            let mut events = Events::create(&folder, run).unwrap();
            events.scalars(run, &[("loss/train", 0.5)]).unwrap();
            paths.push(events.path().to_path_buf());
        }
        assert!(paths.is_sorted_by(|a, b| a < b), "{paths:?}");
        let sizes: Vec<u64> = paths.iter().map(|path| path.metadata().unwrap().len()).collect();
        assert!(sizes[0] < sizes[1] && sizes[1] == sizes[2], "only later runs take steps back: {sizes:?}");
    }
}
