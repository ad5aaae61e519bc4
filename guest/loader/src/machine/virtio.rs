//! Virtio devices, driven by `virtio-drivers`: the disks, and the source of entropy.
//!
//! They sit on PCI, or are memory-mapped where there is no PCI.

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;

use hermitage_boot::DeviceAddress;
use virtio_drivers::device::blk::{BlkReq, BlkResp, VirtIOBlk};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::{DeviceType, SomeTransport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use super::fw_cfg::FwCfg;
use super::{acpi, clock, mmio, paging, pci};
use hermitage_loader::disk::{DeviceFailed, Sectors};
use hermitage_loader::error::Error;
use hermitage_loader::mmio::{Slot, in_aml, split};

/// Memory as the loader has it: physical and virtual addresses are the same, all of it is open to devices.
pub(crate) struct Identity;

// SAFETY: allocations come zeroed and page-aligned from the heap, and are given back to it; addresses are the same on
// both sides, so sharing is nothing to do.
unsafe impl Hal for Identity {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let memory = layout(pages).and_then(|layout| {
            // SAFETY: the layout's size is not 0: `virtio-drivers` asks for at least a page.
            NonNull::new(unsafe { alloc_zeroed(layout) })
        });
        // Address 0 is how this trait says that there is no memory.
        memory.map_or((0, NonNull::dangling()), |memory| {
            (memory.as_ptr() as PhysAddr, memory)
        })
    }

    unsafe fn dma_dealloc(_: PhysAddr, memory: NonNull<u8>, pages: usize) -> i32 {
        if let Some(layout) = layout(pages) {
            // SAFETY: the caller gives back what `dma_alloc` gave for as many pages.
            unsafe { dealloc(memory.as_ptr(), layout) };
        }
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, size: usize) -> NonNull<u8> {
        paging::map_device(address, size as u64);
        NonNull::new(address as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

fn layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok()
}

/// Most bytes of a command line that names devices: a page, which is more than Linux takes.
const MAX_LINE: usize = 4096;

/// Ticks of the time-stamp counter after which a request is given up: one to two minutes.
const PATIENCE: u64 = 1 << 38;

/// A virtio block device. Dropped, it is reset, and the kernel finds it as the firmware left it.
pub(crate) struct BlockDevice(VirtIOBlk<Identity, SomeTransport<'static>>);

impl BlockDevice {
    /// Takes a disk that was found, if it can be driven.
    pub(crate) fn open(address: DeviceAddress) -> Option<Self> {
        VirtIOBlk::new(transport(address)?).ok().map(Self)
    }
}

impl Sectors for BlockDevice {
    fn count(&self) -> u64 {
        self.0.capacity()
    }

    fn read(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceFailed> {
        let sector = usize::try_from(sector).map_err(|_| DeviceFailed)?;
        let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
        // SAFETY: request, buffer and response live until the request is complete, and are not touched before. Where it
        // is given up, the device may still write to them, but this failure ends the machine.
        let read = unsafe {
            let sent = self.0.read_blocks_nb(sector, &mut request, buffer, &mut response);
            let token = sent.map_err(|_| DeviceFailed)?;
            // Without the `pause` of a spin loop: QEMU without KVM takes its global lock at each, which is what the
            // thread needs that serves the request, and 64 KiB take 0.8 ms instead of 0.2.
            let start = clock::now();
            while self.0.peek_used() != Some(token) {
                if clock::now() - start > PATIENCE {
                    return Err(DeviceFailed);
                }
            }
            self.0
                .complete_read_blocks(token, &request, buffer, &mut response)
        };
        read.map_err(|_| DeviceFailed)
    }
}

/// The slots that QEMU names on a microvm without ACPI.
fn named_by_qemu() -> Vec<Slot> {
    let line = FwCfg::open().and_then(|files| files.command_line(MAX_LINE));
    line.map(|line| split(&line).1).unwrap_or_default()
}

/// Where the machine's virtio devices are.
pub(crate) enum Devices {
    /// Behind PCI.
    Pci,
    /// At addresses of their own.
    Mapped(Vec<mmio::Device>),
}

impl Devices {
    /// Finds them: in the slots that the way in named, or else those that ACPI or QEMU names, or else on PCI, which
    /// every other machine has.
    ///
    /// # Errors
    /// Devices of a kind that the kernel does not drive.
    pub(crate) fn find(named: Vec<Slot>, rsdp: Option<u64>) -> Result<Self, Error> {
        let slots = if named.is_empty() && !pci::exists() {
            match rsdp.and_then(acpi::byte_code) {
                Some(code) => in_aml(code),
                None => named_by_qemu(),
            }
        } else {
            named
        };
        if slots.is_empty() {
            return Ok(Self::Pci);
        }
        let found = slots.into_iter().map(mmio::Device::find);
        Ok(Self::Mapped(
            found.filter_map(Result::transpose).collect::<Result<_, _>>()?,
        ))
    }

    /// The slots of the network cards that the kernel cannot find by itself.
    pub(crate) fn network_cards(&self) -> Vec<Slot> {
        let mut cards = Vec::new();
        if let Self::Mapped(devices) = self {
            let of_type = devices.iter().filter(|device| device.is(DeviceType::Network));
            cards.extend(of_type.map(|device| device.slot));
        }
        cards
    }

    /// The disks, in the order of their addresses.
    pub(crate) fn disks(&self) -> Vec<DeviceAddress> {
        self.of_type(DeviceType::Block)
    }

    /// Fills `buffer` from a virtio entropy source; whether there is one that does.
    pub(crate) fn entropy(&self, buffer: &mut [u8]) -> bool {
        self.of_type(DeviceType::EntropySource)
            .into_iter()
            .filter_map(transport)
            .any(|transport| {
                let Ok(mut source) = VirtIORng::<Identity, _>::new(transport) else {
                    return false;
                };
                let mut done = 0;
                // A source may give less than it was asked for, but not nothing.
                while done < buffer.len() {
                    match source.request_entropy(&mut buffer[done..]) {
                        Ok(length @ 1..) => done += length.min(buffer.len() - done),
                        _ => return false,
                    }
                }
                true
            })
    }

    /// Where the devices of one type are.
    fn of_type(&self, wanted: DeviceType) -> Vec<DeviceAddress> {
        match self {
            Self::Pci => pci::devices(wanted),
            Self::Mapped(devices) => {
                let of_type = devices.iter().filter(|device| device.is(wanted));
                of_type
                    .map(|device| DeviceAddress::Mapped(device.slot.address))
                    .collect()
            }
        }
    }
}

/// Makes a device that was found ready to be driven.
fn transport(address: DeviceAddress) -> Option<SomeTransport<'static>> {
    match address {
        DeviceAddress::Pci(function) => pci::transport(function).map(SomeTransport::from),
        DeviceAddress::Mapped(registers) => mmio::transport(registers).map(SomeTransport::from),
    }
}
