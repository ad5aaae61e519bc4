//! `cargo xtask rm`.

use std::process::ExitCode;

use launcher::{InstanceName, service};

use super::{Names, instances, unless_ended};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask rm kv
  cargo xtask rm -f kv kv-2

Its disk and its console's log go with it.")]
pub(crate) struct Args {
    #[command(flatten)]
    names: Names,

    /// Kill those that run
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let remove = |name: &InstanceName| remove(name, args.force);
    args.names.each(printer, remove)
}

fn remove(name: &InstanceName, force: bool) -> Result<(), Failure> {
    let instances = instances()?;
    // One whose files are damaged is removed all the same.
    if let (true, Ok(seen)) = (force, instances.see(name)) {
        unless_ended(service::kill(&seen))?;
        if seen.record.options.remove {
            return Ok(instances.make_room(name)?);
        }
    }
    Ok(instances.discard(name)?)
}
