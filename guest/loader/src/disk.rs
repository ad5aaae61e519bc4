//! Byte reads on a disk of sectors.
//!
//! A [`Disk`] keeps one window of the disk in memory, so that the many small reads of partition table and file
//! system metadata, which lie close together, become few requests. What is larger than the window is read
//! straight into the caller's buffer.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use hermitage_erofs::reader::ReadAt;

use crate::layout::SECTOR;

/// Bytes of the window: what a virtual disk reads in about the same time as one sector.
const WINDOW: u64 = 64 * 1024;

/// A device that reads whole sectors.
pub trait Sectors {
    /// How many it has.
    fn count(&self) -> u64;

    /// Fills `buffer`, whose length is a multiple of a sector's, from a sector on.
    ///
    /// # Errors
    /// The device fails.
    fn read(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceFailed>;
}

/// A device did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFailed;

/// Why bytes of a disk cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The device failed at this byte of the disk.
    Device {
        /// Where.
        offset: u64,
    },
    /// The disk, or the partition, ends before.
    End {
        /// First byte of the read.
        offset: u64,
        /// Bytes that the disk or partition has.
        size: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { offset } => write!(f, "disk cannot be read at byte {offset}"),
            Self::End { offset, size } => write!(f, "read at byte {offset} goes beyond the end at {size}"),
        }
    }
}

impl core::error::Error for Error {}

/// A disk.
pub struct Disk<S> {
    inner: RefCell<Inner<S>>,
}

struct Inner<S> {
    device: S,
    /// First byte that the window holds; as many as `window` has. Empty at first.
    window_start: u64,
    window: Vec<u8>,
}

impl<S: Sectors> Disk<S> {
    /// A disk on a device.
    pub fn new(device: S) -> Self {
        Self {
            inner: RefCell::new(Inner {
                device,
                window_start: 0,
                window: Vec::new(),
            }),
        }
    }

    /// Bytes that it has.
    pub fn size(&self) -> u64 {
        self.inner.borrow().size()
    }
}

impl<S: Sectors> ReadAt for Disk<S> {
    type Error = Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.inner.borrow_mut().read_at(offset, buffer)
    }
}

impl<S: Sectors> Inner<S> {
    fn size(&self) -> u64 {
        self.device.count().saturating_mul(SECTOR)
    }

    fn read_at(&mut self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), Error> {
        let size = self.size();
        if offset
            .checked_add(buffer.len() as u64)
            .is_none_or(|end| end > size)
        {
            return Err(Error::End { offset, size });
        }
        while !buffer.is_empty() {
            let direct = buffer.len() as u64 / SECTOR * SECTOR;
            let done = if offset % SECTOR == 0 && direct >= WINDOW {
                let read = self.device.read(offset / SECTOR, &mut buffer[..direct as usize]);
                read.map_err(|DeviceFailed| Error::Device { offset })?;
                direct as usize
            } else {
                self.copy(offset, buffer)?
            };
            offset += done as u64;
            buffer = &mut buffer[done..];
        }
        Ok(())
    }

    /// Copies from the window what it has of `buffer`, at least one byte; how many.
    fn copy(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let held = self.window_start..self.window_start + self.window.len() as u64;
        if !held.contains(&offset) {
            self.fill(offset / WINDOW * WINDOW)?;
        }
        let from = &self.window[(offset - self.window_start) as usize..];
        let length = from.len().min(buffer.len());
        buffer[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    fn fill(&mut self, start: u64) -> Result<(), Error> {
        let length = WINDOW.min(self.size() - start) as usize;
        let mut window = core::mem::take(&mut self.window);
        if window.len() != length {
            window = vec![0; length];
        }
        let read = self.device.read(start / SECTOR, &mut window);
        read.map_err(|DeviceFailed| Error::Device { offset: start })?;
        self.window_start = start;
        self.window = window;
        Ok(())
    }
}

/// A stretch of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// A stretch of a disk that is read as if it were alone.
#[derive(Clone, Copy)]
pub struct Partition<'a, D> {
    disk: &'a D,
    extent: Extent,
}

impl<'a, D> Partition<'a, D> {
    /// An extent of a disk.
    pub fn new(disk: &'a D, extent: Extent) -> Self {
        Self { disk, extent }
    }

    /// Bytes that it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.extent.size
    }
}

impl<D: ReadAt<Error = Error>> ReadAt for Partition<'_, D> {
    type Error = Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.extent.size) {
            return Err(Error::End {
                offset,
                size: self.extent.size,
            });
        }
        self.disk.read_at(self.extent.start + offset, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory {
        bytes: Vec<u8>,
        requests: usize,
    }

    impl Sectors for &mut Memory {
        fn count(&self) -> u64 {
            self.bytes.len() as u64 / SECTOR
        }

        fn read(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceFailed> {
            assert_eq!(buffer.len() as u64 % SECTOR, 0);
            let start = (sector * SECTOR) as usize;
            buffer.copy_from_slice(&self.bytes[start..start + buffer.len()]);
            self.requests += 1;
            Ok(())
        }
    }

    fn memory(sectors: u64) -> Memory {
        let bytes = (0..sectors * SECTOR).map(|at| (at / 7 % 251) as u8).collect();
        Memory { bytes, requests: 0 }
    }

    #[test]
    fn reads_any_range_as_it_lies_on_the_disk() {
        let mut memory = memory(1001);
        let bytes = memory.bytes.clone();
        let disk = Disk::new(&mut memory);
        for (offset, length) in [
            (0, 1),
            (511, 2),
            (65_535, 2),
            (3, 200_000),
            (512, 131_072),
            (0, 512_512),
            (512_511, 1),
            (9, 0),
        ] {
            let mut buffer = vec![0xaa; length];
            disk.read_at(offset, &mut buffer).unwrap();
            assert_eq!(buffer, bytes[offset as usize..][..length], "{offset} {length}");
        }
    }

    #[test]
    fn asks_the_device_once_for_neighbours_and_once_for_a_large_range() {
        let mut memory = memory(1000);
        let disk = Disk::new(&mut memory);
        for offset in 0..100 {
            disk.read_at(offset * 16, &mut [0; 16]).unwrap();
        }
        disk.read_at(4096, &mut [0; 262_144]).unwrap();
        drop(disk);
        assert_eq!(memory.requests, 2);
    }

    #[test]
    fn refuses_what_lies_beyond_the_end() {
        let mut memory = memory(8);
        let disk = Disk::new(&mut memory);
        for (offset, length) in [(4096, 1), (4090, 7), (u64::MAX, 2)] {
            let read = disk.read_at(offset, &mut vec![0; length]);
            assert_eq!(read, Err(Error::End { offset, size: 4096 }));
        }
        let partition = Partition::new(
            &disk,
            Extent {
                start: 512,
                size: 512,
            },
        );
        assert_eq!(
            partition.read_at(511, &mut [0; 2]),
            Err(Error::End {
                offset: 511,
                size: 512
            })
        );
        assert_eq!(partition.read_at(511, &mut [0; 1]), Ok(()));
    }
}
