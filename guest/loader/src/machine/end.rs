//! The way out that is not the kernel: says why, and ends the machine. Needs no heap, which may be what is missing.

use core::arch::asm;
use core::fmt::{self, Write as _};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use hermitage_boot::control::MAX_LINE;
use hermitage_boot::{DEBUG_EXIT_PORT, Reason};

use super::port;
use super::uart::Uart;

/// Ends the guest: one line to the console, one to the control channel (an [`hermitage_boot::Record::End`]), the
/// code to QEMU.
pub(crate) fn end(reason: Reason, detail: impl fmt::Display) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    let code = reason.code();
    // A fault while the first end is reported is not reported.
    if !ENDING.swap(true, Ordering::Relaxed) {
        let _ = writeln!(Uart::console(), "loader: {detail}");
        let mut line = Line {
            uart: Uart::control(),
            room: MAX_LINE - 1,
        };
        let _ = write!(line, "end {} {code} {detail}", reason.word());
        let _ = line.uart.write_char('\n');
    }
    // SAFETY: the port is QEMU's exit, or nothing.
    unsafe { port::write8(DEBUG_EXIT_PORT, code) };
    super::acpi::power_off();
    loop {
        // SAFETY: stops this CPU until an interrupt, which is masked.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// What is written to it as one line, cut where a line of the control channel ends.
struct Line {
    uart: Uart,
    room: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let character = if character.is_control() { ' ' } else { character };
            self.room = self.room.checked_sub(character.len_utf8()).ok_or(fmt::Error)?;
            self.uart.write_char(character)?;
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => end(
            Reason::Boot,
            format_args!("{} ({}:{})", info.message(), place.file(), place.line()),
        ),
        None => end(Reason::Boot, info.message()),
    }
}
