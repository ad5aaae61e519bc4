//! On the host a volume is a file, locked while it is open.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::SECTOR;

/// Names the folder of volumes.
const FOLDER: &str = "HERMITAGE_VOLUMES";

#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    sectors: u64,
    is_read_only: bool,
}

impl Disk {
    pub(super) fn open(label: &str) -> io::Result<Self> {
        Self::at(&path(label).ok_or(io::ErrorKind::NotFound)?)
    }

    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let (file, is_read_only) = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (File::open(path)?, true),
            opened => (opened?, false),
        };
        let lock = if is_read_only {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        flock(&file, lock).map_err(|error| match error {
            Errno::WOULDBLOCK => io::ErrorKind::ResourceBusy.into(),
            error => io::Error::from(error),
        })?;
        let sectors = file.metadata()?.len() / SECTOR as u64;
        Ok(Self {
            file,
            sectors,
            is_read_only,
        })
    }

    pub(super) fn is_attached(label: &str) -> io::Result<bool> {
        path(label).map_or(Ok(false), |path| path.try_exists())
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(super) fn read(&self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, first * SECTOR as u64)
    }

    pub(super) fn write(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, first * SECTOR as u64)
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The file of a label, if there is a folder of volumes.
fn path(label: &str) -> Option<PathBuf> {
    let folder = env::var_os(FOLDER)?;
    Some(PathBuf::from(folder).join(format!("{label}.raw")))
}
