//! The files in a folder on a volume (`hermitage_runtime::folder`), looked at and brought from the host.
//!
//! They are read in a copy of the volume, which `qemu-img` makes of whatever layers it has; what the data base writes when
//! it is opened, such as to set right what a power cut left, goes into the copy.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use hermitage_runtime::folder::tree::{How, Node, Tree};
use hermitage_runtime::folder::{Bytes, error};
use launcher::time::Timestamp;
use launcher::volume::{ForeignFormat, Point, Scratch, VolumeName, Volumes};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::printer::Printer;
use crate::table::{Align, Table};

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// Bytes of a volume that a folder is brought to, if nobody says: twice what is in it, and these.
const SPARE: u64 = 64 << 20;

/// A path on a volume: `VOLUME[@SNAPSHOT]:PATH`.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    volume: Point,
    path: String,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (volume, path) = text.split_once(':').unwrap_or((text, "/"));
        let volume = volume.parse().map_err(|error| format!("{error}"))?;
        let path = path.to_owned();
        Ok(Self { volume, path })
    }
}

impl Place {
    /// What `cp` takes for a path on a volume.
    fn of(text: &str) -> Option<Self> {
        let is_one = !text.starts_with(['.', '/']) && text.contains(':');
        text.parse().ok().filter(|_| is_one)
    }
}

/// A raw disk in a file.
struct Raw(File);

impl Bytes for Raw {
    fn size(&self) -> u64 {
        // A file that is open and was asked before.
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        // It is a copy, or one in the making.
        Ok(())
    }
}

fn failed(what: &str, cause: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("`{what}`: {cause}"))
}

/// What is wrong with something in a folder.
fn said(error: error::Error) -> io::Error {
    match error {
        error::Error::IO => {
            io::Error::other("damaged on the volume: its sum is not that of what was put there")
        }
        error => error.into(),
    }
}

/// Does something with a folder. redb trusts its own pages, and panics on some that are damaged.
fn guarded<T>(volume: &Point, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    done.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(failed(
            &volume.to_string(),
            format!(
                "the folder on the volume is damaged: {}",
                text.unwrap_or("it cannot be read")
            ),
        ))
    })
}

/// The folder on a volume, in a copy.
fn open(volumes: &Volumes, volume: &Point) -> Result<(Tree, Scratch), Failure> {
    let copy = volumes.copy(volume)?;
    let name = volume.to_string();
    let raw = File::options().read(true).write(true).open(copy.path());
    let raw = Raw(raw.map_err(|error| failed(&name, error))?);
    let mut start = [0; 512];
    raw.read_at(&mut start, 0).map_err(|error| failed(&name, error))?;
    if start == [0; 512] {
        return Err(failed(
            &name,
            "the volume holds no folder: nothing was written to it yet",
        ));
    }
    let tree = Tree::open(raw).map_err(|error| failed(&name, error))?;
    Ok((tree, copy))
}

/// Lists what is at a path.
pub(crate) fn list(
    volumes: &Volumes,
    place: &Place,
    as_json: bool,
    printer: &Printer,
) -> Result<(), Failure> {
    let entries = guarded(&place.volume, || {
        let (tree, _copy) = open(volumes, &place.volume)?;
        let here = |error| failed(&place.path, said(error));
        let node = tree.stat(place.path.as_bytes()).map_err(here)?;
        if node.is_directory {
            return tree.list(node.inode).map_err(here);
        }
        let name = place.path.rsplit('/').next().unwrap_or_default();
        Ok(vec![(name.as_bytes().to_vec(), node)])
    })?;
    if as_json {
        printer.json(&entries.iter().map(described).collect::<Vec<_>>());
        return Ok(());
    }
    let mut table = Table::new([
        ("SIZE", Align::Right),
        ("CHANGED", Align::Left),
        ("NAME", Align::Left),
    ]);
    for (name, node) in &entries {
        let slash = if node.is_directory { "/" } else { "" };
        table.row([
            if node.is_directory {
                "-".to_owned()
            } else {
                node.size.to_string()
            },
            changed(node),
            format!("{}{slash}", String::from_utf8_lossy(name).escape_debug()),
        ]);
    }
    printer.table(table);
    Ok(())
}

fn changed(node: &Node) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(node.seconds);
    Timestamp::from(time).to_string()
}

fn described((name, node): &(Vec<u8>, Node)) -> Value {
    json!({
        "name": String::from_utf8_lossy(name),
        "directory": node.is_directory,
        "size_bytes": node.size,
        "changed": changed(node),
    })
}

/// Writes a file's content to standard output.
pub(crate) fn cat(volumes: &Volumes, place: &Place) -> Result<(), Failure> {
    guarded(&place.volume, || {
        let (tree, _copy) = open(volumes, &place.volume)?;
        let node = tree
            .stat(place.path.as_bytes())
            .map_err(|error| failed(&place.path, said(error)))?;
        read(&tree, &node, &mut io::stdout().lock()).map_err(|error| failed(&place.path, error))
    })
}

fn read(tree: &Tree, node: &Node, to: &mut dyn io::Write) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let length = tree.read(node.inode, offset, &mut buffer).map_err(said)?;
        if length == 0 {
            return to.flush();
        }
        to.write_all(&buffer[..length])?;
        offset += length as u64;
    }
}

/// Copies a file, or a directory with all that is in it: from a volume, or to one.
pub(crate) fn copy(volumes: &Volumes, from: &str, to: &str) -> Result<(), Failure> {
    match (Place::of(from), Place::of(to)) {
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "`{from}` and `{to}` are both on volumes; one of them has to be a path of the host"
        ))),
        (None, Some(place)) => guarded(&place.volume, || copy_to(volumes, Path::new(from), &place)),
        // All of a volume needs no path.
        (place, None) => match place.map_or_else(|| from.parse(), Ok) {
            Ok(place) => guarded(&place.volume, || copy_from(volumes, &place, Path::new(to))),
            Err(_) => Err(Failure::Usage(format!(
                "neither `{from}` nor `{to}` is a path on a volume, `VOLUME:PATH`"
            ))),
        },
    }
}

/// Brings a file or folder of the host. Links are followed.
fn copy_to(volumes: &Volumes, from: &Path, place: &Place) -> Result<(), Failure> {
    let shown = from.display().to_string();
    let Point { volume, snapshot } = &place.volume;
    if snapshot.is_some() {
        return Err(Failure::Usage(format!(
            "`{}` is a snapshot, which stays what it is",
            place.volume
        )));
    }
    let is_folder = fs::metadata(from)
        .map_err(|error| failed(&shown, error))?
        .is_dir();
    volumes.edit(volume, |raw| {
        let put = || -> io::Result<()> {
            let raw = File::options().read(true).write(true).open(raw)?;
            let tree = Tree::open(Raw(raw))?;
            let mut path = place.path.trim_end_matches('/').as_bytes().to_vec();
            let there = tree.stat(&path);
            if there.is_ok_and(|node| node.is_directory) {
                let canonical = fs::canonicalize(from)?;
                let name = canonical.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                path = [&path[..], b"/", name.as_bytes()].concat();
            } else if there.is_err() && place.path.ends_with('/') {
                // Whoever says that it is a folder does not want a file of its name.
                return Err(error::Error::NOT_FOUND.into());
            }
            match is_folder {
                true => {
                    if tree.stat(&path).is_err() {
                        tree.make_directory(&path)?;
                    }
                    bring(&tree, from, &path)?;
                }
                false => bring_file(&tree, from, &path)?,
            }
            Ok(tree.sync()?)
        };
        put().map_err(|error| failed(&format!("{shown} to {volume}:{}", place.path), error))
    })
}

fn copy_from(volumes: &Volumes, place: &Place, to: &Path) -> Result<(), Failure> {
    if to.symlink_metadata().is_ok() {
        return Err(failed(&to.display().to_string(), "it is there already"));
    }
    let (tree, _copy) = open(volumes, &place.volume)?;
    let node = tree
        .stat(place.path.as_bytes())
        .map_err(|error| failed(&place.path, said(error)))?;
    extract(&tree, &node, to).map_err(|error| failed(&to.display().to_string(), error))
}

fn extract(tree: &Tree, node: &Node, to: &Path) -> io::Result<()> {
    if !node.is_directory {
        return read(tree, node, &mut File::create_new(to)?);
    }
    fs::create_dir(to)?;
    for (name, node) in tree.list(node.inode).map_err(said)? {
        // It is one name, and not `..`: the tree sees to it.
        extract(tree, &node, &to.join(std::ffi::OsStr::from_bytes(&name)))?;
    }
    Ok(())
}

/// Makes a volume with a folder that has what a folder of the host has.
pub(crate) fn import(
    volumes: &Volumes,
    name: &VolumeName,
    folder: &Path,
    size: Option<u64>,
) -> Result<(), Failure> {
    let shown = folder.display().to_string();
    let scratch = volumes.scratch()?;
    let beside = scratch.path().parent().unwrap_or(scratch.path());
    let (real, beside) = (fs::canonicalize(folder), fs::canonicalize(beside));
    if real.is_ok_and(|real| beside.is_ok_and(|beside| beside.starts_with(real))) {
        return Err(Failure::Usage(format!(
            "`{shown}` is a folder that has the volumes in it"
        )));
    }
    let content = bytes_in(folder).map_err(|error| failed(&shown, error))?;
    let size = size.unwrap_or((2 * content + SPARE).next_multiple_of(1 << 20));
    let make = || -> io::Result<()> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(scratch.path())?;
        file.set_len(size)?;
        let tree = Tree::open(Raw(file))?;
        bring(&tree, folder, b"")?;
        Ok(tree.sync()?)
    };
    make().map_err(|error| failed(&shown, error))?;
    volumes.import(name, scratch.path(), ForeignFormat::named("raw"))?;
    Ok(())
}

fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.file_type()? {
            kind if kind.is_dir() => bytes_in(&entry.path())?,
            _ => fs::metadata(entry.path())?.len().next_multiple_of(4096),
        };
    }
    Ok(bytes)
}

/// Brings what is in a folder. Links are followed.
fn bring(tree: &Tree, folder: &Path, into: &[u8]) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = [into, b"/", entry.file_name().as_bytes()].concat();
        if fs::metadata(entry.path())?.is_dir() {
            if !tree.stat(&path).is_ok_and(|node| node.is_directory) {
                tree.make_directory(&path)?;
            }
            bring(tree, &entry.path(), &path)?;
        } else {
            bring_file(tree, &entry.path(), &path)?;
        }
    }
    Ok(())
}

/// Brings a file; one that is there is replaced.
fn bring_file(tree: &Tree, from: &Path, path: &[u8]) -> io::Result<()> {
    let how = How {
        create: true,
        truncate: true,
        write: true,
        ..How::default()
    };
    let inode = tree.open_file(path, how)?;
    let written = write(tree, inode, from);
    tree.close(inode)?;
    written
}

fn write(tree: &Tree, inode: u64, from: &Path) -> io::Result<()> {
    let file = File::open(from)?;
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let length = file.read_at(&mut buffer, offset)?;
        if length == 0 {
            return Ok(());
        }
        let written: error::Result<()> = tree.write(inode, Some(offset), &buffer[..length]);
        written?;
        offset += length as u64;
    }
}
