//! `cargo xtask rename`.

use std::process::ExitCode;

use launcher::{Error, InstanceName, Instances, service};
use serde_json::json;

use super::instances;
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `rename`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask rename kv kv-old

It keeps its disk, MAC address and log. One that runs has its old name on a LAN until it is started again.")]
pub(crate) struct Args {
    /// The instance
    from: InstanceName,

    /// Its new name
    to: InstanceName,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    rename(&instances()?, &args.from, &args.to)?;
    if args.json {
        printer.json(&json!({ "from": args.from.as_str(), "name": args.to.as_str() }));
    } else {
        printer.data(&format!("{}\n", args.to));
    }
    Ok(ExitCode::SUCCESS)
}

fn rename(instances: &Instances, from: &InstanceName, to: &InstanceName) -> Result<(), Error> {
    let owned = match instances.rename(from, to) {
        Err(error @ Error::Running { .. }) => error,
        done => return done,
    };
    match service::rename(&instances.see(from)?, to) {
        // Whoever owns it starts or removes it just now.
        Err(Error::NotRunning { .. }) => Err(owned),
        done => done,
    }
}
