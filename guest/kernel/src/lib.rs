//! hermit-kernel as it was released, with nothing of ours but what `guest/runtime` calls: here nobody asks a program to
//! stop.
#![no_std]

use core::ptr;

// The kernel is all that is in this archive.
use hermit::syscalls::sys_futex_wait;

/// What a program takes over, should it be asked to stop.
#[unsafe(no_mangle)]
pub extern "C" fn sys_hermitage_take_stop() {}

/// Whether it was asked.
#[unsafe(no_mangle)]
pub extern "C" fn sys_hermitage_stop_requested() -> bool {
    false
}

/// Waits until it is asked: for ever.
#[unsafe(no_mangle)]
pub extern "C" fn sys_hermitage_wait_stop() {
    let mut never = 0;
    loop {
        // SAFETY: the number lives as long as the call, and nobody changes it.
        unsafe { sys_futex_wait(&raw mut never, 0, ptr::null(), 0) };
    }
}
