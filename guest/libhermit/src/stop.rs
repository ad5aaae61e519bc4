//! The launcher's request to stop, from the control channel to the program.
//!
//! The serial port interrupts when bytes come, so to wait for a request costs nothing. A program that wants to end in
//! its own way takes the request over, and is told of it (`guest/runtime` is the Rust side of that). Any other ends at
//! once, with the code of a process that SIGTERM ended.

use core::fmt::Write;
use core::ptr;
use core::str;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use hermit::syscalls::sys_futex_wait;
use hermitage_boot::control::Request;
use hermitage_boot::{Reason, Record};

use crate::end;
use crate::port::Uart;

/// 128 and the number of SIGTERM, as shells and container tools have it.
const CODE: u8 = 128 + 15;

/// The longest request with its newline, and more: what is longer is none.
const MAX_REQUEST: usize = 16;

/// Whether the program takes the request; then 1 in `REQUESTED` says that there is one. Threads wait for that.
static TAKEN: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicU32 = AtomicU32::new(0);

/// The line that is being received, and how many of its bytes are here. Only the interrupt's handler uses them.
static LINE: [AtomicU8; MAX_REQUEST] = [const { AtomicU8::new(0) }; MAX_REQUEST];
static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// Lets requests come from now on.
pub(crate) fn listen() {
    let mut control = Uart::control();
    control.interrupt_when_received();
    let _never_fails = write!(control, "{}", Record::Hears(Request::Stop));
}

/// The kernel calls this when the control channel interrupts.
#[unsafe(no_mangle)]
extern "C" fn hermitage_control_input() {
    let control = Uart::control();
    while let Some(byte) = control.receive() {
        receive(byte);
    }
}

fn receive(byte: u8) {
    let at = RECEIVED.load(Ordering::Relaxed);
    if byte != b'\n' {
        if let Some(place) = LINE.get(at) {
            place.store(byte, Ordering::Relaxed);
            RECEIVED.store(at + 1, Ordering::Relaxed);
        }
        return;
    }
    RECEIVED.store(0, Ordering::Relaxed);
    let line = LINE.each_ref().map(|byte| byte.load(Ordering::Relaxed));
    match str::from_utf8(&line[..at]).ok().and_then(Request::parse) {
        Some(Request::Stop) => stop(),
        None => {}
    }
}

fn stop() {
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
