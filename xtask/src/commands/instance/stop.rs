//! `cargo xtask stop`.

use std::process::ExitCode;
use std::time::Duration;

use launcher::exit::End;
use launcher::machine::Stopped;
use launcher::{InstanceName, service};
use serde::Serialize;

use super::{Names, Patience, instances, unless_ended};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask stop kv
  cargo xtask stop -t 60 kv kv-2

The guest is asked to end. One that does not within the time, or cannot hear it, is switched off; if QEMU does
not go within five seconds, it is killed. An instance that is stopped is not started again by its restart policy.")]
pub(crate) struct Args {
    #[command(flatten)]
    names: Names,

    #[command(flatten)]
    patience: Patience,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let patience = args.patience.time();
    args.names.each(printer, |name| stop(name, patience, printer))
}

/// How an instance was stopped.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    how: Stopped,
    end: End,
}

/// Stops an instance, and says how; `None` if it did not run.
pub(super) fn stop(
    name: &InstanceName,
    patience: Duration,
    printer: &Printer,
) -> Result<Option<Done>, Failure> {
    let seen = instances()?.see(name)?;
    let done = unless_ended(service::stop(&seen, patience))?;
    let how = match &done {
        None => "does not run".to_owned(),
        Some((Stopped::ByItself, end)) => format!("the guest ended: {}", end.text),
        Some((Stopped::Quit, _)) => "switched off".to_owned(),
        Some((Stopped::Killed, _)) => "QEMU did not end, and was killed".to_owned(),
    };
    printer.note(&format!("{name}: {how}"));
    Ok(done.map(|(how, end)| Done { how, end }))
}
