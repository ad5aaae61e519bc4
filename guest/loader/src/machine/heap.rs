//! The heap, and the rest of the memory that the loader works in: the upper end of the RAM below 4 GiB, far from
//! where the kernel goes. The kernel gets all of it back.

use linked_list_allocator::LockedHeap;

use hermitage_loader::error::Error;
use hermitage_loader::memory::{MemoryMap, PAGE};
use hermitage_loader::program::KERNEL_BASE;

#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

/// Bytes of the heap: the largest boot configuration is there three times (as bytes, decoded, encoded), the
/// largest `/bin` in part. The rest is small.
const HEAP_SIZE: u64 = 2 << 20;

/// The first 4 GiB are what is mapped.
const MAPPED: u64 = 4 << 30;

/// RAM between the kernel's place and the heap.
pub(crate) struct Room {
    end: u64,
}

impl Room {
    /// Puts the heap at the upper end of the RAM that the kernel will lie in.
    ///
    /// # Errors
    /// There is too little RAM.
    pub(crate) fn new(memory: &MemoryMap) -> Result<Self, Error> {
        let need = KERNEL_BASE + HEAP_SIZE;
        let end = memory
            .region_at(KERNEL_BASE)
            .map_or(0, |region| region.end.min(MAPPED));
        let start = end.checked_sub(HEAP_SIZE).filter(|start| *start >= KERNEL_BASE);
        let start = start.ok_or(Error::Memory {
            have: memory.total(),
            need,
        })?;
        // SAFETY: this is RAM, identity-mapped, used by nobody: firmware's and the boot protocol's data are not RAM
        // in its map, or lie below the kernel's place. `Room` is made once.
        unsafe { HEAP.lock().init(start as *mut u8, HEAP_SIZE as usize) };
        Ok(Self { end: start })
    }

    /// Takes the uppermost `length` bytes, if they lie above `floor`.
    pub(crate) fn take(&mut self, length: u64, floor: u64) -> Option<&'static mut [u8]> {
        let start = self.end.checked_sub(length)? / PAGE * PAGE;
        if start < floor {
            return None;
        }
        self.end = start;
        // SAFETY: RAM, identity-mapped, and `end` makes sure that no byte is handed out twice; any byte is a valid
        // `u8`.
        Some(unsafe { core::slice::from_raw_parts_mut(start as *mut u8, length as usize) })
    }

    /// First byte that is not free any more.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}
