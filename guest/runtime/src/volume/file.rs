//! One file on a volume, which may grow up to the volume's end: what a data base keeps itself in.
//!
//! The first 4096 bytes of the volume are the header, of which one sector is used: it is replaced as a whole or not at
//! all, so a power cut leaves the old length or the new one.
//!
//! | bytes | |
//! | --- | --- |
//! | 0..8 | `HERMFILE` |
//! | 8..16 | length of the file, little-endian |
//! | 16..20 | CRC-32C of the bytes before |

use std::io;
use std::sync::{Mutex, PoisonError};

use crc::{CRC_32_ISCSI, Crc};

use super::{SECTOR, Volume};

const MAGIC: &[u8; 8] = b"HERMFILE";
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Where the file begins: at a page, as data bases want it.
const START: u64 = 4096;

/// The file that a volume holds.
#[derive(Debug)]
pub struct File {
    volume: Volume,
    length: Mutex<u64>,
}

impl File {
    /// Opens the file of a volume. A volume that has never been written to, whose first bytes are zero, becomes one
    /// with an empty file.
    ///
    /// # Errors
    /// `InvalidData`: there is something else on the volume, or its header is damaged, or the volume was cut off;
    /// nothing was written. Others: as [`Volume::open`] and the disk.
    pub fn open(label: &str) -> io::Result<Self> {
        Self::on(Volume::open(label)?)
    }

    /// Opens the file of a volume that is open.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn on(volume: Volume) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if volume.len() <= START {
            return Err(invalid("the volume is too small for a file"));
        }
        let mut start = vec![0; START as usize];
        volume.read_at(&mut start, 0)?;
        let length = if start.iter().all(|byte| *byte == 0) {
            0
        } else {
            length(&start).ok_or_else(|| invalid("the volume holds no file of ours, or a damaged one"))?
        };
        if length > volume.len() - START {
            return Err(invalid("the volume is smaller than the file on it"));
        }
        Ok(Self {
            volume,
            length: Mutex::new(length),
        })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        *self.length.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes it longer or shorter; what is new reads as it lies on the disk, zero on a fresh volume. Safe after the
    /// next [`flush`](Self::flush). What is cut off is discarded, so that it takes no room.
    ///
    /// # Errors
    /// `StorageFull`: the volume has no room for so much. Others: the disk failed.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        let mut now = self.length.lock().unwrap_or_else(PoisonError::into_inner);
        if length > self.volume.len() - START {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.volume.write_at(&header(length), 0)?;
        let cut_off = now.saturating_sub(length);
        *now = length;
        if cut_off > 0 {
            // Whoever finds the old length after a power cut finds the old bytes, too.
            self.volume.flush()?;
            match self.volume.discard(START + length, cut_off) {
                Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Fills the buffer with what is there from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof`: the file ends before. Others: the disk failed.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(buffer.len(), offset)?;
        self.volume.read_at(buffer, START + offset)
    }

    /// Replaces what is there from `offset` on. Safe after the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// `UnexpectedEof`: the file ends before. Others: as [`Volume::write_at`].
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(bytes.len(), offset)?;
        self.volume.write_at(bytes, START + offset)
    }

    /// Returns when all that was written before is on stable storage.
    ///
    /// # Errors
    /// As [`Volume::flush`].
    pub fn flush(&self) -> io::Result<()> {
        self.volume.flush()
    }

    fn check(&self, length: usize, offset: u64) -> io::Result<()> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn header(length: u64) -> [u8; SECTOR] {
    let mut header = [0; SECTOR];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&length.to_le_bytes());
    let sum = CRC.checksum(&header[..16]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

/// The length that a header tells, if it is whole.
fn length(start: &[u8]) -> Option<u64> {
    let length = u64::from_le_bytes(start.get(8..16)?.try_into().ok()?);
    (start.get(..SECTOR)? == header(length)).then_some(length)
}

/// The bytes of redb's data base.
#[cfg(feature = "redb")]
impl redb::StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len())
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync_data(&self, _: bool) -> io::Result<()> {
        self.flush()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(bytes, offset)
    }
}
