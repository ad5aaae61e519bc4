//! Exceptions: each ends the guest with a message, instead of a silent triple fault. They stay in force in the
//! kernel until it installs its own.

use core::arch::{asm, global_asm};

use hermitage_boot::Reason;

use super::end::end;

global_asm!(include_str!("interrupts.s"), exception = sym exception, options(att_syntax));

unsafe extern "C" {
    /// The first stub; the others follow, [`STUB_SIZE`] apart.
    static exception_stubs: [u8; 0];
}

const EXCEPTIONS: usize = 32;
const STUB_SIZE: usize = 16;
const PAGE_FAULT: u64 = 14;
const CODE_SELECTOR: u64 = 8;
/// Present, ring 0, 64-bit interrupt gate.
const INTERRUPT_GATE: u64 = 0x8e00;

/// What the stubs leave on the stack.
#[repr(C)]
struct Frame {
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: *const [[u64; 2]; EXCEPTIONS],
}

static mut TABLE: [[u64; 2]; EXCEPTIONS] = [[0; 2]; EXCEPTIONS];

/// Installs the handlers.
pub(crate) fn install() {
    let table = &raw mut TABLE;
    let first = &raw const exception_stubs as usize;
    for vector in 0..EXCEPTIONS {
        let stub = (first + vector * STUB_SIZE) as u64;
        let low = stub & 0xffff | CODE_SELECTOR << 16 | INTERRUPT_GATE << 32 | (stub >> 16 & 0xffff) << 48;
        // SAFETY: nothing else runs or refers to the table.
        unsafe { (*table)[vector] = [low, stub >> 32] };
    }
    let pointer = Pointer {
        limit: (size_of::<[[u64; 2]; EXCEPTIONS]>() - 1) as u16,
        base: table,
    };
    // SAFETY: the table is complete, and static.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}

extern "C" fn exception(frame: &Frame, address: u64) -> ! {
    let Frame {
        vector,
        error,
        rip,
        rsp,
        ..
    } = frame;
    match *vector {
        PAGE_FAULT => end(
            Reason::Boot,
            format_args!("page fault at {rip:#x}: address {address:#x}, error {error:#x}"),
        ),
        _ => end(
            Reason::Boot,
            format_args!("exception {vector} at {rip:#x}: error {error:#x}, stack {rsp:#x}"),
        ),
    }
}
