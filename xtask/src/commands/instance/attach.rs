//! `cargo xtask attach`.

use std::io::Read as _;
use std::process::ExitCode;
use std::thread;

use launcher::{InstanceName, service};

use super::{instances, wait};
use crate::failure::Failure;
use crate::printer::{self, Printer};

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask attach kv

What the guest writes from now on is printed byte for byte; `logs` has what it wrote before. Ctrl-C detaches, and
the guest goes on. The exit code is the guest's, if it ends meanwhile.")]
pub(crate) struct Args {
    /// The instance
    name: InstanceName,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    printer::end_when_unread();
    let seen = instances()?.see(&args.name)?;
    let mut console = service::attach(&seen)?;
    // Asked before the end: afterwards the instance may be gone.
    let end = thread::spawn(move || service::wait(&seen));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match console.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) if printer.bytes(&buffer[..length]) => {}
            // Nobody reads it any more.
            Ok(_) => return Ok(ExitCode::SUCCESS),
        }
    }
    match end.join() {
        Ok(Ok(end)) => Ok(ExitCode::from(end.code)),
        // Its supervisor was killed.
        _ => Ok(ExitCode::from(wait::wait(&args.name)?)),
    }
}
