//! ACPI: the root pointer, which the kernel is told, the byte code that names devices, and power off.

use core::ptr::read_volatile;
use core::slice;

use super::port;

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

/// Powers the machine off, as far as its tables say how; returns otherwise.
pub(crate) fn power_off() {
    let Some((control, sleep_type)) = find_root().and_then(soft_off) else {
        return;
    };
    const SLEEP_TYPE: u32 = 10;
    const SLEEP_ENABLE: u16 = 1 << 13;
    // SAFETY: the port is the one that the firmware's tables name for this.
    unsafe { port::write16(control, u16::from(sleep_type) << SLEEP_TYPE | SLEEP_ENABLE) };
}

/// The byte code of the machine's main table.
pub(crate) fn byte_code(root: u64) -> Option<&'static [u8]> {
    table(u32_at(fadt(root)?, FADT_DSDT)?.into())
}

/// The port of the power management control register, and what to write there for "soft off".
fn soft_off(root: u64) -> Option<(u16, u8)> {
    let fadt = fadt(root)?;
    let control = u16::try_from(u32_at(fadt, FADT_CONTROL)?)
        .ok()
        .filter(|port| *port != 0)?;
    Some((control, sleep_type(table(u32_at(fadt, FADT_DSDT)?.into())?)?))
}

/// Offsets: ACPI specification 6.5, 5.2.9 (FADT).
const FADT_DSDT: usize = 40;
const FADT_CONTROL: usize = 64;

/// The table that describes the machine's fixed hardware.
fn fadt(root: u64) -> Option<&'static [u8]> {
    // Offsets: 5.2.5.3 (root pointer), 5.2.7 (RSDT), 5.2.8 (XSDT).
    const ROOT_REVISION: usize = 15;
    const ROOT_RSDT: usize = 16;
    const ROOT_XSDT: usize = 24;
    const ROOT_SIZE: usize = 36;
    // SAFETY: the callers give the address of a root pointer, which is mapped with what follows it.
    let root = unsafe { slice::from_raw_parts(root as *const u8, ROOT_SIZE) };
    let (list, entry) = match root[ROOT_REVISION] {
        0 | 1 => (u32_at(root, ROOT_RSDT)?.into(), 4),
        _ => (u64_at(root, ROOT_XSDT)?, 8),
    };
    let tables = table(list)?.get(TABLE_HEADER..)?;
    let address = |entry: &[u8]| u64_at(entry, 0).or_else(|| Some(u32_at(entry, 0)?.into()));
    tables
        .chunks_exact(entry)
        .filter_map(|entry| table(address(entry)?))
        .find(|table| table.starts_with(b"FACP"))
}

/// The sleep type of state S5 in the byte code of the DSDT: the first element of the package `_S5_`. It is searched
/// for, as there is no interpreter here: name, package, its length and count of elements, then a number.
fn sleep_type(dsdt: &[u8]) -> Option<u8> {
    const NAME_AND_PACKAGE: &[u8] = b"_S5_\x12";
    const ZERO: u8 = 0x00;
    const ONE: u8 = 0x01;
    const BYTE: u8 = 0x0a;
    let at = dsdt
        .windows(NAME_AND_PACKAGE.len())
        .position(|bytes| bytes == NAME_AND_PACKAGE)?;
    match dsdt.get(at + NAME_AND_PACKAGE.len() + 2..)? {
        [number @ (ZERO | ONE), ..] | [BYTE, number, ..] => Some(*number & 7),
        _ => None,
    }
}

/// Bytes of a table's header, and the most that a table is believed to have.
const TABLE_HEADER: usize = 36;
const MAX_TABLE: u32 = 1 << 20;

/// A table with its header.
fn table(address: u64) -> Option<&'static [u8]> {
    let address = u32::try_from(address).ok()?;
    let end = address.checked_add(MAX_TABLE)?;
    // SAFETY: the first 4 GiB are mapped, and the header, if it is one, lies below `end`.
    let length = unsafe { (address as *const u8).add(4).cast::<u32>().read_unaligned() };
    // SAFETY: the same holds for the whole table.
    (address != 0 && length <= end - address)
        .then(|| unsafe { slice::from_raw_parts(address as *const u8, length as usize) })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
