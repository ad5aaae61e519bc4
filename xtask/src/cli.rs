//! The arguments of the command line.

use clap::{ArgAction, Parser, Subcommand};

use crate::commands;
use crate::printer::Verbosity;

/// One example for each command, in the order in which a newcomer wants them.
const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                      the whole way once, set-up included
  cargo xtask doctor                    what this machine has, and what to do about the rest
  cargo xtask compose kv                compile services/kv, compose images/kv/kv.qcow2
  cargo xtask run kv -f 9000:9000       boot it; its port 9000 is 127.0.0.1:9000; Ctrl-C stops it
  cargo xtask bench boot                boot times beside Linux, in one run
  cargo xtask test                      all tests
  cargo xtask check                     format, lints, documentation, dependencies

`cargo xtask help <command>` tells the rest.";

/// Turn Rust services into unikernels, and run them.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    propagate_version = true,
    after_help = EXAMPLES
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
    Run(Box<commands::run::Args>),
    /// Look at composed images, copy files out of them, export, remove and rename them
    Image(commands::image::Args),
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
