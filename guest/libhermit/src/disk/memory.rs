//! Memory that a device can reach: in one piece for it, too.

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::slice;

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// How often memory is asked for until a piece is in one piece for devices. The heap is mapped by pages of 2 MiB, but
/// for its ends.
const ATTEMPTS: usize = 16;

/// Memory, aligned to pages.
pub(crate) struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is this value's own.
unsafe impl Send for Pages {}

impl Pages {
    /// Zeroed memory of `length` bytes, if there is a piece.
    pub(super) fn new(length: usize) -> Option<Self> {
        // Those that do not fit are held until one does, so that none comes twice.
        let mut unfit = Vec::new();
        for _ in 0..ATTEMPTS {
            let pages = Self::anywhere(length)?;
            if pages.is_contiguous() {
                return Some(pages);
            }
            unfit.push(pages);
        }
        None
    }

    fn anywhere(length: usize) -> Option<Self> {
        let layout = Layout::from_size_align(length.max(1), PAGE_SIZE).ok()?;
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { start, layout })
    }

    fn is_contiguous(&self) -> bool {
        let start = self.start.as_ptr() as usize;
        let Some(first) = hermit::physical_address(start) else {
            return false;
        };
        (0..self.layout.size())
            .step_by(PAGE_SIZE)
            .all(|at| hermit::physical_address(start + at) == Some(first + at as u64))
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is initialised, as long as the layout, and this value's own.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: it was given by this allocator with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The kernel's memory, for `virtio-drivers`.
pub(crate) struct Kernel;

// SAFETY: pages come zeroed and in one piece; what is shared is in one piece, as this module's `Pages` and what lies
// within a page are; registers stay mapped for ever.
unsafe impl Hal for Kernel {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let memory = pages.checked_mul(PAGE_SIZE).and_then(Pages::new);
        let found = memory.and_then(|memory| {
            let start = memory.start;
            let physical = hermit::physical_address(start.as_ptr() as usize)?;
            // Given back by `dma_dealloc`.
            core::mem::forget(memory);
            Some((physical, start))
        });
        // Address 0 is how this trait says that there is no memory.
        found.unwrap_or((0, NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_: PhysAddr, start: NonNull<u8>, pages: usize) -> i32 {
        if let Ok(layout) = Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE) {
            drop(Pages { start, layout });
        }
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, size: usize) -> NonNull<u8> {
        NonNull::new(hermit::map_registers(address, size)).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        let address = buffer.cast::<u8>().as_ptr() as usize;
        hermit::physical_address(address).expect("memory of the heap is mapped")
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
