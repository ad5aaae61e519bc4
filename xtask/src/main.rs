//! The command line of Hermitage: `cargo xtask <command>`.
//!
//! It owns parsing, printing, progress bars and exit codes; the work is done by the libraries `builder` (manifest
//! to image) and `launcher` (image to running instance), which never print and never exit. Each command is a
//! module of [`commands`]; [`failure::Failure`] is the one place where an error becomes an exit code.

mod cargo;
mod cli;
mod commands;
mod failure;
mod host;
mod printer;
mod progress;
mod table;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let printer = printer::Printer::new(cli.verbosity());
    match commands::run(cli.command, &printer) {
        Ok(code) => code,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit_code()
        }
    }
}
