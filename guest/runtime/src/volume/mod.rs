//! Volumes: disks that outlive the machines they are attached to, found by their labels.
//!
//! In a guest a volume is a virtio disk whose serial is the label (`run --volume NAME`). On the host it is the file
//! `NAME.raw` in the folder that `HERMITAGE_VOLUMES` names. The same program runs on both:
//!
//! ```no_run
//! use hermitage_runtime::Volume;
//!
//! let volume = Volume::open("data")?;
//! volume.write_at(b"kept", 4096)?;
//! volume.flush()?; // From here on it is safe, whatever is killed.
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Start with [`Volume`]; [`File`] is a volume that holds one file, which may grow: what a data base asks for.

#[cfg_attr(target_os = "hermit", path = "guest.rs")]
#[cfg_attr(not(target_os = "hermit"), path = "host.rs")]
mod disk;
mod file;
#[cfg(all(test, not(target_os = "hermit")))]
mod tests;

#[cfg(not(target_os = "hermit"))]
pub(crate) use disk::FOLDER;
pub use file::File;

use std::io;
use std::sync::{Mutex, PoisonError};

use disk::Disk;

/// Unit in which disks read and write, in bytes (virtio 1.2, 5.2.6).
pub(crate) const SECTOR: usize = 512;

/// A volume that is open. All methods may be called by several threads at once; their requests are in flight together.
#[derive(Debug)]
pub struct Volume {
    disk: Disk,
    /// Held while a part of a sector is replaced: two such writes may share the sector.
    parts: Mutex<()>,
}

impl Volume {
    /// Opens the volume of a label, for this program alone.
    ///
    /// # Errors
    /// `NotFound`: no volume of this label is attached. `ResourceBusy`: it is open already. Others: the disk cannot
    /// be driven.
    pub fn open(label: &str) -> io::Result<Self> {
        Ok(Self {
            disk: Disk::open(label)?,
            parts: Mutex::new(()),
        })
    }

    /// Whether a volume of this label is attached.
    ///
    /// # Errors
    /// The disks cannot be looked at.
    pub fn is_attached(label: &str) -> io::Result<bool> {
        Disk::is_attached(label)
    }

    /// Size in bytes, as it is now: it may have been made larger meanwhile.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no disk is empty")]
    pub fn len(&self) -> u64 {
        self.disk.look() * SECTOR as u64
    }

    /// Whether it is attached to be read only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.disk.is_read_only()
    }

    /// Fills the buffer with what is there from `offset` on, in bytes.
    ///
    /// # Errors
    /// `UnexpectedEof`: it ends before. Others: the disk failed.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(buffer.len(), offset, io::ErrorKind::UnexpectedEof)?;
        if is_whole(buffer.len(), offset) {
            return self.disk.read(offset / SECTOR as u64, buffer);
        }
        let (first, mut sectors) = around(buffer.len(), offset);
        self.disk.read(first, &mut sectors)?;
        let skipped = (offset % SECTOR as u64) as usize;
        buffer.copy_from_slice(&sectors[skipped..][..buffer.len()]);
        Ok(())
    }

    /// Replaces what is there from `offset` on, in bytes. It is safe after the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// `StorageFull`: the volume ends before. `ReadOnlyFilesystem`. Others: the disk failed; what is there then is the
    /// old or the new, sector by sector.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(bytes.len(), offset, io::ErrorKind::StorageFull)?;
        if self.is_read_only() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if is_whole(bytes.len(), offset) {
            return self.disk.write(offset / SECTOR as u64, bytes);
        }
        let _alone = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, mut sectors) = around(bytes.len(), offset);
        let last = sectors.len() - SECTOR;
        self.disk.read(first, &mut sectors[..SECTOR])?;
        if last > 0 {
            self.disk
                .read(first + (last / SECTOR) as u64, &mut sectors[last..])?;
        }
        let skipped = (offset % SECTOR as u64) as usize;
        sectors[skipped..][..bytes.len()].copy_from_slice(bytes);
        self.disk.write(first, &sectors)
    }

    /// Returns when all that was written before is on stable storage.
    ///
    /// # Errors
    /// The disk failed: nothing that was written since the last flush may be taken for safe.
    pub fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }

    /// Tells the disk that what is in this range, in bytes, is not needed any more, so that it takes no room: until it is
    /// written again it reads as it was, or as zeros. Parts of sectors at the ends stay as they are. A disk that cannot do
    /// that does nothing.
    ///
    /// # Errors
    /// `StorageFull`: the volume ends before. `ReadOnlyFilesystem`. Others: the disk failed.
    pub fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = self.end(offset, length, io::ErrorKind::StorageFull)?;
        if self.is_read_only() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let (first, end) = (offset.div_ceil(SECTOR as u64), end / SECTOR as u64);
        match end.checked_sub(first) {
            Some(sectors) if sectors > 0 => self.disk.discard(first, sectors),
            _ => Ok(()),
        }
    }

    fn check(&self, length: usize, offset: u64, kind: io::ErrorKind) -> io::Result<()> {
        self.end(offset, length as u64, kind).map(drop)
    }

    /// The end of a range, if it is on the volume.
    fn end(&self, offset: u64, length: u64, kind: io::ErrorKind) -> io::Result<u64> {
        // To ask the disk for its size takes longer than to remember it.
        let fits = |end: &u64| *end <= self.disk.sectors() * SECTOR as u64 || *end <= self.len();
        offset.checked_add(length).filter(fits).ok_or(kind.into())
    }
}

/// Whether an access is of whole sectors.
fn is_whole(length: usize, offset: u64) -> bool {
    length % SECTOR == 0 && offset % SECTOR as u64 == 0
}

/// The first of the sectors that an access touches, and a buffer for all of them.
fn around(length: usize, offset: u64) -> (u64, Vec<u8>) {
    let first = offset / SECTOR as u64;
    let end = (offset + length as u64).div_ceil(SECTOR as u64).max(first + 1);
    (first, vec![0; (end - first) as usize * SECTOR])
}
