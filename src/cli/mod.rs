//! The command line: one file per subcommand, each of which turns options into calls and results into text.

#[macro_use]
mod output;

mod bench;
mod demo;
mod device;
mod devices;
mod evaluate;
mod explore;
mod flags;
mod fuse;
mod inspect;
mod memory;
mod options;
mod plan;
mod predict;
mod selftest;
mod train;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::Result;

/// 3-D U-Net training and inference for medical images.
#[derive(Debug, Parser)]
#[command(name = "gyrus", version, about, propagate_version = true, max_term_width = 110)]
struct Gyrus {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::Options>),
    Predict(predict::Options),
    Evaluate(evaluate::Options),
    Explore(explore::Options),
    Plan(plan::Options),
    Inspect(inspect::Options),
    Demo(demo::Options),
    Bench(bench::Options),
    Devices(devices::Options),
    Selftest(selftest::Options),
}

/// Runs the command line; returns the process's exit status. Errors become one line on standard error.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let command = match parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            // Help and version are no errors; everything else is bad usage. Nothing can be done if printing fails.
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    match run(command) {
        Ok(()) => 0,
        Err(error) => {
            note!("error: {}", flags::sentence(&error));
            error.exit_code()
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    Gyrus::try_parse_from(arguments.into_iter().map(kebab_case)).map(|parsed| parsed.command)
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(options) => train::run(*options),
        Command::Predict(options) => predict::run(options),
        Command::Evaluate(options) => evaluate::run(options),
        Command::Explore(options) => explore::run(options),
        Command::Plan(options) => plan::run(options),
        Command::Inspect(options) => inspect::run(options),
        Command::Demo(options) => demo::run(options),
        Command::Bench(options) => bench::run(options),
        Command::Devices(options) => devices::run(options),
        Command::Selftest(options) => selftest::run(options),
    }
}

/// Every option may be spelt with underscores, as in the training script that this program replaces:
/// `--train_data_dir` means `--train-data-dir`.
fn kebab_case(argument: OsString) -> OsString {
    let Some(text) = argument.to_str().filter(|text| text.starts_with("--")) else { return argument };
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let name = name.replace('_', "-");
    value.map_or_else(|| name.clone(), |value| format!("{name}={value}")).into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Gyrus::command().debug_assert();
    }

    #[test]
    fn underscores_in_names_become_hyphens_and_values_stay() {
        let text = |argument: &str| kebab_case(argument.into()).into_string().unwrap();
        assert_eq!(text("--train_data_dir=my_data"), "--train-data-dir=my_data");
        assert_eq!(text("--use_nesterov_sgd"), "--use-nesterov-sgd");
        assert_eq!(text("my_data"), "my_data");
    }
}
