//! Virtio devices, driven by `virtio-drivers`: the disks, and the source of entropy.
//!
//! Devices sit on PCI. A machine whose devices are memory-mapped (microvm) needs another list of transports here,
//! and nothing else.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;

use virtio_drivers::device::blk::{BlkReq, BlkResp, VirtIOBlk};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use super::{clock, paging, pci};
use hermitage_loader::disk::{DeviceFailed, Sectors};

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

/// Ticks of the time-stamp counter after which a request is given up: one to two minutes.
const PATIENCE: u64 = 1 << 38;

/// A virtio block device. Dropped, it is reset, and the kernel finds it as the firmware left it.
pub(crate) struct BlockDevice(VirtIOBlk<Identity, PciTransport>);

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

/// The disks, in the order of their addresses; `None` for one that cannot be driven.
pub(crate) fn disks() -> impl Iterator<Item = Option<BlockDevice>> {
    let open = |transport| VirtIOBlk::new(transport).ok().map(BlockDevice);
    pci::devices(DeviceType::Block).map(move |transport| transport.and_then(open))
}

/// Fills `buffer` from a virtio entropy source; whether there is one that does.
pub(crate) fn entropy(buffer: &mut [u8]) -> bool {
    pci::devices(DeviceType::EntropySource)
        .flatten()
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
