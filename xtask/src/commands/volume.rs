//! `cargo xtask volume`: disks that outlive the instances they are attached to.

use std::process::ExitCode;

use clap::Subcommand;
use launcher::log::Limits;
use launcher::volume::{Facts, VolumeName, Volumes};
use serde_json::{Value, json};

use super::instance;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::table::{Align, Table, mebibytes};

/// Arguments of `volume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask volume create db -s 1G
  cargo xtask run --volume db -e 'db 10.0.2.2' node-micro db
  cargo xtask volume ls

A volume is a file in the folder `volumes` beside the instances. A guest finds it by its name, its label.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an empty volume
    #[command(after_help = "Example:\n  cargo xtask volume create db -s 1G")]
    Create {
        /// Its name, up to 20 letters, digits, `-`, `_` or `.`
        name: VolumeName,

        /// Its size, such as 500M or 1G; the file takes as much as was written
        #[arg(short, long, value_parser = Limits::parse_size)]
        size: u64,
    },
    /// List the volumes
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  cargo xtask volume ls --json"
    )]
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show volumes, as JSON
    #[command(after_help = "Example:\n  cargo xtask volume inspect db")]
    Inspect {
        /// Their names
        #[arg(required = true)]
        names: Vec<VolumeName>,
    },
    /// Remove volumes with all that is on them
    #[command(after_help = "Example:\n  cargo xtask volume rm db")]
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<VolumeName>,
    },
    /// Give a volume another name
    #[command(after_help = "Example:\n  cargo xtask volume move db db-old")]
    Move {
        /// Its name
        from: VolumeName,

        /// Its new name
        to: VolumeName,
    },
}

/// Runs the command.
pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let root = instance::root()?;
    let volumes = Volumes::new(&root);
    match &args.command {
        Command::Create { name, size } => {
            volumes.create(name, *size)?;
            printer.data(&format!("{name}\n"));
        }
        Command::Ls { json } => {
            let list = volumes.list()?;
            if *json {
                printer.json(&list.iter().map(described).collect::<Vec<_>>());
            } else {
                printer.table(table(&list));
            }
        }
        Command::Inspect { names } => {
            let list = names.iter().map(|name| Ok(described(&volumes.facts(name)?)));
            printer.json(&list.collect::<Result<Vec<_>, Failure>>()?);
        }
        Command::Rm { names } => {
            for name in names {
                volumes.remove(name)?;
                printer.data(&format!("{name}\n"));
            }
        }
        Command::Move { from, to } => {
            volumes.rename(from, to)?;
            printer.data(&format!("{to}\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn described(volume: &Facts) -> Value {
    json!({
        "name": volume.name.as_str(),
        "file": volume.file,
        "format": volume.format.name(),
        "size_bytes": volume.size,
        "on_disk_bytes": volume.on_disk,
        "instance": volume.holder.as_ref().map(ToString::to_string),
    })
}

fn table(list: &[Facts]) -> Table<5> {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("SIZE", Align::Right),
        ("ON DISK", Align::Right),
        ("FORMAT", Align::Left),
        ("INSTANCE", Align::Left),
    ]);
    for volume in list {
        table.row([
            volume.name.to_string(),
            volume.size.map_or_else(|| "-".to_owned(), mebibytes),
            mebibytes(volume.on_disk),
            volume.format.name().to_owned(),
            volume
                .holder
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
        ]);
    }
    table
}
