//! The command line: one file per subcommand, each of which turns options into calls and results into text.

#[macro_use]
mod output;

mod bench;
mod choice;
mod demo;
mod device;
mod devices;
mod evaluate;
mod explore;
mod flags;
mod fuse;
mod given;
mod inspect;
mod memory;
mod options;
mod plan;
mod predict;
mod preset;
mod progress;
mod selftest;
mod train;

use std::ffi::OsString;

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue},
};

use self::given::Given;
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
    let parsed = match parse(arguments) {
        Ok(parsed) => parsed,
        Err(error) if error.use_stderr() => {
            note!("{}", in_one_line(&error));
            return 2;
        }
        Err(help) => {
            // Help and version are no errors. Nothing can be done if printing fails.
            let _ = help.print();
            return 0;
        }
    };
    match run(parsed) {
        Ok(()) => 0,
        Err(error) => {
            note!("error: {}", flags::sentence(&error));
            error.exit_code()
        }
    }
}

/// What is wrong with a command line, as everything else that is wrong is told.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let told = text.split("\nUsage:").next().unwrap_or(&text).split("For more information").next().unwrap_or_default();
    let words: Vec<&str> = told.split_whitespace().skip_while(|word| *word == "error:").collect();
    let about = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand].into_iter().find_map(|kind| error.get(kind));
    let whole = match about {
        Some(ContextValue::String(one)) => one.clone(),
        Some(ContextValue::Strings(several)) => several.join(", "),
        _ => "gyrus".to_owned(),
    };
    // Of `--lr <LR>` the name, which is what was typed.
    let name = whole.split(" <").next().unwrap_or_default();
    format!("error: {name}: {} (see gyrus --help, or gyrus COMMAND --help)", words.join(" "))
}

/// A command, and which of its options were typed.
#[derive(Debug)]
struct Parsed {
    command: Command,
    given: Given,
}

/// The command line as clap knows it, with the defaults of presets.
fn command_line() -> clap::Command {
    // Where an option takes a number, `-1` is one that it may refuse by its own name.
    let takes_numbers = |arg: clap::Arg| match arg.get_action().takes_values() && !arg.is_positional() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    Gyrus::command()
        .mut_subcommand("train", preset::with_presets)
        .mut_subcommands(|command| command.mut_args(takes_numbers))
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    let matches = command_line().try_get_matches_from(arguments.into_iter().map(kebab_case))?;
    let given = matches.subcommand().map_or_else(Given::default, |(_, matches)| Given::of(matches));
    let Gyrus { command } = Gyrus::from_arg_matches(&matches)?;
    Ok(Parsed { command, given })
}

fn run(Parsed { command, given }: Parsed) -> Result<()> {
    match command {
        Command::Train(options) => train::run(*options, &given),
        Command::Predict(options) => predict::run(options, &given),
        Command::Evaluate(options) => evaluate::run(options, &given),
        Command::Explore(options) => explore::run(options, &given),
        Command::Plan(options) => plan::run(options, &given),
        Command::Inspect(options) => inspect::run(options),
        Command::Demo(options) => demo::run(options),
        Command::Bench(options) => bench::run(options, &given),
        Command::Devices(options) => devices::run(options),
        Command::Selftest(options) => selftest::run(options, &given),
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
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command_line().debug_assert();
    }

    #[test]
    fn underscores_in_names_become_hyphens_and_values_stay() {
        let text = |argument: &str| kebab_case(argument.into()).into_string().unwrap();
        assert_eq!(text("--train_data_dir=my_data"), "--train-data-dir=my_data");
        assert_eq!(text("--use_nesterov_sgd"), "--use-nesterov-sgd");
        assert_eq!(text("my_data"), "my_data");
    }
}
