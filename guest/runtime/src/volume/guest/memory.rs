//! Memory as hermit-kernel has it: where a virtual address lies for a device, and a window onto a device's memory.
//!
//! The kernel maps its page tables into themselves by the last entry of the topmost (PML4[511]), so each table's
//! entries lie at addresses that follow from the address they translate (Intel SDM 3A, 4.5).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::arch::asm;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
/// Write-through and not cached: a device's registers.
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bits of an address below 2 MiB and 1 GiB.
const IN_LARGE: u64 = (1 << 21) - 1;
const IN_HUGE: u64 = (1 << 30) - 1;

/// Where the tables' entries are seen, topmost table first.
const TABLES: [(u64, u32); 4] = [
    (0xffff_ffff_ffff_f000, 39),
    (0xffff_ffff_ffe0_0000, 30),
    (0xffff_ffff_c000_0000, 21),
    (0xffff_ff80_0000_0000, 12),
];

/// Entry of the topmost table that is ours. The kernel hands out addresses of the lower half alone.
const WINDOW: u64 = 384;
/// Places for 2 MiB in the window.
const PLACES: u64 = 512;

/// How often memory is asked for until a piece is in one piece for devices, too.
const ATTEMPTS: usize = 64;

/// The address of a virtual address's entry in a table.
fn entry(table: usize, address: u64) -> *mut u64 {
    let (base, shift) = TABLES[table];
    let index = (address & 0x0000_ffff_ffff_ffff) >> shift;
    (base + index * 8) as *mut u64
}

/// Where a virtual address lies, if it is mapped.
fn physical(address: usize) -> Option<u64> {
    let address = address as u64;
    for table in 0..TABLES.len() {
        // SAFETY: the tables above have said that this one is there.
        let entry = unsafe { entry(table, address).read_volatile() };
        if entry & PRESENT == 0 {
            return None;
        }
        let within = match table {
            1 if entry & LARGE != 0 => IN_HUGE,
            2 if entry & LARGE != 0 => IN_LARGE,
            3 => PAGE_SIZE as u64 - 1,
            _ => continue,
        };
        return Some(entry & ADDRESS & !within | address & within);
    }
    None
}

/// Where memory lies, if all of it is in one piece there.
fn contiguous(start: usize, length: usize) -> Option<u64> {
    let first = physical(start)?;
    let pages = (start & !(PAGE_SIZE - 1)..start + length)
        .step_by(PAGE_SIZE)
        .skip(1);
    pages
        .map(|page| physical(page) == Some(first + (page - start) as u64))
        .all(|follows| follows)
        .then_some(first)
}

fn layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok()
}

/// Pages that are in one piece for devices.
pub(super) fn allocate(pages: usize) -> Option<(u64, NonNull<u8>)> {
    let layout = layout(pages)?;
    // Pieces that are not are held until one is found, so that none comes twice.
    let mut unfit = Vec::new();
    let found = (0..ATTEMPTS).find_map(|_| {
        // SAFETY: the layout's size is not 0: at least a page is asked for.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let found = contiguous(memory.as_ptr() as usize, layout.size());
        if found.is_none() {
            unfit.push(memory);
        }
        found.map(|physical| (physical, memory))
    });
    for memory in unfit {
        // SAFETY: it was given by this allocator with this layout, and nobody else has it.
        unsafe { dealloc(memory.as_ptr(), layout) };
    }
    found
}

/// The window onto devices' memory: its table of 2 MiB pages, and how many are in use.
struct Window {
    table: NonNull<u64>,
    used: u64,
}

// SAFETY: the table is the window's own for ever.
unsafe impl Send for Window {}

static MAPPED: Mutex<Option<Window>> = Mutex::new(None);

impl Window {
    fn new() -> Option<Self> {
        let (upper_at, upper) = allocate(1)?;
        let (table_at, table) = allocate(1)?;
        let top = entry(0, WINDOW << 39);
        // SAFETY: both pages are tables from now on and never given back; the entry of the topmost table is one that
        // the kernel leaves alone, as its emptiness shows.
        unsafe {
            if top.read_volatile() & PRESENT != 0 {
                return None;
            }
            upper.cast::<u64>().write_volatile(table_at | WRITABLE | PRESENT);
            top.write_volatile(upper_at | WRITABLE | PRESENT);
        }
        Some(Self {
            table: table.cast(),
            used: 0,
        })
    }

    /// Where memory of a device is seen.
    fn map(&mut self, address: u64, size: u64) -> Option<usize> {
        let first = address & !IN_LARGE;
        let count = (address + size - first).div_ceil(IN_LARGE + 1);
        let begin = self.used;
        if begin + count > PLACES {
            return None;
        }
        for place in 0..count {
            let page = first + place * (IN_LARGE + 1);
            // SAFETY: the place is one of the table's 512, and nothing is mapped there yet; what becomes visible is a
            // device's memory, as the caller says.
            unsafe {
                let entry = self.table.add((begin + place) as usize);
                entry.write_volatile(page | NO_EXECUTE | LARGE | UNCACHED | WRITABLE | PRESENT);
            }
        }
        self.used += count;
        // SAFETY: loads the topmost table anew, which changes no translation but those that were absent.
        unsafe {
            asm!("mov {table}, cr3", "mov cr3, {table}", table = out(reg) _, options(nostack, preserves_flags));
        }
        let window = 0xffff_0000_0000_0000 | WINDOW << 39 | begin << 21;
        Some((window | address & IN_LARGE) as usize)
    }
}

/// Pages in place of a buffer that is not in one piece for devices, by their physical address.
static BOUNCED: Mutex<Vec<(u64, usize)>> = Mutex::new(Vec::new());

/// The kernel's memory, for `virtio-drivers`.
pub(super) struct Kernel;

// SAFETY: pages come zeroed and in one piece from the heap and go back there; what is shared is in one piece for the
// device, itself or by a copy; the window maps a device's memory, for ever.
unsafe impl Hal for Kernel {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // Address 0 is how this trait says that there is no memory.
        allocate(pages).unwrap_or((0, NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_: PhysAddr, memory: NonNull<u8>, pages: usize) -> i32 {
        if let Some(layout) = layout(pages) {
            // SAFETY: the caller gives back what `dma_alloc` gave for as many pages.
            unsafe { dealloc(memory.as_ptr(), layout) };
        }
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, size: usize) -> NonNull<u8> {
        let mut window = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
        if window.is_none() {
            *window = Window::new();
        }
        let mapped = window
            .as_mut()
            .and_then(|window| window.map(address, size as u64));
        let memory = mapped.and_then(|address| NonNull::new(address as *mut u8));
        memory.expect("a guest has memory for two page tables, and few disks")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let start = buffer.cast::<u8>();
        if let Some(physical) = contiguous(start.as_ptr() as usize, buffer.len()) {
            return physical;
        }
        let pages = buffer.len().div_ceil(PAGE_SIZE);
        let Some((physical, copy)) = allocate(pages) else {
            handle_alloc_error(layout(pages).unwrap_or(Layout::new::<u8>()));
        };
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller's buffer is valid to be read, the copy is as long and our own.
            unsafe { ptr::copy_nonoverlapping(start.as_ptr(), copy.as_ptr(), buffer.len()) };
        }
        let mut bounced = BOUNCED.lock().unwrap_or_else(PoisonError::into_inner);
        bounced.push((physical, copy.as_ptr() as usize));
        physical
    }

    unsafe fn unshare(physical: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        let mut bounced = BOUNCED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = bounced.iter().position(|(address, _)| *address == physical) else {
            return;
        };
        let (_, copy) = bounced.swap_remove(at);
        drop(bounced);
        let copy = copy as *mut u8;
        // SAFETY: `share` made the copy, as long as the caller's buffer, which is valid to be written; it is given back
        // with the layout that it was made with.
        unsafe {
            if direction != BufferDirection::DriverToDevice {
                ptr::copy_nonoverlapping(copy, buffer.cast::<u8>().as_ptr(), buffer.len());
            }
            if let Some(layout) = layout(buffer.len().div_ceil(PAGE_SIZE)) {
                dealloc(copy, layout);
            }
        }
    }
}
