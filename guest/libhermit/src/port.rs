//! I/O ports: the two serial ports and QEMU's exit device.
//!
//! The glue writes to the ports itself, without the kernel's console: it must be able to say why a guest ends in any
//! state of the kernel, its locks held or its memory gone.

use core::arch::asm;
use core::fmt;

use hermitage_boot::{CONSOLE_PORT, CONTROL_PORT, DEBUG_EXIT_PORT};

/// How often a serial port is asked whether it takes a byte: far longer than a byte takes at 9600 baud, and not for
/// ever, since an end must come even where nobody drains the port.
const ATTEMPTS: usize = 100_000;

const LINE_STATUS: u16 = 5;

/// A 16550 UART that the loader has set up. Where there is none, all its registers read as ones, which means that
/// it always takes a byte.
pub(crate) struct Uart(u16);

impl Uart {
    /// The first serial port: what people read.
    pub(crate) const fn console() -> Self {
        Self(CONSOLE_PORT)
    }

    /// The second serial port: what the launcher reads.
    pub(crate) const fn control() -> Self {
        Self(CONTROL_PORT)
    }

    /// Lets it interrupt when bytes come.
    pub(crate) fn interrupt_when_received(&self) {
        const INTERRUPT_ENABLE: u16 = 1;
        const RECEIVED: u8 = 1 << 0;
        const MODEM_CONTROL: u16 = 4;
        /// Data terminal ready, request to send, and the output that connects the interrupt on a PC.
        const READY: u8 = 0x0b;
        write(self.0 + MODEM_CONTROL, READY);
        write(self.0 + INTERRUPT_ENABLE, RECEIVED);
    }

    /// The next byte that came, if one did.
    pub(crate) fn receive(&self) -> Option<u8> {
        const DATA_READY: u8 = 1 << 0;
        /// What a read of a port without a device gives.
        const NOTHING: u8 = 0xff;
        let status = read(self.0 + LINE_STATUS);
        (status != NOTHING && status & DATA_READY != 0).then(|| read(self.0))
    }

    fn send(&self, byte: u8) {
        const TRANSMITTER_EMPTY: u8 = 1 << 5;
        for _ in 0..ATTEMPTS {
            if read(self.0 + LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
                break;
            }
        }
        write(self.0, byte);
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.send(byte);
        }
        Ok(())
    }
}

/// Ends QEMU with the status `(code << 1) | 1`, if it was started with such a device.
pub(crate) fn debug_exit(code: u8) {
    write(DEBUG_EXIT_PORT, code);
}

fn read(port: u16) -> u8 {
    let value: u8;
    // SAFETY: only line status registers, and what the control channel received, are read here, which touches no memory
    // and changes nothing that the kernel's driver relies on: its port is the other one.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

fn write(port: u16, value: u8) {
    // SAFETY: only registers of the serial ports and the exit device are written here, which touches no memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Configuration mechanism #1 (PCI 3.0, 3.2.2.3.2).
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;
const PCI_ENABLE: u32 = 1 << 31;

/// Reads a register of PCI's configuration space.
pub(crate) fn read_configuration(address: u32) -> u32 {
    let value: u32;
    // SAFETY: selects a register and reads it, which touches no memory; no device acts on either.
    unsafe {
        asm!("out dx, eax", in("dx") PCI_ADDRESS, in("eax") PCI_ENABLE | address, options(nomem, nostack, preserves_flags));
        asm!("in eax, dx", in("dx") PCI_DATA, out("eax") value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes a register of PCI's configuration space.
///
/// # Safety
/// What the device does with the value is sound.
pub(crate) unsafe fn write_configuration(address: u32, value: u32) {
    // SAFETY: selects a register, and writes it as the caller answers for.
    unsafe {
        asm!("out dx, eax", in("dx") PCI_ADDRESS, in("eax") PCI_ENABLE | address, options(nomem, nostack, preserves_flags));
        asm!("out dx, eax", in("dx") PCI_DATA, in("eax") value, options(nostack, preserves_flags));
    }
}
