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
    /// Make a stack's services run as its stack.yaml says
    Up(commands::stack::up::Args),
    /// Stop and remove a stack's instances and its network
    Down(commands::stack::down::Args),
    /// Give a stack's service another number of instances
    Scale(commands::stack::scale::Args),
    /// List instances
    Ps(commands::instance::ps::Args),
    /// Show what instances wrote to their consoles
    Logs(commands::instance::logs::Args),
    /// Stop instances: ask the guest, then end QEMU
    Stop(commands::instance::stop::Args),
    /// Kill instances
    Kill(commands::instance::kill::Args),
    /// Start instances that have ended, with the same disk, MAC address and console log
    Start(commands::instance::start::Args),
    /// Stop instances, and start them again
    Restart(commands::instance::restart::Args),
    /// Remove instances
    Rm(commands::instance::rm::Args),
    /// Show all that is known of instances
    Inspect(commands::instance::inspect::Args),
    /// Show an instance's console from now on
    Attach(commands::instance::attach::Args),
    /// Wait for instances to end; the exit code is the guest's
    Wait(commands::instance::wait::Args),
    /// Show what instances use of this host's CPUs and memory
    Stats(commands::instance::stats::Args),
    /// Give an instance another name
    Rename(commands::instance::rename::Args),
    /// Look at composed images, copy files out of them, export, remove and rename them
    Image(commands::image::Args),
    /// Build packages, keep them in a repository, bring them from elsewhere
    Package(commands::package::Args),
    /// Supervise an instance whose lock is handed over on stdin: what `run -d` and `start` begin
    #[command(hide = true)]
    Supervise(commands::instance::supervise::Args),
    /// Make, list and look at the rootless networks of guests
    Network(commands::network::Args),
    /// Disks that outlive the instances they are attached to
    Volume(commands::volume::Args),
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
    /// Send pictures to the example application
    Upload(commands::upload::Args),
    /// Fetch the example application's results
    Download(commands::download::Args),
    /// Print a script that completes `cargo xtask` in your shell
    Completions(commands::completions::Args),
    /// What the last of these words may become
    #[command(hide = true)]
    CompleteWords(commands::completions::Words),
}
