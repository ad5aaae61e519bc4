//! `cargo xtask bench`.

use std::process::ExitCode;

use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, _printer: &Printer) -> Result<ExitCode, Failure> {
    Ok(ExitCode::SUCCESS)
}
