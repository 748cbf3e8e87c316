//! The `gyrus` binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(gyrus::cli::main(std::env::args_os()))
}
