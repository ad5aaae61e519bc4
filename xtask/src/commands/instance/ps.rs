//! `cargo xtask ps`.

use std::process::ExitCode;
use std::time::Duration;

use launcher::Error;

use super::facts::{Facts, short};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::table::{Align, Table};

/// Arguments of `ps`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask ps
  cargo xtask ps -a --json

States: created, running, paused (the host's disk is full), restarting, exited.")]
pub(crate) struct Args {
    /// List those that have ended, too
    #[arg(short, long)]
    all: bool,

    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let instances = super::instances()?;
    let mut listed = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for name in instances.names()? {
        match instances.see(&name) {
            Ok(seen) if args.all || seen.state.phase.is_supervised() => listed.push(Facts::of(&seen)),
            // It ended a moment ago, or another one removes it.
            Ok(_) | Err(Error::NoInstance { .. }) => {}
            Err(error) => {
                printer.failure(&error.into());
                code = ExitCode::FAILURE;
            }
        }
    }
    if args.json {
        printer.json(&listed);
    } else {
        printer.table(table(&listed));
    }
    Ok(code)
}

fn table(listed: &[Facts]) -> Table<11> {
    let left = |name| (name, Align::Left);
    let right = |name| (name, Align::Right);
    let mut table = Table::new([
        left("NAME"),
        left("IMAGE"),
        left("ROLE"),
        left("STATE"),
        left("IP"),
        left("PORTS"),
        right("MEMORY"),
        right("CPUS"),
        right("AGE"),
        left("EXIT"),
        right("RESTARTS"),
    ]);
    for facts in listed {
        let address = facts.address.as_deref().unwrap_or_default();
        table.row([
            facts.name.clone(),
            facts.image.clone(),
            facts.role.clone(),
            facts.state.to_owned(),
            address.split('/').next().unwrap_or_default().to_owned(),
            facts.forwards.join(" "),
            format!("{}M", facts.memory_mib),
            facts.cpus.to_string(),
            short(Duration::from_secs(facts.age)),
            facts.exit(),
            facts.restarts.to_string(),
        ]);
    }
    table
}
