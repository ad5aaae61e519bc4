//! The heap, and the rest of the memory that the loader works in: the upper end of the RAM below 4 GiB, far from
//! where the kernel goes. The kernel gets all of it back.

use linked_list_allocator::LockedHeap;

use hermitage_loader::error::Error;
use hermitage_loader::memory::{MemoryMap, PAGE};
use hermitage_loader::program::KERNEL_BASE;

#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

/// Bytes of the heap: for the largest boot configuration, as bytes and decoded into 29,000 tiny entries, each of
/// which costs 48 bytes, in a list that grows by doubling. All else takes some 100 KiB.
const HEAP_SIZE: u64 = 4 << 20;

/// The first 4 GiB are what is mapped.
const MAPPED: u64 = 4 << 30;

/// The free RAM from the kernel's place on, up to the heap.
pub(crate) struct Room {
    /// All RAM of the machine.
    total: u64,
    end: u64,
}

impl Room {
    /// Puts the heap at the upper end of the RAM that the kernel will lie in.
    ///
    /// # Errors
    /// There is too little RAM.
    pub(crate) fn new(memory: &MemoryMap) -> Result<Self, Error> {
        let end = memory
            .region_at(KERNEL_BASE)
            .map_or(KERNEL_BASE, |region| region.end.min(MAPPED));
        let mut room = Self {
            total: memory.total(),
            end,
        };
        let heap = room
            .take(HEAP_SIZE)
            .ok_or_else(|| room.too_small(room.lacking(HEAP_SIZE)))?;
        // SAFETY: `take` gives each byte to one caller, for ever.
        unsafe { HEAP.lock().init(heap.as_mut_ptr(), heap.len()) };
        Ok(room)
    }

    /// Takes the uppermost `length` bytes.
    pub(crate) fn take(&mut self, length: u64) -> Option<&'static mut [u8]> {
        let start = self.end.checked_sub(length)? / PAGE * PAGE;
        if start < KERNEL_BASE {
            return None;
        }
        self.end = start;
        // SAFETY: this is RAM, identity-mapped, and used by nobody: firmware's and the boot protocol's data are not RAM
        // in its map, or lie below the kernel's place. `end` makes sure that no byte is given out twice, and any byte
        // is a valid `u8`.
        Some(unsafe { core::slice::from_raw_parts_mut(start as *mut u8, length as usize) })
    }

    /// First byte that is not free any more.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The error for something that `lacking` bytes are not there for.
    pub(crate) fn too_small(&self, lacking: u64) -> Error {
        Error::Memory {
            have: self.total,
            lacking,
        }
    }

    /// Bytes of `wanted` that are not free.
    pub(crate) fn lacking(&self, wanted: u64) -> u64 {
        wanted.saturating_sub(self.end - KERNEL_BASE)
    }
}
