//! A folder with a small dataset, and the program run in it as a user would run it.
#![allow(dead_code, reason = "every test file uses a part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Output},
    time::Duration,
};

use assert_cmd::Command;
use gyrus::{checkpoint::Checkpoint, demo};
use serde_json::Value;
use tempfile::TempDir;

/// A network and extents that train in a moment. The extents are smaller than the volumes (32 x 48 x 32).
pub const TINY: &str =
    "--unet-resize-factor 32 --head-filters 0 --mri-height 16 --mri-width 16 --mri-depth 16 --lr 0.01";

/// A working folder with `data`, a dataset of `cases` cases.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub fn new(cases: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        demo::synthesize(&folder.path().join("data"), 0, cases).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with these arguments, separated by blanks, in the working folder.
    pub fn command(&self, arguments: &str) -> process::Command {
        let mut command = process::Command::new(env!("CARGO_BIN_EXE_gyrus"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        command
    }

    pub fn run(&self, arguments: &str) -> Output {
        Command::from_std(self.command(arguments)).timeout(Duration::from_secs(1200)).output().unwrap()
    }

    /// Runs a command that must succeed; returns its standard output.
    pub fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "gyrus {arguments}\n{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.succeed(arguments)).unwrap_or_else(|error| panic!("gyrus {arguments}: {error}"))
    }

    /// Runs a command that must be refused without leaving a trace; returns the line that says why.
    pub fn refuse(&self, arguments: &str) -> String {
        let before = self.listing();
        let output = self.run(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "gyrus {arguments}\n{text}");
        assert_eq!(self.listing(), before, "gyrus {arguments}: something was written\n{text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("gyrus {arguments}: not one line of error\n{text}") };
        assert!(text.ends_with(&format!("{error}\n")), "gyrus {arguments}: something follows the error\n{text}");
        assert!(error.ends_with(')') && error.contains(" (") && error.matches(": ").count() >= 2, "{error}");
        error.to_owned()
    }

    /// Names, sizes and times of all files.
    fn listing(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    folders.push(entry.path());
                }
                all.push(format!("{} {} {:?}", entry.path().display(), metadata.len(), metadata.modified().unwrap()));
            }
        }
        all.sort();
        all
    }

    pub fn checkpoint(&self, name: &str) -> Checkpoint {
        Checkpoint::load(&self.path(name)).unwrap()
    }

    /// The bits of every number in a checkpoint, by name.
    pub fn weights(&self, name: &str) -> Vec<(String, Vec<u32>)> {
        let tensors = self.checkpoint(name).tensors;
        tensors.into_iter().map(|(name, tensor)| (name, tensor.data.iter().map(|x| x.to_bits()).collect())).collect()
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
