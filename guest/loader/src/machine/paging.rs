//! Page tables: the loader's own, which map the first 4 GiB, and the ones that the kernel starts with.

use alloc::boxed::Box;
use core::arch::asm;

use hermitage_loader::memory::PAGE;
use hermitage_loader::program::LARGE_PAGE;

const PRESENT_WRITABLE: u64 = 0x3;
const LARGE: u64 = 0x80;
const NO_CACHE: u64 = 0x10;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What the loader's tables map from the start.
const MAPPED: u64 = 4 << 30;

/// A page table of any level.
#[repr(C, align(4096))]
struct Table([u64; 512]);

impl Table {
    const EMPTY: Self = Self([0; 512]);
}

/// Maps a device's memory, uncached, where it lies above what is mapped anyway.
pub(crate) fn map_device(address: u64, size: u64) {
    let end = address.saturating_add(size);
    let mut page = address.max(MAPPED) / LARGE_PAGE * LARGE_PAGE;
    while page < end {
        // SAFETY: CR3 holds the address of the table that `entry.s` made, and everything is identity-mapped.
        let top = unsafe { &mut *(root() as *mut Table) };
        let directory = below(below(top, index(page, 39)), index(page, 30));
        directory.0[index(page, 21)] = page | PRESENT_WRITABLE | NO_CACHE | LARGE;
        page += LARGE_PAGE;
    }
}

fn index(address: u64, shift: u32) -> usize {
    (address >> shift & 0x1ff) as usize
}

/// The table that an entry points to, made if there is none. Lives as long as the loader.
fn below(table: &mut Table, index: usize) -> &'static mut Table {
    let entry = &mut table.0[index];
    if *entry == 0 {
        *entry = Box::into_raw(Box::new(Table::EMPTY)) as u64 | PRESENT_WRITABLE;
    }
    // SAFETY: entries of these levels point to tables only: `entry.s` and this function made them.
    unsafe { &mut *((*entry & ADDRESS) as *mut Table) }
}

fn root() -> u64 {
    let root: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
    root & ADDRESS
}

/// Four tables, which stay in use by the kernel.
static mut KERNEL: [Table; 4] = [Table::EMPTY; 4];

/// The slot through which the kernel finds its tables.
const RECURSIVE: usize = 511;

/// Makes the tables that the kernel starts with; the address of the topmost. They map memory up to `end`, below
/// 1 GiB, to itself and nothing else, since the kernel gives out all other addresses:
/// - page 0 not at all, so that a null pointer faults;
/// - the first 2 MiB in small pages, because the kernel maps one of them anew to start other CPUs;
/// - the rest in large ones.
pub(crate) fn kernel_tables(end: u64) -> u64 {
    let tables = &raw mut KERNEL;
    // SAFETY: called once, on the way to the kernel; nothing else refers to the tables.
    let [top, upper, directory, small] = unsafe { &mut *tables };
    let address = |table: &Table| table as *const Table as u64;
    top.0[RECURSIVE] = address(top) | PRESENT_WRITABLE;
    top.0[0] = address(upper) | PRESENT_WRITABLE;
    upper.0[0] = address(directory) | PRESENT_WRITABLE;
    directory.0[0] = address(small) | PRESENT_WRITABLE;
    for (index, entry) in small.0.iter_mut().enumerate().skip(1) {
        *entry = (index as u64 * PAGE) | PRESENT_WRITABLE;
    }
    for index in 1..(end / LARGE_PAGE) as usize {
        directory.0[index] = (index as u64 * LARGE_PAGE) | PRESENT_WRITABLE | LARGE;
    }
    address(top)
}
