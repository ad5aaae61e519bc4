//! The way out that is not the kernel: says why, and ends the machine.

use core::arch::asm;
use core::fmt::Write as _;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use hermitage_boot::{DEBUG_EXIT_PORT, GuestEnd, Reason, Record};

use super::port;
use super::uart::Uart;

/// Ends the guest.
pub(crate) fn end(end: GuestEnd) -> ! {
    let code = end.code;
    let _ = writeln!(Uart::console(), "loader: {}", end.detail);
    let _ = write!(Uart::control(), "{}", Record::End(end));
    stop(code)
}

/// Ends the guest where the heap cannot be trusted, or is not there.
pub(crate) fn end_plainly(detail: core::fmt::Arguments<'_>) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    let code = Reason::Boot.code();
    // A fault while the first one is reported is not reported.
    if !ENDING.swap(true, Ordering::Relaxed) {
        let _ = writeln!(Uart::console(), "loader: {detail}");
        let _ = writeln!(Uart::control(), "end {} {code} {detail}", Reason::Boot.word());
    }
    stop(code)
}

fn stop(code: u8) -> ! {
    // SAFETY: the port is QEMU's exit, or nothing.
    unsafe { port::write8(DEBUG_EXIT_PORT, code) };
    super::acpi::power_off();
    loop {
        // SAFETY: stops this CPU until an interrupt, which is masked.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => end_plainly(format_args!(
            "{} ({}:{})",
            info.message(),
            place.file(),
            place.line()
        )),
        None => end_plainly(format_args!("{}", info.message())),
    }
}
