//! Snapshots: layers that have a name. Clones, and the way back.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use hermitage_disk::qcow2::Header;

use super::{Point, SnapshotName, VolumeError, VolumeName, Volumes};
use crate::error::Error;
use crate::time::Timestamp;

/// Extension of the folder of a volume's snapshots.
pub(super) const FOLDER: &str = "snapshots";

/// A volume as it was.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The volume.
    pub volume: VolumeName,
    /// The snapshot's name.
    pub name: SnapshotName,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes that a guest could store; `None` if its file cannot be read.
    pub size: Option<u64>,
    /// Bytes that its layer takes on this host's disk. Layers below that it shares with others are not counted.
    pub on_disk: u64,
    layer: PathBuf,
}

impl Volumes {
    pub(super) fn snapshot_folder(&self, volume: &VolumeName) -> PathBuf {
        self.folder().join(format!("{volume}.{FOLDER}"))
    }

    /// Keeps a volume as it is at this moment. A guest that runs goes on, and finds there what it had been told is
    /// written. Without a name it gets one that tells the time.
    ///
    /// # Errors
    /// There is no such volume, or one that is raw; the name is taken; a file cannot be made; the machine refuses.
    pub fn snapshot(&self, volume: &VolumeName, name: Option<SnapshotName>) -> Result<Snapshot, Error> {
        let _lock = self.lock()?;
        self.file(volume)?;
        let folder = self.snapshot_folder(volume);
        let name = match name {
            Some(name) => name,
            None => self.free_name(volume)?,
        };
        let link = folder.join(name.as_str());
        if link.symlink_metadata().is_ok() {
            return Err(VolumeError::SnapshotExists {
                volume: volume.clone(),
                snapshot: name,
            }
            .into());
        }
        fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        let layer = self.freeze(volume)?;
        let target = Path::new("..").join(layer.file_name().unwrap_or_default());
        symlink(target, &link).map_err(Error::io("make", &link))?;
        self.seen(volume, name)
    }

    /// A name that tells the time, to the second.
    fn free_name(&self, volume: &VolumeName) -> Result<SnapshotName, Error> {
        let now = Timestamp::now().to_string();
        let second: String = now.chars().take_while(|c| *c != '.').collect();
        let base = second.replace(':', "").replace('T', "-");
        let folder = self.snapshot_folder(volume);
        let is_free = |name: &String| folder.join(name).symlink_metadata().is_err();
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let mut names = std::iter::once(base.clone()).chain(numbered);
        let name = names.find(is_free).unwrap_or_default();
        name.parse()
            .map_err(|_| Error::io("name", folder)(io::ErrorKind::InvalidInput.into()))
    }

    /// The snapshots of a volume, the oldest first.
    ///
    /// # Errors
    /// There is no such volume.
    pub fn snapshots(&self, volume: &VolumeName) -> Result<Vec<Snapshot>, Error> {
        self.file(volume)?;
        Ok(self.snapshots_of(volume))
    }

    pub(super) fn snapshots_of(&self, volume: &VolumeName) -> Vec<Snapshot> {
        let entries = fs::read_dir(self.snapshot_folder(volume));
        let names = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut snapshots: Vec<_> = names.filter_map(|name| self.seen(volume, name).ok()).collect();
        snapshots.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        snapshots
    }

    fn seen(&self, volume: &VolumeName, name: SnapshotName) -> Result<Snapshot, Error> {
        let link = self.snapshot_folder(volume).join(name.as_str());
        let unknown = || VolumeError::NoSnapshot {
            volume: volume.clone(),
            snapshot: name.clone(),
        };
        let made = link.symlink_metadata().and_then(|link| link.modified());
        let target = fs::read_link(&link).map_err(|_| unknown())?;
        let layer = self.folder().join(target.file_name().unwrap_or_default());
        Ok(Snapshot {
            volume: volume.clone(),
            created: made.map_err(|_| unknown())?.into(),
            size: Header::read(&layer).ok().map(|header| header.size),
            on_disk: fs::metadata(&layer).map_or(0, |layer| layer.blocks() * super::store::SECTOR),
            name,
            layer,
        })
    }

    /// The layer that a snapshot is.
    pub(super) fn layer(&self, volume: &VolumeName, name: &SnapshotName) -> Result<PathBuf, Error> {
        self.file(volume)?;
        Ok(self.seen(volume, name.clone())?.layer)
    }

    /// Makes a volume what it was. What was written since is gone.
    ///
    /// # Errors
    /// There is no such volume or snapshot; an instance uses the volume; a file cannot be made.
    pub fn restore(&self, volume: &VolumeName, snapshot: &SnapshotName) -> Result<(), Error> {
        let _lock = self.lock()?;
        let file = self.unused(volume)?;
        let layer = self.layer(volume, snapshot)?;
        self.on_layer(&layer, volume)?.replace(&file)?;
        self.tidy();
        Ok(())
    }

    /// Makes a volume that begins as another is or was, and shares with it what neither changes; its file. A guest that
    /// has the other goes on.
    ///
    /// # Errors
    /// There is no such volume or snapshot, or one of the new name; a file cannot be made; the machine refuses.
    pub fn duplicate(&self, from: &Point, to: &VolumeName) -> Result<PathBuf, Error> {
        let _lock = self.lock()?;
        self.file(&from.volume)?;
        let file = self.free(to)?;
        let layer = match &from.snapshot {
            Some(snapshot) => self.layer(&from.volume, snapshot)?,
            None => self.freeze(&from.volume)?,
        };
        self.on_layer(&layer, to)?.publish(&file)?;
        Ok(file)
    }

    /// Removes a snapshot. The volume stays as it is.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn remove_snapshot(&self, volume: &VolumeName, snapshot: &SnapshotName) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.layer(volume, snapshot)?;
        let folder = self.snapshot_folder(volume);
        let link = folder.join(snapshot.as_str());
        fs::remove_file(&link).map_err(Error::io("remove", link))?;
        // Others may be in it.
        let _ = fs::remove_dir(folder);
        self.tidy();
        Ok(())
    }
}
