//! The machine's disks: that of the image, and volumes. hermit-kernel 0.10.0 has no driver of disks.
//!
//! - [`bus`]: how a disk is reached, [`queue`]: requests to one, [`memory`]: memory for both;
//! - [`partition`]: the image's part of its disk, read ahead;
//! - [`volumes`]: all other disks, found by their labels, and what a program asks of them.
//!
//! Each is taken when it is asked for first. Requests are polled for, by whoever waits for one, giving way to other
//! threads in between: a disk that nobody asks costs nothing, and needs no interrupt.

mod bus;
mod memory;
mod partition;
mod queue;
mod volumes;

pub(crate) use partition::Partition;
pub(crate) use volumes::{are_at, is_attached};

use hermit::syscalls::sys_yield;
use hermitage_boot::DeviceAddress;
use hermitage_files::disk::{Fault, Pieces, SECTOR};

use crate::lock::Lock;
use queue::{Kind, Queue};

/// Most bytes of one request. What is longer is several, so that others come in between.
const REQUEST: usize = 256 * 1024;

/// Most requests that one caller has in flight: the device works on the next while the program wakes up.
const DEPTH: usize = 4;

/// Bytes of a disk's serial (virtio 1.2, 5.2.6.1: `VIRTIO_BLK_T_GET_ID`).
const SERIAL: usize = 20;

/// A disk, taken. Several threads may ask at once, and their requests are in flight together.
pub(crate) struct Disk {
    queue: Lock<Queue>,
    is_read_only: bool,
    has_cache: bool,
    /// Most sectors of a discard; 0 if the disk knows of none.
    most_discarded: u32,
}

impl Disk {
    fn take(address: DeviceAddress) -> Result<Self, Fault> {
        let queue = Queue::new(bus::transport(address).ok_or(Fault::Old)?)?;
        Ok(Self {
            is_read_only: queue.is_read_only(),
            has_cache: queue.has_cache(),
            most_discarded: queue.most_discarded(),
            queue: Lock::new(queue),
        })
    }

    /// What the machine's owner calls it, filled up with zeros.
    fn serial(&self) -> Result<[u8; SERIAL], Fault> {
        let mut serial = [0; SERIAL];
        // SAFETY: a buffer of our own.
        unsafe { self.transfer(Kind::Serial, 0, serial.as_mut_ptr(), SERIAL) }?;
        Ok(serial)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Its size as it is now.
    pub(crate) fn sectors(&self) -> Result<u64, Fault> {
        self.queue.lock().capacity()
    }

    /// Reads whole sectors.
    pub(crate) fn read(&self, sector: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: the buffer is the caller's own.
        unsafe { self.transfer(Kind::Read, sector, buffer.as_mut_ptr(), buffer.len()) }
    }

    /// Writes whole sectors.
    pub(crate) fn write(&self, sector: u64, bytes: &[u8]) -> Result<(), Fault> {
        // SAFETY: the device does not write to what it is given to read.
        unsafe { self.transfer(Kind::Write, sector, bytes.as_ptr().cast_mut(), bytes.len()) }
    }

    /// Returns when what was written before is on stable storage.
    pub(crate) fn flush(&self) -> Result<(), Fault> {
        if !self.has_cache {
            return Ok(());
        }
        // SAFETY: there is no data.
        let place = self.wait(|queue| unsafe { queue.submit(Kind::Flush, 0, &Pieces::default()) });
        self.wait(|queue| queue.take(place))
    }

    /// Gives sectors back, if the disk knows how to take them.
    pub(crate) fn discard(&self, mut sector: u64, mut sectors: u64) -> Result<(), Fault> {
        let most = u64::from(self.most_discarded);
        while most > 0 && sectors > 0 {
            let count = sectors.min(most);
            // `virtio_blk_discard_write_zeroes`: sector, number of sectors, flags.
            let mut range = [0; 16];
            range[..8].copy_from_slice(&sector.to_le_bytes());
            range[8..12].copy_from_slice(&(count as u32).to_le_bytes());
            // SAFETY: the device does not write to what it is given to read.
            unsafe { self.transfer(Kind::Discard, 0, range.as_mut_ptr(), range.len()) }?;
            sector += count;
            sectors -= count;
        }
        Ok(())
    }

    /// Carries out as many requests as it takes to move all data, several at once.
    ///
    /// # Safety
    /// There are `length` bytes at `start`, the caller's own while this lasts.
    unsafe fn transfer(
        &self,
        kind: Kind,
        mut sector: u64,
        start: *mut u8,
        length: usize,
    ) -> Result<(), Fault> {
        let mut done = 0;
        while done < length {
            let mut result = Ok(());
            let mut places = [0; DEPTH];
            let mut begun = 0;
            while begun < DEPTH && done < length {
                let left = (length - done).min(REQUEST);
                let Some(data) = Pieces::of(start as usize + done, left, hermit::physical_address) else {
                    result = Err(Fault::Failed);
                    break;
                };
                // SAFETY: a part of the caller's memory, where it lies; all that was begun is waited for.
                let submit = |queue: &mut Queue| unsafe { queue.submit(kind, sector, &data) };
                // Who waits for room holds none, or all might.
                let place = match begun {
                    0 => Some(self.wait(submit)),
                    _ => submit(&mut self.queue.lock()),
                };
                let Some(place) = place else { break };
                places[begun] = place;
                begun += 1;
                done += data.length();
                sector += (data.length() / SECTOR) as u64;
            }
            for place in &places[..begun] {
                let ended = self.wait(|queue| queue.take(*place));
                result = result.and(ended);
            }
            result?;
        }
        Ok(())
    }

    fn wait<T>(&self, mut ask: impl FnMut(&mut Queue) -> Option<T>) -> T {
        loop {
            let answer = ask(&mut self.queue.lock());
            match answer {
                Some(answer) => return answer,
                None => sys_yield(),
            }
        }
    }
}
