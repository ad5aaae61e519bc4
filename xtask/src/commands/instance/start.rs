//! `cargo xtask start`, and how an instance gets a process of its own.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use launcher::detach::{self, Handover};
use launcher::{Forward, Instance, InstanceName, Launch, MachineSpec, RunRequest};

use super::{Names, instances, root};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask start kv
  cargo xtask start kv && cargo xtask attach kv

An instance keeps its disk, its MAC address, its command and its limits. If its image has changed since it was
made, it is not started: its disk holds only what differs from the image.")]
pub(crate) struct Args {
    #[command(flatten)]
    names: Names,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let start = |name: &InstanceName| start(name, printer);
    args.names.each(printer, start)
}

/// Starts an instance that has ended.
pub(super) fn start(name: &InstanceName, printer: &Printer) -> Result<(), Failure> {
    let instance = instances()?.open(name)?;
    let launch = instance.plan()?;
    say_fallbacks(&launch, printer);
    detach(instance, printer)
}

/// Hands an instance over to a process of its own: this program, once more.
pub(crate) fn detach(instance: Instance, printer: &Printer) -> Result<(), Failure> {
    let name = instance.name().clone();
    let request = instance.request();
    match detach::hand_over(instance, &root()?, supervisor(&name))? {
        Handover::Running => {
            // It may have ended already, and be gone.
            if let Ok(seen) = instances()?.see(&name) {
                say_ports(&request, &seen.state.forwards, seen.state.gdb_port, printer);
            }
            Ok(())
        }
        Handover::Failed(code) => Err(Failure::Said(code)),
    }
}

/// The program that supervises an instance: this one, once more.
pub(crate) fn supervisor(name: &InstanceName) -> Command {
    // Its own file, even if that was replaced meanwhile by a build.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("xtask").args(["supervise", name.as_str()]);
    command
}

/// Says what is slower than it could be, where the user left the choice.
pub(crate) fn say_fallbacks(launch: &Launch, printer: &Printer) {
    if let Some(why) = launch.fallback() {
        printer.note(&format!("using tcg, which is slower: {why}"));
    }
    if let Some(why) = launch.no_vhost() {
        printer.note(&format!("using a plain tap device, which is slower: {why}"));
    }
}

/// Says why frames go to a LAN more slowly than they could, where the user left the choice.
pub(crate) fn say_socket(spec: &MachineSpec, printer: &Printer) {
    if let Some(why) = spec.link.no_vhost_user() {
        let name = &spec.name;
        printer.note(&format!(
            "{name}: using a socket to its network, which is slower than vhost-user: {why}"
        ));
    }
}

/// Says which ports were chosen, where the user left that to us, and where a debugger is waited for.
pub(crate) fn say_ports(
    request: &RunRequest,
    forwards: &[Forward],
    gdb_port: Option<u16>,
    printer: &Printer,
) {
    for forward in forwards
        .iter()
        .filter(|forward| !request.forwards.contains(forward))
    {
        printer.note(&format!("forwarding {forward}"));
    }
    if let Some(port) = gdb_port {
        printer.note(&format!(
            "waiting for gdb, which says when to start: target remote 127.0.0.1:{port}"
        ));
    }
}
