//! `cargo xtask kill`.

use std::process::ExitCode;

use launcher::{InstanceName, service};

use super::{Names, instances};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `kill`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask kill kv

The guest is not asked; what it did not write to its disk is lost. Its exit code is 137.")]
pub(crate) struct Args {
    #[command(flatten)]
    names: Names,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let kill = |name: &InstanceName| {
        let (_, end) = service::kill(&instances()?.see(name)?)?;
        Ok(end)
    };
    args.names.each(printer, kill)
}
