//! Time marks on the control channel, for whoever asked to trace the boot.

use alloc::borrow::ToOwned;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicBool, Ordering};

use hermitage_boot::Record;
use hermitage_boot::control::mark;

use crate::control;

static ASKED: AtomicBool = AtomicBool::new(false);
static LISTENS: AtomicBool = AtomicBool::new(false);
static HAS_ADDRESS: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn __real_sys_listen(socket: i32, backlog: i32) -> i32;
}

/// Lets marks be written from now on.
pub(crate) fn begin() {
    ASKED.store(true, Ordering::Relaxed);
}

/// Writes a mark, if anyone asked.
pub(crate) fn reached(name: &str) {
    if ASKED.load(Ordering::Relaxed) {
        // SAFETY: every x86-64 CPU has the time-stamp counter, and the kernel clears the bit that would forbid it.
        let tsc = unsafe { _rdtsc() };
        let name = name.to_owned();
        control::tell(&Record::Mark { name, tsc });
    }
}

/// The network card has an address.
pub(crate) fn has_address() {
    HAS_ADDRESS.store(true, Ordering::SeqCst);
    say_that_it_is_reached();
}

/// `listen` of std.
#[unsafe(no_mangle)]
extern "C" fn __wrap_sys_listen(socket: i32, backlog: i32) -> i32 {
    // SAFETY: passes on the arguments of a call of this very signature; any socket and backlog are fine.
    let status = unsafe { __real_sys_listen(socket, backlog) };
    if status == 0 {
        LISTENS.store(true, Ordering::SeqCst);
        say_that_it_is_reached();
    }
    status
}

/// The service can be reached from its first `listen` on, but not before it has an address: what a client sends until
/// then is lost, and QEMU's user network sends it again after six seconds.
fn say_that_it_is_reached() {
    static SAID: AtomicBool = AtomicBool::new(false);
    let is_reached = LISTENS.load(Ordering::SeqCst) && HAS_ADDRESS.load(Ordering::SeqCst);
    if is_reached && !SAID.swap(true, Ordering::SeqCst) {
        reached(mark::LISTEN);
    }
}
