//! `cargo xtask scale`.

use std::process::ExitCode;

use stack::plan::Action;

use super::{Scale, image, named, of, read_file, run as run_stack};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `scale`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask scale worker=5
  cargo xtask scale --stack node-micro worker=1

The number holds until the next `up`, which takes the one in stack.yaml unless it is told another. Prints the names of
the service's instances.")]
pub(crate) struct Args {
    /// Numbers of instances
    #[arg(required = true, value_name = "SERVICE=N")]
    numbers: Vec<Scale>,

    /// The stack, by its name or by the path of its folder or file; the one that there is, if there is one alone
    #[arg(long)]
    stack: Option<String>,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let name = named(args.stack.as_ref())?;
    let members = of(&name)?;
    let Some(member) = members.first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut stack = read_file(&member.file)?;
    for scale in &args.numbers {
        stack.scale(&scale.service, scale.replicas)?;
    }
    let image = image(&stack, printer)?;
    for scale in &args.numbers {
        let steps = run_stack(printer, |runner| runner.up(&stack, &image, Some(&scale.service)))?;
        for step in steps.iter().filter(|step| step.action != Action::Remove) {
            printer.data(&format!("{}\n", step.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}
