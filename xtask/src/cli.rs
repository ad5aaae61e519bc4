//! The arguments of the command line.

use clap::{ArgAction, Parser, Subcommand};

use crate::commands;
use crate::printer::Verbosity;

/// Turn Rust services into unikernels, and run them.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    propagate_version = true
)]
pub(crate) struct Cli {
    /// Say more: the commands that are run, the guest's boot log
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    pub(crate) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        }
    }
}

/// What the command line can do; each variant's arguments live in the module of its command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compose a package's bootable image
    Compose(commands::compose::Args),
    /// Run an image
    Run(commands::run::Args),
    /// Say what this machine has of what is needed, and what to do about the rest
    Doctor(commands::doctor::Args),
    /// Do all the set-up, then compose kv, run it, store and read a key, stop it
    Demo(commands::demo::Args),
    /// Run all tests, those in virtual machines included
    Test(commands::test::Args),
    /// Check format, lints, documentation, dependencies
    Check(commands::check::Args),
    /// Measure, and print a table
    Bench(commands::bench::Args),
}
