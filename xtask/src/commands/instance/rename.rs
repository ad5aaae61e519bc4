//! `cargo xtask rename`.

use std::process::ExitCode;

use launcher::InstanceName;

use super::instances;
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `rename`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask rename kv kv-old

The instance must not run. It keeps its disk, MAC address and log.")]
pub(crate) struct Args {
    /// The instance
    from: InstanceName,

    /// Its new name
    to: InstanceName,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    instances()?.rename(&args.from, &args.to)?;
    printer.data(&format!("{}\n", args.to));
    Ok(ExitCode::SUCCESS)
}
