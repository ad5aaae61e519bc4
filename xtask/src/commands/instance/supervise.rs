//! `cargo xtask supervise`: the process that an instance has which was detached. Not for users.

use std::io;
use std::process::ExitCode;
use std::thread;

use launcher::machine::STOP_PATIENCE;
use launcher::{InstanceName, detach, lifecycle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::root;
use super::start::say_socket;
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `supervise`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The instance
    name: InstanceName,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let instance = detach::adopt(&root()?, &args.name)?;
    // A machine that is shut down ends its processes so, and its guests in order.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Failed(format!("cannot watch for signals: {error}")))?;
    let folder = instance.folder().to_owned();
    let supervised = lifecycle::start(instance, io::sink())?;
    say_socket(supervised.spec(), printer);
    detach::let_go(&folder)?;
    let handle = signals.handle();
    thread::scope(|scope| {
        scope.spawn(|| {
            if signals.forever().next().is_some() {
                supervised.stop(STOP_PATIENCE);
            }
        });
        let _ = supervised.wait();
        handle.close();
    });
    supervised.finish();
    Ok(ExitCode::SUCCESS)
}
