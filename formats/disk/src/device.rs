//! A disk as a block device: bytes at offsets, and a barrier.
//!
//! [`BlockDevice`] is what all code above sees; how the bytes are kept (qcow2, a plain file, memory) is known to
//! its implementations alone.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{PoisonError, RwLock};

/// Bytes at offsets.
pub trait BlockDevice: fmt::Debug + Send + Sync {
    /// Bytes that the device has. Nothing beyond can be read or written.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// The device fails, or has fewer bytes.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` from `offset` on.
    ///
    /// # Errors
    /// The device fails, has fewer bytes, or is read-only.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// A barrier: when it returns, all that was written before survives a power cut.
    ///
    /// # Errors
    /// The device fails; what was written before may or may not be there.
    fn flush(&self) -> io::Result<()>;
}

/// A plain file, of the size that it had when it was opened.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    size: u64,
}

impl RawFile {
    /// Takes an open file.
    ///
    /// # Errors
    /// The file's size cannot be found out.
    pub fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl BlockDevice for RawFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_bounds(self.size, offset, bytes.len())?;
        self.file.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Memory; for tests.
#[derive(Debug)]
pub struct Memory(RwLock<Vec<u8>>);

impl Memory {
    /// A device that holds these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(RwLock::new(bytes))
    }

    /// The bytes that it holds at the end.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockDevice for Memory {
    fn size(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let start = check_bounds(bytes.len() as u64, offset, buffer.len())?;
        buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let start = check_bounds(bytes.len() as u64, offset, data.len())?;
        bytes[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// `offset` as an index, if `length` bytes from there on are within `size`.
pub(crate) fn check_bounds(size: u64, offset: u64, length: usize) -> io::Result<usize> {
    let start = usize::try_from(offset).ok();
    match start {
        Some(start) if offset.checked_add(length as u64).is_some_and(|end| end <= size) => Ok(start),
        _ => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{length} bytes at {offset} are beyond the end of the disk, {size} bytes"),
        )),
    }
}

/// A part of a device, as a device of its own: a partition.
#[derive(Debug)]
pub struct Slice<'a> {
    device: &'a dyn BlockDevice,
    start: u64,
    size: u64,
}

impl<'a> Slice<'a> {
    /// `size` bytes of `device` from `start` on.
    ///
    /// # Errors
    /// The device has fewer bytes.
    pub fn new(device: &'a dyn BlockDevice, start: u64, size: u64) -> io::Result<Self> {
        check_bounds(device.size(), start, usize::try_from(size).unwrap_or(usize::MAX))?;
        Ok(Self { device, start, size })
    }
}

impl BlockDevice for Slice<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        check_bounds(self.size, offset, buffer.len())?;
        self.device.read_at(self.start + offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_bounds(self.size, offset, bytes.len())?;
        self.device.write_at(self.start + offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.device.flush()
    }
}

impl hermitage_erofs::reader::ReadAt for Slice<'_> {
    type Error = io::Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        BlockDevice::read_at(self, offset, buffer)
    }
}
