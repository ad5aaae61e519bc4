//! In a guest a volume is a virtio disk on PCI, driven by the program itself: a unikernel's program runs in ring 0, and
//! hermit-kernel 0.10.0 has no driver of disks.
//!
//! - [`pci`]: finds the disks; [`memory`]: where memory lies for a device;
//! - [`queue`]: requests to one disk.
//!
//! Requests are polled for, giving way to other threads in between: a volume that nobody asks uses no CPU.

mod memory;
mod pci;
mod queue;

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::{BufferDirection, Hal};

use memory::Kernel;
use queue::{Kind, Queue};

use super::SECTOR;

/// Bytes of a disk's serial (virtio 1.2, 5.2.6.1: `VIRTIO_BLK_T_GET_ID`).
const SERIAL: usize = 20;

/// Most bytes of one request. What is longer is several, so that others come in between.
const REQUEST: usize = 256 * 1024;

/// A disk of the machine.
struct Found {
    label: String,
    queue: Mutex<Queue>,
    is_open: Mutex<bool>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// The disks of the machine, looked for once: to look is to take them over.
fn disks() -> io::Result<&'static [Found]> {
    static DISKS: OnceLock<Result<Vec<Found>, String>> = OnceLock::new();
    let disks = DISKS.get_or_init(|| {
        let transports = pci::disks().map_err(|error| error.to_string())?;
        transports
            .into_iter()
            .map(|transport| Found::take(transport).map_err(|error| error.to_string()))
            .collect()
    });
    match disks {
        Ok(disks) => Ok(disks),
        Err(reason) => Err(io::Error::other(format!("a disk cannot be driven: {reason}"))),
    }
}

/// The disk of a label. That of the image has none.
fn find(label: &str) -> io::Result<Option<&'static Found>> {
    let mut disks = disks()?.iter();
    Ok(disks.find(|disk| !label.is_empty() && disk.label == label))
}

impl Found {
    fn take(transport: PciTransport) -> io::Result<Self> {
        let mut found = Self {
            label: String::new(),
            queue: Mutex::new(Queue::new(transport)?),
            is_open: Mutex::new(false),
        };
        let mut serial = [0; SERIAL];
        found.request(Kind::Serial, 0, (&mut serial[..]).into())?;
        let length = serial.iter().position(|byte| *byte == 0).unwrap_or(SERIAL);
        found.label = String::from_utf8_lossy(&serial[..length]).into_owned();
        Ok(found)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a request out. Others may be in flight.
    fn request(&self, kind: Kind, sector: u64, data: NonNull<[u8]>) -> io::Result<()> {
        let direction = if kind.fills() {
            BufferDirection::DeviceToDriver
        } else {
            BufferDirection::DriverToDevice
        };
        let shared = (!data.is_empty()).then(|| {
            // SAFETY: the callers' buffers are there until this returns, which is after the request is done.
            let address = unsafe { Kernel::share(data, direction) };
            (address, data.len() as u32)
        });
        let place = loop {
            // SAFETY: the data is shared until the request is done.
            if let Some(place) = unsafe { self.queue().submit(kind, sector, shared) } {
                break place;
            }
            thread::yield_now();
        };
        let done = loop {
            if let Some(done) = self.queue().take(place) {
                break done;
            }
            thread::yield_now();
        };
        if let Some((address, _)) = shared {
            // SAFETY: the same as were shared, and the device is done with them.
            unsafe { Kernel::unshare(address, data, direction) };
        }
        done
    }
}

/// A volume's disk, taken.
#[derive(Debug)]
pub(super) struct Disk {
    found: &'static Found,
    /// As it was when somebody looked last.
    sectors: AtomicU64,
    is_read_only: bool,
    has_cache: bool,
    /// Most sectors of a discard; 0 if the disk knows of none.
    most_discarded: u32,
}

impl Disk {
    pub(super) fn open(label: &str) -> io::Result<Self> {
        let found = find(label)?.ok_or(io::ErrorKind::NotFound)?;
        let mut is_open = found.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_open {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let queue = found.queue();
        let sectors = AtomicU64::new(queue.capacity()?);
        *is_open = true;
        Ok(Self {
            found,
            sectors,
            is_read_only: queue.is_read_only(),
            has_cache: queue.has_cache(),
            most_discarded: queue.most_discarded(),
        })
    }

    pub(super) fn is_attached(label: &str) -> io::Result<bool> {
        Ok(find(label)?.is_some())
    }

    /// Size when somebody looked last.
    pub(super) fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Relaxed)
    }

    /// Size as it is now.
    pub(super) fn look(&self) -> u64 {
        // A device that does not tell has the size that it had.
        if let Ok(sectors) = self.found.queue().capacity() {
            self.sectors.store(sectors, Ordering::Relaxed);
        }
        self.sectors()
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(super) fn read(&self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        let sectors = (first..).step_by(REQUEST / SECTOR);
        for (sector, part) in sectors.zip(buffer.chunks_mut(REQUEST)) {
            self.found.request(Kind::Read, sector, part.into())?;
        }
        Ok(())
    }

    pub(super) fn write(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let sectors = (first..).step_by(REQUEST / SECTOR);
        for (sector, part) in sectors.zip(bytes.chunks(REQUEST)) {
            self.found.request(Kind::Write, sector, part.into())?;
        }
        Ok(())
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        if !self.has_cache {
            return Ok(());
        }
        self.found.request(
            Kind::Flush,
            0,
            NonNull::slice_from_raw_parts(NonNull::dangling(), 0),
        )
    }

    pub(super) fn discard(&self, first: u64, sectors: u64) -> io::Result<()> {
        if self.most_discarded == 0 {
            return Ok(());
        }
        let most = u64::from(self.most_discarded);
        for begin in (first..first + sectors).step_by(most as usize) {
            let count = most.min(first + sectors - begin) as u32;
            // `virtio_blk_discard_write_zeroes`: sector, number of sectors, flags.
            let mut range = [0; 16];
            range[..8].copy_from_slice(&begin.to_le_bytes());
            range[8..12].copy_from_slice(&count.to_le_bytes());
            self.found.request(Kind::Discard, 0, range[..].into())?;
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        *self.found.is_open.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}
