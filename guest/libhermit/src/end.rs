//! The end of a guest: every way out leads through [`finish`].
//!
//! What a guest says about its end, in this order: a message on the console, unless the program chose to end; the
//! `end` line on the control channel; QEMU's exit device; ACPI; a triple fault, which stops or resets any machine.
//! The first two are what the launcher and people read. The others end the machine, each where the one before it
//! is missing. Before any of it, a program's end of its own - not the kernel's, and not a fault - sends what was
//! written to sockets, as other systems do after a program's end; one that it chose makes its files safe, too.

use core::alloc::Layout;
use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::fmt::{self, Write};
use core::panic::{PanicInfo, PanicPayload};
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};

use hermitage_boot::Reason;
use hermitage_boot::control::write_end;

use crate::port::{Uart, debug_exit};
use crate::{control, files};

/// `exit` of std, with the status of `main` or of `std::process::exit`.
#[unsafe(no_mangle)]
extern "C" fn __wrap_sys_exit(status: i32) -> ! {
    files::sync_at_end();
    hermit::flush_network();
    // Eight bits, as a Unix parent would see.
    with_code(Reason::Exit, status as u8)
}

/// Ends the guest with a code, without a word on the console.
pub(crate) fn with_code(reason: Reason, code: u8) -> ! {
    finish(code, || write_end(&mut control::last_word(), reason, code, ""))
}

/// `abort` of std.
#[unsafe(no_mangle)]
extern "C" fn __wrap_sys_abort() -> ! {
    hermit::flush_network();
    because(Reason::Abort, format_args!("the program called abort"))
}

/// std's panic runtime. The panic hook has run: place and message are on the console.
// SAFETY: the linker puts this in the place of std's function, whose signature it has; nobody else calls it.
#[unsafe(export_name = "__wrap___rust_start_panic")]
unsafe fn start_panic(payload: &mut dyn PanicPayload) -> u32 {
    hermit::flush_network();
    let code = Reason::Panic.code();
    finish(code, || {
        write_end(&mut control::last_word(), Reason::Panic, code, &*payload)
    })
}

/// What std's collections call when memory is short.
// SAFETY: as `start_panic`.
#[unsafe(export_name = "__wrap___rust_alloc_error_handler")]
unsafe fn alloc_error(size: usize, align: usize) -> ! {
    out_of_memory(size, align)
}

/// The same for the kernel's own collections.
#[alloc_error_handler]
fn kernel_out_of_memory(layout: Layout) -> ! {
    out_of_memory(layout.size(), layout.align())
}

fn out_of_memory(size: usize, align: usize) -> ! {
    because(
        Reason::OutOfMemory,
        format_args!("no room for {size} bytes aligned to {align}"),
    )
}

/// The kernel's panic handler.
#[unsafe(no_mangle)]
fn hermitage_kernel_panic(info: &PanicInfo<'_>) -> ! {
    because(Reason::Kernel, format_args!("{info}"))
}

/// Ends the guest before its program has begun: what was to be there for it cannot be (`guest/data`).
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_hermitage_refuse(reason: *const u8, length: usize) -> ! {
    // SAFETY: the caller gives so many bytes.
    let reason = unsafe { slice::from_raw_parts(reason, length) };
    let reason = core::str::from_utf8(reason).unwrap_or("`/data` cannot be mounted");
    because(Reason::Boot, format_args!("{reason}"))
}

/// Ends the guest with the code of `reason`, and says so on the console.
pub(crate) fn because(reason: Reason, detail: fmt::Arguments<'_>) -> ! {
    let code = reason.code();
    finish(code, || {
        writeln!(Uart::console(), "{}: {detail}", reason.word())?;
        write_end(&mut control::last_word(), reason, code, detail)
    })
}

/// Ends the guest with `code`. `say` has said why; an end within an end, which it may cause, is not said again.
fn finish(code: u8, say: impl FnOnce() -> fmt::Result) -> ! {
    /// The APIC id of the core that ends the guest, plus one.
    static ENDS: AtomicU32 = AtomicU32::new(0);

    // SAFETY: nothing that relies on interrupts runs on this core again.
    unsafe { asm!("cli", options(nomem, nostack)) };
    let core = apic_id() + 1;
    match ENDS.compare_exchange(0, core, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {
            let _never_fails = say();
        }
        Err(first) if first == core => {}
        Err(_) => halt(),
    }
    debug_exit(code);
    hermit::poweroff();
    triple_fault()
}

fn apic_id() -> u32 {
    // SAFETY: every x86-64 CPU has leaf 1.
    unsafe { __cpuid(1) }.ebx >> 24
}

/// Waits for the core that ends the guest.
fn halt() -> ! {
    loop {
        // SAFETY: touches no memory; with interrupts off, nothing but a reset ends it.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

/// Makes the CPU give up: without an interrupt table, no exception has a handler.
fn triple_fault() -> ! {
    let empty = [0u16; 5];
    // SAFETY: the operand is ten bytes: limit and base. That no handler is found any more is what is wanted.
    unsafe { asm!("lidt [{}]", "int3", in(reg) &empty, options(noreturn)) }
}
