//! `cargo xtask bench`: measurements that print a table.

mod app;
mod boot;
mod compose;
mod folder;
mod lan;
mod linux;
mod probe;
mod run;
mod smallest;
mod statistics;
mod stock;
mod volume;

use std::process::ExitCode;

use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench boot --runs 21
  cargo xtask bench run --rounds 5
  cargo xtask bench app
  cargo xtask bench lan
  cargo xtask bench volume --cuts 100
  cargo xtask bench compose --large --plot docs/compose")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// What can be measured.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// The example application: how fast it is up, pictures per second, and its network, as `lan`
    App(app::Args),
    /// Launch of QEMU to the first answer over HTTP, beside Linux on the same machine
    Boot(boot::Args),
    /// Composition and updates, beside the tools of file systems
    Compose(compose::Args),
    /// What `compose` measures in a process of its own
    #[command(hide = true)]
    ComposeStep(compose::step::Args),
    /// File systems that could keep a volume's folder, beside ours: power cuts, damage, full disks, speed
    Folder(folder::Args),
    /// What the rootless LAN carries between two guests, beside QEMU's own sockets and, as root, a bridge of the host
    Lan(lan::Args),
    /// Reads, writes, flushes and transactions on a volume, beside Linux on the same machine; power cuts
    Volume(volume::Args),
    /// Requests per second with 1, 8 and 50 connections, beside Linux on the same machine
    Run(run::Args),
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    match &args.what {
        What::App(args) => app::run(args, printer),
        What::Boot(args) => boot::run(args, printer),
        What::Compose(args) => compose::run(args, printer),
        What::ComposeStep(args) => compose::step::run(args, printer),
        What::Folder(args) => folder::run(args),
        What::Lan(args) => lan::run(args, printer),
        What::Run(args) => run::run(args, printer),
        What::Volume(args) => volume::run(args, printer),
    }
}
