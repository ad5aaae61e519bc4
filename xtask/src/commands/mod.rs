//! One module for each command: its arguments, and what it does with the libraries.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod compose;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod image;
pub(crate) mod run;
pub(crate) mod test;

use std::process::ExitCode;

use crate::cli::Command;
use crate::failure::Failure;
use crate::printer::Printer;

/// Runs one command. The exit code of success is the command's own: `run` passes the guest's on.
pub(crate) fn run(command: Command, printer: &Printer) -> Result<ExitCode, Failure> {
    match command {
        Command::Compose(args) => compose::run(&args, printer),
        Command::Run(args) => run::run(&args, printer),
        Command::Image(args) => image::run(&args, printer),
        Command::Doctor(args) => doctor::run(&args, printer),
        Command::Demo(args) => demo::run(&args, printer),
        Command::Test(args) => test::run(&args, printer),
        Command::Check(args) => check::run(&args, printer),
        Command::Bench(args) => bench::run(&args, printer),
    }
}
