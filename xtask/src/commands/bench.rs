//! `cargo xtask bench`: measurements that print a table.

mod boot;
mod linux;
mod probe;
mod smallest;
mod statistics;

use std::process::ExitCode;

use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask bench boot --runs 21")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// What can be measured.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Launch of QEMU to the first answer over HTTP, beside Linux on the same machine
    Boot(boot::Args),
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    match &args.what {
        What::Boot(args) => boot::run(args, printer),
    }
}
