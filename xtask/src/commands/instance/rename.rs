//! `cargo xtask rename`.

use std::process::ExitCode;

use launcher::InstanceName;
use serde_json::json;

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

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    instances()?.rename(&args.from, &args.to)?;
    if args.json {
        printer.json(&json!({ "from": args.from.as_str(), "name": args.to.as_str() }));
    } else {
        printer.data(&format!("{}\n", args.to));
    }
    Ok(ExitCode::SUCCESS)
}
