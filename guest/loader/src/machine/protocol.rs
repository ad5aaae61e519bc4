//! What the way in told: the memory map, and, where it has one, a command line.
//!
//! Three protocols: our boot sector's (`boot-sector/src/boot.s`), multiboot 1, PVH. All leave physical addresses
//! below 4 GiB, which are mapped.

use core::ffi::CStr;
use core::slice;

use hermitage_loader::error::Error;
use hermitage_loader::memory::{Entry, MemoryMap};

/// "TOBH": the boot sector's.
const MAGIC_BOOT_SECTOR: u32 = 0x4842_4f54;
const MAGIC_MULTIBOOT: u32 = 0x2bad_b002;
const MAGIC_PVH: u32 = 0x336e_c578;

/// Most bytes of memory map entries that are looked at; firmwares have a few dozen entries of 24 bytes.
const MAX_MAP: usize = 64 * 1024;

/// What the way in told.
#[derive(Default)]
pub(crate) struct BootInfo {
    /// The RAM.
    pub(crate) memory: MemoryMap,
    /// The command line, without the program's name.
    pub(crate) command_line: &'static [u8],
    /// Where ACPI's root pointer is said to be.
    pub(crate) rsdp: Option<u64>,
}

/// Reads what the way in told.
///
/// # Errors
/// `magic` is none of ours.
pub(crate) fn read(magic: u32, info: u32) -> Result<BootInfo, Error> {
    // SAFETY: the magic tells what `info` points to; the protocols say that it is valid.
    unsafe {
        match magic {
            MAGIC_BOOT_SECTOR => Ok(boot_sector(info as *const u8)),
            MAGIC_MULTIBOOT => Ok(multiboot(info as *const u8)),
            MAGIC_PVH => Ok(pvh(info as *const u8)),
            _ => Err(Error::Protocol(magic)),
        }
    }
}

/// # Safety
/// There are 4 bytes to read at `base + offset`.
unsafe fn u32_at(base: *const u8, offset: usize) -> u32 {
    // SAFETY: the callers pass fields that the protocols have.
    unsafe { base.add(offset).cast::<u32>().read_unaligned() }
}

/// # Safety
/// There are 8 bytes to read at `base + offset`.
unsafe fn u64_at(base: *const u8, offset: usize) -> u64 {
    // SAFETY: as in `u32_at`.
    unsafe { base.add(offset).cast::<u64>().read_unaligned() }
}

/// Entries that are `base u64, length u64, type u32, unused u32`.
///
/// # Safety
/// There are `count` of them from `first` on, and nobody changes them.
unsafe fn plain_entries(first: *const u8, count: usize) -> impl Iterator<Item = Entry> + Clone {
    const ENTRY: usize = 24;
    // SAFETY: the callers pass as many entries as the protocol says.
    let bytes = unsafe { slice::from_raw_parts(first, (count * ENTRY).min(MAX_MAP)) };
    bytes.chunks_exact(ENTRY).map(entry)
}

/// An entry that starts with base, length, type.
fn entry(bytes: &[u8]) -> Entry {
    let field = |at: usize| {
        let mut field = [0; 8];
        field.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(field)
    };
    let kind = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
    Entry {
        base: field(0),
        length: field(8),
        kind,
    }
}

/// # Safety
/// What is not 0 points to a text that ends with a NUL and that nobody changes.
unsafe fn text(address: u64) -> &'static [u8] {
    if address == 0 || address >= 4 << 30 {
        return &[];
    }
    // SAFETY: the protocols say that the text ends with a NUL.
    unsafe { CStr::from_ptr(address as *const _) }.to_bytes()
}

/// # Safety
/// `info` is what our boot sector handed over.
unsafe fn boot_sector(info: *const u8) -> BootInfo {
    // SAFETY: count, four unused bytes, entries: the boot sector's layout.
    let memory = unsafe { MemoryMap::new(plain_entries(info.add(8), u32_at(info, 0) as usize)) };
    BootInfo {
        memory,
        ..BootInfo::default()
    }
}

/// # Safety
/// `info` is what a multiboot loader handed over.
unsafe fn multiboot(info: *const u8) -> BootInfo {
    const HAS_COMMAND_LINE: u32 = 1 << 2;
    const HAS_MAP: u32 = 1 << 6;
    // SAFETY: the offsets are those of multiboot 0.6.96, section 3.3; the flags tell what is valid.
    unsafe {
        let flags = u32_at(info, 0);
        let mut told = BootInfo::default();
        if flags & HAS_MAP != 0 {
            let (length, first) = (u32_at(info, 44) as usize, u32_at(info, 48) as *const u8);
            told.memory = MemoryMap::new(Multiboot {
                rest: slice::from_raw_parts(first, length.min(MAX_MAP)),
            });
        }
        if flags & HAS_COMMAND_LINE != 0 {
            told.command_line = without_first_word(text(u32_at(info, 16).into()));
        }
        told
    }
}

/// Multiboot's memory map: each entry has its size before it, without the size's own 4 bytes.
#[derive(Clone)]
struct Multiboot {
    rest: &'static [u8],
}

impl Iterator for Multiboot {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (size, rest) = self.rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
        self.rest = rest;
        (bytes.len() >= 20).then(|| entry(bytes))
    }
}

/// Multiboot's command line starts with the name of the loader's file.
fn without_first_word(line: &'static [u8]) -> &'static [u8] {
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    &line[end..]
}

/// # Safety
/// `info` is what a PVH loader handed over.
unsafe fn pvh(info: *const u8) -> BootInfo {
    // SAFETY: the offsets are those of `hvm_start_info` (Xen, `start_info.h`); the map is there from version 1 on.
    unsafe {
        let mut told = BootInfo {
            command_line: text(u64_at(info, 24)),
            rsdp: Some(u64_at(info, 32)),
            ..BootInfo::default()
        };
        if u32_at(info, 4) >= 1 {
            let first = u64_at(info, 40) as *const u8;
            told.memory = MemoryMap::new(plain_entries(first, u32_at(info, 48) as usize));
        }
        told
    }
}
