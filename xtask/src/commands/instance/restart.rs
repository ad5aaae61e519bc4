//! `cargo xtask restart`.

use std::process::ExitCode;
use std::time::Duration;

use launcher::InstanceName;
use launcher::machine::STOP_PATIENCE;

use super::{Names, start, stop};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask restart kv")]
pub(crate) struct Args {
    #[command(flatten)]
    names: Names,

    /// How many seconds the guest has to end
    #[arg(short, long, value_name = "SECONDS", default_value_t = STOP_PATIENCE.as_secs())]
    time: u64,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let patience = Duration::from_secs(args.time);
    let restart = |name: &InstanceName| {
        stop::stop(name, patience, printer)?;
        start::start(name, printer)
    };
    args.names.each(printer, restart)
}
