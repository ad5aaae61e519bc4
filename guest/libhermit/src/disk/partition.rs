//! The part of a disk that holds the image's files.
//!
//! Small reads go through windows that are read ahead (`guest/files` `cache`), large ones to where they are wanted, by the
//! device itself. The two agree, since nobody writes here.

use alloc::boxed::Box;
use core::task::Poll;

use hermit::syscalls::sys_yield;
use hermitage_boot::Files;
use hermitage_erofs::reader::ReadAt;
use hermitage_files::cache::{Cache, Device, Failed, WINDOW};
use hermitage_files::disk::SECTOR;

use super::Disk;
use super::memory::Pages;
use super::queue::{Kind, PLACES};
use crate::lock::Lock;

/// Bytes of a read that goes past the windows. What is less is as fast through them, since what follows is read ahead.
const LARGE: usize = 4 * WINDOW;

/// Most windows in flight. What was read ahead keeps its place in the queue until the next small read, which may never
/// come: so there are always some for large ones.
const WINDOWS: usize = PLACES / 2;

pub(crate) struct Partition {
    disk: &'static Disk,
    files: Files,
    windows: Lock<Cache<Windows>>,
}

impl Partition {
    /// Takes the disk, if it can be driven and is as large as it should be.
    pub(crate) fn open(files: Files) -> Option<Self> {
        let disk: &Disk = Box::leak(Box::new(Disk::take(files.device).ok()?));
        let end = files.start.checked_add(files.size)?;
        let is_whole =
            files.start % SECTOR as u64 == 0 && end.div_ceil(SECTOR as u64) <= disk.sectors().ok()?;
        let windows = Windows {
            disk,
            files,
            in_flight: [const { None }; PLACES],
        };
        is_whole.then(|| Self {
            disk,
            files,
            windows: Lock::new(Cache::new(windows)),
        })
    }

    fn read_through_windows(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), Failed> {
        while !buffer.is_empty() {
            let copied = self.windows.lock().copy(offset, buffer);
            match copied {
                Poll::Ready(length) => {
                    let length = length?;
                    offset += length as u64;
                    buffer = &mut buffer[length..];
                }
                Poll::Pending => sys_yield(),
            }
        }
        Ok(())
    }
}

impl ReadAt for Partition {
    type Error = Failed;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Failed> {
        let end = offset.checked_add(buffer.len() as u64);
        if buffer.len() < LARGE || end.is_none_or(|end| end > self.files.size) {
            return self.read_through_windows(offset, buffer);
        }
        // Parts of sectors at the ends have to be copied out of one.
        let (before, rest) = buffer.split_at_mut(offset.wrapping_neg() as usize % SECTOR);
        let (sectors, after) = rest.split_at_mut(rest.len() - rest.len() % SECTOR);
        let first = offset + before.len() as u64;
        let end = first + sectors.len() as u64;
        self.read_through_windows(offset, before)?;
        let sector = (self.files.start + first) / SECTOR as u64;
        self.disk.read(sector, sectors).map_err(|_| Failed)?;
        self.read_through_windows(end, after)
    }
}

/// The disk for the cache, seen from the partition's first byte on.
struct Windows {
    disk: &'static Disk,
    files: Files,
    /// By their places in the disk's queue.
    in_flight: [Option<InFlight>; PLACES],
}

struct InFlight {
    offset: u64,
    buffer: Pages,
}

impl Device for Windows {
    type Buffer = Pages;

    fn size(&self) -> u64 {
        self.files.size
    }

    fn allocate(&mut self) -> Option<Pages> {
        Pages::new(WINDOW)
    }

    fn begin(&mut self, offset: u64, length: usize, buffer: Pages) -> Result<(), Pages> {
        if self.in_flight.iter().flatten().count() == WINDOWS {
            return Err(buffer);
        }
        let sector = (self.files.start + offset) / SECTOR as u64;
        // The buffer has room for the rest of the last sector.
        let data = buffer.pieces(length.next_multiple_of(SECTOR));
        // SAFETY: the buffer stays where it is, untouched in `in_flight`, until `finished` takes it out.
        match unsafe { self.disk.queue.lock().submit(Kind::Read, sector, &data) } {
            Some(place) => {
                self.in_flight[place] = Some(InFlight { offset, buffer });
                Ok(())
            }
            None => Err(buffer),
        }
    }

    fn finished(&mut self) -> Option<(u64, Pages, bool)> {
        let mut begun = (0..PLACES)
            .filter(|place| self.in_flight[*place].is_some())
            .peekable();
        begun.peek()?;
        let mut queue = self.disk.queue.lock();
        let (place, read) = begun.find_map(|place| Some((place, queue.take(place)?)))?;
        let InFlight { offset, buffer } = self.in_flight[place].take()?;
        Some((offset, buffer, read.is_ok()))
    }
}
