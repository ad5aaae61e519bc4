//! The user's volumes: files in a folder of their own, `volumes` beside the instances.
//!
//! | file | what it is |
//! | --- | --- |
//! | `NAME.qcow2`, `NAME.raw` | a volume; of one with a past, what is new since |
//! | `ID.layer` | what was before: see [`super::layers`] |
//! | `NAME.snapshots/SNAPSHOT` | a link to the layer that the snapshot is |
//! | `.lock` | see [`super::users`] |
//! | `.NAME.ID.next` | what a volume is about to be: see [`super::layers`] |
//! | `.NAME.PID.partial` | a volume in the making, by the process with this id |
//! | `..PID.partial` | a copy that this process works on |

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process;

use hermitage_disk::qcow2::{Header, Qcow2};

use super::{Format, User, VolumeError, VolumeName};
use crate::error::Error;

/// Folder of volumes below the root.
pub(super) const FOLDER: &str = "volumes";

/// Unit of a volume's size in bytes: a guest's sector.
pub(super) const SECTOR: u64 = 512;

/// Refuses a size that no disk has.
pub(super) fn check_size(size: u64) -> Result<(), VolumeError> {
    match size != 0 && size.is_multiple_of(SECTOR) {
        true => Ok(()),
        false => Err(VolumeError::Size(size)),
    }
}

/// What is known of a volume.
#[derive(Clone, Debug)]
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
    /// How many snapshots it has.
    pub snapshots: usize,
    /// The running instances that it is attached to: one that writes, or some that read.
    pub users: Vec<User>,
}

/// A file in the making, which is removed unless it gets its name.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) path: PathBuf,
}

impl Partial {
    /// Gives the file its name, which must be free.
    pub(super) fn publish(self, file: &Path) -> Result<(), Error> {
        self.sync()?;
        // Another name of it first: unlike `rename`, that replaces nothing.
        fs::hard_link(&self.path, file).map_err(Error::io("make", file))?;
        sync_folder(file)
    }

    /// Gives the file a name that another has.
    pub(super) fn replace(self, file: &Path) -> Result<(), Error> {
        self.sync()?;
        fs::rename(&self.path, file).map_err(Error::io("make", file))?;
        sync_folder(file)
    }

    /// Nothing gets a name before all of it is on the disk.
    fn sync(&self) -> Result<(), Error> {
        let synced = File::open(&self.path).and_then(|file| file.sync_all());
        synced.map_err(Error::io("write", &self.path))
    }
}

pub(super) fn sync_folder(file: &Path) -> Result<(), Error> {
    let folder = file.parent().unwrap_or(file);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(Error::io("write", folder))
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What is left of it is nobody's.
        let _ = fs::remove_file(&self.path);
    }
}

/// The path of a raw disk beside the volumes, where nothing is yet. What is made there goes with this value; where its
/// maker was killed, the next one who makes something removes it.
#[derive(Debug)]
pub struct Scratch(Partial);

impl Scratch {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// The volumes below one root.
#[derive(Clone, Debug)]
pub struct Volumes {
    pub(super) root: PathBuf,
}

impl Volumes {
    /// Those of a user, whose instances are below `root`, too.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        // Absolute, as the files of those that are attached.
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self { root }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    /// Makes an empty volume of so many bytes, which must be whole sectors of 512; its file.
    ///
    /// # Errors
    /// There is one of this name; the size is none; the file cannot be made.
    pub fn create(&self, name: &VolumeName, size: u64) -> Result<PathBuf, Error> {
        check_size(size)?;
        let _lock = self.lock()?;
        let file = self.free(name)?;
        let partial = self.partial(name);
        Qcow2::create(&partial.path, size)?;
        partial.publish(&file)?;
        Ok(file)
    }

    /// The file of a volume that is to be made: there is none of its name.
    pub(super) fn free(&self, name: &VolumeName) -> Result<PathBuf, VolumeError> {
        match self.file(name) {
            Ok(file) => Err(VolumeError::Exists {
                name: name.to_string(),
                file,
            }),
            Err(_) => Ok(self.folder().join(format!("{name}.qcow2"))),
        }
    }

    /// A file that becomes a volume: it is there wholly or not at all. Those of makers that were killed are removed.
    pub(super) fn partial(&self, name: &VolumeName) -> Partial {
        self.partial_of(name.as_str())
    }

    fn partial_of(&self, name: &str) -> Partial {
        let folder = self.folder();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let maker = file.to_str().and_then(|file| file.strip_suffix(".partial"));
            let pid = maker.and_then(|maker| maker.rsplit('.').next());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // Nothing depends on it, but the room on the disk.
                let _ = fs::remove_file(entry.path());
            }
        }
        let path = folder.join(format!(".{name}.{}.partial", process::id()));
        // One of an earlier process of the same id.
        let _ = fs::remove_file(&path);
        Partial { path }
    }

    /// A place for a raw disk that is worked on.
    ///
    /// # Errors
    /// The folder of the volumes cannot be made.
    pub fn scratch(&self) -> Result<Scratch, Error> {
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        // The name of no volume.
        Ok(Scratch(self.partial_of("")))
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<Facts>, Error> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| self.facts(name).ok()).collect())
    }

    /// The names of all volumes, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names(&self) -> Result<Vec<VolumeName>, Error> {
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
        Ok(names)
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
            Format::Qcow2 => Header::read(&file).map(|header| header.size).ok(),
        };
        Ok(Facts {
            name: name.clone(),
            users: self.users(&file),
            snapshots: self.snapshots_of(name).len(),
            format,
            size,
            on_disk: metadata.blocks() * SECTOR,
            file,
        })
    }

    /// Removes a volume with all that is on it, and with its snapshots, if the caller wants that. What clones need of it
    /// stays.
    ///
    /// # Errors
    /// There is none of this name; an instance uses it; it has snapshots.
    pub fn remove(&self, name: &VolumeName, with_snapshots: bool) -> Result<(), Error> {
        let _lock = self.lock()?;
        let file = self.unused(name)?;
        let snapshots = self.snapshots_of(name);
        if !snapshots.is_empty() && !with_snapshots {
            let (volume, names) = (name.clone(), snapshots.into_iter().map(|snapshot| snapshot.name));
            return Err(VolumeError::HasSnapshots {
                volume,
                snapshots: names.collect(),
            }
            .into());
        }
        // First, so that no later volume of this name has them.
        if !snapshots.is_empty() {
            let folder = self.snapshot_folder(name);
            fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
        }
        fs::remove_file(&file).map_err(Error::io("remove", &file))?;
        self.tidy();
        Ok(())
    }

    /// Gives a volume another name. What is on it stays, and its snapshots; guests find it by the new name.
    ///
    /// # Errors
    /// There is none of this name, or one of the new; an instance uses it.
    pub fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<(), Error> {
        let _lock = self.lock()?;
        let file = self.unused(from)?;
        let target = self
            .free(to)?
            .with_extension(file.extension().unwrap_or_default());
        // The snapshots first: if we are killed between the two, the same command goes on from there.
        let snapshots = self.snapshot_folder(from);
        match fs::rename(&snapshots, self.snapshot_folder(to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("rename", snapshots)(error));
            }
            _ => {}
        }
        fs::rename(&file, &target).map_err(Error::io("rename", &file))
    }

    pub(super) fn file(&self, name: &VolumeName) -> Result<PathBuf, VolumeError> {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::find;

    fn name(text: &str) -> VolumeName {
        text.parse().unwrap()
    }

    #[test]
    fn volumes_are_made_listed_renamed_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(root.path());
        assert!(volumes.list().unwrap().is_empty());
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
        let error = volumes.remove(&name("data"), false).unwrap_err();
        assert!(
            matches!(error, Error::Volume(VolumeError::NoName { .. })),
            "{error}"
        );
        volumes.remove(&name("old"), false).unwrap();
        let left = fs::read_dir(root.path().join(FOLDER)).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".lock"]);
    }
}
