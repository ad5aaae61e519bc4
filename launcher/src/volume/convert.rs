//! Volumes from and to other files, and other sizes: by `qemu-img`, which knows all formats.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hermitage_disk::qcow2::Header;
use serde_json::Value;

use super::{Format, Point, Scratch, VolumeError, VolumeName, Volumes, live};
use crate::environment;
use crate::error::Error;

/// QEMU's tool for disks.
pub(super) const IMAGE_TOOL: &str = "qemu-img";

/// A format in which a disk comes from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignFormat {
    /// QEMU's name for it.
    name: &'static str,
    extensions: &'static [&'static str],
}

impl ForeignFormat {
    /// Those that can be read.
    pub const ALL: [Self; 6] = {
        const fn format(name: &'static str, extensions: &'static [&'static str]) -> ForeignFormat {
            ForeignFormat { name, extensions }
        }
        [
            format("raw", &["raw", "img"]),
            format("qcow2", &["qcow2"]),
            format("vmdk", &["vmdk"]),
            format("vdi", &["vdi"]),
            format("vhdx", &["vhdx"]),
            format("vpc", &["vpc", "vhd"]),
        ]
    };

    /// The format of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The format that a file's name says.
    fn of(file: &Path) -> Option<Self> {
        let extension = file.extension()?.to_str()?;
        Self::ALL
            .into_iter()
            .find(|format| format.extensions.contains(&extension))
    }
}

impl Volumes {
    /// Makes a volume of a disk's file, whose name says its format if the caller does not.
    ///
    /// # Errors
    /// There is a volume of this name; the file is no disk, or refers to others; the tool is not there, or fails.
    pub fn import(
        &self,
        name: &VolumeName,
        file: &Path,
        format: Option<ForeignFormat>,
    ) -> Result<PathBuf, Error> {
        self.free(name)?;
        let metadata = fs::metadata(file).map_err(|source| VolumeError::Open {
            file: file.to_owned(),
            source,
        })?;
        if metadata.is_dir() {
            return Err(VolumeError::Folder(file.to_owned()).into());
        }
        let format = format
            .or_else(|| ForeignFormat::of(file))
            .ok_or_else(|| VolumeError::ForeignFormat(file.to_owned()))?;
        refuse_references(file, format)?;
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        let partial = self.partial(name);
        let arguments = [
            "convert",
            "-f",
            format.name,
            "-O",
            "qcow2",
            "-o",
            "lazy_refcounts=off",
        ];
        run("import", file, &arguments, &[&absolute(file)?, &partial.path])?;
        // Not before: a copy may take minutes.
        let _lock = self.lock()?;
        let target = self.free(name)?;
        partial.publish(&target)?;
        Ok(target)
    }

    /// Writes a volume, or a snapshot of one, as a file that stands alone.
    ///
    /// # Errors
    /// There is no such volume or snapshot; an instance writes to the volume; the file is there already, or cannot be
    /// written.
    pub fn export(&self, from: &Point, file: &Path, format: Format) -> Result<(), Error> {
        let (source, source_format) = match &from.snapshot {
            Some(snapshot) => (self.layer(&from.volume, snapshot)?, Format::Qcow2),
            None => {
                let source = self.file(&from.volume)?;
                let writer = self.users(&source).into_iter().find(|user| !user.read_only);
                if let Some(user) = writer {
                    return Err(VolumeError::Written {
                        name: from.volume.clone(),
                        holder: user.instance,
                    }
                    .into());
                }
                let format = Format::of(&source).ok_or_else(|| VolumeError::Format(source.clone()))?;
                (source, format)
            }
        };
        if file.symlink_metadata().is_ok() {
            return Err(VolumeError::FileExists(file.to_owned()).into());
        }
        let target = absolute(file)?;
        let folder = target.parent().unwrap_or(&target);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let partial = super::store::Partial {
            path: folder.join(format!(".{name}.{}.partial", std::process::id())),
        };
        let arguments = ["convert", "-f", source_format.name(), "-O", format.name()];
        run("export", file, &arguments, &[&source, &partial.path])?;
        partial.publish(&target)
    }

    /// A raw copy of a volume, or of a snapshot of one.
    ///
    /// # Errors
    /// As for [`Volumes::export`].
    pub fn copy(&self, from: &Point) -> Result<Scratch, Error> {
        let copy = self.scratch()?;
        self.export(from, copy.path(), Format::Raw)?;
        Ok(copy)
    }

    /// Puts what `change` makes of a raw copy of a volume in the volume's place: all of it or nothing. Its snapshots stay
    /// what they are.
    ///
    /// # Errors
    /// There is no such volume; an instance has it, or had it meanwhile; `change` fails; the tool is not there, or fails.
    pub fn edit<E: From<Error>>(
        &self,
        name: &VolumeName,
        change: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let seen = {
            let _lock = self.lock()?;
            Seen::of(&self.unused(name)?)?
        };
        let point = Point {
            volume: name.clone(),
            snapshot: None,
        };
        let copy = self.copy(&point)?;
        change(copy.path())?;
        let file = self.file(name).map_err(Error::from)?;
        let format = Format::of(&file).ok_or_else(|| Error::from(VolumeError::Format(file)))?;
        let partial = self.partial(name);
        let arguments = ["convert", "-f", "raw", "-O", format.name()];
        run("write", copy.path(), &arguments, &[copy.path(), &partial.path])?;
        // Not before: the copies may take minutes.
        let _lock = self.lock()?;
        let file = self.unused(name)?;
        if Seen::of(&file)? != seen {
            return Err(Error::from(VolumeError::Changed(name.clone())).into());
        }
        partial.replace(&file)?;
        self.tidy();
        Ok(())
    }

    /// Gives a volume another size; the old one and the new one, in bytes. A guest that runs may use what is new at once.
    ///
    /// # Errors
    /// There is no such volume; it would get smaller, and was not to; an instance reads it, or cannot give it another size;
    /// the tool is not there, or fails.
    pub fn resize(&self, name: &VolumeName, size: u64, may_shrink: bool) -> Result<(u64, u64), Error> {
        super::store::check_size(size)?;
        let _lock = self.lock()?;
        let file = self.file(name)?;
        let format = Format::of(&file).ok_or_else(|| VolumeError::Format(file.clone()))?;
        let (now, is_layered) = match format {
            Format::Raw => (
                fs::metadata(&file).map_err(Error::io("read", &file))?.len(),
                false,
            ),
            Format::Qcow2 => {
                let header = Header::read(&file)?;
                (header.size, header.backing.is_some())
            }
        };
        if size < now && !may_shrink {
            let volume = name.clone();
            return Err(VolumeError::Shrink {
                volume,
                from: now,
                to: size,
            }
            .into());
        }
        if size < now && is_layered {
            return Err(VolumeError::ShrinkLayered { volume: name.clone() }.into());
        }
        let writer = self.users(&file).into_iter().find(|user| !user.read_only);
        match writer.filter(|user| size > now && user.has_machine()) {
            Some(user) => live::resize(name, &user, size)?,
            None if size == now => {}
            None => {
                self.unused(name)?;
                let bytes = size.to_string();
                let mut arguments = vec!["resize", "-q", "-f", format.name()];
                if size < now {
                    arguments.push("--shrink");
                }
                run("resize", &file, &arguments, &[&file, Path::new(&bytes)])?;
            }
        }
        Ok((now, size))
    }
}

/// Which file it is, and when it was written last.
#[derive(PartialEq, Eq)]
struct Seen([i64; 4]);

impl Seen {
    fn of(file: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(file).map_err(Error::io("read", file))?;
        Ok(Self([
            metadata.ino().cast_signed(),
            metadata.size().cast_signed(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ]))
    }
}

/// Puts what is in an overlay into the file that backs it.
pub(super) fn commit(overlay: &Path) -> Result<(), Error> {
    // -d: the overlay is thrown away afterwards, not emptied.
    run(
        "take together",
        overlay,
        &["commit", "-q", "-d", "-f", "qcow2"],
        &[overlay],
    )
}

/// Refuses a disk that would bring other files of this host into the volume.
fn refuse_references(file: &Path, format: ForeignFormat) -> Result<(), Error> {
    let text = output(
        "read",
        file,
        &["info", "--output=json", "-f", format.name],
        &[&absolute(file)?],
    )?;
    let facts: Value = serde_json::from_slice(&text).unwrap_or_default();
    let specific = &facts["format-specific"]["data"];
    let extents = specific["extents"].as_array().into_iter().flatten();
    let own = facts["filename"].as_str();
    let others = extents
        .filter_map(|extent| extent["filename"].as_str())
        .filter(|name| Some(*name) != own);
    let mut others = [facts["backing-filename"].as_str(), specific["data-file"].as_str()]
        .into_iter()
        .flatten()
        .chain(others);
    match others.next() {
        Some(other) => Err(VolumeError::RefersToFile {
            file: file.to_owned(),
            other: other.to_owned(),
        }
        .into()),
        None => Ok(()),
    }
}

/// A path that the tool takes for nothing else, such as a URL.
fn absolute(file: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(file).map_err(Error::io("find", file))
}

fn run(step: &'static str, file: &Path, arguments: &[&str], paths: &[&Path]) -> Result<(), Error> {
    output(step, file, arguments, paths).map(drop)
}

/// Runs the tool; what it writes.
fn output(step: &'static str, file: &Path, arguments: &[&str], paths: &[&Path]) -> Result<Vec<u8>, Error> {
    let failed = |words: String| VolumeError::Tool {
        step,
        file: file.to_owned(),
        words,
    };
    let mut command = Command::new(IMAGE_TOOL);
    command
        .args(arguments)
        .args(paths)
        .env_clear()
        .env(environment::PATH, environment::path())
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => VolumeError::NoTool,
        _ => failed(error.to_string()),
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.lines().next_back().unwrap_or("it does not say why");
    Err(failed(words.trim_start_matches("qemu-img: ").to_owned()).into())
}
