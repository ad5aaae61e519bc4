//! The disk that the image is on, driven by `virtio-drivers`: hermit-kernel 0.10.0 has no driver of disks.
//!
//! It is taken when the first file is asked for. Requests are polled for, by whoever waits for one, giving way to other
//! threads in between: a disk that nobody asks costs nothing, and needs no interrupt.

mod memory;
mod pci;

use alloc::boxed::Box;
use core::ptr::NonNull;
use core::task::Poll;

use hermit::syscalls::sys_yield;
use hermitage_boot::{DeviceAddress, Files};
use hermitage_erofs::reader::ReadAt;
use hermitage_files::cache::{Cache, Device, Failed, WINDOW};
use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::SomeTransport;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};

use crate::lock::Lock;
use memory::{Kernel, Pages};

/// Bytes of a memory-mapped device's registers (QEMU, `hw/i386/microvm.c`; Linux takes as many).
const REGISTERS: usize = 512;

/// Descriptors of a queue, and so the most requests: what `virtio-drivers` has.
const QUEUE: usize = 16;

/// The part of a disk that holds the image's files.
pub(crate) struct Partition(Lock<Cache<Disk>>);

impl Partition {
    /// Takes the disk, if it can be driven and is as large as it should be.
    pub(crate) fn open(files: Files) -> Option<Self> {
        let mut device = VirtIOBlk::new(transport(files.device)?).ok()?;
        // What is done is looked for; interrupts would have no handler.
        device.disable_interrupts();
        let end = files.start.checked_add(files.size)?;
        (end <= device.capacity().checked_mul(SECTOR_SIZE as u64)?).then(|| {
            Self(Lock::new(Cache::new(Disk {
                device,
                start: files.start,
                size: files.size,
                in_flight: [const { None }; QUEUE],
            })))
        })
    }
}

fn transport(address: DeviceAddress) -> Option<SomeTransport<'static>> {
    match address {
        DeviceAddress::Pci(function) => pci::transport(function).map(SomeTransport::from),
        DeviceAddress::Mapped(registers) => {
            let header = NonNull::new(hermit::map_registers(registers, REGISTERS))?;
            // SAFETY: the loader drove the device whose registers these are, and gave it up; they stay mapped for
            // ever, and nobody else drives it: the runtime leaves this one alone.
            let transport = unsafe { MmioTransport::new(header.cast::<VirtIOHeader>(), REGISTERS) };
            transport.ok().map(SomeTransport::from)
        }
    }
}

impl ReadAt for Partition {
    type Error = Failed;

    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), Failed> {
        while !buffer.is_empty() {
            let copied = self.0.lock().copy(offset, buffer);
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

/// The virtio disk, seen from the partition's first byte on.
struct Disk {
    device: VirtIOBlk<Kernel, SomeTransport<'static>>,
    start: u64,
    size: u64,
    /// By their tokens.
    in_flight: [Option<InFlight>; QUEUE],
}

struct InFlight {
    offset: u64,
    length: usize,
    buffer: Pages,
    head: Box<Head>,
}

/// What a request has beside its data. Aligned so that it lies in one page.
#[repr(align(64))]
#[derive(Default)]
struct Head {
    request: BlkReq,
    response: BlkResp,
}

impl Device for Disk {
    type Buffer = Pages;

    fn size(&self) -> u64 {
        self.size
    }

    fn allocate(&mut self) -> Option<Pages> {
        Pages::new(WINDOW)
    }

    fn begin(&mut self, offset: u64, length: usize, mut buffer: Pages) -> Result<(), Pages> {
        let mut head = Box::<Head>::default();
        let sector = ((self.start + offset) / SECTOR_SIZE as u64) as usize;
        let data = &mut buffer.bytes_mut()[..length];
        let Head { request, response } = &mut *head;
        // SAFETY: head and buffer stay where they are, untouched in `in_flight`, until `finished` takes them out.
        let queued = unsafe { self.device.read_blocks_nb(sector, request, data, response) };
        match queued
            .ok()
            .and_then(|token| self.in_flight.get_mut(usize::from(token)))
        {
            Some(place) => {
                *place = Some(InFlight {
                    offset,
                    length,
                    buffer,
                    head,
                });
                Ok(())
            }
            None => Err(buffer),
        }
    }

    fn finished(&mut self) -> Option<(u64, Pages, bool)> {
        let token = self.device.peek_used()?;
        let mut done = self.in_flight.get_mut(usize::from(token))?.take()?;
        let data = &mut done.buffer.bytes_mut()[..done.length];
        let Head { request, response } = &mut *done.head;
        // SAFETY: the three that were queued under this token.
        let read = unsafe { self.device.complete_read_blocks(token, request, data, response) };
        Some((done.offset, done.buffer, read.is_ok()))
    }
}
