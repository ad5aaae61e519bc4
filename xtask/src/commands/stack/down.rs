//! `cargo xtask down`.

use std::process::ExitCode;

use super::{named, of, read_file, run as run_stack};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask down
  cargo xtask down node-micro

Stops and removes all instances of the stack, each service before those that it depends on, and the stack's own
network. Volumes stay.")]
pub(crate) struct Args {
    /// The stack; the one that there is, if there is one alone
    stack: Option<String>,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let name = named(args.stack.as_ref())?;
    let members = of(&name)?;
    // Its file may be gone, or be wrong by now; the order is not worth a failure.
    let stack = members.first().and_then(|member| read_file(&member.file).ok());
    let services = stack.iter().flat_map(|stack| &stack.services);
    let services: Vec<_> = services.map(|service| service.name.as_str()).collect();
    run_stack(printer, |runner| runner.down(&name, &services))?;
    for member in members {
        printer.data(&format!("{}\n", member.seen.name));
    }
    Ok(ExitCode::SUCCESS)
}
