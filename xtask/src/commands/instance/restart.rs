//! `cargo xtask restart`.

use std::process::ExitCode;

use launcher::InstanceName;

use super::{Names, Patience, start, stop};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask restart kv")]
pub(crate) struct Args {
    #[command(flatten)]
    names: Names,

    #[command(flatten)]
    patience: Patience,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let restart = |name: &InstanceName| {
        stop::stop(name, args.patience.time(), printer)?;
        start::start(name, printer)
    };
    args.names.each(printer, restart)
}
