//! On the host a volume is a file, locked while it is open.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use super::SECTOR;

/// Names the folder of volumes.
pub(crate) const FOLDER: &str = "HERMITAGE_VOLUMES";

#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    /// As it was when somebody looked last.
    sectors: AtomicU64,
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
        let sectors = AtomicU64::new(size(&file)? / SECTOR as u64);
        Ok(Self {
            file,
            sectors,
            is_read_only,
        })
    }

    pub(super) fn is_attached(label: &str) -> io::Result<bool> {
        path(label).map_or(Ok(false), |path| path.try_exists())
    }

    /// Size when somebody looked last.
    pub(super) fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Relaxed)
    }

    /// Size as it is now.
    pub(super) fn look(&self) -> u64 {
        if let Ok(size) = size(&self.file) {
            self.sectors.store(size / SECTOR as u64, Ordering::Relaxed);
        }
        self.sectors()
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

    pub(super) fn discard(&self, first: u64, sectors: u64) -> io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, hole, first * SECTOR as u64, sectors * SECTOR as u64) {
            // A file system that has no holes.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Bytes of a file or a block device, which tells its size in no other way. Nobody reads or writes where the file is at.
fn size(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// The file of a label, if there is a folder of volumes.
fn path(label: &str) -> Option<PathBuf> {
    let folder = env::var_os(FOLDER)?;
    Some(PathBuf::from(folder).join(format!("{label}.raw")))
}
