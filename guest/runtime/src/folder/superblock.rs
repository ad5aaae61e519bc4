//! Where a folder lies on its volume: behind a first sector that says that it is one.
//!
//! | bytes | |
//! | --- | --- |
//! | 0..8 | `HERMTREE` |
//! | 8..16 | bytes that the data base has, little-endian: all that there are on the volume |
//! | 16..20 | CRC-32C of the bytes before |
//! | from 4096 on | the data base |
//!
//! The data base is to have the whole volume from the start: redb doubles its file when it needs one page more, which
//! would leave up to half of a volume unused. But redb takes what a file has beyond its data base only after a power cut,
//! when it looks at what there is. So it gets one ([`Base::cut`]).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crc::{CRC_32_ISCSI, Crc};

use super::Bytes;

const MAGIC: &[u8; 8] = b"HERMTREE";
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const SECTOR: usize = 512;
/// Where the data base begins, and the unit that its length is of: redb's page.
const START: u64 = 4096;

/// The bytes of redb's data base; all clones are the same.
pub(super) struct Base<D>(Arc<Inner<D>>);

struct Inner<D> {
    disk: D,
    length: AtomicU64,
    /// Whether the first sector is written.
    is_made: AtomicBool,
    /// Whether all writes fail.
    is_cut: AtomicBool,
}

impl<D> Clone for Base<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Bytes> Base<D> {
    /// The data base on a disk; an empty one where nothing was ever written.
    pub(super) fn on(disk: D) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if disk.size() <= START {
            return Err(invalid("the volume is too small for a folder"));
        }
        let mut start = vec![0; START as usize];
        disk.read_at(&mut start, 0)?;
        let is_empty = start.iter().all(|byte| *byte == 0);
        let length = u64::from_le_bytes(start[8..16].try_into().unwrap_or_default());
        if !is_empty && start[..SECTOR] != sector(length) {
            return Err(invalid("the volume holds no folder, or a damaged one"));
        }
        let base = Self(Arc::new(Inner {
            disk,
            length: AtomicU64::new(length),
            is_made: AtomicBool::new(!is_empty),
            is_cut: AtomicBool::new(false),
        }));
        if length > base.room() {
            return Err(invalid("the volume is smaller than the folder on it"));
        }
        Ok(base)
    }

    /// Bytes for the data base that the volume has.
    pub(super) fn room(&self) -> u64 {
        (self.0.disk.size() - START) / START * START
    }

    /// Whether the data base has the whole volume.
    pub(super) fn has_all(&self) -> bool {
        self.0.length.load(Ordering::SeqCst) == self.room()
    }

    /// From now on all writes fail.
    pub(super) fn cut(&self) {
        self.0.is_cut.store(true, Ordering::SeqCst);
    }

    /// Gives the data base, which nobody has open, the whole volume, and says on the disk that it is one. Writes
    /// come there again.
    pub(super) fn take_all(&self) -> io::Result<()> {
        // The data base is there before it is said to be.
        self.0.disk.flush()?;
        self.put(self.room())?;
        self.0.disk.flush()?;
        self.0.is_made.store(true, Ordering::SeqCst);
        self.0.is_cut.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn put(&self, length: u64) -> io::Result<()> {
        self.0.disk.write_at(&sector(length), 0)?;
        self.0.length.store(length, Ordering::SeqCst);
        Ok(())
    }

    fn check(&self, offset: u64, length: usize, kind: io::ErrorKind) -> io::Result<()> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.room() => Ok(()),
            _ => Err(kind.into()),
        }
    }
}

fn sector(length: u64) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector[..8].copy_from_slice(MAGIC);
    sector[8..16].copy_from_slice(&length.to_le_bytes());
    let sum = CRC.checksum(&sector[..16]);
    sector[16..20].copy_from_slice(&sum.to_le_bytes());
    sector
}

impl<D> fmt::Debug for Base<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Base")
    }
}

impl<D: Bytes> redb::StorageBackend for Base<D> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.length.load(Ordering::SeqCst))
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.check(offset, length, io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; length];
        self.0.disk.read_at(&mut bytes, START + offset)?;
        Ok(bytes)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if length > self.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let is_made = self.0.is_made.load(Ordering::SeqCst);
        if is_made && !self.0.is_cut.load(Ordering::SeqCst) {
            return self.put(length);
        }
        self.0.length.store(length, Ordering::SeqCst);
        Ok(())
    }

    fn sync_data(&self, _: bool) -> io::Result<()> {
        self.0.disk.flush()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len(), io::ErrorKind::StorageFull)?;
        if self.0.is_cut.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.disk.write_at(bytes, START + offset)
    }
}
