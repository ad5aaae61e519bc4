//! The control channel: what the guest tells the launcher, and what the launcher asks.
//!
//! A line is written whole: whoever writes one holds the lock, with interrupts off, since the answer to a question is
//! written by an interrupt's handler, on any core. Only the end of a guest does not wait for ever, see [`last_word`].
//!
//! The serial port interrupts when bytes come, so to wait for a request costs nothing.

use core::fmt::{self, Write};
use core::hint;
use core::mem;
use core::str;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use hermit_sync::InterruptSpinMutex;
use hermitage_boot::Record;
use hermitage_boot::control::Request;

use crate::port::Uart;
use crate::{network, stop};

/// The longest request with its newline, and more: what is longer is none.
const MAX_REQUEST: usize = 16;

/// How often the end of a guest looks whether another line is written: far longer than a line takes.
const ATTEMPTS: usize = 100_000;

static CHANNEL: InterruptSpinMutex<Uart> = InterruptSpinMutex::new(Uart::control());

/// The line that is being received, and how many of its bytes are here. Only the interrupt's handler uses them.
static LINE: [AtomicU8; MAX_REQUEST] = [const { AtomicU8::new(0) }; MAX_REQUEST];
static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// Lets requests come from now on.
pub(crate) fn listen() {
    CHANNEL.lock().interrupt_when_received();
    Request::ALL.map(|request| tell(&Record::Hears(request)));
}

/// Tells the launcher something.
pub(crate) fn tell(record: &Record) {
    let _never_fails = write!(CHANNEL.lock(), "{record}");
}

/// The channel, for the guest's last line. Whoever else writes one may be what ended the guest, and then never is done:
/// the last line begins behind it.
pub(crate) fn last_word() -> impl fmt::Write {
    let mut channel = Uart::control();
    let free = (0..ATTEMPTS).any(|_| {
        hint::spin_loop();
        // Nobody gets it back.
        CHANNEL.try_lock().map(mem::forget).is_some()
    });
    if !free {
        let _never_fails = channel.write_char('\n');
    }
    channel
}

/// The kernel calls this when the control channel interrupts.
#[unsafe(no_mangle)]
extern "C" fn hermitage_control_input() {
    // Not the lock, which whoever ends the guest keeps: to read needs none.
    let channel = Uart::control();
    while let Some(byte) = channel.receive() {
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
        Some(Request::Stop) => stop::asked(),
        Some(Request::Traffic) => network::say_traffic(),
        None => {}
    }
}
