//! `cargo xtask wait`.

use std::process::ExitCode;

use launcher::{Error, GuestExit, InstanceName, service};
use serde_json::json;

use super::instances;
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask wait kv

The exit code of each is printed, on a line of its own; that of the last one is the command's.")]
pub(crate) struct Args {
    /// The instances
    #[arg(required = true, value_name = "NAME")]
    names: Vec<InstanceName>,

    /// Print each as a line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let mut last = 0;
    for name in &args.names {
        last = wait(name)?;
        if args.json {
            printer.data(&format!("{}\n", json!({ "name": name.as_str(), "code": last })));
        } else {
            printer.data(&format!("{last}\n"));
        }
    }
    Ok(ExitCode::from(last))
}

/// Waits for the end of an instance, and gives its exit code.
pub(super) fn wait(name: &InstanceName) -> Result<u8, Failure> {
    let seen = instances()?.see(name)?;
    match service::wait(&seen) {
        Ok(end) => Ok(end.code),
        Err(error) => match instances()?.see(name) {
            Ok(seen) if !seen.state.phase.is_supervised() => {
                let end = seen.state.end.ok_or(Error::NotRunning { name: name.clone() })?;
                Ok(end.code)
            }
            // It was removed at its end, and nobody was left to say how it ended.
            Err(Error::NoInstance { .. }) => Ok(GuestExit::UNEXPLAINED),
            _ => Err(error.into()),
        },
    }
}
