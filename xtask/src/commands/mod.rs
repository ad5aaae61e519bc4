//! One module for each command: its arguments, and what it does with the libraries.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod compose;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod download;
pub(crate) mod front;
pub(crate) mod image;
pub(crate) mod instance;
pub(crate) mod network;
pub(crate) mod package;
pub(crate) mod run;
pub(crate) mod stack;
pub(crate) mod test;
pub(crate) mod upload;
pub(crate) mod volume;

use std::process::ExitCode;

use crate::cli::Command;
use crate::failure::Failure;
use crate::printer::Printer;

/// Runs one command. The exit code of success is the command's own: `run` passes the guest's on.
pub(crate) fn run(command: Command, printer: &Printer) -> Result<ExitCode, Failure> {
    match command {
        Command::Compose(args) => compose::run(&args, printer),
        Command::Run(args) => run::run(&args, printer),
        Command::Up(args) => stack::up::run(&args, printer),
        Command::Down(args) => stack::down::run(&args, printer),
        Command::Scale(args) => stack::scale::run(&args, printer),
        Command::Ps(args) => instance::ps::run(&args, printer),
        Command::Logs(args) => instance::logs::run(&args, printer),
        Command::Stop(args) => instance::stop::run(&args, printer),
        Command::Kill(args) => instance::kill::run(&args, printer),
        Command::Start(args) => instance::start::run(&args, printer),
        Command::Restart(args) => instance::restart::run(&args, printer),
        Command::Rm(args) => instance::rm::run(&args, printer),
        Command::Inspect(args) => instance::inspect::run(&args, printer),
        Command::Attach(args) => instance::attach::run(&args, printer),
        Command::Wait(args) => instance::wait::run(&args, printer),
        Command::Stats(args) => instance::stats::run(&args, printer),
        Command::Rename(args) => instance::rename::run(&args, printer),
        Command::Supervise(args) => instance::supervise::run(&args, printer),
        Command::Image(args) => image::run(&args, printer),
        Command::Network(args) => network::run(&args, printer),
        Command::Volume(args) => volume::run(&args, printer),
        Command::Package(args) => package::run(&args, printer),
        Command::Doctor(args) => doctor::run(&args, printer),
        Command::Demo(args) => demo::run(&args, printer),
        Command::Test(args) => test::run(&args, printer),
        Command::Check(args) => check::run(&args, printer),
        Command::Bench(args) => bench::run(&args, printer),
        Command::Upload(args) => upload::run(&args, printer),
        Command::Download(args) => download::run(&args, printer),
        Command::Completions(args) => completions::run(&args, printer),
        Command::CompleteWords(args) => Ok(completions::complete_words(&args, printer)),
    }
}
