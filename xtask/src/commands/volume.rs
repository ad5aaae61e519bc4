//! `cargo xtask volume`: disks that outlive the instances they are attached to.

mod files;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use launcher::log::Limits;
use launcher::volume::{ForeignFormat, Format, Point, SnapshotName, VolumeName, Volumes};
use serde_json::json;

use super::instance;
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `volume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask volume create db -s 1G
  cargo xtask run --volume db -e 'db 10.0.2.2' node-micro db
  cargo xtask volume snapshot db before
  cargo xtask volume clone db@before db-try
  cargo xtask run --volume db-try:db -e 'db 10.0.2.2' node-micro try
  cargo xtask volume restore db@before

A volume is a file in the folder `volumes` beside the instances. A guest finds it by its name, its label.
docs/volumes.md tells more.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an empty volume
    #[command(after_help = "Example:\n  cargo xtask volume create db -s 1G")]
    Create {
        /// Its name, up to 64 letters, digits, `-`, `_` or `.`
        name: VolumeName,

        /// Its size, such as 500M or 1G; the file takes as much as was written
        #[arg(short, long, value_parser = Limits::parse_size)]
        size: u64,
    },
    /// List the volumes, or the files on one that has a folder
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  cargo xtask volume ls --json\n  cargo xtask volume ls notes:/2026"
    )]
    Ls {
        /// A volume, or a path on one
        #[arg(value_name = "VOLUME[@SNAPSHOT][:PATH]")]
        place: Option<files::Place>,
    },
    /// Write a file on a volume to standard output
    #[command(after_help = "Example:\n  cargo xtask volume cat notes:/today.txt")]
    Cat {
        /// The file
        #[arg(value_name = "VOLUME[@SNAPSHOT]:PATH")]
        place: files::Place,
    },
    /// Copy a file or folder from a volume to the host, or from the host to a volume
    #[command(after_help = "\
Examples:
  cargo xtask volume cp notes@before:/2026 ./notes
  cargo xtask volume cp today.txt notes:/2026/

A path of the host with a `:` in it begins with `./` or `/`. To a volume nothing is copied while an instance has it; then
all of it is there, or nothing.")]
    Cp {
        /// What to copy
        #[arg(value_name = "VOLUME[@SNAPSHOT]:PATH|PATH")]
        from: String,

        /// The path that it gets; on the host one that is not there yet, on a volume also a folder that it goes into
        #[arg(value_name = "PATH|VOLUME:PATH")]
        to: String,
    },
    /// Show volumes, as JSON
    #[command(after_help = "Example:\n  cargo xtask volume inspect db")]
    Inspect {
        /// Their names
        #[arg(required = true, value_name = "VOLUME")]
        names: Vec<VolumeName>,
    },
    /// Remove volumes with all that is on them, or snapshots
    #[command(after_help = "\
Examples:
  cargo xtask volume rm db@before
  cargo xtask volume rm --snapshots db

What a clone needs of a volume stays until the clone is removed, too.")]
    Rm {
        /// Volumes and snapshots
        #[arg(required = true, value_name = "VOLUME[@SNAPSHOT]")]
        names: Vec<Point>,

        /// Remove the volumes' snapshots, too
        #[arg(long)]
        snapshots: bool,
    },
    /// Give a volume another name; its snapshots go with it
    #[command(after_help = "Example:\n  cargo xtask volume move db db-old")]
    Move {
        /// Its name
        #[arg(value_name = "VOLUME")]
        from: VolumeName,

        /// Its new name
        to: VolumeName,
    },
    /// Keep a volume as it is at this moment, also while a guest writes to it
    #[command(after_help = "\
Examples:
  cargo xtask volume snapshot db before
  cargo xtask volume snapshot db            named by the time, such as 2026-11-21-220000

It takes no time and no room. A guest goes on; in the snapshot is what it had been told is written.")]
    Snapshot {
        /// The volume
        #[arg(value_name = "VOLUME")]
        name: VolumeName,

        /// The snapshot's name
        snapshot: Option<SnapshotName>,
    },
    /// List snapshots
    #[command(after_help = "Example:\n  cargo xtask volume snapshots db")]
    Snapshots {
        /// Of this volume alone
        #[arg(value_name = "VOLUME")]
        name: Option<VolumeName>,
    },
    /// Make a volume what it was when the snapshot was made; what was written since is gone
    #[command(after_help = "Example:\n  cargo xtask volume restore db@before")]
    Restore {
        /// The snapshot
        #[arg(value_name = "VOLUME@SNAPSHOT")]
        snapshot: Point,
    },
    /// Make a volume that begins as another is, or was
    #[command(after_help = "\
Examples:
  cargo xtask volume clone db@before db-try
  cargo xtask run --volume db-try:db ...    the guest finds it as `db`

It takes no time: both share what neither changes. Each can be changed and removed without the other.")]
    Clone {
        /// The volume, or a snapshot of it
        #[arg(value_name = "VOLUME[@SNAPSHOT]")]
        from: Point,

        /// The new volume's name
        to: VolumeName,
    },
    /// Give a volume another size, also while a guest has it
    #[command(after_help = "Example:\n  cargo xtask volume resize db 2G")]
    Resize {
        /// Its name
        #[arg(value_name = "VOLUME")]
        name: VolumeName,

        /// Its new size, such as 500M or 1G
        #[arg(value_parser = Limits::parse_size)]
        size: u64,

        /// Cut off what lies beyond the new size
        #[arg(long)]
        shrink: bool,
    },
    /// Make a volume of a disk's file, or of a folder, for `hermitage_runtime::folder`
    #[command(after_help = "\
Examples:
  cargo xtask volume import db db.vmdk
  cargo xtask volume import db disk0 --format raw
  cargo xtask volume import notes ./notes -s 1G")]
    Import {
        /// Its name
        name: VolumeName,

        /// The file
        file: PathBuf,

        /// The file's format, if its name does not say it: raw, qcow2, vmdk, vdi, vhdx, vpc
        #[arg(long, value_parser = parse_format)]
        format: Option<ForeignFormat>,

        /// Of a folder: the volume's size; otherwise twice what is in it, and 64 MiB
        #[arg(short, long, value_parser = Limits::parse_size)]
        size: Option<u64>,
    },
    /// Write a volume, or a snapshot, as a file that stands alone
    #[command(after_help = "\
Examples:
  cargo xtask volume export db db.qcow2
  cargo xtask volume export db@before db.img --format raw")]
    Export {
        /// The volume, or a snapshot of it
        #[arg(value_name = "VOLUME[@SNAPSHOT]")]
        from: Point,

        /// The file
        file: PathBuf,

        /// The file's format
        #[arg(long, value_enum, default_value = "qcow2")]
        format: Exported,
    },
}

/// A format in which volumes are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Exported {
    Raw,
    Qcow2,
}

fn parse_format(text: &str) -> Result<ForeignFormat, String> {
    ForeignFormat::named(text).ok_or_else(|| {
        let known = ForeignFormat::ALL.map(ForeignFormat::name);
        format!("known are {}", known.join(", "))
    })
}

/// Runs the command.
pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let root = instance::root()?;
    let volumes = Volumes::new(&root);
    // What a command made or changed, by its name or as JSON.
    let tell = |name: &VolumeName| -> Result<(), Failure> {
        if args.json {
            printer.json(&view::volume(&volumes.facts(name)?));
        } else {
            printer.data(&format!("{name}\n"));
        }
        Ok(())
    };
    match &args.command {
        Command::Create { name, size } => {
            volumes.create(name, *size)?;
            tell(name)?;
        }
        Command::Ls { place: Some(place) } => files::list(&volumes, place, args.json, printer)?,
        Command::Cat { place } => files::cat(&volumes, place)?,
        Command::Cp { from, to } => files::copy(&volumes, from, to)?,
        Command::Ls { place: None } => {
            let list = volumes.list()?;
            if args.json {
                printer.json(&list.iter().map(view::volume).collect::<Vec<_>>());
            } else {
                printer.table(view::volumes(&list));
            }
        }
        Command::Inspect { names } => {
            let inspect = |name| {
                let mut described = view::volume(&volumes.facts(name)?);
                let snapshots = volumes.snapshots(name)?;
                described["snapshots"] = snapshots.iter().map(view::snapshot).collect();
                Ok(described)
            };
            let list: Result<Vec<_>, Failure> = names.iter().map(inspect).collect();
            printer.json(&list?);
        }
        Command::Rm { names, snapshots } => {
            for Point { volume, snapshot } in names {
                match snapshot {
                    Some(snapshot) => volumes.remove_snapshot(volume, snapshot)?,
                    None => volumes.remove(volume, *snapshots)?,
                }
                if !args.json {
                    printer.data(&format!("{}\n", names_point(volume, snapshot.as_ref())));
                }
            }
            if args.json {
                let removed: Vec<_> = names.iter().map(ToString::to_string).collect();
                printer.json(&json!({ "removed": removed }));
            }
        }
        Command::Move { from, to } => {
            volumes.rename(from, to)?;
            tell(to)?;
        }
        Command::Snapshot { name, snapshot } => {
            let made = volumes.snapshot(name, snapshot.clone())?;
            if args.json {
                printer.json(&view::snapshot(&made));
            } else {
                printer.data(&format!("{}\n", names_point(&made.volume, Some(&made.name))));
            }
        }
        Command::Snapshots { name } => {
            let mut list = Vec::new();
            match name {
                Some(name) => list = volumes.snapshots(name)?,
                None => {
                    for facts in volumes.list()? {
                        list.extend(volumes.snapshots(&facts.name)?);
                    }
                }
            }
            if args.json {
                printer.json(&list.iter().map(view::snapshot).collect::<Vec<_>>());
            } else {
                printer.table(view::snapshots(&list));
            }
        }
        Command::Restore { snapshot: point } => {
            let Some(snapshot) = &point.snapshot else {
                return Err(Failure::Usage(format!(
                    "`{point}` is a volume; a snapshot of it is `{point}@SNAPSHOT`"
                )));
            };
            volumes.restore(&point.volume, snapshot)?;
            tell(&point.volume)?;
        }
        Command::Clone { from, to } => {
            volumes.duplicate(from, to)?;
            tell(to)?;
        }
        Command::Resize { name, size, shrink } => {
            volumes.resize(name, *size, *shrink)?;
            tell(name)?;
        }
        Command::Import {
            name,
            file,
            format,
            size,
        } => {
            if file.is_dir() {
                files::import(&volumes, name, file, *size)?;
            } else {
                volumes.import(name, file, *format)?;
            }
            tell(name)?;
        }
        Command::Export { from, file, format } => {
            let format = match format {
                Exported::Raw => Format::Raw,
                Exported::Qcow2 => Format::Qcow2,
            };
            volumes.export(from, file, format)?;
            if args.json {
                printer.json(&json!({ "file": file, "format": format.name() }));
            } else {
                printer.data(&format!("{}\n", file.display()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn names_point(volume: &VolumeName, snapshot: Option<&SnapshotName>) -> String {
    let (volume, snapshot) = (volume.clone(), snapshot.cloned());
    Point { volume, snapshot }.to_string()
}
