//! I/O ports.

use core::arch::asm;

/// Writes a byte.
///
/// # Safety
/// The device behind the port must not break memory safety by it.
pub(crate) unsafe fn write8(port: u16, value: u8) {
    // SAFETY: the caller answers for the device; the instruction touches no memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

/// Reads a byte.
///
/// # Safety
/// As [`write8`].
pub(crate) unsafe fn read8(port: u16) -> u8 {
    let value;
    // SAFETY: as in `write8`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Writes 16 bits.
///
/// # Safety
/// As [`write8`].
pub(crate) unsafe fn write16(port: u16, value: u16) {
    // SAFETY: as in `write8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) }
}

/// Writes 32 bits. What the device does with memory at this moment is seen by code that follows.
///
/// # Safety
/// As [`write8`].
pub(crate) unsafe fn write32(port: u16, value: u32) {
    // SAFETY: as in `write8`; without `nomem`, so that the compiler keeps memory accesses on their side of it.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) }
}

/// Reads 32 bits.
///
/// # Safety
/// As [`write8`].
pub(crate) unsafe fn read32(port: u16) -> u32 {
    let value;
    // SAFETY: as in `write8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) }
    value
}
