//! Memory that is in one piece for a device, too.

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::slice;

use hermitage_files::disk::Pieces;

/// Memory is given aligned to pages, the unit in which it may lie apart.
const PAGE: usize = 4096;

/// How often memory is asked for until a piece is in one piece for devices. The heap is mapped by pages of 2 MiB, but
/// for its ends.
const ATTEMPTS: usize = 16;

/// Memory, aligned to pages.
pub(super) struct Pages {
    start: NonNull<u8>,
    layout: Layout,
    /// Where it lies for a device.
    address: u64,
}

// SAFETY: the memory is this value's own.
unsafe impl Send for Pages {}

impl Pages {
    /// Zeroed memory of `length` bytes, if there is a piece.
    pub(super) fn new(length: usize) -> Option<Self> {
        // Those that do not fit are held until one does, so that none comes twice.
        let mut unfit = Vec::new();
        for _ in 0..ATTEMPTS {
            let mut pages = Self::anywhere(length)?;
            let start = pages.start.as_ptr() as usize;
            match Pieces::of(start, length, hermit::physical_address)?.as_slice() {
                [piece] if piece.length == length => {
                    pages.address = piece.address;
                    return Some(pages);
                }
                _ => unfit.push(pages),
            }
        }
        None
    }

    fn anywhere(length: usize) -> Option<Self> {
        let layout = Layout::from_size_align(length.max(1), PAGE).ok()?;
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self {
            start,
            layout,
            address: 0,
        })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// The first `length` bytes as a request's data: one piece.
    pub(super) fn pieces(&self, length: usize) -> Pieces {
        Pieces::one(self.address, length.min(self.layout.size()))
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the memory is initialised, as long as the layout, and this value's own.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: it was given by this allocator with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
