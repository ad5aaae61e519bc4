//! `cargo xtask down`.

use std::process::ExitCode;

use launcher::volume::VolumeName;
use stack::Stack;
use stack::member::Member;

use super::{named, of, read, read_file, run as run_stack};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask down
  cargo xtask down --volumes node-micro
  cargo xtask down ./shop/stack.yaml

Stops and removes all instances of the stack, each service before those that it depends on, and the stack's own
network. Its volumes stay, unless they are to go, too.")]
pub(crate) struct Args {
    /// The stack, by its name or by the path of its folder or file; the one that there is, if there is one alone
    stack: Option<String>,

    /// Remove the stack's own volumes, too, with all that is on them
    #[arg(long)]
    volumes: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let name = named(args.stack.as_ref())?;
    let given = args.stack.as_ref().unwrap_or(&name);
    let (members, stack) = match of(&name) {
        // It may be down already.
        Err(Failure::NoStack { .. }) if args.volumes && read(given).is_ok() => (Vec::new(), read(given).ok()),
        members => {
            let members = members?;
            // Its file may be gone, or be wrong by now; the order is not worth a failure.
            let stack = members.first().and_then(|member| read_file(&member.file).ok());
            (members, stack)
        }
    };
    let services = stack.iter().flat_map(|stack| &stack.services);
    let services: Vec<_> = services.map(|service| service.name.as_str()).collect();
    run_stack(printer, |runner| {
        runner.down(&name, &services)?;
        if args.volumes {
            runner.remove_volumes(&own_volumes(&name, &members, stack.as_ref()))?;
        }
        Ok(())
    })?;
    for member in members {
        printer.data(&format!("{}\n", member.seen.name));
    }
    Ok(ExitCode::SUCCESS)
}

/// The volumes of a stack: those that its file names, and those of its name that its instances have.
fn own_volumes(name: &str, members: &[Member], stack: Option<&Stack>) -> Vec<VolumeName> {
    let prefix = format!("{name}-");
    let used = members
        .iter()
        .flat_map(|member| &member.seen.record.request.volumes)
        .filter_map(launcher::volume::Volume::name)
        .filter(|volume| volume.as_str().starts_with(&prefix));
    let named = stack.into_iter().flat_map(|stack| &stack.volumes);
    let mut volumes: Vec<_> = used.chain(named.map(|volume| volume.name.clone())).collect();
    volumes.sort_unstable();
    volumes.dedup();
    volumes
}
