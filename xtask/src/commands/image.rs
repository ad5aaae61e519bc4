//! `cargo xtask image`: composed images, looked at without booting, removed, renamed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use builder::inspect::export::{Format, export};
use builder::inspect::{InspectError, Opened, copy, info, shown, verify};
use clap::{Subcommand, ValueEnum};
use hermitage_erofs::format::Kind;

use crate::commands::run::request::find_image;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::table::{Align, Table};
use crate::workspace;

mod manage;
pub(super) mod view;

pub(super) use manage::in_use;

/// Arguments of `image`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask image ls
  cargo xtask image cp kv:/bin/kv ./kv

An image is given by its name, that of its folder in images/, or by the path of its file.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the images
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  cargo xtask image ls --json"
    )]
    Ls {
        /// Folder of the images [default: images/ of the workspace]
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,

        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the files of an image: mode, size, name
    #[command(after_help = "Example:\n  cargo xtask image tree kv /bin")]
    Tree {
        /// Image: the name of a composed one, or a path
        image: String,

        /// Where to start in the image
        #[arg(default_value = "/")]
        path: OsString,
    },
    /// Write the content of a file in an image to stdout
    #[command(after_help = "Example:\n  cargo xtask image cat node:/etc/motd")]
    Cat {
        /// File in an image; symbolic links are followed, within the image
        #[arg(value_name = "IMAGE:PATH", value_parser = parse_inside)]
        from: Inside,
    },
    /// Copy a file or a folder out of an image
    #[command(after_help = "\
Examples:
  cargo xtask image cp kv:/bin/kv ./kv
  cargo xtask image cp kv:/ ./everything

A copy goes into DESTINATION if that is a folder, otherwise under that name; of `/`, the content
is copied. Modes and symbolic links are kept, set-user-id bits are not. Nothing that exists is
replaced, and no symbolic link is followed.")]
    Cp {
        /// File, folder or symbolic link in an image
        #[arg(value_name = "IMAGE:PATH", value_parser = parse_inside)]
        from: Inside,

        /// Where to copy it
        destination: PathBuf,
    },
    /// Show what an image is: default command, partitions, file system, digest
    #[command(after_help = "Example:\n  cargo xtask image info --json kv")]
    Info {
        /// Image: the name of a composed one, or a path
        image: String,

        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Look for everything that is wrong with an image; the exit code is 1 if there is anything
    #[command(after_help = "\
Example:
  cargo xtask image verify kv

Checked are the container, both copies of the partition table, the loader, the boot configuration,
the superblock, every file and folder, and the checksum of every program in /bin. Other files have
no checksums: they must be readable, but a bit that changed in one of them is not seen.")]
    Verify {
        /// Image: the name of a composed one, or a path
        image: String,
    },
    /// Write an image's disk as a file of another format (needs qemu-img)
    #[command(after_help = "Example:\n  cargo xtask image export kv --format vmdk kv.vmdk")]
    Export {
        /// Image: the name of a composed one, or a path
        image: String,

        /// Format of the output
        #[arg(long, value_enum)]
        format: FormatName,

        /// Replace the output if it is there already
        #[arg(long)]
        force: bool,

        /// File to write
        output: PathBuf,
    },
    /// Remove images
    #[command(after_help = "\
Example:
  cargo xtask image rm kv db

All of them are removed, or none, if an instance uses one of them.")]
    Rm {
        /// Images: names of composed ones, or paths
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<String>,

        /// Remove an image even if a stopped instance's disk is an overlay of it
        #[arg(long)]
        force: bool,
    },
    /// Give an image another name, under which `compose` does not replace it
    #[command(after_help = "Example:\n  cargo xtask image rename kv kv-1.2")]
    Rename {
        /// Image: the name of a composed one, or a path
        image: String,

        /// New name; one that is taken is refused
        name: String,

        /// Rename an image even if a stopped instance's disk is an overlay of it
        #[arg(long)]
        force: bool,
    },
}

/// The formats, as the command line names them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    Raw,
    Qcow2,
    Vmdk,
    Vdi,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Raw => Self::Raw,
            FormatName::Qcow2 => Self::Qcow2,
            FormatName::Vmdk => Self::Vmdk,
            FormatName::Vdi => Self::Vdi,
        }
    }
}

/// A path in an image.
#[derive(Clone, Debug)]
struct Inside {
    image: String,
    path: Vec<u8>,
}

fn parse_inside(text: &str) -> Result<Inside, &'static str> {
    match text.split_once(':') {
        Some((image, path)) if !image.is_empty() && !path.is_empty() => Ok(Inside {
            image: image.to_owned(),
            path: path.as_bytes().to_vec(),
        }),
        _ => Err("expected an image and a path in it, such as `kv:/bin/kv`"),
    }
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Ls { folder, json } => ls(folder.as_deref(), *json, printer)?,
        Command::Tree { image, path } => tree(image, path, printer)?,
        Command::Cat { from } => cat(from)?,
        Command::Cp { from, destination } => cp(from, destination, printer)?,
        Command::Info { image, json } => {
            let (path, name) = find(image)?;
            let info = info::info(&Opened::open(&path)?)?;
            if *json {
                printer.json(&view::Info::new(&name, &path, &info));
            } else {
                printer.data(&view::info(&name, &path, &info));
            }
        }
        Command::Verify { image } => check(image, printer)?,
        Command::Rm { images, force } => manage::remove(images, *force, printer)?,
        Command::Rename { image, name, force } => manage::rename(image, name, *force, printer)?,
        Command::Export {
            image,
            format,
            force,
            output,
        } => {
            let (path, _) = find(image)?;
            let bytes = export(&path, (*format).into(), output, *force, &Progress::new(printer))?;
            let on_disk = view::size(bytes);
            printer.note(&format!("{}: {on_disk} on disk", output.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The image's file and name.
fn find(image: &str) -> Result<(PathBuf, String), Failure> {
    match find_image(image) {
        Ok((path, name)) => Ok((workspace::shown(&path), name)),
        // Not being started, but looked at: another exit code, another hint.
        Err(Failure::NoImage { name, composed }) => Err(InspectError::NoImage {
            name,
            known: composed,
        }
        .into()),
        Err(other) => Err(other),
    }
}

fn ls(folder: Option<&Path>, json: bool, printer: &Printer) -> Result<(), Failure> {
    let images = match folder {
        Some(folder) => info::list(folder)?,
        None => info::list(&workspace::root().join("images"))?,
    };
    if json {
        let images: Vec<_> = images.iter().map(view::Summary::new).collect();
        printer.json(&images);
        return Ok(());
    }
    let mut table = Table::new([
        ("name", Align::Left),
        ("roles", Align::Left),
        ("on disk", Align::Right),
        ("files", Align::Right),
        ("composed", Align::Left),
    ]);
    let now = SystemTime::now();
    for image in &images {
        let (roles, files) = match &image.content {
            Ok(content) => (view::roles(content).join(" "), content.files.to_string()),
            Err(error) => {
                printer.warn(&format!("{}: {error}", shown(image.name.as_bytes())));
                ("(cannot be read)".to_owned(), "-".to_owned())
            }
        };
        table.row([
            shown(image.name.as_bytes()),
            roles,
            view::size(image.bytes),
            files,
            view::ago(now, image.composed),
        ]);
    }
    printer.data(&table.to_string());
    Ok(())
}

fn tree(image: &str, path: &OsStr, printer: &Printer) -> Result<(), Failure> {
    let image = Opened::open(&find(image)?.0)?;
    let files = image.files()?;
    // For each level, whether it goes on below.
    let mut goes_on = Vec::new();
    let mut broken = 0;
    for found in image.walk(&files, path.as_bytes())? {
        let found = match found {
            Ok(found) => found,
            Err(problem) => {
                broken += 1;
                printer.warn(&format!("{}: {}", shown(&problem.path), problem.error));
                continue;
            }
        };
        let name = match found.depth {
            0 => shown(&found.path),
            _ => shown(found.name()),
        };
        let link = match found.inode.kind() {
            Kind::Symlink => match files.read_link(&found.inode) {
                Ok(target) => format!(" -> {}", shown(&target)),
                Err(error) => format!(" -> ({error})"),
            },
            _ => String::new(),
        };
        goes_on.truncate(found.depth.saturating_sub(1));
        let mut lines: String = goes_on
            .iter()
            .map(|goes_on| if *goes_on { "│   " } else { "    " })
            .collect();
        if found.depth > 0 {
            lines += if found.last { "└── " } else { "├── " };
            goes_on.push(!found.last);
        }
        let size = match found.inode.kind() {
            Kind::File => view::size(found.inode.size()),
            _ => String::new(),
        };
        let mode = view::mode(&found.inode);
        printer.data(&format!("{mode} {size:>9}  {lines}{name}{link}\n"));
    }
    match broken {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("{n} paths cannot be read"))),
    }
}

fn cat(from: &Inside) -> Result<(), Failure> {
    let image = Opened::open(&find(&from.image)?.0)?;
    match image.cat(&from.path, &mut io::stdout().lock()) {
        // A reader that has seen enough may close it.
        Err(InspectError::Host { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

fn cp(from: &Inside, destination: &Path, printer: &Printer) -> Result<(), Failure> {
    let image = Opened::open(&find(&from.image)?.0)?;
    let copied = copy::copy(&image, &from.path, destination)?;
    let (files, bytes) = (view::count(copied.files, "file"), view::size(copied.bytes));
    printer.note(&format!("{}: {files}, {bytes}", destination.display()));
    Ok(())
}

fn check(image: &str, printer: &Printer) -> Result<(), Failure> {
    let (path, _) = find(image)?;
    let verified = verify::verify(&path);
    for problem in &verified.problems {
        printer.data(&format!("{problem}\n"));
    }
    let path = path.display();
    match verified.problems.len() {
        0 => {
            let files = view::count(verified.files, "file");
            let programs = view::count(verified.programs, "program");
            printer.note(&format!("{path}: intact, {files}, {programs} sealed"));
            Ok(())
        }
        n => Err(Failure::Failed(format!(
            "`{path}` is damaged: {}",
            view::count(n, "problem")
        ))),
    }
}
