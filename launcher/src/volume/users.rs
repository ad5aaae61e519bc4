//! Who has a volume, and who may change it.
//!
//! | who | takes the folder's lock | and then |
//! | --- | --- | --- |
//! | starts an instance with volumes | until the instance is seen to run | looks who else has them |
//! | changes volumes: a snapshot, another name, its removal | for that long | looks who has it |
//!
//! So each sees the other, in whatever order they come. The lock is an `flock`; the kernel frees it with its holder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Disk, Volume, VolumeError, Volumes, find};
use crate::error::Error;
use crate::instance::{Instances, Phase, Seen};
use crate::units::InstanceName;

/// The file whose lock it is.
const LOCK: &str = ".lock";

/// How long one waits for another: a start takes 0.1 s, to take layers together some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often one looks again meanwhile. The kernel could wait by itself, but not for a limited time.
const PAUSE: Duration = Duration::from_millis(5);

/// As long as it lives nobody else changes the volumes, and no instance starts with one.
#[derive(Debug)]
#[must_use = "a lock that is dropped is held no more"]
pub struct Guard {
    _file: File,
}

/// An instance that a volume is attached to.
#[derive(Clone, Debug)]
pub struct User {
    /// The instance.
    pub instance: InstanceName,
    /// Whether it may only read.
    pub read_only: bool,
    /// The volume's label in it.
    pub(super) label: String,
    pub(super) seen: Seen,
}

impl User {
    /// Whether its machine is there at this moment: not between two runs.
    pub(super) fn has_machine(&self) -> bool {
        matches!(self.seen.state.phase, Phase::Running | Phase::Paused)
    }
}

impl Volumes {
    /// Keeps everybody else from changing volumes.
    pub(super) fn lock(&self) -> Result<Guard, Error> {
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        let path = folder.join(LOCK);
        let file = File::create(&path).map_err(Error::io("open", &path))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Err(VolumeError::Locked(folder).into()),
                Err(errno) => return Err(Error::io("lock", path)(errno.into())),
            }
        }
        self.finish_all()?;
        Ok(Guard { _file: file })
    }

    /// The lock, for who starts an instance with `volumes`; `None` where nobody else could want it.
    pub(crate) fn lock_for_start(&self, volumes: &[Volume]) -> Result<Option<Guard>, Error> {
        if volumes.is_empty() || !self.folder().is_dir() {
            return Ok(None);
        }
        self.lock().map(Some)
    }

    /// The running instances that a volume's file is attached to.
    pub(super) fn users(&self, file: &Path) -> Vec<User> {
        let names = Instances::below(&self.root).and_then(|instances| Ok((instances.names()?, instances)));
        let Ok((names, instances)) = names else {
            return Vec::new();
        };
        let user = |name: InstanceName| {
            let seen = instances.see(&name).ok()?;
            if !seen.state.phase.is_supervised() {
                return None;
            }
            let disks = find(&seen.record.request.volumes, Some(&self.root)).unwrap_or_default();
            let disk = disks.into_iter().find(|disk| disk.file == file)?;
            Some(User {
                instance: name,
                read_only: disk.read_only,
                label: disk.label,
                seen,
            })
        };
        names.into_iter().filter_map(user).collect()
    }

    /// Refuses a disk for `own` that another instance has in a way that does not go together with it: one that writes is
    /// alone.
    pub(crate) fn check_free(&self, disk: &Disk, own: &InstanceName) -> Result<(), VolumeError> {
        let disturbs = |user: &User| user.instance != *own && !(user.read_only && disk.read_only);
        match self.users(&disk.file).into_iter().find(disturbs) {
            Some(user) => Err(VolumeError::InUse {
                name: disk.label.clone(),
                holder: user.instance,
            }),
            None => Ok(()),
        }
    }

    /// The file of a volume that no instance has.
    pub(super) fn unused(&self, name: &super::VolumeName) -> Result<PathBuf, Error> {
        let file = self.file(name)?;
        match self.users(&file).into_iter().next() {
            Some(user) => Err(VolumeError::InUse {
                name: name.to_string(),
                holder: user.instance,
            }
            .into()),
            None => Ok(file),
        }
    }
}
