//! Where memory-mapped virtio devices are, on a machine without PCI (QEMU's microvm).
//!
//! Such devices cannot be found by asking: the way in names them on its command line, as Linux takes it, or ACPI's
//! byte code does.

use alloc::vec::Vec;

/// A place where a virtio device may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// First byte of its registers.
    pub address: u64,
    /// Its interrupt, as a number of the whole system.
    pub interrupt: u32,
}

/// Starts a word that names a device.
const WORD: &[u8] = b"virtio_mmio.device=";

/// Splits a command line into the command and the devices that QEMU names behind it.
#[must_use]
pub fn split(line: &[u8]) -> (&[u8], Vec<Slot>) {
    let mut command = line;
    let mut slots = Vec::new();
    loop {
        let trimmed = command.trim_ascii_end();
        let start = trimmed
            .iter()
            .rposition(|byte| *byte == b' ')
            .map_or(0, |at| at + 1);
        let Some(value) = trimmed[start..].strip_prefix(WORD) else {
            return (command, slots);
        };
        command = &trimmed[..start];
        slots.extend(slot(value));
    }
}

/// Reads `<size>@<address>:<interrupt>`, both numbers in hexadecimal with `0x` or else in decimal.
fn slot(value: &[u8]) -> Option<Slot> {
    let (_, place) = core::str::from_utf8(value).ok()?.split_once('@')?;
    let (address, rest) = place.split_once(':')?;
    // A device's number may follow.
    let interrupt = rest.split(':').next()?;
    Some(Slot {
        address: number(address)?,
        interrupt: number(interrupt)?.try_into().ok()?,
    })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The devices that ACPI's byte code describes: each has the name `LNRO0005`, followed by a resource for its registers
/// and one for its interrupt (ACPI specification 6.5, 6.4.3.4 and 6.4.3.6).
#[must_use]
pub fn in_aml(code: &[u8]) -> Vec<Slot> {
    const NAME: &[u8] = b"LNRO0005";
    /// A stretch of memory at a fixed address: tag, length, whether it is writable; then address and length.
    const MEMORY: &[u8] = &[0x86, 9, 0, 1];
    /// One interrupt: tag, length; then flags, count and number.
    const INTERRUPT: &[u8] = &[0x89, 6, 0];
    const INTERRUPT_NUMBER: usize = 2;
    let mut slots = Vec::new();
    let mut rest = code;
    while let Some(after) = behind(rest, NAME) {
        let end = behind(after, NAME).map_or(after.len(), |next| after.len() - next.len());
        let device = &after[..end];
        let address = behind(device, MEMORY).and_then(|field| u32_at(field, 0));
        let interrupt = behind(device, INTERRUPT).and_then(|field| u32_at(field, INTERRUPT_NUMBER));
        if let (Some(address), Some(interrupt)) = (address, interrupt) {
            slots.push(Slot {
                address: address.into(),
                interrupt,
            });
        }
        rest = after;
    }
    slots
}

/// What follows the first occurrence of `wanted`.
fn behind<'a>(bytes: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
    Some(&bytes[at + wanted.len()..])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(address: u64, interrupt: u32) -> Slot {
        Slot { address, interrupt }
    }

    #[test]
    fn a_command_line_ends_where_devices_begin() {
        let slots = [slot(0xfeb0_0c00, 11), slot(0xfeb0_0e00, 12)];
        for (line, command, expected) in [
            ("", "", &slots[..0]),
            ("kv --port 80", "kv --port 80", &slots[..0]),
            (
                "kv 'a b' virtio_mmio.device=512@0xfeb00e00:12 virtio_mmio.device=512@0xfeb00c00:11",
                "kv 'a b' ",
                &slots,
            ),
            (" virtio_mmio.device=512@0xfeb00c00:11:0", " ", &slots[..1]),
            (
                "virtio_mmio.device=4K@4273998848:11 kv",
                "virtio_mmio.device=4K@4273998848:11 kv",
                &slots[..0],
            ),
            ("kv virtio_mmio.device=nonsense", "kv ", &slots[..0]),
        ] {
            assert_eq!(
                split(line.as_bytes()),
                (command.as_bytes(), expected.to_vec()),
                "{line}"
            );
        }
    }

    /// As QEMU 7.2 writes it, less what is not looked at.
    fn device(address: u32, interrupt: u32) -> Vec<u8> {
        let mut code = b"VR00\x08_HID\x0dLNRO0005\0\x08_CRS\x11\x1a\x0a\x17\x86\x09\0\x01".to_vec();
        code.extend(address.to_le_bytes());
        code.extend(512_u32.to_le_bytes());
        code.extend(b"\x89\x06\0\x0d\x01");
        code.extend(interrupt.to_le_bytes());
        code.extend(b"\x79\0");
        code
    }

    #[test]
    fn byte_code_names_devices_with_registers_and_interrupt() {
        let code = [
            &b"DSDT"[..],
            &device(0xfeb0_0000, 24),
            &device(0xfeb0_0200, 25),
            b"_S5_",
        ]
        .concat();
        assert_eq!(in_aml(&code), [slot(0xfeb0_0000, 24), slot(0xfeb0_0200, 25)]);
        // Cut anywhere, it gives fewer.
        for length in 0..code.len() {
            assert!(in_aml(&code[..length]).len() <= 2, "{length}");
        }
    }
}
