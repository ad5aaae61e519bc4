//! The user's volumes: files in a folder of their own, `volumes` beside the instances, each named by its label.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hermitage_disk::qcow2::Qcow2;
use hermitage_disk::{Access, BlockDevice as _};

use super::{Format, VolumeError, find, is_name};
use crate::error::Error;
use crate::instance::Instances;
use crate::units::{InstanceName, ParseError};

/// Folder of volumes below the root.
pub(super) const FOLDER: &str = "volumes";

/// Unit of a volume's size in bytes: a guest's sector.
const SECTOR: u64 = 512;

/// Name of a volume in the user's folder, its label in the guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeName(String);

impl VolumeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseError::new(
            text,
            "is not a name of a volume",
            "a name has up to 20 letters, digits, `-`, `_` or `.`, and starts with a letter or a digit",
        ))
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub name: VolumeName,
    /// Its file.
    pub file: PathBuf,
    /// The file's format.
    pub format: Format,
    /// Bytes that a guest can store; `None` while the file cannot be read.
    pub size: Option<u64>,
    /// Bytes that the file takes on this host's disk.
    pub on_disk: u64,
    /// The running instance that it is attached to.
    pub holder: Option<InstanceName>,
}

/// The volumes below one root.
#[derive(Clone, Debug)]
pub struct Volumes {
    root: PathBuf,
}

impl Volumes {
    /// Those of a user, whose instances are below `root`, too.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        // Absolute, as the files of those that are attached.
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self { root }
    }

    fn folder(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    /// Makes an empty volume of so many bytes, which must be whole sectors of 512; its file.
    ///
    /// # Errors
    /// There is one of this name; the size is none; the file cannot be made.
    pub fn create(&self, name: &VolumeName, size: u64) -> Result<PathBuf, Error> {
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(VolumeError::Size(size).into());
        }
        if let Ok(file) = self.file(name) {
            return Err(VolumeError::Exists {
                name: name.to_string(),
                file,
            }
            .into());
        }
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        let file = folder.join(format!("{name}.qcow2"));
        // Under another name first: a volume is there wholly or not at all.
        let partial = folder.join(format!(".{name}.{}.partial", std::process::id()));
        let made = Qcow2::create(&partial, size)
            .map_err(Error::from)
            .and_then(|_| fs::hard_link(&partial, &file).map_err(Error::io("make", &file)));
        // What is left of it is nobody's.
        let _ = fs::remove_file(&partial);
        made.map(|()| file)
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<Facts>, Error> {
        let folder = self.folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read", &folder)(error)),
        };
        let mut names: Vec<VolumeName> = entries
            .flatten()
            .filter_map(|entry| {
                let path = entry.path();
                Format::of(&path)?;
                path.file_stem()?.to_str()?.parse().ok()
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names.iter().filter_map(|name| self.facts(name).ok()).collect())
    }

    /// What is known of a volume.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn facts(&self, name: &VolumeName) -> Result<Facts, Error> {
        let file = self.file(name)?;
        let metadata = fs::metadata(&file).map_err(Error::io("read", &file))?;
        let format = Format::of(&file).ok_or_else(|| VolumeError::Format(file.clone()))?;
        let size = match format {
            Format::Raw => Some(metadata.len()),
            Format::Qcow2 => Qcow2::open(&file, Access::Read).map(|disk| disk.size()).ok(),
        };
        Ok(Facts {
            name: name.clone(),
            holder: self.holder(&file, None),
            format,
            size,
            on_disk: metadata.blocks() * SECTOR,
            file,
        })
    }

    /// Removes a volume with all that is on it.
    ///
    /// # Errors
    /// There is none of this name; an instance uses it.
    pub fn remove(&self, name: &VolumeName) -> Result<(), Error> {
        let file = self.unused(name)?;
        fs::remove_file(&file).map_err(Error::io("remove", &file))
    }

    /// Gives a volume another name. What is on it stays; guests find it by the new label.
    ///
    /// # Errors
    /// There is none of this name, or one of the new; an instance uses it.
    pub fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<(), Error> {
        let file = self.unused(from)?;
        if let Ok(file) = self.file(to) {
            return Err(VolumeError::Exists {
                name: to.to_string(),
                file,
            }
            .into());
        }
        let extension = file.extension().unwrap_or_default();
        let target = self.folder().join(to.as_str()).with_extension(extension);
        fs::rename(&file, &target).map_err(Error::io("rename", &file))
    }

    fn unused(&self, name: &VolumeName) -> Result<PathBuf, Error> {
        let file = self.file(name)?;
        match self.holder(&file, None) {
            Some(holder) => Err(VolumeError::InUse {
                label: name.to_string(),
                holder,
            }
            .into()),
            None => Ok(file),
        }
    }

    fn file(&self, name: &VolumeName) -> Result<PathBuf, VolumeError> {
        let folder = self.folder();
        let files = ["qcow2", "raw"].map(|extension| folder.join(format!("{name}.{extension}")));
        files
            .into_iter()
            .find(|file| file.exists())
            .ok_or(VolumeError::NoName {
                name: name.to_string(),
                folder,
            })
    }

    /// The running instance, other than `own`, that a volume's file is attached to.
    pub(crate) fn holder(&self, file: &Path, own: Option<&InstanceName>) -> Option<InstanceName> {
        let instances = Instances::below(&self.root).ok()?;
        let names = instances.names().unwrap_or_default();
        names.into_iter().filter(|name| Some(name) != own).find(|name| {
            let Ok(seen) = instances.see(name) else {
                return false;
            };
            let disks = find(&seen.record.request.volumes, Some(&self.root)).unwrap_or_default();
            seen.state.phase.is_supervised() && disks.iter().any(|disk| disk.file == file)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> VolumeName {
        text.parse().unwrap()
    }

    #[test]
    fn volumes_are_made_listed_renamed_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(root.path());
        assert_eq!(volumes.list().unwrap(), []);
        volumes.create(&name("data"), 64 << 20).unwrap();
        let error = volumes.create(&name("data"), 1 << 20).unwrap_err();
        assert!(
            matches!(error, Error::Volume(VolumeError::Exists { .. })),
            "{error}"
        );
        let error = volumes.create(&name("odd"), 1000).unwrap_err();
        assert!(matches!(error, Error::Volume(VolumeError::Size(1000))), "{error}");

        let list = volumes.list().unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].name.as_str(), list[0].size), ("data", Some(64 << 20)));
        assert!(list[0].on_disk < 1 << 20, "{}", list[0].on_disk);
        // It is what `--volume data` finds.
        let disks = find(&["data".parse().unwrap()], Some(root.path())).unwrap();
        assert_eq!(disks[0].file, list[0].file);

        volumes.rename(&name("data"), &name("old")).unwrap();
        let error = volumes.remove(&name("data")).unwrap_err();
        assert!(
            matches!(error, Error::Volume(VolumeError::NoName { .. })),
            "{error}"
        );
        volumes.remove(&name("old")).unwrap();
        assert_eq!(fs::read_dir(root.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn names_are_labels() {
        for text in ["", "..", "a/b", "a b", &"x".repeat(21)] {
            assert!(text.parse::<VolumeName>().is_err(), "{text}");
        }
    }
}
