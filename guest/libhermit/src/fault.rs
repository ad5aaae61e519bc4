//! CPU exceptions: one line that says what went wrong, and where.

use core::arch::asm;
use core::fmt;

use hermitage_boot::Reason;

use crate::end;

const INVALID_OPCODE: u8 = 6;
const DOUBLE_FAULT: u8 = 8;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;

/// How far from the stack pointer a page fault still means that the stack ended: functions with large frames touch
/// each page of them, and the unmapped page below a stack is 4 KiB.
const NEAR_STACK: u64 = 64 * 1024;

unsafe extern "C" {
    /// The program's first byte in memory: its ELF header. The linker provides this, and what follows.
    static __ehdr_start: u8;
    /// The first byte after the program.
    static _end: u8;
}

/// The kernel calls this for every exception that it does not handle.
#[unsafe(no_mangle)]
extern "C" fn hermitage_fault(vector: u8, error_code: u64, instruction: u64, stack: u64) -> ! {
    let fault = Fault {
        vector,
        error_code,
        instruction,
        stack,
        address: faulting_address(),
    };
    end::because(Reason::Fault, format_args!("{fault}"))
}

struct Fault {
    vector: u8,
    error_code: u64,
    instruction: u64,
    stack: u64,
    /// Where memory was touched; only a page fault sets it.
    address: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vector {
            PAGE_FAULT => self.page_fault(f)?,
            vector => {
                f.write_str(name(vector))?;
                if matches!(vector, GENERAL_PROTECTION | DOUBLE_FAULT) || self.error_code != 0 {
                    write!(f, " (error code {:#x})", self.error_code)?;
                }
            }
        }
        write!(f, ", instruction {:#x}", self.instruction)?;
        // As tools that know the program's file count: from its first byte.
        let first = (&raw const __ehdr_start).addr() as u64;
        let end = (&raw const _end).addr() as u64;
        if (first..end).contains(&self.instruction) {
            write!(f, " (program + {:#x})", self.instruction - first)?;
        }
        write!(f, ", stack {:#x}", self.stack)
    }
}

impl Fault {
    fn page_fault(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PROTECTED: u64 = 1 << 0;
        const WRITE: u64 = 1 << 1;
        const FETCH: u64 = 1 << 4;

        let protected = self.error_code & PROTECTED != 0;
        if !protected && self.address.abs_diff(self.stack) < NEAR_STACK {
            return write!(f, "stack overflow at address {:#x}", self.address);
        }
        let what = if self.error_code & FETCH != 0 {
            "execution of"
        } else if self.error_code & WRITE != 0 {
            "write to"
        } else {
            "read from"
        };
        let which = if protected { "protected" } else { "unmapped" };
        write!(f, "page fault: {what} {which} address {:#x}", self.address)
    }
}

/// Names of the exceptions in Intel's and AMD's manuals.
fn name(vector: u8) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        INVALID_OPCODE => "invalid opcode",
        DOUBLE_FAULT => "double fault",
        10 => "invalid task state segment",
        11 => "segment not present",
        12 => "stack segment fault",
        GENERAL_PROTECTION => "general protection fault",
        16 => "x87 floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point error",
        20 => "virtualization exception",
        _ => "unexpected CPU exception",
    }
}

fn faulting_address() -> u64 {
    let address: u64;
    // SAFETY: reading CR2 needs ring 0, where all of a unikernel runs, and has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}
