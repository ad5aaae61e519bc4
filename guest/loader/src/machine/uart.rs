//! The two serial ports: the console for people, the control channel for the launcher. Either may be absent, and
//! a write to one that is costs nothing and never hangs.

use core::fmt;

use hermitage_boot::{CONSOLE_PORT, CONTROL_PORT};

use super::port;

const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;

const LINE_8N1: u8 = 0x03;
const DIVISOR_LATCH: u8 = 0x80;
/// FIFO on and emptied.
const FIFO_ON: u8 = 0x07;
/// Data terminal ready, request to send.
const MODEM_READY: u8 = 0x03;
const READY: u8 = 0x20;
/// What a read of a port without a device gives.
const NOTHING: u8 = 0xff;

/// Most polls before a byte is given up: beyond the 87 us that a byte takes at 115200 baud.
const MAX_POLLS: u32 = 100_000;

/// A 16550 UART.
pub(crate) struct Uart {
    base: u16,
    present: bool,
}

impl Uart {
    /// The console.
    pub(crate) fn console() -> Self {
        Self::open(CONSOLE_PORT)
    }

    /// The control channel.
    pub(crate) fn control() -> Self {
        Self::open(CONTROL_PORT)
    }

    fn open(base: u16) -> Self {
        // SAFETY: these are the registers of the PC's serial ports; a UART does not touch memory.
        unsafe {
            let present = port::read8(base + LINE_STATUS) != NOTHING;
            if present {
                port::write8(base + INTERRUPT_ENABLE, 0);
                port::write8(base + LINE_CONTROL, DIVISOR_LATCH);
                port::write8(base, 1);
                port::write8(base + 1, 0);
                port::write8(base + LINE_CONTROL, LINE_8N1);
                port::write8(base + FIFO_CONTROL, FIFO_ON);
                port::write8(base + MODEM_CONTROL, MODEM_READY);
            }
            Self { base, present }
        }
    }

    fn send(&mut self, byte: u8) {
        // SAFETY: as in `open`.
        unsafe {
            for _ in 0..MAX_POLLS {
                if port::read8(self.base + LINE_STATUS) & READY != 0 {
                    return port::write8(self.base, byte);
                }
            }
        }
        self.present = false;
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.present {
                self.send(byte);
            }
        }
        Ok(())
    }
}
