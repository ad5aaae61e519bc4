//! In a guest a volume is a virtio disk on PCI, driven by `virtio-drivers` inside the program itself: a unikernel's
//! program runs in ring 0, and hermit-kernel 0.10.0 has no driver of disks.
//!
//! Requests are polled for, giving way to other threads in between: a volume that nobody asks uses no CPU.

mod memory;
mod pci;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread;

use virtio_drivers::Error;
use virtio_drivers::device::blk::{BlkReq, BlkResp, VirtIOBlk};
use virtio_drivers::transport::pci::PciTransport;

use memory::Kernel;

use super::SECTOR;

type Device = VirtIOBlk<Kernel, PciTransport>;

/// Bytes of a disk's serial (virtio 1.2, 5.2.6.1: `VIRTIO_BLK_T_GET_ID`).
const SERIAL: usize = 20;

/// Most bytes of one request. What is longer is several, so that others come in between.
const REQUEST: usize = 256 * 1024;

/// A disk of the machine.
#[derive(Debug)]
struct Found {
    label: String,
    device: Arc<Shared>,
    is_open: Mutex<bool>,
}

struct Shared {
    device: Mutex<Device>,
    /// Reads and writes are in flight together; a flush is alone, since the library waits for it in order.
    order: RwLock<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The disks of the machine, looked for once: to look is to take them over.
fn disks() -> io::Result<&'static [Found]> {
    static DISKS: OnceLock<Result<Vec<Found>, String>> = OnceLock::new();
    let disks = DISKS.get_or_init(|| {
        let transports = pci::disks().map_err(|error| error.to_string())?;
        transports
            .into_iter()
            .map(|transport| take(transport).map_err(|error| error.to_string()))
            .collect()
    });
    match disks {
        Ok(disks) => Ok(disks),
        Err(reason) => Err(io::Error::other(format!("a disk cannot be driven: {reason}"))),
    }
}

fn take(transport: PciTransport) -> Result<Found, Error> {
    let mut device = Device::new(transport)?;
    // What is done is looked for; interrupts would have no handler.
    device.disable_interrupts();
    let mut serial = [0; SERIAL];
    let length = device.device_id(&mut serial)?;
    let label = String::from_utf8_lossy(&serial[..length.min(SERIAL)]);
    Ok(Found {
        label: label.trim_end_matches('\0').to_owned(),
        device: Arc::new(Shared {
            device: Mutex::new(device),
            order: RwLock::new(()),
        }),
        is_open: Mutex::new(false),
    })
}

/// A volume's disk, taken.
#[derive(Debug)]
pub(super) struct Disk {
    found: &'static Found,
    sectors: u64,
    is_read_only: bool,
}

impl Disk {
    pub(super) fn open(label: &str) -> io::Result<Self> {
        let found = find(label)?.ok_or(io::ErrorKind::NotFound)?;
        let mut is_open = found.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_open {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        *is_open = true;
        let device = found.device.device();
        Ok(Self {
            found,
            sectors: device.capacity(),
            is_read_only: device.readonly(),
        })
    }

    pub(super) fn is_attached(label: &str) -> io::Result<bool> {
        Ok(find(label)?.is_some())
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(super) fn read(&self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        let sectors = (first..).step_by(REQUEST / SECTOR);
        for (sector, part) in sectors.zip(buffer.chunks_mut(REQUEST)) {
            self.read_part(sector as usize, part)?;
        }
        Ok(())
    }

    pub(super) fn write(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let sectors = (first..).step_by(REQUEST / SECTOR);
        for (sector, part) in sectors.zip(bytes.chunks(REQUEST)) {
            self.write_part(sector as usize, part)?;
        }
        Ok(())
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        let shared = &self.found.device;
        let _alone = shared.order.write().unwrap_or_else(PoisonError::into_inner);
        shared.device().flush().map_err(failed)
    }

    fn read_part(&self, sector: usize, buffer: &mut [u8]) -> io::Result<()> {
        let shared = &self.found.device;
        let _with_others = shared.order.read().unwrap_or_else(PoisonError::into_inner);
        let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
        let token = queued(|| {
            // SAFETY: request, buffer and response stay where they are, untouched, until the request is completed
            // below; nothing between returns or panics.
            unsafe {
                shared
                    .device()
                    .read_blocks_nb(sector, &mut request, buffer, &mut response)
            }
        })
        .map_err(failed)?;
        self.wait(token, |device| {
            // SAFETY: the same three as were queued under this token.
            unsafe { device.complete_read_blocks(token, &request, buffer, &mut response) }
        })
    }

    fn write_part(&self, sector: usize, bytes: &[u8]) -> io::Result<()> {
        let shared = &self.found.device;
        let _with_others = shared.order.read().unwrap_or_else(PoisonError::into_inner);
        let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
        let token = queued(|| {
            // SAFETY: as in `read_part`.
            unsafe {
                shared
                    .device()
                    .write_blocks_nb(sector, &mut request, bytes, &mut response)
            }
        })
        .map_err(failed)?;
        self.wait(token, |device| {
            // SAFETY: the same three as were queued under this token.
            unsafe { device.complete_write_blocks(token, &request, bytes, &mut response) }
        })
    }

    /// Waits until a request is done. Whoever's is done first takes it away, so each gets his turn.
    fn wait(
        &self,
        token: u16,
        mut complete: impl FnMut(&mut Device) -> virtio_drivers::Result,
    ) -> io::Result<()> {
        loop {
            let mut device = self.found.device.device();
            if device.peek_used() == Some(token) {
                return complete(&mut device).map_err(failed);
            }
            drop(device);
            thread::yield_now();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        *self.found.is_open.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// The disk of a label. That of the image has none.
fn find(label: &str) -> io::Result<Option<&'static Found>> {
    let mut disks = disks()?.iter();
    Ok(disks.find(|disk| !label.is_empty() && disk.label == label))
}

/// Queues a request, when there is room for it.
fn queued(mut queue: impl FnMut() -> virtio_drivers::Result<u16>) -> virtio_drivers::Result<u16> {
    loop {
        match queue() {
            Err(Error::QueueFull) => thread::yield_now(),
            queued => return queued,
        }
    }
}

fn failed(error: Error) -> io::Error {
    io::Error::other(format!("the disk failed: {error}"))
}
