//! Text for the two standard streams. A reader who has seen enough (`gyrus plan | head`) is no error of ours.

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
};

use crate::{
    Error, Result,
    files::{self, Existing},
};

/// Prints a line of results on standard output, as `println!` does, but returns from the function with an error where
/// that would panic.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::output::print(format_args!("{}\n", format_args!($($text)*)))? };
}

/// Prints a line about what is going on on standard error, if anybody listens.
macro_rules! note {
    ($($text:tt)*) => { $crate::cli::output::remark(format_args!($($text)*)) };
}

/// Prints results.
///
/// # Errors
/// If standard output cannot be written to, for any other reason than that its reader has gone.
pub fn print(text: fmt::Arguments<'_>) -> Result<()> {
    let mut output = io::stdout().lock();
    match output.write_fmt(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("standard output", error)),
        _ => Ok(()),
    }
}

/// Prints JSON for people and programs.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    print(format_args!("{value:#}\n"))
}

/// Where else the figures of a command go.
#[derive(Debug, clap::Args)]
pub struct SaveOptions {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Also write the JSON into this file, replacing it
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl SaveOptions {
    /// Saves the figures if that is wanted, and prints them: as JSON, or with `table`.
    ///
    /// # Errors
    /// As [`print`]; if the file cannot be written.
    pub fn report(&self, value: &serde_json::Value, table: impl FnOnce() -> Result<()>) -> Result<()> {
        if let Some(path) = &self.save {
            let text = format!("{value:#}\n");
            files::write(path, Existing::Replace, |file| file.write_all(text.as_bytes()))?;
        }
        if self.json { print_json(value) } else { table() }
    }
}

/// Prints a remark. There is nobody to tell when that fails.
pub fn remark(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
