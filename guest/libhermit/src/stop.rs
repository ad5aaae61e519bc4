//! The launcher's request to stop, from the control channel to the program.
//!
//! A program that wants to end in its own way takes the request over, and is told of it (`guest/runtime` is the Rust side
//! of that). Any other ends at once, with the code of a process that SIGTERM ended.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hermit::syscalls::sys_futex_wait;
use hermitage_boot::Reason;

use crate::end;

/// 128 and the number of SIGTERM, as shells and container tools have it.
const CODE: u8 = 128 + 15;

/// Whether the program takes the request; then 1 in `REQUESTED` says that there is one. Threads wait for that.
static TAKEN: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicU32 = AtomicU32::new(0);

/// The launcher asks; an interrupt's handler says so.
pub(crate) fn asked() {
    if !TAKEN.load(Ordering::SeqCst) {
        end::with_code(Reason::Exit, CODE);
    }
    REQUESTED.store(1, Ordering::SeqCst);
    // Not the system call, which writes to the thread's `errno`: whatever was interrupted may be no thread.
    hermit::futex_wake(&raw const REQUESTED, i32::MAX);
}

/// The program acts on a request to stop from now on.
#[unsafe(no_mangle)]
extern "C" fn sys_hermitage_take_stop() {
    TAKEN.store(true, Ordering::SeqCst);
}

/// Whether the program was asked to stop.
#[unsafe(no_mangle)]
extern "C" fn sys_hermitage_stop_requested() -> bool {
    REQUESTED.load(Ordering::SeqCst) != 0
}

/// Returns when the program was asked to stop.
#[unsafe(no_mangle)]
extern "C" fn sys_hermitage_wait_stop() {
    while !sys_hermitage_stop_requested() {
        // SAFETY: the address is a static's; there is no time limit.
        unsafe { sys_futex_wait(REQUESTED.as_ptr(), 0, ptr::null(), 0) };
    }
}
